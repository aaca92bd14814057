"""LLM.int8(): multiply in 8-bit integers, and keep the few outlier inputs out of it.

Unlike RTN: the inputs are rounded too, so that the product itself is one of integers.
Each row of X (a token) and each row of W (an output) has its own scale, and both scales
can be taken out of the sum. That is *vector-wise* quantization:

    X ≈ s_x · X_codes        codes −127 … 127, s_x = absmax of the row / 127      (n, 1)
    W ≈ s_w · W_codes                                                           (out, 1)
    Y ≈ s_x · s_wᵀ · (X_codes W_codesᵀ)                  summed in 32-bit integers

One large value makes the steps of its whole token long. In large language models such
values stand in a few columns of X, the same in all tokens. So take those columns out:

    outliers = columns of X with any |x| ≥ threshold in this batch; 6 in the paper
    Y ≈ vector-wise(X, W without outliers) + X[:, outliers] W[:, outliers]ᵀ

and multiply them in floats (Dettmers et al. 2022, equation 8). At an infinite threshold
nothing is taken out. At 0 everything is, which gives the float product. (In
bitsandbytes 0 switches the split off: it is our infinity.)

Two choices:

    outlier_weights   the paper keeps W once, as codes, and takes only the outlier
                      columns in 16 bits: about 0.1 % more memory. "int8" gets them from
                      the codes, as bitsandbytes does. A dtype takes them from W itself,
                      which spares the error of their codes. As these columns are known
                      only when X is, all of W must then be kept, beside its codes
    row_scale         "columns": a row's absmax is over the columns that stay. "values":
                      over all values below the threshold, as in bitsandbytes, also over
                      those in outlier columns, which the product then leaves out

How it is exact: whole numbers up to 2^24 are exact in float32, so the integer product
is done by float32 multiplication, 1024 columns at a time (1024 · 127² < 2^24), and the
parts are added as int32. Graphics cards have instructions for it.

What is left out: zero-point quantization of X; scales of W without its outlier columns
(W is rounded once, before X is known); and the paper's criteria for an outlier
*feature* of a model (25 % of layers, 6 % of tokens), which are for counting. Lesson 05.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int8, Int32
from torch import Tensor

from minquant.methods.rtn import floats, inputs, quantize_rtn
from minquant.numerics.grids import absmax
from minquant.numerics.ruler import work_dtype
from minquant.numerics.scales import largest, scale_values
from minquant.numerics.tensor import QuantizedTensor

INT8 = absmax(8)
RowScale: TypeAlias = Literal["columns", "values"]
OutlierWeights: TypeAlias = torch.dtype | Literal["int8"]
_EXACT = 1024  # columns whose products float32 adds up without rounding
_MOST = (2**31 - 1) // 127**2  # columns whose products add up to an int32


class Split(NamedTuple):
    """What a threshold takes out of X, and the error that is left.

    columns: the share of columns taken out. values: the share of values that reach the
    threshold. error: ‖Y_hat − Y‖ / ‖Y‖.
    """

    threshold: float
    columns: float
    values: float
    error: float


def quantize_rows(A: Float[Tensor, "rows in"]) -> QuantizedTensor:
    """X or W in 8 bits, with a scale per row: absmax / 127, in fp32.

    Raises as `quantize_rtn` does.

    >>> quantize_rows(torch.tensor([[-1.27, 0.5], [12.7, 0.3]])).codes
    tensor([[-127,   50],
            [ 127,    3]], dtype=torch.int8)
    """
    return quantize_rtn(A, INT8, scale_dtype=torch.float32)


def integer_product(
    A: Int8[Tensor, "n in"], B: Int8[Tensor, "out in"]
) -> Int32[Tensor, "n out"]:
    """A Bᵀ of 8-bit codes −127 … 127, exact, as 32-bit integers.

    Raises ValueError if there are so many columns that int32 could overflow.

    >>> A = torch.tensor([[127, -1], [2, 3]], dtype=torch.int8)
    >>> integer_product(A, A)
    tensor([[16130,   251],
            [  251,    13]], dtype=torch.int32)
    """
    if (width := A.shape[1]) > _MOST:
        raise ValueError(f"A has {width} columns; int32 holds {_MOST}; split them")
    total = torch.zeros(len(A), len(B), dtype=torch.int32, device=A.device)
    for a in range(0, width, _EXACT):
        part = slice(a, a + _EXACT)
        total += (A[:, part].float() @ B[:, part].float().T).int()
    return total


def vector_wise(X_q: QuantizedTensor, W_q: QuantizedTensor) -> Float[Tensor, "n out"]:
    """X Wᵀ from 8-bit rows, float32: the integer product times both scales.

    >>> X = torch.tensor([[1.27, 0.5], [0.0, 2.54]])
    >>> vector_wise(quantize_rows(X), quantize_rows(torch.tensor([[12.7, 1.0]])))
    tensor([[16.6290],
            [ 2.5400]])
    """
    Y = integer_product(X_q.codes, W_q.codes) * scale_values(X_q.scales)  # (n, out)
    return Y * scale_values(W_q.scales).T


def outlier_columns(
    X: Float[Tensor, "n in"], threshold: float = 6.0
) -> Bool[Tensor, " in"]:
    """True for columns in which any row reaches the threshold: |x| ≥ threshold.

    Raises ValueError if threshold is negative or not a number. Lesson 05.

    >>> outlier_columns(torch.tensor([[1.0, 6.0, 0.0], [1.0, 0.0, -9.0]]))
    tensor([False,  True,  True])
    """
    if not threshold >= 0:
        raise ValueError(f"threshold is {threshold}; choose 0 or more, often 6.0")
    return (X.abs() >= threshold).any(0)


def kept_weights(
    W: Float[Tensor, "out in"], outlier_weights: OutlierWeights
) -> Float[Tensor, "out in"] | None:
    """A copy of W to take outlier columns from, or None if only the codes are kept.

    outlier_weights: the dtype of the copy, or "int8" for codes only. Where W overflows
    this dtype, or a row of W lies below its normal numbers, the copy is float32. Raises
    ValueError if outlier_weights is neither.

    >>> kept_weights(torch.tensor([[1.0, 1e-9]]), torch.float16)
    tensor([[1., 0.]], dtype=torch.float16)
    >>> kept_weights(torch.tensor([[1e-9, 1e-9]]), torch.float16)
    tensor([[1.0000e-09, 1.0000e-09]])
    """
    dtype = outlier_weights
    if dtype == "int8":
        return None
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f'outlier_weights is {dtype!r}; choose a dtype of floats or "int8"'
        )
    W = floats(W)
    top = W.abs().amax(1)  # of each row
    small = (top > 0) & (top < torch.finfo(dtype).tiny)
    if small.any() or top.max() > largest(dtype):
        dtype = work_dtype(W.dtype)
    return W.to(dtype, copy=True)


def mixed_product(
    X: Float[Tensor, "n in"],
    W_q: QuantizedTensor,
    W: Float[Tensor, "out in"] | None,
    threshold: float = 6.0,
    *,
    row_scale: RowScale = "columns",
) -> Float[Tensor, "n out"]:
    """X Wᵀ with outlier columns in floats and all others in 8 bits; in X's dtype.

    W_q: the codes of W, by `quantize_rows`. W: the outlier columns are taken from it,
    as `kept_weights` returns it; None takes them from the codes. Equation above; lesson
    05.

    Raises ValueError if X does not fit W_q or is not finite, or an option is unknown.
    """
    if row_scale not in ("columns", "values"):
        raise ValueError(f'row_scale is {row_scale!r}; choose "columns" or "values"')
    dtype, X = X.dtype, inputs(X, W_q.codes)
    outlier = outlier_columns(X, threshold)
    removed = outlier if row_scale == "columns" else X.abs() >= threshold
    X_q = quantize_rows(X.masked_fill(removed, 0))
    X_q.codes.masked_fill_(outlier, 0)
    Y = vector_wise(X_q, W_q)
    if outlier.any():
        W_float = W_q.dequantize() if W is None else W
        Y = Y + X[:, outlier] @ W_float[:, outlier].to(X).T
    return Y.to(dtype)


def llm_int8(
    X: Float[Tensor, "n in"],
    W: Float[Tensor, "out in"],
    threshold: float = 6.0,
    *,
    outlier_weights: OutlierWeights = torch.float16,
    row_scale: RowScale = "columns",
) -> Float[Tensor, "n out"]:
    """X Wᵀ by LLM.int8(), in X's dtype: rounds W, then takes the `mixed_product`.

    outlier_weights: as for `kept_weights`; "int8" takes the outlier columns from the
    codes, as bitsandbytes does. Raises ValueError as `mixed_product`, `quantize_rtn`
    and `kept_weights` do.

    0.5 beside 127 is rounded to 0, and without it to itself:

    >>> X, W = torch.tensor([[127.0, 0.5]]), torch.tensor([[0.5, 0.5]])
    >>> llm_int8(X, W, threshold=torch.inf), llm_int8(X, W)
    (tensor([[63.5000]]), tensor([[63.7500]]))
    """
    W_q, kept = quantize_rows(W), kept_weights(W, outlier_weights)
    return mixed_product(X, W_q, kept, threshold, row_scale=row_scale)


def sweep(
    X: Float[Tensor, "n in"],
    W: Float[Tensor, "out in"],
    thresholds: Sequence[float],
    *,
    outlier_weights: OutlierWeights = torch.float16,
    row_scale: RowScale = "columns",
) -> list[Split]:
    """Each threshold's `Split`: how much is taken out, and the error that is left.

    >>> X, W = torch.tensor([[127.0, 0.5]]), torch.tensor([[0.5, 0.5]])
    >>> for split in sweep(X, W, (0.0, 6.0, torch.inf)):
    ...     print(f"{split.threshold:3} {split.columns:.0%} {split.error:.4f}")
    0.0 100% 0.0000
    6.0 50% 0.0000
    inf 0% 0.0039
    """
    W_q, kept = quantize_rows(W), kept_weights(W, outlier_weights)
    X_work = inputs(X, W)
    Y = X_work @ floats(W).to(X_work).T
    splits = []
    for threshold in thresholds:
        Y_hat = mixed_product(X, W_q, kept, threshold, row_scale=row_scale)
        columns = outlier_columns(X_work, threshold).float().mean().item()
        values = (X_work.abs() >= threshold).float().mean().item()
        error = ((Y_hat - Y).norm() / Y.norm()).item()
        splits.append(Split(threshold, columns, values, error))
    return splits
