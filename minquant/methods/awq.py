"""AWQ: the inputs show which weights matter; protect those by scaling them up.

Unlike RTN: before rounding, column j of W is multiplied by s_j, and its input divided
by it. That changes no output, but it changes the rounding: with steps of size Δ, and
rounding errors r of up to half a step, column j adds to the outputs' error

    X[:, j] / s_j · r · Δ        so a column with large inputs wants a large s_j

and Δ stays, as long as s_j · w is not the largest of its group. Where it is, Δ grows
for all the others: more is not always better, so the strength is searched.

    s_j(ratio) = mean |X[:, j]|^ratio        divided by √(max s · min s)
    error      = mean((X (W_hat − W)ᵀ)²)     for ratios 0, 0.05, … 0.95; the least wins

This is AWQ (Lin et al. 2024, equations 4 and 5). Ratio 0 makes all s_j 1, which is RTN.
It began with table 1: keep 1 % of the columns in floats. Chosen by their inputs they
rescue the layer, chosen by their weights they do not (`salient`, `keep_columns`). But
such a mixed matrix is slow, and scales cost nothing once they are folded into whatever
makes X. Where several query heads share a value (GQA), one number of it makes several
inputs of o_proj: these are `tied` to one scale, also in the search.

`clip="output"` is llm-awq's second search: cut each group at 1.00, 0.95, … 0.55 of its
largest weight, where it adds least to the outputs' error. `clip="mse"` is RTN's search,
which knows no inputs: with it AWQ and RTN differ in the scales alone.

How it is fast: with D = W_hat − W, the error of all tokens is ‖D Xᵀ‖² = tr(D H Dᵀ), so
H = XᵀX is computed once. A ratio then costs one product of (out, in) and (in, in), two
thirds of it as H is symmetric; with fewer tokens than inputs X is smaller, and it is
(out, in) and (in, n). The errors of rows add up, so a ratio whose first rows are worse
than all rows of another can stop.

What is left out: llm-awq measures attention as a whole, and does not clip its q and k;
here each matrix is measured by its own outputs. Its clipping looks at 512 tokens, and
its range need not hold 0 (the same, unless a group has one sign). Lesson 07.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import frexp, inf
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minquant.methods.rtn import (
    floats,
    inputs,
    quantize_rtn,
    quantize_scaled,
    quantize_with,
    scale_and_zero,
)
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity, split
from minquant.numerics.scales import (
    ScaleOverflow,
    ScaleType,
    over_tied,
    seen,
    store_input_scales,
)
from minquant.numerics.tensor import QuantizedTensor

RATIOS = tuple(i / 20 for i in range(20))  # 0, 0.05, … 0.95
CLIP_RATIOS = tuple(1 - i / 20 for i in range(10))  # 1.00, 0.95, … 0.55
_CHUNK = 2**20  # weights that are rounded at a time: they stay in the cache


def quantize_awq(
    W: Float[Tensor, "out in"],
    X: Float[Tensor, "n cols"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    **options: Any,
) -> QuantizedTensor:
    """W rounded under the input scales that move the outputs X Wᵀ least.

    X: inputs for calibration, a row per token. Options and errors are those of
    `quantize_awq_shared`. Here the second input is large, so 0.4 is not rounded to 0:

    >>> import minquant as mq
    >>> W, X = torch.tensor([[7.0, 0.4, 0.6]]), torch.tensor([[1.0, 9.0, 1.0]])
    >>> mq.quantize_awq(W, X, mq.absmax(4), clip=None).dequantize()
    tensor([[7.0000, 0.3449, 1.0000]])
    """
    return quantize_awq_shared([W], X, grid, granularity, **options)[0]


def quantize_awq_shared(
    Ws: Sequence[Float[Tensor, "_ in"]],
    X: Float[Tensor, "n cols"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    ratios: Sequence[float] = RATIOS,
    clip: Literal["output", "mse"] | None = "output",
    scale_dtype: ScaleType = torch.float16,
    tied: Int[Tensor, " numbers"] | None = None,
) -> list[QuantizedTensor]:
    """Matrices that read the same X, such as q, k and v, under one set of input scales,
    which can then be folded into whatever makes X. The error is that of all of them.

    grid, granularity, scale_dtype: as in `quantize_rtn`. ratios: strengths to try, 0 to
    1. clip: "output" for the second search, "mse" for RTN's, or None. tied: inputs
    with the same number get the same scale, by their mean |X|; `quantize_` gives the
    numbers where several query heads share a value, so that the scales can be folded
    (`feeders`). Each result has `input_scales` (in,), of 16 bits or more, and counts
    them in its bytes. A strength under which a scale does not fit `scale_dtype` is not
    taken.

    Raises ValueError if X or tied does not fit, X is not finite, or as `quantize_rtn`
    does.
    """
    if clip not in (None, "output", "mse"):
        raise ValueError(f'clip is {clip!r}; choose None, "output" or "mse"')
    Ws = [floats(W) for W in Ws]
    X = inputs(X, *Ws).to(Ws[0])
    X = X / 2.0 ** (frexp(X.abs().max().item())[1] - 1)  # so that squares fit float32
    options = {"grid": grid, "granularity": granularity, "scale_dtype": scale_dtype}
    search = {"ratios": ratios, "early_stop": True, "tied": tied}
    errors = ratio_errors(Ws, X, **search, **options)
    _, best_ratio = min(zip(errors, ratios, strict=True))
    s = input_scales(over_tied(X.abs().mean(0), tied, "mean"), best_ratio)
    s = store_input_scales(s, scale_dtype, grid)
    if clip is None:
        return [quantize_scaled(W, s, **options) for W in Ws]
    scaled = [W * s.to(W) for W in Ws]
    if clip == "mse":
        clipped = [quantize_rtn(W_s, clip="mse", **options) for W_s in scaled]
    else:
        clipped = [_clipped(W_s, X / s.to(X), **options) for W_s in scaled]
    return [replace(quantized, input_scales=s) for quantized in clipped]


def input_scales(X_mean: Float[Tensor, " in"], ratio: float) -> Float[Tensor, " in"]:
    """s for one ratio, from the mean |X| of each input. AWQ equation 5; lesson 07.

    An input that calibration never saw, or hardly (`scales.seen`), counts as the
    smallest that it saw.

    >>> input_scales(torch.tensor([1.0, 16.0, 0.0]), 0.5)
    tensor([0.5000, 2.0000, 0.5000])
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratios hold {ratio}; choose numbers from 0 to 1")
    least = X_mean[seen(X_mean)].min() if X_mean.any() else 1.0
    s = X_mean.clamp(min=least).pow(ratio)
    return s / s.max().sqrt() / s.min().sqrt()


