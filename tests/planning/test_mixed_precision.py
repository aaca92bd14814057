"""Bits where they are needed: measured alone, assigned under a budget, applied."""

import itertools
from functools import partial

import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.measure import evaluate
from minquant.methods import rtn
from minquant.models import quantize
from minquant.models.linear_layers import linear_layers
from minquant.numerics.grids import zero_point
from minquant.planning import mixed_precision
from minquant.planning.mixed_precision import Cost

METHODS = {b: partial(rtn.quantize_rtn, grid=zero_point(b)) for b in (2, 4, 8)}
HAND = {
    "a": {2: Cost(2, 9.0), 3: Cost(3, 4.0), 4: Cost(4, 1.0)},
    "b": {2: Cost(2, 5.0), 3: Cost(3, 1.0), 4: Cost(4, 0.0)},
}


def brute_force(costs, budget):
    """The least sum of nats of all assignments that fit, by trying every one."""
    totals = [
        mixed_precision.total(costs, dict(zip(costs, widths, strict=True)))
        for widths in itertools.product(*costs.values())
    ]
    return min(total.nats for total in totals if total.nbytes <= budget)


@pytest.mark.parametrize(
    ("budget", "assignment"),
    [
        (4, {"a": 2, "b": 2}),
        (5, {"a": 3, "b": 2}),  # 5 nats for a byte, against 4
        (6, {"a": 3, "b": 3}),
        (7, {"a": 4, "b": 3}),
        (100, {"a": 4, "b": 4}),
    ],
)
def test_by_hand_each_byte_goes_where_it_saves_most(budget, assignment):
    assert mixed_precision.assign_greedy(HAND, budget) == assignment
    assert mixed_precision.assign_exact(HAND, budget) == assignment


def test_by_hand_greedy_can_be_wrong_where_the_last_bytes_go():
    costs = {
        "a": {2: Cost(0, 10.0), 4: Cost(3, 0.0)},
        "b": {2: Cost(0, 8.0), 4: Cost(2, 0.0)},
    }
    # 4 nats a byte for b, then nothing fits; all in a would have saved more
    assert mixed_precision.assign_greedy(costs, 3) == {"a": 2, "b": 4}
    assert mixed_precision.assign_exact(costs, 3) == {"a": 4, "b": 2}


COSTS = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(drawn=COSTS, more=st.integers(0, 60))
def test_the_exact_assignment_is_the_best_of_all_and_greedy_fits_the_budget(
    drawn, more
):
    costs = {
        str(i): {b: Cost(nbytes, float(nats)) for b, (nbytes, nats) in enumerate(some)}
        for i, some in enumerate(drawn)
    }
    smallest = {
        name: min(options, key=lambda b: options[b].nbytes)
        for name, options in costs.items()
    }
    budget = mixed_precision.total(costs, smallest).nbytes + more
    best = mixed_precision.total(costs, mixed_precision.assign_exact(costs, budget))
    assert best.nbytes <= budget
    assert best.nats == brute_force(costs, budget)
    fast = mixed_precision.total(costs, mixed_precision.assign_greedy(costs, budget))
    assert fast.nbytes <= budget
    assert best.nats <= fast.nats <= mixed_precision.total(costs, smallest).nats


@given(more=st.integers(0, 3))
def test_a_larger_budget_never_costs_more_nats(more):
    nats = [
        mixed_precision.total(HAND, mixed_precision.assign_exact(HAND, b)).nats
        for b in (4 + more, 5 + more)
    ]
    assert nats[1] <= nats[0]


def measured(network, methods=METHODS, **options):
    """The sensitivities of a tiny model on a few calibration texts."""
    texts = tiny.texts_of("calibration", 3)
    words = tiny.tokenizer()
    return mixed_precision.sensitivities(
        network, words, texts, methods, progress=False, **options
    )


def test_a_sensitivity_is_the_kl_of_the_model_with_that_layer_rounded():
    network, name = tiny.model(), "model.layers.1.mlp.up_proj"
    costs = measured(network)
    assert list(costs) == list(linear_layers(network))
    twin, report = quantize.quantize(network, METHODS[2], only=[name], progress=False)
    texts = tiny.texts_of("calibration", 3)
    words = tiny.tokenizer()
    exact = evaluate.kl_and_flips(
        network, twin, words, texts, held_out=False, progress=False
    )
    assert costs[name][2].nats == pytest.approx(exact.kl, rel=1e-4)
    assert costs[name][2].nbytes == report[name].nbytes


