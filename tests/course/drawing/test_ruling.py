"""Numbers of a ruled row: by hand, and as laws over every grid, ruler and clip."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.course.drawing.numbers import integer, number
from minquant.course.drawing.ruling import Ruling
from minquant.methods import rtn
from minquant.numerics import grids, groups, scales

GRIDS = [grids.absmax(b) for b in (2, 4, 8)] + [grids.symmetric_full(3)]
GRIDS += [grids.zero_point(b) for b in (2, 4, 8)] + [grids.NF4]
CUTS = [groups.PER_TENSOR, groups.PER_CHANNEL, groups.per_group(16)]


def weights(seed=0, out=4, width=64):
    """Heavy-tailed weights, as real ones are."""
    torch.manual_seed(seed)
    return torch.distributions.StudentT(4.0).sample((out, width)) * 0.03


def by_hand():
    """Four weights on the ticks -1, 0, 1 with scale 1/2; the last lies beyond them."""
    return Ruling(
        weights=np.float32([0.1, -0.2, 0.5, 0.9]),
        values=np.float32([0, 0, 0.5, 0.5]),
        codes=np.array([0, 0, 1, 1]),
        level_codes=np.array([-1, 0, 1]),
        levels=np.float32([[-0.5, 0, 0.5]]),
        owner=np.zeros(4, int),
        scales=np.float32([0.5]),
    )


def test_errors_are_what_is_stored_minus_what_was():
    assert by_hand().errors == pytest.approx([-0.1, 0.2, 0, -0.4])


def test_half_a_step_is_half_the_gap_to_the_next_tick():
    low, high = by_hand().half_steps
    assert low == pytest.approx([-0.25] * 4)
    assert high == pytest.approx([0.25] * 4)


def test_a_weight_more_than_half_a_step_beyond_the_end_is_clipped():
    assert by_hand().clipped.tolist() == [False, False, False, True]


def test_on_uneven_ticks_the_band_is_uneven():
    ruling = by_hand()
    ruling = Ruling(**{**vars(ruling), "levels": np.float32([[-1, 0, 0.5]])})
    low, high = ruling.half_steps
    assert (low[0], high[0]) == (-0.25, 0.5)  # nearer above, farther below
    assert ruling.steps[0] == 0.75


def test_the_arithmetic_of_a_weight_by_hand():
    assert by_hand().arithmetic(1) == [
        ("weight", "−0.20000"),
        ("÷ scale 0.50000 (fp16)", "−0.40000"),
        ("round = code", "0"),
        ("back: 0 × 0.50000", "0"),
        ("error", "+0.20000 = 0.40 of a step"),
    ]


def test_the_arithmetic_of_a_clipped_weight_by_hand():
    steps = dict(by_hand().arithmetic(3))
    assert steps["round"] == "2"
    assert steps["clamp to −1 … 1 = code"] == "1"
    assert steps["clipped: error"] == "−0.40000 = 0.80 of a step"


def test_the_arithmetic_of_a_zero_point_adds_the_zero_and_takes_it_back():
    W = torch.tensor([[-0.25, 0.5, 0.1]])
    quantized = rtn.quantize_rtn(W, grids.zero_point(2), scale_dtype=torch.float32)
    assert Ruling.of(W, quantized, 0).arithmetic(2) == [
        ("weight", "0.10000"),
        ("÷ scale 0.25000 (fp32)", "0.40000"),
        ("round", "0"),
        ("+ zero 1 = code", "1"),
        ("back: (1 − 1) × 0.25000", "0"),
        ("error", "−0.10000 = 0.40 of a step"),
    ]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.kind)
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.name}{grid.bits}")
def test_what_is_shown_is_what_the_package_stores(grid, cut):
    W = weights()
    quantized = rtn.quantize_rtn(W, grid, cut)
    ruling = Ruling.of(W, quantized, 2, first=16, count=32)
    here = (2, slice(16, 48))
    assert np.array_equal(ruling.weights, W[here])
    assert np.array_equal(ruling.values, quantized.dequantize()[here])
    assert np.array_equal(ruling.codes, quantized.codes[here])
    ticks = ruling.levels[ruling.owner, ruling.places]
    np.testing.assert_array_equal(ticks, ruling.values)  # every value is a tick


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(GRIDS), st.sampled_from(CUTS))
def test_without_clipping_no_error_exceeds_half_a_step(seed, grid, cut):
    W = weights(seed)
    ruling = Ruling.of(W, rtn.quantize_rtn(W, grid, cut), seed % 4)
    # a scale in fp16 can be short by 2^-11 of itself, which at the last tick is
    # |code| / 2048 of a step, and a zero moves an end of the range by half a step
    slack = (
        2.0 ** (grid.bits - 1) / 2048 + (0.5 if ruling.zeros is not None else 0)
    ) * ruling.steps
    low, high = ruling.half_steps
    assert (ruling.errors >= low - slack).all()
    assert (ruling.errors <= high + slack).all()


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(GRIDS), st.sampled_from(CUTS))
def test_the_last_step_of_the_arithmetic_is_the_code(seed, grid, cut):
    W = weights(seed)
    ruling = Ruling.of(W, rtn.quantize_rtn(W, grid, cut, clip="mse"), seed % 4)
    for i in range(0, 64, 9):
        (code,) = [r for done, r in ruling.arithmetic(i) if "code" in done]
        assert code == integer(ruling.codes[i])


def test_the_rmse_is_that_of_the_weights_in_view():
    assert by_hand().rmse == pytest.approx(np.sqrt((0.01 + 0.04 + 0 + 0.16) / 4))


def test_a_row_of_zeros_can_be_looked_at():
    W = torch.zeros(2, 8)
    ruling = Ruling.of(W, rtn.quantize_rtn(W, grids.absmax(4)), 0)
    assert not ruling.clipped.any()
    assert ruling.arithmetic(0)[-1][1].startswith("0 = 0")


def test_a_row_that_is_not_there_is_refused():
    W = weights()
    with pytest.raises(ValueError, match="row is 4; choose a row from 0 to 3"):
        Ruling.of(W, rtn.quantize_rtn(W, grids.absmax(4)), 4)


def test_the_description_says_ticks_errors_and_the_weight():
    said = by_hand().describe(3)
    assert "4 weights of a row as dots, from −0.200 to 0.900" in said
    assert "one ruler; it has 3 ticks from −0.500 to 0.500" in said
    assert "1 weight is clipped" in said
    assert "weight 3 magnified: 0.90000 is stored as code 1, the value 0.50000" in said


@given(st.floats(-1e6, 1e6, allow_subnormal=False))
def test_a_number_is_said_to_five_digits(x):
    said = float(number(x).replace("−", "-"))
    assert said == pytest.approx(x, rel=5e-5)


def test_scales_in_a_format_of_their_own_are_read_as_numbers():
    W = torch.randn(2, 64)
    quantized = rtn.quantize_rtn(
        W, grids.FP4, groups.per_group(32), scale_dtype=scales.E8M0.store
    )
    ruling = Ruling.of(W, quantized, 0)
    np.testing.assert_array_equal(ruling.scales, quantized.scales.dequantize()[0])
    assert "(E8M0)" in ruling.arithmetic(0)[1][0]
