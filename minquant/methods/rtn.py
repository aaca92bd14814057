"""Round to nearest (RTN): every weight by itself, to the nearest value of its ruler.

    scale = largest |w| of the group / largest level        symmetric grids, codebooks
    scale = the weight with the largest |w| / lowest level  signed grids
    scale = (max − min) / (2^bits − 1)                      zero-point grids, which also
    zero  = round(−min / scale)                             have a zero; min ≤ 0 ≤ max
    codes = clamp(round(W / scale) + zero)                  what is stored
    W_hat = (codes − zero) · scale                          what comes back

Rounding errs by at most half a step. Three more things cost a little, and each has its
place in the bound that the tests check:

    the stored scale is rounded     the last tick moves by reach · |scale − ideal|
    the zero is rounded             both ends move by up to half a step
    clipping                        weights beyond the ends come back as the end

Codes are computed against the scale *as stored*, so both directions use the same ruler.
An fp16 scale is right to 1 part in 2048: good to about 11 bits, so give wider grids
`scale_dtype=torch.float32`. All arithmetic is in float32, for float64 in float64.

`clip="mse"` looks for a shorter ruler: it shrinks both ends in steps of 2 % down to a
fifth and keeps, for each group, the ends with the least squared error. A few large
weights are cut so that all others get finer steps. The whole ruler is one of the
candidates, so in squared error of the weights clipping is never worse than none; it
helps much at 2 bits, and hardly at 8. Powers of two (E8M0) are rounded down and may cut
the largest weights by half, so there the search tries the next power, too.

Every other method of the package adds one idea to this file. Round to nearest ignores,
above all, that inputs differ (AWQ), and that errors can make up for each other (GPTQ).
Lesson 02 derives it for one row, lesson 03 for many rulers and clipping.
"""

from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from minquant.numerics.grids import Grid, round_to_codes
from minquant.numerics.groups import PER_CHANNEL, Granularity, split
from minquant.numerics.ruler import Ruler, Zeros, work_dtype
from minquant.numerics.scales import (
    E8M0,
    Scales,
    ScaleType,
    scale_values,
    store,
    store_unchecked,
)
from minquant.numerics.tensor import QuantizedTensor, check_rulers

Clip: TypeAlias = Literal["mse"] | None
CLIP_RATIOS = tuple(1 - i / 50 for i in range(41))  # 1.00, 0.98, … 0.20
_CHUNK = 2**17  # weights that the search takes at a time: they stay in the cache


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
    in `scale_dtype`.

    >>> import minquant as mq
    >>> mq.quantize_rtn(torch.tensor([[-0.7, 0.1, 0.26, 0.35]]), mq.absmax(4)).codes
    tensor([[-7,  1,  3,  4]], dtype=torch.int8)
    """
    W = floats(W)
    options = {"clip": clip, "scale_dtype": scale_dtype}
    scales, zeros = scale_and_zero(split(W, granularity), grid, **options)
    return quantize_with(W, scales, zeros, grid, granularity)


def quantize_with(
    W: Float[Tensor, "out in"],
    scales: Scales,
    zeros: Zeros,
    grid: Grid,
    granularity: Granularity,
) -> QuantizedTensor:
    """W rounded to nearest with given rulers: scales and zeros as stored.

    Raises as `quantize_rtn` does, and ValueError if scales or zeros do not fit W's
    groups or the grid, or a scale is not a positive number; on signed grids it may be
    negative.
    """
    groups = split(floats(W), granularity)  # (rows, n_groups, g)
    check_rulers(tuple(W.shape), scales, zeros, grid, granularity)
    values = scale_values(scales)
    values = values.abs() if grid.fit == "extreme" else values
    if bad := int((~((values > 0) & values.isfinite())).sum()):
        raise ValueError(
            f"scales hold {bad} of {values.numel()} numbers that are not positive and "
            "finite; take them from scale_and_zero"
        )
    codes = Ruler.of_groups(scales, zeros, grid, groups.dtype).codes(groups)
    return QuantizedTensor(codes.reshape(W.shape), scales, zeros, grid, granularity)


def fake_quantize(
    W: Float[Tensor, "out in"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    clip: Clip = None,
    scale_dtype: ScaleType = torch.float16,
) -> Float[Tensor, "out in"]:
    """W to codes and back, in W's dtype: what a model then computes with.

    Arguments and errors are those of `quantize_rtn`.
    """
    quantized = quantize_rtn(W, grid, granularity, clip=clip, scale_dtype=scale_dtype)
    return quantized.dequantize(W.dtype)


def quantize_scaled(
    W: Float[Tensor, "out in"],
    s: Float[Tensor, " in"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    scale_dtype: ScaleType = torch.float16,
) -> QuantizedTensor:
    """RTN of W · s, with s as its `input_scales`: how AWQ and SmoothQuant round.

    With s of ones it is RTN bit for bit.

    >>> import minquant as mq
    >>> W, s = torch.tensor([[7.0, 0.4]]), torch.tensor([1.0, 8.0])
    >>> quantize_scaled(W, s, mq.absmax(4)).dequantize()
    tensor([[7.0000, 0.3750]])
    """
    W = floats(W)
    quantized = quantize_rtn(W * s.to(W), grid, granularity, scale_dtype=scale_dtype)
    return replace(quantized, input_scales=s)


def scale_and_zero(
    groups: Float[Tensor, "rows n_groups g"],
    grid: Grid,
    *,
    clip: Clip = None,
    scale_dtype: ScaleType = torch.float16,
) -> tuple[Scales, Zeros]:
    """The ruler of each group: its scale as stored, and its zero where the grid has
    one, an integer in the grid's range.

    groups: weights as `groups.split` cuts them, or any (rows, n_groups, g). Each group
    is fitted by itself, so a method may ask for one group at a time.
    Raises ValueError as `quantize_rtn` does, or if clip is neither None nor "mse".

    >>> import minquant as mq
    >>> scale_and_zero(torch.tensor([[[-0.5, 0.1, 1.0]]]), mq.zero_point(2))
    (tensor([[0.5000]], dtype=torch.float16), tensor([[1]], dtype=torch.uint8))
    """
    if clip not in (None, "mse"):
        raise ValueError(f'clip is {clip!r}; choose None or "mse"')
    groups = groups.detach().to(work_dtype(groups.dtype))
    low, high = _ends(groups, grid)
    scales = store(_step(low, high, grid), scale_dtype, grid)
    if clip:
        rows = max(1, _CHUNK // groups[0].numel())
        parts = zip(groups.split(rows), low.split(rows), high.split(rows), strict=True)
        ends = [_best_ends(*part, grid, scale_dtype) for part in parts]
        low, high = map(torch.cat, zip(*ends, strict=True))
        scales = store(_step(low, high, grid), scale_dtype, grid)
    return scales, _zeros(low, scales, grid)


def _ends(groups: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Where the ends of the ruler go, without clipping; each (rows, n_groups)."""
    if grid.fit == "range":  # the range always contains 0
        return groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    sizes = groups.abs()
    if grid.fit == "extreme":  # both ends change places where it is negative
        extreme = groups.gather(-1, sizes.argmax(-1, keepdim=True)).squeeze(-1)
        return -extreme, extreme
    top = sizes.mean(-1) if grid.fit == "absmean" else sizes.amax(-1)
    return -top, top


