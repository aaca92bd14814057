"""Ruler: by hand, there and back for every grid and every way to broadcast, and the
same as what quantized matrices do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods.rtn import quantize_rtn, scale_and_zero
from minquant.numerics import grids
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, per_group, split
from minquant.numerics.ruler import Ruler, work_dtype
from minquant.numerics.scales import E8M0

GRIDS = [
    *(make(b) for make in (grids.absmax, grids.symmetric_full) for b in (2, 4, 8, 16)),
    *map(grids.zero_point, (2, 4, 8, 16)),
    *(grids.NF4, grids.FP4, grids.FP8_E4M3, grids.FP8_E5M2, grids.TERNARY),
]
CUTS = [PER_TENSOR, PER_CHANNEL, per_group(8)]
FLOAT32 = {"scale_dtype": torch.float32}  # for grids of 16 bits
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.name}{g.bits}")
every_cut = pytest.mark.parametrize("cut", CUTS, ids=str)


def weights(seed=0, out=4, width=32, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out, width, generator=generator, dtype=dtype) * 0.03


def of_groups(W, grid, cut, **options):
    """The rulers of W's groups, and the groups."""
    groups = split(W, cut)
    return Ruler.of_groups(*scale_and_zero(groups, grid, **options), grid), groups


# --- by hand ---


def test_codes_and_values_with_a_zero_point():
    # steps of 0.25, code 3 stands for 0: from −0.75 to 1
    ruler = Ruler(torch.tensor(0.25), torch.tensor(3), grids.zero_point(3))
    w = torch.tensor([-0.75, -0.3, 0.0, 0.1, 0.375, 1.0, 1.2, -9.0])
    # −1.2, 0.4, 1.5 (a tie: to the even 2), 4, 4.8 and −36 steps from 0
    codes = [0, 2, 3, 3, 5, 7, 7, 0]
    assert ruler.codes(w).tolist() == codes
    assert ruler.values(ruler.codes(w)).tolist() == [0.25 * (c - 3) for c in codes]


def test_a_zero_may_be_a_plain_number():
    ruler = Ruler(torch.tensor(0.5), 1, grids.zero_point(2))
    assert ruler.codes(torch.tensor([-0.5, 0.1, 1.0])).tolist() == [0, 1, 3]
    assert ruler.round(torch.tensor([-0.4, 0.1, 9.0])).tolist() == [-0.5, 0.0, 1.0]


def test_each_weight_of_a_column_is_measured_by_its_row():
    scale, zero = torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0, 4, 15])
    ruler = Ruler(scale, zero, grids.zero_point(4))
    codes = ruler.codes(torch.tensor([3.2, 3.2, -3.2]))
    assert codes.tolist() == [3, 10, 13]
    assert ruler.values(codes).tolist() == [3.0, 3.0, -4.0]


def test_a_codebook_is_stretched_too():
    ruler = Ruler(torch.tensor(2.0), None, grids.FP4)
    assert ruler.codes(torch.tensor([-12.0, 1.0, 5.1])).tolist() == [0, 8, 12]
    assert ruler.round(torch.tensor([-12.0, 1.0, 5.1])).tolist() == [-12.0, 1.0, 6.0]


def test_stretch_moves_levels_and_points_between_them_to_the_weights():
    levels = torch.tensor([0.0, 1.5, 3.0, 7.0])
    ruler = Ruler(torch.tensor(0.5), torch.tensor(3), grids.zero_point(3))
    assert ruler.stretch(levels).tolist() == [-1.5, -0.75, 0.0, 2.0]
    ruler = Ruler(torch.tensor(0.5), None, grids.absmax(4))
    assert ruler.stretch(levels).tolist() == [0.0, 0.75, 1.5, 3.5]


