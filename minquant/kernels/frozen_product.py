"""Multiply by frozen, packed weights: W_hat a few rows at a time, gradient included.

    forward     Y  = X W_hatᵀ      some rows of W_hat make as many columns of Y
    backward    dX = G W_hat       G = dL/dY; what the parts contribute is added up

The weights are frozen, but a gradient passes through to X, and so to every layer
before. W_hat is made from the codes, a few rows at a time, and dropped; the backward
pass makes it once more. Nothing of the size of W stays in floats between the two. That
is what lets QLoRA (Dettmers et al. 2023) train on top of a model that it could not hold
in 16 bits, and the price is to dequantize twice. `nn.Linear` would keep W, which it has
anyway. A layer that dequantized in the usual way would keep W_hat, and would be worse
than no quantization.

All that is needed is a function that gives W_hat in parts: packed words have one
(`packed_words`), and so have bit streams and LLM.int8() (`layers`). Lessons 09 and 10.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from minquant.numerics.ruler import work_dtype

# which rows of W_hat, and their values
Parts: TypeAlias = Iterator[tuple[slice, Float[Tensor, "rows in"]]]


def row_slices(shape: tuple[int, int], weights: int) -> Iterator[slice]:
    """Slices that cover the rows of a matrix (out, in), about `weights` weights each.

    Every slice but the last has a multiple of 8 rows. Eight codes of b bits fill b
    bytes, so in a stream of bits each slice starts at a whole byte.

    >>> list(row_slices((100, 4096), 2**18))
    [slice(0, 64, None), slice(64, 100, None)]
    """
    out, width = shape
    step = max(1, weights // max(1, width) // 8) * 8
    for start in range(0, out, step):
        yield slice(start, min(start + step, out))


def product_dtype(X: Tensor) -> torch.dtype:
    """The dtype in which torch should multiply X.

    On a GPU it is X's own: cuBLAS sums products of 16-bit numbers in fp32. A CPU may
    sum them in 16 bits, so there it is at least fp32.
    """
    return X.dtype if X.is_cuda else work_dtype(X.dtype)


def multiply_by_parts(
    X: Float[Tensor, "n in"], parts: Callable[[torch.dtype], Parts], out: int
) -> Float[Tensor, "n out"]:
    """Y = X W_hatᵀ in X's dtype. parts: gives W_hat (out, in) in a dtype, in parts."""
    work = product_dtype(X)
    X_work = X.to(work)
    Y = X.new_empty(len(X), out)
    for rows, W_hat in parts(work):
        Y[:, rows] = X_work @ W_hat.T  # (n, rows)
    return Y


def frozen_product(
    X: Float[Tensor, "n in"],
    product: Callable[[Tensor], Tensor],
    parts: Callable[[torch.dtype], Parts],
) -> Float[Tensor, "n out"]:
    """Y = product(X). If X learns, the gradient dX = G W_hat flows back to it.

    product: computes X W_hatᵀ, in whatever way. parts: as for `multiply_by_parts`.
    """
    if X.requires_grad and torch.is_grad_enabled():
        return _FrozenProduct.apply(X, product, parts)
    return product(X)


class _FrozenProduct(torch.autograd.Function):
    """Between forward and backward it keeps `parts`, and no tensor."""

    @staticmethod
    def forward(
        ctx: Any,
        X: Tensor,
        product: Callable[[Tensor], Tensor],
        parts: Callable[[torch.dtype], Parts],
    ) -> Tensor:
        """Y, by the given product."""
        ctx.parts = parts
        ctx.width = X.shape[1]
        return product(X)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None, None]:
        """dX. There may be hundreds of parts, so they are added up in fp32 at least."""
        work = product_dtype(G)
        dX = G.new_zeros(len(G), ctx.width, dtype=work_dtype(work))
        for rows, W_hat in ctx.parts(work):
            dX += G[:, rows].to(work) @ W_hat  # (n, in)
        return dX.to(G.dtype), None, None