def ratio_errors(
    Ws: Sequence[Float[Tensor, "_ in"]],
    X: Float[Tensor, "n cols"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    ratios: Sequence[float] = RATIOS,
    scale_dtype: ScaleType = torch.float16,
    early_stop: bool = False,
    tied: Int[Tensor, " numbers"] | None = None,
) -> list[float]:
    """The curve whose lowest point AWQ takes: mean((X (W_hat − W)ᵀ)²) for each ratio,
    over all Ws, unclipped. It is inf where a scale does not fit `scale_dtype`. Lesson
    07.

    tied: as in `quantize_awq_shared`. early_stop: drop a ratio as soon as it is worse
    than the best so far; its error is then inf.
    """
    if not ratios:
        raise ValueError("ratios is empty; give some numbers from 0 to 1 (0 is RTN)")
    Ws = [floats(W) for W in Ws]
    X = inputs(X, *Ws).to(Ws[0])
    X_mean = over_tied(X.abs().mean(0), tied, "mean")
    H = X.T @ X if len(X) > X.shape[1] else None
    rows_apart = granularity.kind != "tensor" and isinstance(scale_dtype, torch.dtype)
    rows = max(1, _CHUNK // X.shape[1]) if rows_apart else max(map(len, Ws))
    parts = [part for W in Ws for part in W.split(rows)]
    errors: dict[float, float] = {}
    for ratio in sorted(ratios, key=lambda r: abs(r - 0.4)):  # the likely ones first
        s = store_input_scales(input_scales(X_mean, ratio), scale_dtype, grid)
        total, limit = 0.0, min(errors.values(), default=inf) if early_stop else inf
        for W in parts:
            try:
                quantized = quantize_scaled(W, s, grid, granularity, scale_dtype)
            except ScaleOverflow:  # this strength is none to take
                total = inf
                break
            D = quantized.dequantize(W.dtype) - W
            squares = (D @ X.T).square_().sum() if H is None else _trace(D, H)
            total += squares.item()
            if total > limit:
                break
        errors[ratio] = inf if total > limit else total
    return [errors[ratio] / len(X) / sum(map(len, Ws)) for ratio in ratios]


def _trace(D: Float[Tensor, "out in"], H: Float[Tensor, "in in"]) -> Float[Tensor, ""]:
    """tr(D H Dᵀ), at two thirds of the cost of D @ H: as H is symmetric, its blocks
    above the diagonal stand for those below it, too."""
    total = D.new_zeros(())
    step = -(-len(H) // 4)
    for a in range(0, len(H), step):
        b = a + step
        columns = D[:, a:b]
        product = columns @ H[a:b, a:b]
        if a:
            product.addmm_(D[:, :a], H[:a, a:b], alpha=2)
        total += product.mul_(columns).sum()
    return total


def salient(sizes: Float[Tensor, " in"], share: float = 0.01) -> Int[Tensor, " k"]:
    """The columns with the largest sizes, ascending; a share of all, but at least one.

    sizes: `X.abs().mean(0)` chooses by inputs, `W.abs().mean(0)` by weights, random
    numbers by chance. Raises ValueError if share is not above 0 and at most 1. AWQ
    table 1; lesson 07.

    >>> salient(torch.tensor([1.0, 9.0, 5.0, 2.0]), 0.5)
    tensor([1, 2])
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; choose a part of 1, such as 0.01")
    k = max(1, round(share * len(sizes)))
    return sizes.topk(k).indices.sort().values


def keep_columns(
    W: Float[Tensor, "out in"], quantized: QuantizedTensor, columns: Int[Tensor, " k"]
) -> Float[Tensor, "out in"]:
    """W_hat, but with these columns as they are in W: AWQ's first experiment."""
    return quantized.dequantize(W.dtype).index_copy(1, columns, W[:, columns])


def _clipped(
    W: Float[Tensor, "out in"],
    X: Float[Tensor, "n in"],
    grid: Grid,
    granularity: Granularity,
    scale_dtype: ScaleType,
) -> QuantizedTensor:
    """W rounded with each group cut where it adds least to the outputs' error."""

    def cut_at(limit: Float[Tensor, "rows n_groups 1"]) -> QuantizedTensor:
        """W, with rulers for weights that end at the limits."""
        cut = groups.clamp(-limit, limit)
        rulers = scale_and_zero(cut, grid, scale_dtype=scale_dtype)
        return quantize_with(W, *rulers, grid, granularity)

    groups = split(W, granularity)  # (rows, n_groups, g)
    top = groups.abs().amax(-1, keepdim=True)
    best, least = top, torch.full_like(top, inf)
    X = X.unflatten(1, (groups.shape[1], -1)).transpose(0, 1)  # (n_groups, n, g)
    H = X.mT @ X  # (n_groups, g, g): the squares on H's diagonal
    for ratio in CLIP_RATIOS:
        D = cut_at(top * ratio).dequantize(W.dtype) - W
        D = D.unflatten(1, (len(H), -1)).transpose(0, 1)  # (n_groups, out, g)
        error = (D @ H).mul_(D).sum(-1).T  # (out, n_groups)
        error = error.reshape(*top.shape, -1).sum(-1)  # per tensor: one sum for all
        best = torch.where(error < least, top * ratio, best)
        least = torch.minimum(error, least)
    return cut_at(best)
