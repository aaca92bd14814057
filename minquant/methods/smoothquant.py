"""SmoothQuant: move the outliers of X into W, where they hurt less.

Unlike RTN: the inputs are rounded too, and a few columns of X are so large that a scale
for a row of X, or for all of it, leaves nothing for the others. LLM.int8() takes those
columns out of the integer product. SmoothQuant keeps them in, but divides them:

    Y = X Wᵀ = (X / s) · (W · s)ᵀ        column j of X over s_j, column j of W times s_j

    s_j = max |X[:, j]|^α / max |W[:, j]|^(1 − α)                0 ≤ α ≤ 1

(Xiao et al. 2023, equations 3 and 4; their W is Wᵀ here.) This changes no output, but
all rounding errors. α, the migration strength, says how much of the trouble moves:

    α = 0      every column of W · s has the largest |w| 1: all is left to X
    α = 0.5    max |X[:, j] / s_j| = max |W[:, j] · s_j|: both share it; the default
    α = 1      every column of X / s has the largest |x| 1: all is moved to W

Steps: find max |X[:, j]| on calibration text, and max |W[:, j]| over all matrices that
read X. Multiply W by s and round it as RTN does. Whatever makes X, mostly a norm, has
its weights divided by s once and for all; until a model does that, s travels with the
codes as `input_scales`, and `dequantize()` gives W_hat in W's own coordinates. Only the
proportions of s matter: a common factor changes no rounding.

An input that calibration never saw, or hardly (`scales.seen`), gets the smallest s of
the others, and one without weights the largest: so they disturb no ruler.

Compare AWQ, which also scales columns: it rounds W alone, wants the important columns
*large*, and searches for the strength. Here X is rounded as well, and wants them small.

What is left out: folding s into the layer before (`models/folds` does it), and scales
of X that are fixed on calibration text (the paper's O3); here they come from X itself,
per tensor or per token. Lesson 05.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minquant.methods.rtn import fake_quantize, floats, inputs, quantize_scaled
from minquant.numerics.grids import Grid, absmax
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, Granularity
from minquant.numerics.scales import ScaleType, over_tied, seen, store_input_scales
from minquant.numerics.tensor import QuantizedTensor

INT8 = absmax(8)
ALPHAS = tuple(i / 10 for i in range(11))  # 0, 0.1, … 1


class Trial(NamedTuple):
    """One α and its errors ‖Y_hat − Y‖ / ‖Y‖: with X and W rounded, or one of them."""

    alpha: float
    error: float
    X_only: float
    W_only: float


def smoothing_scales(
    X_top: Float[Tensor, " in"], W_top: Float[Tensor, " in"], alpha: float = 0.5
) -> Float[Tensor, " in"]:
    """s of the equation above, from max |X[:, j]| and max |W[:, j]|. Lesson 05.

    Raises ValueError if alpha is not between 0 and 1.

    >>> X_top, W_top = torch.tensor([64.0, 1.0, 0.0]), torch.tensor([1.0, 0.25, 1.0])
    >>> smoothing_scales(X_top, W_top)
    tensor([8., 2., 2.])
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; choose a number from 0 to 1, often 0.5")
    X_seen = seen(X_top)
    used = X_seen & seen(W_top)
    if not used.any():
        return torch.ones_like(X_top)
    s = X_top.pow(alpha) / W_top.pow(1 - alpha)
    inf = torch.full_like(s, torch.inf)
    unused = torch.where(X_seen, inf, 0.0)  # clamped: the largest, smallest s
    return torch.where(used, s, unused).clamp(s[used].min(), s[used].max())


def smooth(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], s: Float[Tensor, " in"]
) -> tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]:
    """(X / s, W · s): other numbers, the same X Wᵀ.

    >>> X, W, s = torch.tensor([[8.0, 1.0]]), torch.ones(1, 2), torch.tensor([4.0, 1.0])
    >>> smooth(X, W, s)
    (tensor([[2., 1.]]), tensor([[4., 1.]]))
    """
    return X / s.to(X), W * s.to(W)


