"""Grids: which values there are, by hand and against torch and a published table."""

import pytest
import torch
from helpers.fixture import as_learners_have_it
from hypothesis import given
from hypothesis import strategies as st

from minquant.numerics import grids
from minquant.numerics.grids import FP4, FP8_E4M3, FP8_E5M2, NF4, TERNARY, Codebook

INTEGERS = [grids.absmax, grids.symmetric_full, grids.signed, grids.zero_point]
GRIDS = [make(b) for make in INTEGERS for b in range(2, 17)]
GRIDS += [NF4, FP4, FP8_E4M3, FP8_E5M2, TERNARY]


def named(grid):
    return f"{grid.name}-{grid.bits}"


def every_code(grid):
    return torch.arange(grid.low, grid.high + 1)


# --- which values there are ---


@pytest.mark.parametrize(
    ("grid", "low", "high", "reach"),
    [
        (grids.absmax(2), -1, 1, 1),
        (grids.absmax(4), -7, 7, 7),
        (grids.absmax(8), -127, 127, 127),
        (grids.absmax(16), -32767, 32767, 32767),
        (grids.symmetric_full(2), -2, 1, 1.5),
        (grids.symmetric_full(4), -8, 7, 7.5),
        (grids.symmetric_full(16), -32768, 32767, 32767.5),
        (grids.zero_point(2), 0, 3, 3),
        (grids.zero_point(4), 0, 15, 15),
        (grids.zero_point(16), 0, 65535, 65535),
        (TERNARY, -1, 1, 1),
    ],
    ids=lambda x: named(x) if hasattr(x, "name") else "",
)
def test_the_ends_of_the_integer_grids_are_the_textbooks(grid, low, high, reach):
    assert (grid.low, grid.high, grid.reach) == (low, high, reach)
    assert list(grid.levels) == list(range(low, high + 1))


def test_only_the_zero_point_grid_has_zeros():
    assert [g.name for g in GRIDS if g.has_zeros] == ["zero_point"] * 15


@pytest.mark.parametrize("make", INTEGERS)
@pytest.mark.parametrize("bits", [1, 17, 0, -4, 4.0])
def test_a_width_that_is_none_is_refused(make, bits):
    with (
        as_learners_have_it(),
        pytest.raises(ValueError, match=f"bits is {bits}; choose a width from 2 to 16"),
    ):
        make(bits)


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_codes_fit_their_bits_and_their_dtype(grid):
    assert len(grid.levels) <= 2**grid.bits
    info = torch.iinfo(grids.code_dtype(grid))
    assert info.min <= grid.low and grid.high <= info.max


@pytest.mark.parametrize(
    ("levels", "bits", "message"),
    [
        ((0.0, 0.0, 1.0), 2, r"levels must ascend to a positive one; give sorted"),
        ((1.0, 0.0), 2, "levels must ascend"),
        ((-1.0, 0.0), 2, "to a positive one"),
        ((), 2, "levels must ascend"),
        ((0.0, 1.0, 2.0), 1, "levels has 3 values; 1 bits hold 2"),
    ],
)
def test_a_codebook_that_is_none_is_refused(levels, bits, message):
    with pytest.raises(ValueError, match=message):
        Codebook("mine", bits, levels)


# --- small floats, against the bits that torch reads ---


@pytest.mark.parametrize(
    ("grid", "dtype", "count"),
    [
        (FP8_E4M3, torch.float8_e4m3fn, 253),
        (FP8_E5M2, torch.float8_e5m2, 247),
    ],
)
def test_fp8_holds_every_finite_pattern_that_torch_reads(grid, dtype, count):
    patterns = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    read = patterns.view(dtype).float()
    finite = {x for x in read.tolist() if abs(x) < float("inf")}  # -0.0 == 0.0, no NaN
    assert set(grid.levels) == finite
    assert len(grid.levels) == count