def test_in_company_it_is_the_kl_of_the_model_with_all_others_rounded_too():
    network, name = tiny.model(), "model.layers.0.self_attn.v_proj"
    costs = measured(network, around=4)
    chosen = {**dict.fromkeys(costs, 4), name: 2}
    twin, _ = mixed_precision.quantize(network, chosen, METHODS, progress=False)
    texts, words = tiny.texts_of("calibration", 3), tiny.tokenizer()
    exact = evaluate.kl_and_flips(
        network, twin, words, texts, held_out=False, progress=False
    )
    assert costs[name][2].nats == pytest.approx(exact.kl, rel=1e-4)
    same = [options[4].nats for options in costs.values()]
    assert same == pytest.approx([same[0]] * len(same), rel=1e-6)


def test_measuring_leaves_the_model_alone_and_more_bits_cost_fewer_nats():
    network = tiny.model()
    kept = [w.clone() for w in network.parameters()]
    costs = measured(network)
    pairs = zip(kept, network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for options in costs.values():
        assert options[2].nats > options[4].nats > options[8].nats > 0
        assert options[2].nbytes < options[4].nbytes < options[8].nbytes


def test_a_layer_that_matters_gets_more_bits_than_one_that_does_not():
    network = tiny.model()
    network.model.layers[0].mlp.down_proj.weight.zero_()  # gate and up do nothing
    costs = measured(network)
    budget = mixed_precision.uniform_bytes(costs, 4)
    chosen = mixed_precision.assign_exact(costs, budget)
    assert chosen["model.layers.0.mlp.up_proj"] == 2
    assert max(chosen.values()) == 8
    assert mixed_precision.total(costs, chosen).nbytes <= budget


@pytest.mark.parametrize("bits", [2, 8])
def test_one_width_for_all_is_quantizing_the_whole_model_at_it(bits):
    network = tiny.model()
    same = dict.fromkeys(linear_layers(network), bits)
    made, report = mixed_precision.quantize(network, same, METHODS, progress=False)
    expected, whole = quantize.quantize(network, METHODS[bits], progress=False)
    pairs = zip(made.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert list(report) == list(whole)


def test_each_layer_gets_the_width_it_was_given():
    network = tiny.model()
    names = list(linear_layers(network))
    chosen = {name: (2, 4, 8)[i % 3] for i, name in enumerate(names)}
    _, report = mixed_precision.quantize(network, chosen, METHODS, progress=False)
    assert {name: q.grid.bits for name, q in report.items()} == chosen
    assert list(report) == names


def test_wide_layers_are_quantized_first():
    seen = []

    def method(bits):
        return lambda W: seen.append(bits) or METHODS[bits](W)

    network = tiny.model()
    names = list(linear_layers(network))
    chosen = {name: (2, 8, 4)[i % 3] for i, name in enumerate(names)}
    methods = {bits: method(bits) for bits in METHODS}
    mixed_precision.quantize(network, chosen, methods, progress=False)
    assert len(seen) == len(names) and seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("nats", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "assign", [mixed_precision.assign_exact, mixed_precision.assign_greedy]
)
@pytest.mark.parametrize(("name", "bits"), [("a", 2), ("b", 4)])
def test_nats_that_cannot_be_compared_are_named(assign, nats, name, bits):
    costs = {**HAND, name: {**HAND[name], bits: Cost(bits, nats)}}
    seen = f"costs has {nats} nats for {name} at {bits} bits; leave that width out"
    with pytest.raises(ValueError, match=seen):
        assign(costs, 6)


def test_what_cannot_be_assigned_or_measured_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="budget is 3 bytes, but the smallest widths"):
        mixed_precision.assign_exact(HAND, 3)
    with pytest.raises(ValueError, match="budget is 3 bytes"):
        mixed_precision.assign_greedy(HAND, 3)
    with pytest.raises(ValueError, match=r"bits is 8, but what was measured is \[2, 3"):
        mixed_precision.uniform_bytes(HAND, 8)
    with pytest.raises(ValueError, match=r"methods has none for \[3\]; give one for"):
        mixed_precision.quantize(tiny.model(), {"a": 3}, METHODS)
    with pytest.raises(ValueError, match=r"methods has \[\], around is None; give a"):
        measured(tiny.model(), {})
    with pytest.raises(ValueError, match=r"methods has \[2, 4, 8\], around is 3; give"):
        measured(tiny.model(), around=3)
    texts = tiny.texts_of("test", 1)
    with pytest.raises(ValueError, match="belongs to the test split; to calibrate"):
        mixed_precision.sensitivities(
            tiny.model(), tiny.tokenizer(), texts, METHODS, progress=False
        )
