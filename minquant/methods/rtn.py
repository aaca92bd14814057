"""Round to nearest (RTN): every weight by itself, to the nearest value of its ruler.

    scale = extreme of the group / reach of the grid        how long is a step
    zero  = round(−min / scale)                             only on a zero-point grid
    codes = clamp(round(W / scale) + zero)                  what is stored
    W_hat = (codes − zero) · scale                          what comes back

Rounding errs by at most half a step. Everything else costs a little more, and has its
line in the bound that the tests hold:

    the stored scale is rounded     the last tick moves by reach · |scale − ideal|
    the zero is rounded             both ends move by up to half a step
    clipping                        weights beyond the ends come back as the end

Codes are computed against the scale *as stored*, so nothing is lost twice. An fp16
scale is right to 1 part in 2048: good to about 11 bits, so give wider grids
`scale_dtype=torch.float32`. All arithmetic is in float32, for float64 in float64.

`clip="mse"` looks for a shorter ruler: it shrinks both ends in steps of 2 % down to a
fifth and keeps, for each group, what gives the least squared error. Few large weights
are cut so that all others get finer steps. The whole ruler is among the candidates, so
it is never worse than no clipping; at 2 bits it helps much, at 8 bits hardly.

Every other method of the package adds one idea to this file. What it leaves out is
their subject: that inputs differ (AWQ), and that errors can make up for each other
(GPTQ). Notebook 02 derives it for one row, notebook 03 for many rulers and clipping.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.numerics.grids import Grid, round_to_codes, value
from minquant.numerics.groups import PER_CHANNEL, Granularity, join, split
from minquant.numerics.scales import Scales, ScaleType, put, scale_values, store
from minquant.numerics.tensor import QuantizedTensor, check_rulers

Clip: TypeAlias = Literal["mse"] | None
Zeros: TypeAlias = Integer[Tensor, "rows n_groups"] | None
CLIP_RATIOS = tuple(1 - i / 50 for i in range(41))  # 1.00, 0.98, … 0.20
_CHUNK = 2**17  # weights searched at once


def quantize_rtn(
    W: Float[Tensor, "out in"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    clip: Clip = None,
    scale_dtype: ScaleType = torch.float16,
) -> QuantizedTensor:
    """W rounded to the nearest values of a grid, with a ruler per group.

    W: weights, any float dtype; not changed. clip: None, or "mse" for the search that
    the module describes. scale_dtype: how scales are stored, a float dtype or a
    function such as `scales.E8M0.store`.

    Raises TypeError if W holds no floats; ValueError if it is no matrix, empty, on the
    meta device or not finite, if the groups do not divide it, or if a scale overflows
    or rounds to 0 in `scale_dtype`.

    >>> from minquant.numerics.grids import absmax
    >>> q = quantize_rtn(torch.tensor([[-0.7, 0.1, 0.26, 0.35]]), absmax(4))
    >>> q.codes
    tensor([[-7,  1,  3,  4]], dtype=torch.int8)
    """
    given = split(floats(W), granularity)  # (rows, n_groups, g)
    scales, zeros = scale_and_zero(given, grid, clip=clip, scale_dtype=scale_dtype)
    codes = join(_codes(given, scales, zeros, grid), tuple(W.shape))
    return QuantizedTensor(codes, scales, zeros, grid, granularity)


def quantize_with(
    W: Float[Tensor, "out in"],
    scales: Scales,
    zeros: Zeros,
    grid: Grid,
    granularity: Granularity,
) -> QuantizedTensor:
    """W rounded to nearest with rulers that are given: stored scales, integer zeros.

    Raises as `quantize` does, and ValueError if scales or zeros do not fit W's groups
    or the grid, or a scale is not a positive number.
    """
    given = split(floats(W), granularity)  # (rows, n_groups, g)
    check_rulers(tuple(W.shape), scales, zeros, grid, granularity)
    values = scale_values(scales)
    if bad := int((~((values > 0) & values.isfinite())).sum()):
        raise ValueError(
            f"scales hold {bad} of {values.numel()} numbers that are not positive and "
            "finite; take them from scale_and_zero"
        )
    codes = join(_codes(given, scales, zeros, grid), tuple(W.shape))
    return QuantizedTensor(codes, scales, zeros, grid, granularity)


def dequantize(
    quantized: QuantizedTensor, dtype: torch.dtype | None = None
) -> Float[Tensor, "out in"]:
    """The way back from `quantize`: W_hat. `QuantizedTensor.dequantize` by its name."""
    return quantized.dequantize(dtype)


def fake_quantize(
    W: Float[Tensor, "out in"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    clip: Clip = None,
    scale_dtype: ScaleType = torch.float16,
) -> Float[Tensor, "out in"]:
    """W to codes and back, in W's dtype: what a model computes with. As `quantize`."""
    made = quantize_rtn(W, grid, granularity, clip=clip, scale_dtype=scale_dtype)
    return made.dequantize(W.dtype)