def _step(low: Tensor, high: Tensor, grid: Grid) -> Float[Tensor, "rows n_groups"]:
    """The ideal scale between two ends."""
    return (high - low if grid.has_zeros else high) / grid.reach


def _zeros(low: Tensor, scales: Scales, grid: Grid) -> Zeros:
    """The code that stands for 0 if `low` gets code 0; None on a grid without zeros."""
    if not grid.has_zeros:
        return None
    return round_to_codes(-low / scale_values(scales).to(low.dtype), grid)


def _best_ends(
    groups: Tensor, low: Tensor, high: Tensor, grid: Grid, scale_dtype: ScaleType
) -> tuple[Tensor, Tensor]:
    """For each group, the ends with the least squared error.

    low, high: the ends without clipping. They are tried, and shares of the extremes.
    """
    ratios = (*CLIP_RATIOS, 2.0) if scale_dtype == E8M0.store else CLIP_RATIOS
    if grid.fit == "absmean":
        top = groups.abs().amax(-1)
        trials = [(low, high)] + [(-top * ratio, top * ratio) for ratio in ratios]
    else:
        trials = [(low * ratio, high * ratio) for ratio in ratios]
    least = torch.full_like(low, torch.inf, dtype=torch.float64)
    for trial_low, trial_high in trials:
        step = _step(trial_low, trial_high, grid)
        scales = store_unchecked(step, scale_dtype, grid)
        zeros = _zeros(trial_low, scales, grid)
        ruler = Ruler.of_groups(scales, zeros, grid, groups.dtype)
        error = (ruler.round(groups) - groups).double().square().sum(-1)
        better = error < least
        least = torch.where(better, error, least)
        low = torch.where(better, trial_low, low)
        high = torch.where(better, trial_high, high)
    return low, high


def floats(W: Float[Tensor, "out in"], name: str = "W") -> Float[Tensor, "out in"]:
    """A matrix as every method calculates with it: detached, float32 (float64 stays).

    name: what error messages call it. Raises TypeError if it holds no floats or is
    sparse; ValueError if it is no matrix, empty, on the meta device, or not finite.
    """
    if not W.is_floating_point():
        raise TypeError(f"{name} has dtype {W.dtype}; give floats, such as W.float()")
    if W.layout != torch.strided:
        raise TypeError(f"{name} is {W.layout}; give a dense matrix, {name}.to_dense()")
    if W.ndim != 2:
        raise ValueError(
            f"{name} has shape {tuple(W.shape)}; give one matrix (out, in)"
        )
    if not W.numel():
        raise ValueError(f"{name} has shape {tuple(W.shape)}; give at least one number")
    if W.is_meta:
        raise ValueError(
            f"{name} is on the meta device and has no values; load it first"
        )
    W = W.detach().to(work_dtype(W.dtype))
    if not torch.stack(W.aminmax()).isfinite().all():  # they pass NaN on
        finite = W.isfinite()
        nans, first = int(W.isnan().sum()), (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"{name} holds {nans} NaN and {int((~finite).sum()) - nans} infinite of "
            f"{W.numel()} numbers, the first at {first}; replace them before quantizing"
        )
    return W


def inputs(
    X: Float[Tensor, "n cols"], *Ws: Shaped[Tensor, "_ in"]
) -> Float[Tensor, "n in"]:
    """X as every method calculates with it; like `floats`.

    Ws: the matrices that read X. Raises ValueError if they do not fit X, or if X is
    empty or not finite.
    """
    widths = sorted({W.shape[1] for W in Ws})
    if X.ndim != 2 or widths != [X.shape[1]]:
        raise ValueError(
            f"X has shape {tuple(X.shape)}, but W {' or '.join(map(str, widths))} "
            "columns; give X (n, in), a row for each token, and W (out, in)"
        )
    return floats(X, "X")
