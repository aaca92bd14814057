"""The answers of lesson 11, by hand and beside the package."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.answers_low_bits import assign_bits, costs_of, latent_step, ternary
from minquant.methods import rtn
from minquant.numerics.grids import TERNARY
from minquant.planning import mixed_precision
from minquant.planning.mixed_precision import Cost
from minquant.training.qat import straight_through


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_three_values_by_hand():
    W = torch.tensor([[0.9, -0.2, 0.4, -2.5], [3.0, 3.0, -3.0, 0.0]])
    codes, scales = ternary(W)
    assert codes.tolist() == [[1, 0, 0, -1], [1, 1, -1, 0]]
    assert torch.allclose(scales, torch.tensor([[1.0], [2.25]]))


def test_three_values_are_those_of_the_package_but_for_the_scale_s_16_bits():
    W = random(8, 64, seed=0)
    codes, scales = ternary(W)
    made = rtn.quantize_rtn(W, TERNARY)
    assert torch.equal(codes, made.codes) and scales.dtype == torch.float32
    assert torch.equal(scales.half(), made.scales)


@given(st.integers(0, 1000), st.integers(-8, 8))
def test_a_row_times_a_power_of_two_has_the_same_codes_and_its_scale_times_it(seed, p):
    W = random(3, 16, seed=seed)
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
    X, target = random(32, 16, seed=1), random(32, 4, seed=2)
    latent = torch.nn.Parameter(random(4, 16, seed=3))
    descent = torch.optim.SGD([latent], lr=0.05)
    W = latent.detach().clone()
    for _ in range(5):
        W_hat = straight_through(latent, TERNARY)
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
    assert costs_of(torch.tensor([[2, 4], [6, 8]]), nats) == {
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
    costs = costs_of(nbytes, nats)
    best = mixed_precision.total(costs, mixed_precision.assign_exact(costs, budget))
    assert nats[rows, columns].sum() >= best.nats - 1e-12