def scale_and_zero(
    groups: Float[Tensor, "rows n_groups g"],
    grid: Grid,
    *,
    clip: Clip = None,
    scale_dtype: ScaleType = torch.float16,
) -> tuple[Scales, Zeros]:
    """The ruler of each group: its scale as stored, and its zero where the grid has
    one, an integer in the grid's range.

    groups: weights as `groups.split` cuts them, or any (rows, n_groups, g). The order
    of groups and rows does not matter, so methods may ask for one group at a time.
    Raises ValueError as `quantize` does, or if clip is neither None nor "mse".

    >>> from minquant.numerics.grids import zero_point
    >>> scale_and_zero(torch.tensor([[[-0.5, 0.1, 1.0]]]), zero_point(2))
    (tensor([[0.5000]], dtype=torch.float16), tensor([[1]], dtype=torch.uint8))
    """
    if clip not in (None, "mse"):
        raise ValueError(f'clip is {clip!r}; choose None or "mse"')
    groups = groups.detach().to(_work(groups.dtype))
    low, high = _ends(groups, grid)
    scales = store(_step(low, high, grid), scale_dtype, grid)
    if clip:
        low, high = _least_error(groups, grid, scale_dtype, low, high)
        scales = store(_step(low, high, grid), scale_dtype, grid)
    return scales, _zeros(low, scales, grid)


def _ends(groups: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The weights that the ruler's ends are laid on, each (rows, n_groups)."""
    if grid.fit == "range":  # the range always contains 0
        return groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    sizes = groups.abs()
    top = sizes.mean(-1) if grid.fit == "absmean" else sizes.amax(-1)
    return -top, top


def _step(low: Tensor, high: Tensor, grid: Grid) -> Float[Tensor, "rows n_groups"]:
    """The ideal scale between two ends."""
    return (high - low if grid.has_zeros else high) / grid.reach


def _zeros(low: Tensor, scales: Scales, grid: Grid) -> Zeros:
    """The code that stands for 0, so that `low` is code 0; None on other grids."""
    if not grid.has_zeros:
        return None
    return round_to_codes(-low / scale_values(scales).to(low.dtype), grid)


def _codes(
    groups: Float[Tensor, "rows n_groups g"], scales: Scales, zeros: Zeros, grid: Grid
) -> Integer[Tensor, "rows n_groups g"]:
    steps = groups / scale_values(scales).to(groups.dtype)[:, :, None]
    return round_to_codes(steps, grid, None if zeros is None else zeros[:, :, None])


def _least_error(
    groups: Tensor, grid: Grid, scale_dtype: ScaleType, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """For each group the ends with the least squared error: those given, or a share of
    the extremes. Some rows at once, so that they stay in the cache."""
    rows = max(1, _CHUNK // groups[0].numel())
    parts = (t.split(rows) for t in (groups, low, high))
    found = [_search(*part, grid, scale_dtype) for part in zip(*parts, strict=True)]
    return torch.cat([low for low, _ in found]), torch.cat([high for _, high in found])


def _search(
    groups: Tensor, low: Tensor, high: Tensor, grid: Grid, scale_dtype: ScaleType
) -> tuple[Tensor, Tensor]:
    """`_least_error` of a few rows: one ratio after the other, all groups at once."""
    if grid.fit == "absmean":
        top = groups.abs().amax(-1)
        trials = [(low, high)] + [(-top * ratio, top * ratio) for ratio in CLIP_RATIOS]
    else:
        trials = [(low * ratio, high * ratio) for ratio in CLIP_RATIOS]
    least = torch.full_like(low, torch.inf, dtype=torch.float64)
    for ends in trials:
        scales = put(_step(*ends, grid), scale_dtype, grid)
        zeros, step = _zeros(ends[0], scales, grid), scale_values(scales)
        W_hat = value(_codes(groups, scales, zeros, grid), grid)
        if zeros is not None:
            W_hat = W_hat - zeros[:, :, None]
        error = (
            (W_hat * step[:, :, None] - groups).square().sum(-1, dtype=torch.float64)
        )
        better = (error < least) & (step > 0)  # a scale that rounds to 0 is no ruler
        least = torch.where(better, error, least)
        low = torch.where(better, ends[0], low)
        high = torch.where(better, ends[1], high)
    return low, high


def _work(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def floats(W: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """W as every method calculates with it: detached, in float32 (float64 stays).

    Raises TypeError or ValueError, with the mend, for what no ruler fits.
    """
    if not W.is_floating_point():
        raise TypeError(f"W has dtype {W.dtype}; give floats, such as W.float()")
    if W.ndim != 2:
        raise ValueError(f"W has shape {tuple(W.shape)}; give one matrix (out, in)")
    if not W.numel():
        raise ValueError(f"W has shape {tuple(W.shape)}; give at least one weight")
    if W.is_meta:
        raise ValueError("W is on the meta device and has no values; load it first")
    W = W.detach()
    if not (fine := W.isfinite()).all():
        nans, first = int(W.isnan().sum()), (~fine).nonzero()[0].tolist()
        raise ValueError(
            f"W holds {nans} NaN and {int((~fine).sum()) - nans} infinite of "
            f"{W.numel()} weights, the first at {first}; mend them before quantizing"
        )
    return W.to(_work(W.dtype))
