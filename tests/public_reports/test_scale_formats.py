"""Scale formats at their ends: no grid is cut by its scales without a word (imp#1544).

E4M3 scales of a zero-point grid were clamped at 448, which made the error two to three
times as large. Here every format of scales meets every grid, at every magnitude.
"""

import pytest
import torch
from helpers.fixture import as_learners_have_it
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minquant.methods.awq import quantize_awq
from minquant.methods.catalog import BY_NAME
from minquant.methods.rtn import quantize_rtn
from minquant.methods.smoothquant import quantize_smooth
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import (
    FP4,
    FP8_E4M3,
    FP8_E5M2,
    NF4,
    TERNARY,
    absmax,
    symmetric_full,
    zero_point,
)
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, per_group, split
from minquant.numerics.ruler import narrowed
from minquant.numerics.scales import (
    E4M3,
    E8M0,
    ScaleOverflow,
    largest,
    scale_values,
    store,
)

GRIDS = [
    make(b) for make in (absmax, symmetric_full, zero_point) for b in (2, 4, 8, 12)
]
GRIDS += [NF4, FP4, FP8_E4M3, FP8_E5M2, TERNARY]
PLAIN = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
PLAIN += [torch.float8_e4m3fn, torch.float8_e5m2]
FORMATS = {str(dtype): lambda W, grid, dtype=dtype: dtype for dtype in PLAIN}
FORMATS["E8M0"] = lambda W, grid: E8M0.store
FORMATS["E4M3"] = E4M3.of
FORMATS["double"] = lambda W, grid: DoubleQuantized.store
CUTS = [PER_TENSOR, PER_CHANNEL, per_group(16)]


def weights(seed, out=4, width=32):
    """Heavy-tailed weights, some of one sign."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(out, width, generator=generator, dtype=torch.float64)
    W = normal * normal.abs().sqrt()
    W[0] = W[0].abs()
    return W


def own_rounding(name, ideal):
    """How far a format may move a scale, by its definition."""
    if name == "E8M0":  # grid.reach counts as the power of two below it
        return ideal * 1.001 + 2.0**-127
    if name == "double":  # half the widest step of its map, and a step where ≤ 0
        return 2 * 0.0157 * (ideal - ideal.mean()).abs().max() + 1e-6 * ideal.max()
    if name == "E4M3":
        return ideal / 15 + 2.0**-9 * ideal.max() / 100 + 2.0**-125
    info = torch.finfo(getattr(torch, name.removeprefix("torch.")))
    return ideal * info.eps / 2 * 1.001 + info.tiny * info.eps


@settings(max_examples=400)
@given(
    st.integers(0, 9999),
    st.sampled_from(GRIDS),
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from(CUTS),
    st.floats(-30, 30),
    st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
@example(0, zero_point(4), "E4M3", per_group(16), 0.0, torch.float32)
@example(0, absmax(4), "torch.float8_e4m3fn", PER_CHANNEL, 5.0, torch.float32)
@example(0, absmax(4), "E8M0", PER_CHANNEL, -30.0, torch.float64)
def test_the_error_is_bounded_or_the_scale_refused(seed, grid, name, cut, power, dtype):
    W = (weights(seed) * 10.0**power).to(dtype)
    groups = split(W.double(), cut)  # (rows, n_groups, g)
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    fitted = high - low if grid.has_zeros else torch.maximum(-low, high)
    if grid.fit == "absmean":
        fitted = groups.abs().mean(-1)
    ideal = fitted / grid.reach
    try:
        q = quantize_rtn(W, grid, cut, scale_dtype=FORMATS[name](W, grid))
    except ScaleOverflow:
        ends = torch.finfo(torch.float32).max
        if name.startswith("torch."):
            ends = largest(getattr(torch, name.removeprefix("torch.")))
        assert ideal.max() > 0.99 * ends
        return
    stored = scale_values(q.scales).double()
    moved = (stored - ideal).abs()
    assert (moved <= own_rounding(name, ideal) + 2.0**-21 * ideal).all()
    # half a step, the weights beyond the ends, the zero, and float32's own rounding
    gap = torch.tensor(list(grid.levels), dtype=torch.float64).diff().max() / 2
    bound = gap * stored + 2.0**-21 * fitted + 2.0**-125
    if grid.fit == "absmean":
        bound = bound + (groups.abs().amax(-1) - stored).clamp(min=0)
    else:
        bound = bound + grid.reach * moved + stored / 2 * grid.has_zeros
    off = (split(q.dequantize(torch.float64), cut) - groups).abs()
    assert (off <= bound[:, :, None]).all()


def test_e4m3_scales_of_a_zero_point_grid_reach_its_whole_range():
    """imp#1544: −1 … 1 came back as −1 … 0."""
    W, grid = torch.tensor([[-1.0, -0.5, 0.5, 1.0] * 4]), zero_point(4)
    q = quantize_rtn(W, grid, per_group(16), scale_dtype=E4M3.of(W, grid))
    assert q.scales.numbers.float().item() == 448
    assert (q.dequantize() - W).abs().max() <= 1 / 15