def test_fp4_is_the_e2m1_of_the_mx_specification():
    half = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    assert FP4.levels == (*(-x for x in reversed(half)), 0.0, *half)


# --- NF4 ---


def test_nf4_derived_from_quantiles_is_the_published_table_within_float32():
    derived = torch.tensor(grids.nf4_levels(), dtype=torch.float64)
    published = torch.tensor(grids.NF4_PUBLISHED, dtype=torch.float64)
    assert (derived - published).abs().max() < 2e-7
    assert NF4.levels == grids.NF4_PUBLISHED


def test_nf4_published_values_are_float32_exactly():
    table = torch.tensor(grids.NF4_PUBLISHED, dtype=torch.float64)
    assert torch.equal(table.float().double(), table)


def test_nf4_has_an_exact_zero_and_both_ends():
    assert NF4.levels[0] == -1 and NF4.levels[7] == 0 and NF4.levels[15] == 1


# --- the one rounding ---

TIES = [  # grid, x, the code it takes
    (grids.absmax(4), 0.5, 0),
    (grids.absmax(4), 1.5, 2),
    (grids.absmax(4), 2.5, 2),
    (grids.absmax(4), -0.5, 0),
    (grids.absmax(4), -1.5, -2),
    (grids.zero_point(4), 2.5, 2),
    (FP4, 0.25, 7),  # between 0 (code 7) and 0.5 (code 8)
    (FP4, -0.25, 6),  # between −0.5 (code 6) and 0
    (FP4, 5.0, 13),  # between 4 and 6
    (FP4, -5.0, 0),
    (NF4, NF4.levels[8] / 2, 7),
]


@pytest.mark.parametrize(("grid", "x", "code"), TIES)
def test_ties_go_to_the_even_integer_or_to_the_lower_code(grid, x, code):
    # float64 holds every midpoint exactly
    assert grids.round_to_codes(torch.tensor([x]).double(), grid).item() == code


def test_the_zero_is_added_after_rounding():
    x, zeros = torch.tensor([[0.5, 1.5, -9.0]]), torch.tensor([[3]])
    codes = grids.round_to_codes(x, grids.zero_point(3), zeros)
    assert codes.tolist() == [[3, 5, 0]]  # before, 0.5 + 3 would have become 4


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_every_value_rounds_to_its_own_code(grid):
    codes = every_code(grid)
    assert torch.equal(
        grids.round_to_codes(grids.value(codes, grid), grid),
        codes.to(grids.code_dtype(grid)),
    )
    assert grids.value(codes, grid).tolist() == [float(x) for x in grid.levels]


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_beyond_the_ends_stands_the_end(grid):
    far = torch.tensor([-1e30, -torch.inf, 1e30, torch.inf])
    low, high = grid.low, grid.high
    assert grids.round_to_codes(far, grid).tolist() == [low, low, high, high]


@given(
    st.lists(st.floats(-600, 600, width=32), min_size=1, max_size=20),
    st.sampled_from([g for g in GRIDS if g.bits <= 8]),
)
def test_no_other_value_is_nearer(numbers, grid):
    x = torch.tensor(numbers, dtype=torch.float64)
    codes = grids.round_to_codes(x, grid)
    levels = torch.tensor(list(grid.levels), dtype=torch.float64)
    nearest = (x[:, None] - levels).abs().amin(1)
    got = (x - grids.value(codes, grid, torch.float64)).abs()
    assert torch.equal(got, nearest)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=20), st.sampled_from(GRIDS))
def test_larger_numbers_never_take_lower_codes(numbers, grid):
    codes = grids.round_to_codes(torch.tensor(sorted(numbers)), grid).long()
    assert (codes.diff() >= 0).all()


def test_a_transposed_matrix_rounds_as_any_other():
    x = torch.linspace(-1, 1, 12).reshape(3, 4)
    assert torch.equal(grids.round_to_codes(x.T, NF4), grids.round_to_codes(x, NF4).T)
