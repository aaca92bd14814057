"""Double quantization: the map by its derivation, the round trip as laws, the numbers
that bitsandbytes gives."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import fixture
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minquant.methods import rtn
from minquant.methods.gptq import quantize_gptq
from minquant.numerics import grids, groups
from minquant.numerics.double_quant import BLOCK, DoubleQuantized, dynamic_map
from minquant.numerics.scales import StoredScales

STORE = DoubleQuantized.store
HOW = grids.NF4, groups.per_group(64)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=30, deadline=None)


def some_scales(seed=0, rows=20, n_groups=30):
    """Positive numbers, as alike as absmaxes of weights are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, n_groups, 64, generator=generator).abs().amax(-1) * 0.02


# --- the map ---


def test_the_map_has_one_more_bit_of_fraction_in_each_decade_up():
    levels = dynamic_map().double()
    assert len(levels) == 256 and (levels.diff() > 0).all()
    counts = np.histogram(levels[levels > 0], 10.0 ** np.arange(-7, 1))[0]
    assert counts.tolist() == [1, 2, 4, 8, 16, 32, 64 + 1]  # and 1 itself
    assert torch.equal(levels[:127], -levels[128:255].flip(0))
    assert levels[127] == 0 and levels[255] == 1


def test_a_slice_of_a_decade_is_worth_its_middle():
    top = [x for x in dynamic_map().tolist() if 0.1 < x < 1]
    assert top[0] == pytest.approx(0.1 + 0.9 / 128)
    assert top[-1] == pytest.approx(1 - 0.9 / 128)


def test_the_map_is_bit_for_bit_that_of_bitsandbytes():
    # SHA-256 of create_dynamic_map() of bitsandbytes/functional.py, as 256 float32
    known = "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"
    assert hashlib.sha256(dynamic_map().numpy().tobytes()).hexdigest() == known


def test_built_in_float64_72_of_its_values_would_differ():
    values = [0.0, 1.0]
    for i in range(7):
        ends = np.linspace(0.1, 1, 2**i + 1)
        middles = (ends[:-1] + ends[1:]) / 2 * 10.0 ** (i - 6)
        values += [*middles, *-middles]
    exact = torch.tensor(sorted(values)).float()
    assert (exact != dynamic_map()).sum() == 72
    torch.testing.assert_close(exact, dynamic_map(), rtol=2.0**-22, atol=0)


# --- the scales ---


def test_a_case_by_hand():
    stored = STORE(torch.tensor([[1.0, 2.0, 3.0, 6.0]]), grids.NF4)
    # mean 3, differences −2 −1 0 3, absmax 3, shares −0.667 −0.333 0 1
    assert stored.mean == 3 and stored.absmax.tolist() == [3]
    levels = dynamic_map()[stored.codes.long()].tolist()[0]
    near = [-0.6695312, -0.3320312, 0.0, 1.0]  # slices are 0.9 / 64 wide
    assert levels == pytest.approx(near, abs=1e-6)
    assert stored.dequantize().tolist()[0] == pytest.approx(
        [3 + 3 * x for x in near], abs=1e-5
    )