@pytest.mark.parametrize("grid", [g for g in GRIDS if g.bits <= 4], ids=str)
def test_e4m3_scales_cost_little_on_every_grid(grid):
    W = weights(0, 16, 256).float()
    errors = [
        (quantize_rtn(W, grid, per_group(16), scale_dtype=how).dequantize() - W).norm()
        for how in (torch.float32, E4M3.of(W, grid))
    ]
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_scale_beyond_a_short_dtype_is_refused_and_not_made_its_largest(dtype):
    end = torch.finfo(dtype).max
    assert store(torch.tensor([[1.02 * end]]), dtype, absmax(4)).float().item() == end
    with (
        as_learners_have_it(),
        pytest.raises(ValueError, match=f"is not finite in {dtype}; check the scale"),
    ):
        store(torch.tensor([[1.2 * end, 1.0]]), dtype, absmax(4))


def test_powers_of_two_end_at_127():
    W = torch.full((1, 32), 2.0**127, dtype=torch.float64)
    q = quantize_rtn(W, TERNARY, scale_dtype=E8M0.store)
    assert torch.equal(q.dequantize(torch.float64), W)
    with pytest.raises(ValueError, match="is not finite in E8M0; .*torch.float64"):
        quantize_rtn(2 * W, TERNARY, scale_dtype=E8M0.store)


@pytest.mark.parametrize("method", [quantize_awq, quantize_smooth])
def test_scaled_weights_are_not_cut_by_the_tensor_scale_of_the_unscaled(method):
    """A further case: E4M3.of(W) stores the scales of W · s."""
    W = weights(0, 16, 64).float()
    X = torch.randn(99, 64, generator=torch.Generator().manual_seed(1))
    X[:, 3] *= 100
    W[:, 3] = 3 * W.abs().max()
    grid, cut = zero_point(4), per_group(16)
    short = method(W, X, grid, cut, scale_dtype=E4M3.of(W, grid))
    plain = method(W, X, grid, cut)
    off, expected = ((X @ (q.dequantize() - W).T).norm() for q in (short, plain))
    assert off < 1.5 * expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_what_is_narrowed_is_rounded_or_refused(dtype):
    end = torch.finfo(dtype).max
    x = torch.tensor([-end, 0.0, end])
    assert torch.equal(narrowed(x, dtype, "x").float(), x)
    with pytest.raises(ValueError, match=f"ends at {end:g}, but x reaches"):
        narrowed(-1.1 * x, dtype, "x")


def test_the_search_of_mxfp4_takes_the_better_of_the_neighbouring_powers():
    W, form = weights(0, 64, 256).float(), BY_NAME["MXFP4"]
    plain, searched = (form.quantize(W, clip) for clip in (None, "mse"))
    best = None
    for shift in range(-4, 3):
        stored = E8M0((plain.scales.exponents.int() + shift).to(torch.uint8))
        scale = stored.dequantize()[:, :, None]
        groups = split(W, per_group(32))
        levels = torch.tensor(FP4.levels)
        nearest = (groups / scale)[..., None].sub(levels).abs().argmin(-1)
        error = (levels[nearest] * scale - groups).double().square().sum(-1)
        best = error if best is None else torch.minimum(best, error)
    found = split(searched.dequantize() - W, per_group(32)).double().square().sum(-1)
    torch.testing.assert_close(found, best, rtol=1e-5, atol=0)
    assert (searched.scales.exponents > plain.scales.exponents).any()
