"""Intervals: by hand, against closed forms, and by how often they contain the truth."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.measure.intervals import Difference, bootstrap, wilson, won_back


def test_documents_that_agree_leave_no_doubt():
    nats, tokens = torch.tensor([2.0, 6.0, 4.0]), torch.tensor([1, 3, 2])
    assert bootstrap(nats, tokens) == (2.0, 2.0)


def test_a_draw_weighs_documents_by_their_tokens():
    low, high = bootstrap(torch.tensor([10.0, 90.0]), torch.tensor([10, 30]))
    assert (low, high) == (1.0, 3.0)  # 1/4 of the draws hold one document alone


def test_the_bootstrap_of_many_equals_the_normal_interval():
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap(x)
    half = 1.96 * x.std().item() / math.sqrt(len(x))
    # quantiles of 4000 draws scatter by about 1.3 z-units/sqrt(4000): 2 % of the half
    assert low == pytest.approx(x.mean().item() - half, abs=0.1 * half)
    assert high == pytest.approx(x.mean().item() + half, abs=0.1 * half)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        tokens = torch.randint(50, 500, (60,), generator=generator)
        noise = torch.randn(60, generator=generator)
        low, high = bootstrap(tokens * (2.0 + 0.3 * noise), tokens)
        held += low <= 2.0 <= high
    spread = math.sqrt(200 * 0.95 * 0.05)
    assert abs(held - 190) < 4 * spread


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    x = torch.arange(30.0)
    assert bootstrap(x, seed=3) == bootstrap(x, seed=3) != bootstrap(x, seed=4)


def test_the_generator_of_the_caller_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    bootstrap(torch.arange(5.0))
    assert torch.equal(torch.rand(1), expected)


def test_many_documents_are_drawn_in_chunks_with_the_same_law():
    x = torch.arange(3000.0) % 2  # more than one chunk of draws
    low, high = bootstrap(x)
    half = 1.96 * 0.5 / math.sqrt(3000)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.1 * half)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_solve_its_equation_and_stay_within_0_and_1(counts):
    right, n = counts
    low, high = wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1
    z = 1.959963984540054
    for p in (low, high):
        if 0 < p < 1:
            off = abs(right / n - p)
            assert off == pytest.approx(z * math.sqrt(p * (1 - p) / n), rel=1e-9)


def test_wilson_as_newcombe_prints_it():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_a_higher_level_is_wider():
    x = torch.arange(40.0)
    assert bootstrap(x, level=0.99)[1] > bootstrap(x, level=0.8)[1]
    assert wilson(5, 10, level=0.99)[1] > wilson(5, 10, level=0.8)[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap(torch.ones(1)), "sums holds 1 document"),
        (lambda: bootstrap(torch.ones(0)), "sums holds 0 document"),
        (lambda: bootstrap(torch.ones(3), level=95), "level is 95; choose a share"),
        (lambda: wilson(1, 2, level=0.0), "level is 0.0"),
        (lambda: wilson(3, 2), "right is 3 of n = 2"),
        (lambda: wilson(0, 0), "right is 0 of n = 0"),
        (lambda: wilson(-1, 4), "right is -1 of n = 4"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_difference_says_its_number_its_unit_and_its_interval():
    costs = Difference(0.0312, 0.0290, 0.0334)
    assert repr(costs) == "+0.0312 nats/token [0.0290, 0.0334]"
    assert costs.is_sure
    assert not Difference(-0.1, -0.3, 0.1).is_sure


def test_what_a_better_method_wins_back():
    base, lost, kept = (torch.tensor(x).double() for x in ([1, 1], [3, 5], [2, 3]))
    share, low, high = won_back(base, lost, kept)
    assert (share, low, high) == pytest.approx((0.5, 0.5, 0.5))
    assert won_back(base, lost, lost)[0] == 0
    assert won_back(base, lost, base)[0] == 1


def test_a_document_that_gains_by_rounding_counts_and_no_damage_has_no_share():
    base = torch.zeros(40).double()
    lost = torch.ones(40).double()
    lost[0] = -0.5
    share, low, high = won_back(base, lost, lost / 2)
    assert (share, low, high) == pytest.approx((0.5, 0.5, 0.5))
    lost[:20] = -1.5
    assert won_back(base, lost, lost / 2)[1:] == (-math.inf, math.inf)


def test_a_share_needs_two_documents():
    with pytest.raises(ValueError, match="hold 1 document"):
        won_back(torch.zeros(1), torch.ones(1), torch.zeros(1))
