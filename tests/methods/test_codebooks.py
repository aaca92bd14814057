"""Codebooks: what codes are used for, by hand and as laws, and the best levels."""

import pytest
import torch
from helpers import fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import rtn
from minquant.methods.codebooks import carried, error_by_code, lloyd, places, usage
from minquant.numerics import grids, groups

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)
GRIDS = [grids.NF4, grids.FP4, grids.absmax(4), grids.symmetric_full(3)]
GRIDS += [grids.zero_point(4), grids.TERNARY]
# Max (1960), table 1: levels of the best quantizer of the standard normal, and its MSE
MAX = {
    2: ([0.7980], 0.3634),
    4: ([0.4528, 1.510], 0.1175),
    8: ([0.2451, 0.7560, 1.344, 2.152], 0.03454),
    16: ([0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], 0.009497),
}


def normal(seed, out=8, width=64):
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed))


# --- what codes are used for ---


def test_usage_by_hand():
    W = torch.tensor([[-0.7, 0.0, 0.1, 0.69]])
    shares = usage(rtn.quantize_rtn(W, grids.absmax(4)))
    assert shares.tolist() == [0.25, *[0] * 6, 0.25, 0.25, *[0] * 5, 0.25]


@quick
@given(seeds, st.sampled_from(GRIDS))
def test_usage_is_the_count_of_each_code(seed, grid):
    q = rtn.quantize_rtn(normal(seed), grid, groups.per_group(16))
    shares = usage(q)
    counts = [
        (q.codes.long() == c).sum().item() for c in range(grid.low, grid.high + 1)
    ]
    assert (shares * q.codes.numel()).tolist() == counts
    assert 0 <= carried(shares) <= torch.tensor(float(len(counts))).log2() + 1e-12


def test_equal_shares_carry_all_bits_and_one_code_carries_none():
    assert carried(torch.full((16,), 1 / 16)) == pytest.approx(4)
    assert carried(torch.tensor([0.0, 1.0, 0.0])) == 0


def test_nf4_s_codes_are_not_used_equally_on_a_normal():
    q = rtn.quantize_rtn(fixture.layer().W, grids.NF4, groups.per_group(64))
    shares = usage(q)
    assert 0.016 < shares.min() < 0.019 and 0.090 < shares.max() < 0.095
    assert int(shares.argmin()) == 15  # the outermost of the side with more codes
    assert 3.87 < carried(shares) < 3.90


@quick
@given(seeds, st.sampled_from(GRIDS))
def test_errors_of_the_codes_are_those_of_the_weights(seed, grid):
    W = normal(seed)
    q = rtn.quantize_rtn(W, grid, groups.per_group(16))
    squares = (q.dequantize() - W).double().square()
    shares = error_by_code(W, q)
    assert shares.sum() == pytest.approx(1)
    third = squares[q.codes == grid.low + 1].sum() / squares.sum()
    assert shares[1] == pytest.approx(third.item(), abs=1e-12)


def test_without_error_no_code_has_a_share():
    W = torch.tensor([[-7.0, 3.0, 7.0]])
    q = rtn.quantize_rtn(W, grids.absmax(4))
    assert not error_by_code(W, q).any()


@quick
@given(seeds, st.sampled_from(GRIDS))
def test_a_place_on_the_ruler_is_the_weight(seed, grid):
    W = normal(seed)
    q = rtn.quantize_rtn(W, grid, groups.per_group(32), scale_dtype=torch.float32)
    low, high = grid.levels[0], grid.levels[-1]
    zeros = 0 if q.zeros is None else q.zeros[:, :, None].float()
    steps = (places(W, q).reshape(8, 2, 32) + 1) / 2 * (high - low) + low
    W_back = ((steps - zeros) * q.scales[:, :, None]).reshape(8, 64)
    torch.testing.assert_close(W_back, W, rtol=1e-5, atol=1e-5)


def test_with_nf4_a_place_is_the_share_of_the_absmax():
    W = normal(0)
    q = rtn.quantize_rtn(W, grids.NF4, groups.per_group(64), scale_dtype=torch.float32)
    torch.testing.assert_close(places(W, q), W / W.abs().amax(1, keepdim=True))


# --- the best levels ---


@pytest.mark.parametrize("n", MAX)
def test_the_best_levels_of_the_normal_are_max_s(n):
    count = 200_000
    x = torch.special.ndtri((torch.arange(count).double() + 0.5) / count)
    levels = torch.tensor(lloyd(x, torch.linspace(-2, 2, n).tolist())).double()
    half, mse = MAX[n]
    assert levels[n // 2 :].tolist() == pytest.approx(half, abs=0.002)
    codes = torch.bucketize(x, (levels[1:] + levels[:-1]) / 2)
    assert (levels[codes] - x).square().mean() == pytest.approx(mse, rel=0.002)


def error(x, levels, weights):
    levels = torch.tensor(levels, dtype=torch.float64)
    gaps = (x.double()[:, None] - levels).abs().amin(1)
    return (weights.double() * gaps.square()).sum().item()


@quick
@given(seeds, st.integers(2, 9))
def test_the_search_never_makes_it_worse_and_ends_at_the_means_of_the_nearest(seed, n):
    x = normal(seed).flatten()
    weights = normal(seed + 1).flatten().square()
    start = torch.linspace(-2, 2, n).tolist()
    levels = lloyd(x, start, weights)
    assert error(x, levels, weights) <= error(x, start, weights) * (1 + 1e-12)
    nearest = (x.double()[:, None] - torch.tensor(levels).double()).abs().argmin(1)
    for i in nearest.unique():
        mine = nearest == i
        mean = (weights * x)[mine].double().sum() / weights[mine].double().sum()
        assert levels[i] == pytest.approx(mean.item(), abs=1e-5)


@quick
@given(seeds)
def test_a_weight_of_two_is_the_number_twice(seed):
    x = normal(seed).flatten()
    twice = torch.where(x > 0, 2.0, 1.0)
    start = [-1.0, 0.0, 1.0]
    doubled = lloyd(torch.cat([x, x[x > 0]]), start)
    assert lloyd(x, start, twice) == pytest.approx(doubled, abs=1e-9)


def test_a_level_without_numbers_stays():
    assert lloyd(torch.tensor([0.0, 2.0]), [1.0, 50.0]) == (1.0, 50.0)


def test_levels_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match=r"levels must ascend; give sorted\(set"):
        lloyd(torch.zeros(3), [1.0, 1.0])