def quantize_smooth(
    W: Float[Tensor, "out in"],
    X: Float[Tensor, "n cols"],
    grid: Grid = INT8,
    granularity: Granularity = PER_CHANNEL,
    *,
    alpha: float = 0.5,
    scale_dtype: ScaleType = torch.float16,
) -> QuantizedTensor:
    """W · s rounded to nearest, with s as its `input_scales`.

    X: inputs for calibration, a row per token. All else is as in `quantize_rtn`.

    Raises ValueError if X does not fit W or is not finite, if alpha is not between 0
    and 1, or s does not fit into its dtype; and as `quantize_rtn` does.
    """
    options = {"alpha": alpha, "scale_dtype": scale_dtype}
    return quantize_smooth_shared([W], X, grid, granularity, **options)[0]


def quantize_smooth_shared(
    Ws: Sequence[Float[Tensor, "_ in"]],
    X: Float[Tensor, "n cols"],
    grid: Grid = INT8,
    granularity: Granularity = PER_CHANNEL,
    *,
    alpha: float = 0.5,
    scale_dtype: ScaleType = torch.float16,
    tied: Int[Tensor, " numbers"] | None = None,
) -> list[QuantizedTensor]:
    """`quantize_smooth` of matrices that read the same X, such as q, k and v: one s.

    tied: inputs with the same number get the same s, by the largest |x| and |w| of all
    of them; `quantize_` gives the numbers where several query heads share a value, so
    that s can be folded (`feeders`). Raises ValueError if it does not fit X, too.
    """
    Ws = [floats(W) for W in Ws]
    s = store_input_scales(scales_of(Ws, X, alpha, tied), scale_dtype, grid)
    return [quantize_scaled(W, s, grid, granularity, scale_dtype) for W in Ws]


def scales_of(
    Ws: Sequence[Float[Tensor, "_ in"]],
    X: Float[Tensor, "n cols"],
    alpha: float = 0.5,
    tied: Int[Tensor, " numbers"] | None = None,
) -> Float[Tensor, " in"]:
    """`smoothing_scales` of these matrices together, and these inputs.

    Raises ValueError if X or tied does not fit them, or X is not finite.
    """
    X_top = inputs(X, *Ws).abs().amax(0).to(Ws[0])
    W_top = torch.stack([W.abs().amax(0) for W in Ws]).amax(0)
    tops = [over_tied(top, tied, "amax") for top in (X_top, W_top)]
    return smoothing_scales(*tops, alpha)


def smooth_product(
    X: Float[Tensor, "n in"],
    quantized: QuantizedTensor,
    X_granularity: Granularity = PER_TENSOR,
    *,
    X_grid: Grid = INT8,
) -> Float[Tensor, "n out"]:
    """X Wᵀ with X / s rounded too: what integer hardware computes, in floats.

    quantized: W with input scales, as above. X_granularity: PER_TENSOR, or PER_CHANNEL
    for a scale per token. Raises ValueError if X does not fit or is not finite.
    """
    X = inputs(X, quantized.codes)
    s, W_s = quantized.input_scales, replace(quantized, input_scales=None)
    X_s = X if s is None else X / s.to(X)
    X_hat = fake_quantize(X_s, X_grid, X_granularity, scale_dtype=torch.float32)
    return X_hat @ W_s.dequantize(X.dtype).T


def sweep(
    X: Float[Tensor, "n in"],
    W: Float[Tensor, "out in"],
    alphas: Sequence[float] = ALPHAS,
    *,
    granularity: Granularity = PER_CHANNEL,
    X_granularity: Granularity = PER_TENSOR,
    grid: Grid = INT8,
) -> list[Trial]:
    """Each α's `Trial`: what rounding costs in X, in W and in both. Lesson 05 plots it.

    grid: for both. s and scales are fp32, so that nothing else is rounded.
    """
    X = inputs(X, W)
    W = floats(W).to(X)
    Y = X @ W.T

    def error(Y_hat: Float[Tensor, "n out"]) -> float:
        """Relative to Y."""
        return ((Y_hat - Y).norm() / Y.norm()).item()

    trials = []
    for alpha in alphas:
        X_s, W_s = smooth(X, W, scales_of([W], X, alpha))
        X_hat = fake_quantize(X_s, grid, X_granularity, scale_dtype=torch.float32)
        W_hat = fake_quantize(W_s, grid, granularity, scale_dtype=torch.float32)
        X_only, W_only = error(X_hat @ W_s.T), error(X_s @ W_hat.T)
        trials.append(Trial(alpha, error(X_hat @ W_hat.T), X_only, W_only))
    return trials
