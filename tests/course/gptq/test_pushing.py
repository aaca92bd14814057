"""GPTQ's path, found again in its result: it is that of the derivation."""

import pytest
import torch
from helpers.cases import correlated

from minquant.course.gptq.pushing import Pushing
from minquant.methods import gptq_derivation, rtn
from minquant.numerics import grids

# both are float64; H below has a condition of at most about 1e4
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


WAYS = [(0.01, False), (0.1, True), (1.0, False)]


@pytest.mark.parametrize(("damping", "act_order"), WAYS)
def test_every_turn_is_that_of_the_derivation(damping, act_order):
    W, H = correlated()
    grid = grids.zero_point(3)
    pushing = Pushing.of(W, H, grid, damping=damping, act_order=act_order)
    rulers = gptq_derivation.column_rulers(
        rtn.quantize_rtn(W[:, pushing.order], grids.zero_point(3))
    )
    rows, spent = gptq_derivation.rows_by_cholesky(pushing.H), 0.0
    for turn, step in enumerate(gptq_derivation.steps(pushing.W, rows, rulers)):
        torch.testing.assert_close(pushing.errors[:, turn], step.error, **CLOSE)
        spent += step.cost / pushing.power
        assert pushing.so_far[turn].item() == pytest.approx(spent, rel=1e-9)
        for row in range(len(W)):
            now, moves = pushing.now(row, turn), pushing.pushed(row, turn)
            torch.testing.assert_close(now, step.W[row], **CLOSE)
            torch.testing.assert_close(moves[turn + 1 :], step.pushed[row], **CLOSE)
            assert not moves[: turn + 1].any()


def test_the_path_ends_at_the_packages_own_result():
    W, H = correlated()
    pushing = Pushing.of(W, H, grids.zero_point(4), act_order=True)
    columns = pushing.order.argsort()
    last = pushing.W.shape[1] - 1
    found = torch.stack([pushing.now(row, last) for row in range(len(W))])
    assert torch.equal(found[:, columns], pushing.quantized.dequantize(torch.float64))


def test_the_error_of_rounding_to_nearest_is_that_of_the_columns_so_far():
    W, H = correlated()
    pushing = Pushing.of(W, H, grids.absmax(3), damping=0.05)
    E = rtn.quantize_rtn(W, grids.absmax(3)).dequantize(torch.float64) - W
    for turn in (0, 5, 11):
        part = E.clone()
        part[:, turn + 1 :] = 0
        cost = ((part @ pushing.H) * part).sum() / pushing.power
        assert pushing.nearest_so_far[turn].item() == pytest.approx(cost.item())


def test_the_columns_come_in_the_order_of_their_inputs_size():
    W, H = correlated()
    sizes = H.diagonal()[Pushing.of(W, H, grids.NF4, act_order=True).order]
    assert torch.equal(sizes, sizes.sort(descending=True).values)


def test_likeness_is_between_0_and_1():
    likeness = Pushing.of(*correlated(), grids.absmax(4)).likeness
    torch.testing.assert_close(likeness.diagonal(), torch.ones(12).double())
    assert likeness.min() >= 0 and likeness.max() <= 1 + 1e-12


def test_an_input_that_is_never_seen_is_rounded_and_pushes_nothing():
    W, H = correlated()
    H[4], H[:, 4] = 0, 0
    pushing = Pushing.of(W, H, grids.zero_point(3))
    torch.testing.assert_close(pushing.became[:, 4], W[:, 4], **CLOSE)
    assert not pushing.pushed(0, 4).any()


def said(number):
    """A number as it was printed."""
    return float(number.replace("−", "-"))


@pytest.mark.parametrize("turn", [0, 6, 11])
def test_the_arithmetic_can_be_followed_by_hand(turn):
    W, H = correlated()
    pushing = Pushing.of(W.float(), H, grids.zero_point(3), damping=0.1)
    steps = dict(pushing.arithmetic(1, turn))
    was, pushed, now = (
        said(steps[name]) for name in (f"weight {turn} was", "pushed so far", "is")
    )
    assert was + pushed == pytest.approx(now, abs=1e-4)
    (back,) = (said(v) for k, v in steps.items() if k.startswith("back: "))
    (e,) = (v for k, v in steps.items() if k.endswith("e = is − back"))
    assert now - back == pytest.approx(said(e.split(",")[0]), abs=1e-4)
    moves = [(k, said(v)) for k, v in steps.items() if k.startswith("−e × ")]
    assert len(moves) == (turn < 11)
    for words, moved in moves:
        P = said(words.split()[2].rstrip(":"))
        assert moved == pytest.approx(-said(e.split(",")[0]) * P, rel=6e-3)


def test_the_words_say_where_it_stands():
    pushing = Pushing.of(*correlated(), grids.zero_point(3))
    words = pushing.describe(2, 4)
    assert words.startswith("Turn 5 of 12: column 4 is rounded, in row 2")
    assert f"{pushing.so_far[4]:.3%} of its outputs' power" in words
    assert "those to come (7) by up to" in words
    assert "and none is left." in pushing.describe(2, 11)