@quick
@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_a_scale_moves_by_at_most_half_the_gap_of_the_map(seed, rows, n_groups):
    scales = some_scales(seed, rows, n_groups)
    stored = STORE(scales, grids.NF4)
    assert isinstance(stored, StoredScales) and stored.shape == scales.shape
    blocks = -(-scales.numel() // BLOCK)
    assert len(stored.absmax) == blocks
    assert stored.nbytes == scales.numel() + 4 * blocks + 4
    gap = dynamic_map().diff().max() / 2
    most = stored.absmax.repeat_interleave(BLOCK)[: scales.numel()] * gap
    off = (stored.dequantize() - scales).abs().flatten()
    assert (off <= most + 1e-6 * scales.max()).all()


@quick
@given(seeds)
def test_the_code_is_the_nearest_of_the_map(seed):
    scales = some_scales(seed)
    stored = STORE(scales, grids.NF4)
    absmax = stored.absmax.repeat_interleave(BLOCK)[: scales.numel()]
    shares = (scales.flatten() - stored.mean) / absmax
    nearest = (shares[:, None] - dynamic_map()).abs().argmin(1)
    assert torch.equal(stored.codes.flatten().long(), nearest)


@quick
@given(seeds)
def test_blocks_have_rulers_of_their_own_and_share_the_mean(seed):
    scales = some_scales(seed, 4, BLOCK)
    scales[1] *= 1 + (scales[1] > scales[1].mean())  # a block that reaches further
    stored = STORE(scales, grids.NF4)
    off = (scales - scales.double().mean().float()).abs().amax(1)
    assert torch.equal(stored.absmax, off)
    turned = STORE(scales[[2, 0, 3, 1]], grids.NF4)
    assert torch.equal(turned.codes, stored.codes[[2, 0, 3, 1]])


@given(st.floats(2.0**-20, 2.0**10, width=32), st.integers(1, 600))
def test_equal_scales_come_back_exactly(scale, n):
    scales = torch.full((1, n), scale)
    assert torch.equal(STORE(scales, grids.NF4).dequantize(), scales)


@quick
@given(seeds, st.floats(1e-6, 1e-2), st.floats(2.0, 4.0))
@example(0, 1e-5, 2.5)
def test_a_scale_far_below_the_mean_stays_positive(seed, small, large):
    scales = some_scales(seed)
    scales[3, 4:9] = small * scales.mean()
    scales[3, 9] = large * scales.mean()
    stored = STORE(scales, grids.NF4)
    assert (stored.dequantize() > 0).all()
    below = replace(stored, codes=stored.codes.clamp(min=1) - 1).dequantize()
    moved = (stored.dequantize() - scales).abs() > (below - scales).abs() + 1e-8
    assert (below[moved] <= 0).all()  # the nearer one would not do


def test_the_nearest_code_alone_would_make_some_negative():
    scales = some_scales()
    scales[3, 9] = 2.5 * scales.mean()
    scales[3, 4] = 1e-5
    stored = STORE(scales, grids.NF4)
    below = replace(stored, codes=stored.codes - 1).dequantize()[3, 4]
    assert below < 0 < stored.dequantize()[3, 4]
    assert 1e-5 - below < stored.dequantize()[3, 4] - 1e-5


@quick
@given(seeds)
def test_to_a_device_it_is_the_same(seed):
    stored = STORE(some_scales(seed), grids.NF4)
    assert torch.equal(stored.to("cpu").dequantize(), stored.dequantize())


# --- weights under such scales ---


def test_four_and_a_half_bits_become_4_127():
    W = fixture.layer().W
    plain = rtn.quantize_rtn(W, *HOW, scale_dtype=torch.float32)
    short = rtn.quantize_rtn(W, *HOW, scale_dtype=STORE)
    assert plain.bits_per_weight == 4.5
    exact = 4 + 8 / 64 + 32 / (64 * 256) + 32 / W.numel()
    assert short.bits_per_weight == exact
    assert f"{exact:.3f}" == "4.127"
    assert "DoubleQuantized" in repr(short)


def test_the_error_is_that_of_bitsandbytes_when_codes_are_made_before_scales_round():
    W = fixture.layer().W
    plain = rtn.quantize_rtn(W, *HOW, scale_dtype=torch.float32)
    theirs = replace(plain, scales=STORE(plain.scales, grids.NF4))
    assert f"{fixture.error(plain.dequantize()):.4e}" == "2.3326e-02"
    assert f"{fixture.error(theirs.dequantize()):.4e}" == "2.3341e-02"


def test_codes_made_against_the_scales_as_stored_err_less():
    W = fixture.layer().W
    ours = rtn.quantize_rtn(W, *HOW, scale_dtype=STORE)
    assert f"{fixture.error(ours.dequantize()):.4e}" == "2.3303e-02"


@quick
@given(seeds)
def test_rounding_again_under_the_same_scales_changes_nothing(seed):
    W = torch.randn(8, 256, generator=torch.Generator().manual_seed(seed))
    once = rtn.quantize_rtn(W, *HOW, scale_dtype=STORE)
    again = rtn.quantize_with(once.dequantize(), once.scales, None, *HOW)
    assert torch.equal(again.codes, once.codes)


@pytest.mark.parametrize("grid", [grids.NF4, grids.absmax(4), grids.zero_point(3)])
def test_it_serves_any_grid_clipping_and_empty_groups(grid):
    W = torch.randn(8, 256, generator=torch.Generator().manual_seed(1))
    W[2] = 0
    for clip in (None, "mse"):
        q = rtn.quantize_rtn(
            W, grid, groups.per_group(64), clip=clip, scale_dtype=STORE
        )
        assert not q.dequantize()[2].any()
        plain = rtn.quantize_rtn(W, grid, groups.per_group(64), clip=clip)
        errors = [(one.dequantize() - W).square().mean() for one in (q, plain)]
        assert errors[0] < 1.1 * errors[1]


def test_gptq_takes_it_with_rulers_fixed_before_the_loop():
    W = torch.randn(8, 128, generator=torch.Generator().manual_seed(1))
    found = quantize_gptq(
        W, torch.eye(128), *HOW, scale_dtype=STORE, static_groups=True
    )
    known = rtn.quantize_rtn(W, *HOW, scale_dtype=STORE)
    assert torch.equal(found.codes, known.codes)
    assert torch.equal(found.scales.codes, known.scales.codes)


def test_scales_without_end_are_refused_and_tiny_ones_are_not():
    W = torch.full((2, 64), 1e38)
    with pytest.raises(ValueError, match="not finite in DoubleQuantized"):
        rtn.quantize_rtn(W.double() * 1e10, *HOW, scale_dtype=STORE)
    q = rtn.quantize_rtn(torch.full((2, 64), 1e-12), *HOW, scale_dtype=STORE)
    assert torch.equal(q.dequantize(), torch.full((2, 64), 1e-12))