@every_grid
def test_stretched_over_all_levels_it_gives_every_value_of_each_group(grid):
    ruler, groups = of_groups(weights(), grid, per_group(8), **FLOAT32)
    ticks = ruler.stretch(torch.tensor(list(grid.levels), dtype=torch.float32))
    assert ticks.shape == (*groups.shape[:2], len(grid.levels))
    codes = torch.arange(grid.low, grid.high + 1).expand(ticks.shape)
    assert torch.equal(ticks, ruler.values(codes))


# --- there and back ---


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(GRIDS), st.sampled_from(CUTS))
def test_the_codes_of_values_are_the_codes_of_the_weights(seed, grid, cut):
    ruler, groups = of_groups(weights(seed), grid, cut, **FLOAT32)
    codes = ruler.codes(groups)
    assert torch.equal(ruler.codes(ruler.values(codes)), codes)
    assert torch.equal(ruler.round(ruler.round(groups)), ruler.round(groups))


@every_grid
def test_all_codes_come_back_from_their_values_on_one_ruler(grid):
    zero = torch.tensor(grid.high // 3) if grid.has_zeros else None
    ruler = Ruler(torch.tensor(0.5), zero, grid)
    codes = torch.arange(grid.low, grid.high + 1)
    assert torch.equal(ruler.codes(ruler.values(codes)).long(), codes)


@every_grid
def test_a_group_and_a_column_alone_get_the_codes_they_get_in_the_matrix(grid):
    W, g = weights(), 8
    ruler, groups = of_groups(W, grid, per_group(g), **FLOAT32)
    codes = ruler.codes(groups)
    for i in range(groups.shape[1]):
        column = ruler.column(i)
        assert column.scale.shape == (len(W),)
        for j in range(g):
            assert torch.equal(column.codes(groups[:, i, j]), codes[:, i, j])
        one = Ruler(
            column.scale[0], None if column.zero is None else column.zero[0], grid
        )
        assert torch.equal(one.codes(groups[0, i]), codes[0, i])
        assert torch.equal(one.values(codes[0, i]), ruler.values(codes)[0, i])


# --- what quantized matrices do ---


@every_cut
@every_grid
def test_it_does_what_quantize_rtn_and_dequantize_do(grid, cut):
    W = weights()
    q = quantize_rtn(W, grid, cut, **FLOAT32)
    ruler = Ruler.of_groups(q.scales, q.zeros, grid)
    assert torch.equal(ruler.codes(split(W, cut)).reshape(W.shape), q.codes)
    assert torch.equal(ruler.round(split(W, cut)).reshape(W.shape), q.dequantize())


@pytest.mark.parametrize(
    "scale_dtype", [torch.float16, torch.bfloat16, E8M0.store, DoubleQuantized.store]
)
def test_a_stored_scale_is_read_as_the_number_it_stands_for(scale_dtype):
    W = weights()
    q = quantize_rtn(W, grids.FP4, per_group(8), scale_dtype=scale_dtype)
    ruler = Ruler.of_groups(q.scales, None, grids.FP4)
    assert ruler.scale.dtype == torch.float32
    assert torch.equal(ruler.codes(split(W, per_group(8))).reshape(W.shape), q.codes)


@every_cut
@every_grid
def test_in_float64_it_calculates_in_float64(grid, cut):
    W = weights(dtype=torch.float64)
    q = quantize_rtn(W, grid, cut, scale_dtype=torch.float64)
    ruler = Ruler.of_groups(q.scales, q.zeros, grid, torch.float64)
    values = ruler.round(split(W, cut)).reshape(W.shape)
    assert values.dtype == torch.float64
    assert torch.equal(values, q.dequantize(torch.float64))
    nearest = Ruler.of_groups(q.scales, q.zeros, grid).values(split(q.codes, cut))
    assert nearest.dtype == torch.float32
    torch.testing.assert_close(nearest.double().reshape(W.shape), values)


def test_what_the_package_calculates_in():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert work_dtype(dtype) == torch.float32
    assert work_dtype(torch.float64) == torch.float64
