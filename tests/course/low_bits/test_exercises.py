"""Lesson 11: answers by hand and beside the package, and planted mistakes as learners
write them."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.course import checks
from minquant.course.exercises import normal
from minquant.course.low_bits.exercises import (
    _costs,
    assign_bits,
    latent_step,
    ternary,
)
from minquant.methods import rtn
from minquant.numerics.grids import TERNARY
from minquant.planning import mixed_precision
from minquant.planning.mixed_precision import Cost
from minquant.training import qat


def test_three_values_by_hand():
    W = torch.tensor([[0.9, -0.2, 0.4, -2.5], [3.0, 3.0, -3.0, 0.0]])
    codes, scales = ternary(W)
    assert codes.tolist() == [[1, 0, 0, -1], [1, 1, -1, 0]]
    assert torch.allclose(scales, torch.tensor([[1.0], [2.25]]))


def test_three_values_are_those_of_the_package_but_for_the_scale_s_16_bits():
    W = normal(8, 64, seed=0)
    codes, scales = ternary(W)
    made = rtn.quantize_rtn(W, TERNARY)
    assert torch.equal(codes, made.codes) and scales.dtype == torch.float32
    assert torch.equal(scales.half(), made.scales)


@given(st.integers(0, 1000), st.integers(-8, 8))
def test_a_row_times_a_power_of_two_has_the_same_codes_and_its_scale_times_it(seed, p):
    W = normal(3, 16, seed=seed)
    codes, scales = ternary(W)
    moved, longer = ternary(W * 2.0**p)
    assert torch.equal(codes, moved) and torch.equal(scales * 2.0**p, longer)


def test_a_step_by_hand_moves_every_weight_by_its_slope():
    W, G = torch.tensor([[0.9, -0.2, 0.4]]), torch.tensor([[1.0, 2.0, 3.0]])
    latent, codes = latent_step(W, G, 0.1)
    torch.testing.assert_close(latent, torch.tensor([[0.8, -0.4, 0.1]]))
    assert codes.tolist() == [[1, -1, 0]]  # the mean |w| is 0.433
    assert W.tolist() == torch.tensor([[0.9, -0.2, 0.4]]).tolist()
    assert not latent.requires_grad and not W.requires_grad


def test_steps_are_those_of_training_by_torch_s_own_descent():
    X, target = normal(32, 16, seed=1), normal(32, 4, seed=2)
    latent = torch.nn.Parameter(normal(4, 16, seed=3))
    descent = torch.optim.SGD([latent], lr=0.05)
    W = latent.detach().clone()
    for _ in range(5):
        W_hat = qat.straight_through(latent, TERNARY)
        G = (X @ W_hat.detach().T - target).T @ X / len(X)
        descent.zero_grad()
        ((X @ W_hat.T - target).square().sum() / 2 / len(X)).backward()
        descent.step()
        W, codes = latent_step(W, G, 0.05)
        torch.testing.assert_close(W, latent.detach())
        assert torch.equal(codes, rtn.quantize_rtn(latent, TERNARY).codes)


def test_small_steps_add_up_in_the_latent_until_a_code_changes():
    W, G = torch.tensor([[1.0, 1.0, 0.35]]), torch.tensor([[0.0, 0.0, -1.0]])
    seen = []
    for _ in range(3):
        W, codes = latent_step(W, G, 0.02)
        seen.append(codes[0, 2].item())
    assert seen == [0, 0, 1]  # 0.41 is more than half of 2.41 / 3


@pytest.mark.parametrize(("budget", "columns"), [(4, [0, 0]), (6, [2, 0]), (8, [2, 2])])
def test_widths_by_hand(budget, columns):
    nbytes = torch.tensor([[2, 3, 4], [2, 3, 4]])
    nats = torch.tensor([[9.0, 5.5, 1.0], [3.0, 2.0, 0.0]])
    assert assign_bits(nbytes, nats, budget).tolist() == columns


def test_the_tables_are_costs_by_row_and_column():
    nats = torch.tensor([[9.0, 1.0], [3.0, 0.0]])
    assert _costs(torch.tensor([[2, 4], [6, 8]]), nats) == {
        "0": {0: Cost(2, 9.0), 1: Cost(4, 1.0)},
        "1": {0: Cost(6, 3.0), 1: Cost(8, 0.0)},
    }


@given(st.integers(0, 1000), st.integers(0, 60))
def test_the_widths_fit_the_budget_and_are_never_better_than_the_best(seed, more):
    draw = torch.Generator().manual_seed(seed)
    nbytes = torch.randint(1, 12, (4, 3), generator=draw).cumsum(1)
    nats = torch.rand(4, 3, generator=draw).double()
    budget = int(nbytes[:, 0].sum()) + more
    rows, columns = torch.arange(4), assign_bits(nbytes, nats, budget)
    assert nbytes[rows, columns].sum() <= budget
    costs = _costs(nbytes, nats)
    best = mixed_precision.total(costs, mixed_precision.assign_exact(costs, budget))
    assert nats[rows, columns].sum() >= best.nats - 1e-12


# --- planted mistakes ---


def cut(W, scale, clamp=True):
    codes = torch.round(W / scale).int()
    return codes.clamp(min=-1, max=1) if clamp else codes


def three(W, size=None, clamp=True, rounding=torch.round):
    """A row at a time."""
    codes, scales = [], []
    for w in W:
        scale = w.abs().sum() / len(w) if size is None else size(w)
        steps = rounding(w / scale)
        codes.append((steps.clamp(-1, 1) if clamp else steps).to(torch.int8))
        scales.append([scale.item()])
    return torch.stack(codes), torch.tensor(scales)


def spread(W):
    scale = W.abs().mean()
    return cut(W, scale), torch.full((len(W), 1), scale.item())


def alone(W):
    scale = W.abs().mean()
    return cut(W, scale), scale


def down(W):
    scale = W.abs().mean(dim=0, keepdim=True)
    return cut(W, scale), scale


def signs(W):
    return torch.sign(W).int(), three(W)[1]


def twn(W):
    mean = W.abs().mean(1, keepdim=True)
    return W.sign().int() * (W.abs() > 0.7 * mean), mean


def values(W):
    codes, scales = three(W)
    return codes * scales, scales


TERNARIES = [
    (lambda W: three(W, lambda w: w.abs().max()), "the scale is the largest |w|"),
    (spread, "the mean is that of the whole matrix"),
    (alone, "there is one scale for the whole matrix"),
    (down, "the mean is taken down each column"),
    (lambda W: three(W, lambda w: w.mean()), "the mean is that of w, in which"),
    (lambda W: three(W, lambda w: w.abs().median()), "the scale is the median"),
    (lambda W: three(W, clamp=False), "large weights get codes beyond"),
    (signs, "no code is 0: these are signs"),
    (lambda W: three(W, rounding=torch.trunc), "it cuts the fraction of w / scale"),
    (twn, "codes are 0 below half the scale, not below 0.7"),
    (values, "the first output is W_hat"),
]


@pytest.mark.parametrize(("yours", "words"), TERNARIES)
def test_a_planted_mistake_of_the_three_values_is_named(yours, words):
    assert checks.ternary(yours).mistake.startswith(words)


def test_scales_in_a_flat_list_are_told_their_shape():
    said = repr(checks.ternary(lambda W: (three(W)[0], three(W)[1].flatten())))
    assert "scales has shape (2,), should be (2, 1)" in said


def codes_of(W):
    return three(W)[0]


def rounded(W):
    codes, scales = three(W)
    return scales * codes


def descend(W, G, rate, start=None, codes=codes_of):
    new = (W if start is None else start) - rate * G
    return new, codes(new)


def masked(W, G, rate, keep):
    return descend(W, torch.where(keep, G, torch.zeros_like(G)), rate)


def ruled(W, G, rate):
    new = W - rate * G
    return new, cut(new, W.abs().mean(1, keepdim=True))


def by_autograd(W, G, rate):
    """The true slope: that of round() is 0."""
    latent = W.clone().requires_grad_()
    scale = W.abs().mean(1, keepdim=True)
    ((latent / scale).round().clamp(-1, 1) * scale).backward(G)
    return latent.detach() - rate * latent.grad, codes_of(latent.detach())


def thrown_away(W, G, rate):
    new = rounded(W - rate * G)
    return new, (new / new.abs().amax(1, keepdim=True)).round().int()


LATENT = [
    (lambda W, G, rate: descend(W, G, rate, rounded(W)), "the step starts from W_hat"),
    (lambda W, G, rate: (W - rate * G, codes_of(W)), "the codes are those of the"),
    (ruled, "the new codes are on the old W's scale"),
    (lambda W, G, rate: descend(W, -G, rate), "the step goes uphill"),
    (lambda W, G, rate: descend(W, G, 1), "the rate is forgotten"),
    (lambda W, G, rate: descend(W, G * three(W)[1], rate), "G is multiplied by the sc"),
    (lambda W, G, rate: masked(W, G, rate, codes_of(W) != 0), "G is blocked where th"),
    (
        lambda W, G, rate: masked(W, G, rate, (W / three(W)[1]).abs() < 1),
        "G is blocked where |w| is beyond",
    ),
    (by_autograd, "W has not moved"),
    (thrown_away, "the new latent is rounded"),
    (lambda W, G, rate: descend(W, G, rate, codes=rounded), "the second output is the"),
]


@pytest.mark.parametrize(("yours", "words"), LATENT)
def test_a_planted_mistake_of_the_latent_step_is_named(yours, words):
    assert checks.latent_step(yours).mistake.startswith(words)


def test_a_step_in_place_is_told_to_work_on_a_copy():
    def in_place(W, G, rate):
        W -= rate * G
        return W, codes_of(W)

    said = repr(checks.latent_step(in_place))
    assert "it changes its argument; work on a copy" in said


def straight_through(W, G, rate):
    """The usual trick: W_hat is W plus something that has no gradient."""
    latent = torch.nn.Parameter(W.clone())
    (latent + (rounded(W) - latent).detach()).backward(G)
    torch.optim.SGD([latent], lr=rate).step()
    return latent.data, codes_of(latent.data)


def spent(nbytes, columns):
    return sum(nbytes[layer, column].item() for layer, column in enumerate(columns))


def offers(nbytes, nats, columns, *, wider=None, root=None, gain=None, harmful=False):
    """(nats per byte, the columns after it) for each change that saves something."""
    for layer, now in enumerate(columns):
        last = nbytes.shape[1] if wider is None else min(now + 1 + wider, len(nats[0]))
        for column in range(now + 1, last):
            since = now if root is None else root
            saved = (nats[layer, since] - nats[layer, column]).item()
            more = (nbytes[layer, column] - nbytes[layer, since]).item()
            if saved > 0 or harmful:
                after = [*columns[:layer], column, *columns[layer + 1 :]]
                whole = nbytes[layer, column].item()
                yield (gain(saved, whole) if gain else saved / more), after


def greedy(nbytes, nats, budget, most=None, allowed=lambda columns, after: True, **how):
    columns, bought = [0] * len(nats), 0
    while most is None or bought < most:
        fit = [
            offer
            for offer in offers(nbytes, nats, columns, **how)
            if spent(nbytes, offer[1]) <= budget and allowed(columns, offer[1])
        ]
        if not fit:
            break
        columns, bought = max(fit)[1], bought + 1
    return columns


def only_once(columns, after):
    pairs = zip(columns, after, strict=True)
    return all(now == 0 or now == then for now, then in pairs)


def until_too_dear(nbytes, nats, budget):
    columns = [0] * len(nats)
    while found := list(offers(nbytes, nats, columns)):
        best = max(found)[1]
        if spent(nbytes, best) > budget:
            break
        columns = best
    return columns


def while_bytes_last(nbytes, nats, budget):
    columns = [0] * len(nats)
    while spent(nbytes, columns) < budget:
        found = list(offers(nbytes, nats, columns))
        if not found:
            break
        columns = max(found)[1]
    return columns


def uniform(nbytes, nats, budget):
    widths = range(nbytes.shape[1])
    fitting = [w for w in widths if nbytes[:, w].sum() <= budget]
    return [fitting[-1]] * len(nbytes)


def first_come(nbytes, nats, budget):
    columns = [0] * len(nats)
    for layer, column in itertools.product(range(len(nats)), range(nats.shape[1])):
        trial = [*columns[:layer], column, *columns[layer + 1 :]]
        columns = trial if spent(nbytes, trial) <= budget else columns
    return columns


def one_list(nbytes, nats, budget):
    """All changes from column 0, sorted once."""
    columns = [0] * len(nats)
    for _, after in sorted(offers(nbytes, nats, columns), reverse=True):
        layer = next(i for i, column in enumerate(after) if column)
        trial = [*columns[:layer], after[layer], *columns[layer + 1 :]]
        if after[layer] > columns[layer] and spent(nbytes, trial) <= budget:
            columns = trial
    return columns


def every_one(nbytes, nats, budget):
    trials = itertools.product(range(nats.shape[1]), repeat=len(nats))
    fitting = [trial for trial in trials if spent(nbytes, trial) <= budget]
    least = min(fitting, key=lambda trial: spent(nats, trial))
    return torch.tensor(least)


BITS = [
    (lambda *a: greedy(*a, gain=lambda saved, size: saved), "it buys what saves the"),
    (lambda *a: greedy(*a, gain=lambda saved, size: saved / size), "it divides by all"),
    (until_too_dear, "it stops at the first change that does not fit"),
    (while_bytes_last, "the last change goes over the budget"),
    (
        lambda nbytes, nats, b: greedy(nbytes, nats, b + sum(nbytes[:, 0].tolist())),
        "the budget is for all bytes",
    ),
    (uniform, "every layer has the same width"),
    (first_come, "the layers are served in their order"),
    (lambda *a: greedy(*a, most=1), "it buys once"),
    (lambda *a: greedy(*a, allowed=only_once), "each layer is changed once"),
    (lambda *a: greedy(*a, wider=1), "it goes column by column"),
    (one_list, "what is saved is counted from column 0"),
    (lambda *a: greedy(*a, root=0), "what is saved is counted from column 0"),
    (lambda *a: greedy(*a, harmful=True), "it buys what saves nothing"),
    (every_one, "this is the best of all"),
]


@pytest.mark.parametrize(("yours", "words"), BITS)
def test_a_planted_mistake_of_the_widths_is_named(yours, words):
    assert checks.assign_bits(yours).mistake.startswith(words)


def at_once(nbytes, nats, budget):
    """All changes as one matrix, without a loop over layers."""
    rows, columns = torch.arange(len(nats)), torch.zeros(len(nats), dtype=torch.long)
    while True:
        more = nbytes - nbytes[rows, columns][:, None]
        saved = nats[rows, columns][:, None] - nats
        room = budget - nbytes[rows, columns].sum()
        per_byte = torch.where((more > 0) & (more <= room), saved / more, -torch.inf)
        if per_byte.max() <= 0:
            return columns
        layer, column = divmod(int(per_byte.argmax()), nats.shape[1])
        columns[layer] = column


def test_a_learner_s_own_way_is_accepted():
    assert checks.ternary(three)
    assert checks.ternary(
        lambda W: (
            W.sign().int() * (W.abs() >= W.abs().mean(1, keepdim=True) / 2),
            W.norm(p=1, dim=1, keepdim=True) / W.shape[1],
        )
    )
    assert checks.latent_step(descend)
    assert checks.latent_step(straight_through)
    assert checks.assign_bits(greedy)
    assert checks.assign_bits(at_once)


def test_no_weight_of_a_case_lies_so_near_a_border_that_the_order_of_sums_decides():
    seen = [W for (W,) in checks.ternary.cases.values()]
    seen += [W - rate * G for W, G, rate in checks.latent_step.cases.values()]
    for W in seen:
        share = W.abs() / W.abs().mean(1, keepdim=True)
        assert (share - 0.5).abs().min() > 1e-4


def test_the_small_step_changes_no_code_and_the_large_one_does():
    small, large = [
        given for name, given in checks.latent_step.cases.items() if "step" in name
    ]
    for (W, G, rate), changes in ((small, False), (large, True)):
        assert torch.equal(codes_of(W), codes_of(W - rate * G)) is not changes


def test_no_purchase_of_a_case_is_a_tie():
    for nbytes, nats, budget in checks.assign_bits.cases.values():
        columns = [0] * len(nats)
        while fit := sorted(
            offer
            for offer in offers(nbytes, nats, columns)
            if spent(nbytes, offer[1]) <= budget
        ):
            assert len(fit) == 1 or fit[-1][0] > 1.01 * fit[-2][0]
            columns = fit[-1][1]
