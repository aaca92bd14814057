"""Y = X W_hatᵀ from packed words: what it is, the ways to compute it, which to take.

    reference   W_hat whole, in float64: what every other way is held to
    torch       W_hat a few rows at a time, never the whole of a large matrix: it runs
                everywhere, and costs more than unpacked weights, which it makes first
    cpu_int4    torch's own kernel for the CPU, for what that serves (`cpu_int4`)
    triton      the kernels for a GPU (`launch`); on a CPU in Triton's interpreter
    auto        triton on a GPU, on a CPU cpu_int4, each if it serves; else torch

Why packed weights are fast at one token and not at a thousand: a product of n tokens
reads out · in weights once and does n multiply-adds with each. With one token a GPU
waits for the weights, and a quarter of the bytes takes a quarter of the time. From some
hundred tokens on it waits for arithmetic, of which there is no less, and making numbers
of codes comes on top.

X is fp16, bf16 or fp32 (float64 except in triton), and Y is of the same dtype. bf16
never passes through fp16, but for code − zero, which both hold exactly; sums are fp32.
A gradient flows back to X, dX = dY W_hat, from the same words: what QLoRA needs. The
matrix itself is constant.

Nothing here imports triton; `launch` does when the first kernel runs. Notebook 10.
"""

from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from minquant.kernels import cpu_int4, launch
from minquant.kernels.packed_words import (
    PackedMatrix,
    dequantize,
    pack_matrix,
    unpack_matrix,
)

__all__ = [
    "Backend",
    "PackedMatrix",
    "check_backend",
    "choose",
    "dequantize",
    "matmul",
    "pack_matrix",
    "reference",
    "unpack_matrix",
]

Backend: TypeAlias = Literal["auto", "triton", "torch", "cpu_int4", "reference"]
CHUNK = 2**22  # weights of W_hat that the torch way makes at a time: 16 MB in fp32
FEW = 128  # tokens up to which cpu_int4 is faster than the torch way


def reference(
    X: Float[Tensor, "*n in"], packed: PackedMatrix
) -> Float[Tensor, "*n out"]:
    """The specification: Y = X W_hatᵀ, computed in float64, rounded once to X's dtype.

    >>> import minquant as mq
    >>> q = mq.quantize_rtn(7 * torch.eye(2, 32), mq.absmax(4))
    >>> reference(torch.arange(32.0), pack_matrix(q))
    tensor([0., 7.])
    """
    W_hat = dequantize(packed, torch.float64)
    return (X.double() @ W_hat.T).to(X.dtype)


def matmul(
    X: Float[Tensor, "*n in"], packed: PackedMatrix, *, backend: Backend = "auto"
) -> Float[Tensor, "*n out"]:
    """Y = X W_hatᵀ in X's dtype; X may have any strides, any leading shape, no rows.

    With Y* the `reference` before it is rounded, ‖Y − Y*‖ / ‖Y*‖ ≤ 1e-3 for fp16 and
    4e-3 for bf16; of that, rounding Y alone takes 2e-4 and 2e-3.

    With one token on a GPU numbers of X count from 2^−41 to 2^64 in size: bf16 reaches
    further, and what lies outside is lost, or makes Y NaN (see `kernels`).

    Raises TypeError if X holds no floats; ValueError where it does not fit, or the
    backend does not serve, naming the mend ("auto" always serves).

    >>> import minquant as mq
    >>> W = torch.randn(64, 256)
    >>> q = mq.quantize_rtn(W, mq.zero_point(4), mq.per_group(64))
    >>> matmul(torch.randn(2, 5, 256), pack_matrix(q)).shape
    torch.Size([2, 5, 64])
    """
    if not X.is_floating_point():
        raise TypeError(f"X has dtype {X.dtype}; give floats, such as X.float()")
    if X.shape[-1:] != packed.shape[1:]:
        raise ValueError(
            f"X has shape {tuple(X.shape)}, packed has in_features {packed.shape[1]}; "
            "give X (…, in)"
        )
    if X.device != packed.words.device:
        raise ValueError(
            f"X is on {X.device}, packed on {packed.words.device}; use packed.to(...)"
        )
    backend = choose(X, packed) if backend == "auto" else _served(X, packed, backend)
    flat = X.reshape(-1, X.shape[-1])  # (n, in)
    learns = X.requires_grad and torch.is_grad_enabled()
    product = _Product.apply if learns else _product
    Y = product(flat, packed, backend)
    return Y.view(*X.shape[:-1], packed.shape[0])


def check_backend(backend: Backend) -> Backend:
    """The backend itself. Raises ValueError if none has that name."""
    known = get_args(Backend)
    if backend not in known:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(known)}")
    return backend


def choose(X: Float[Tensor, "*n in"], packed: PackedMatrix) -> Backend:
    """The backend that "auto" takes for this product.

    >>> import minquant as mq
    >>> packed = pack_matrix(mq.quantize_rtn(torch.ones(16, 64), mq.absmax(4)))
    >>> choose(torch.ones(1, 64), packed)  # fp32 on the CPU
    'torch'
    """
    if X.is_cuda:
        return "torch" if launch.refuses(X, packed) else "triton"
    few = X.numel() <= FEW * packed.shape[1]
    return "cpu_int4" if few and not cpu_int4.refuses(X, packed) else "torch"


def _served(X: Tensor, packed: PackedMatrix, backend: Backend) -> Backend:
    """The backend, if it can do this."""
    checks = {"triton": launch.refuses, "cpu_int4": cpu_int4.refuses}
    refusal = checks[backend](X, packed) if check_backend(backend) in checks else ""
    if refusal:
        raise ValueError(f"backend {backend!r} does not serve here: {refusal}")
    return backend


class _Product(torch.autograd.Function):
    """The product and its gradient; W_hat is not kept between the two."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, packed: PackedMatrix, backend: Backend) -> Tensor:
        """Y by the backend, which serves."""
        ctx.packed = packed
        return _product(X, packed, backend)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: Tensor) -> tuple[Tensor, None, None]:
        """dX = dY W_hat, added up over slices of rows."""
        packed, work = ctx.packed, _work(dY)
        sums = max(work, torch.float32, key=lambda dtype: dtype.itemsize)
        dX = dY.new_zeros(len(dY), packed.shape[1], dtype=sums)
        for rows in launch.by_rows(packed, CHUNK):
            part = dY[:, rows].to(work) @ dequantize(packed, work, rows)
            dX += part  # (n, in)
        return dX.to(dY.dtype), None, None


def _product(X: Tensor, packed: PackedMatrix, backend: Backend) -> Tensor:
    """Y by the backend, which serves."""
    if not len(X):
        return X.new_empty(0, packed.shape[0])
    if backend == "triton":
        return launch.product(X, packed)
    if backend == "cpu_int4":
        return cpu_int4.product(X, packed)
    return reference(X, packed) if backend == "reference" else _by_rows(X, packed)


def _work(X: Tensor) -> torch.dtype:
    """What torch multiplies in: on a GPU X's own dtype, summed in fp32 by cuBLAS; on a
    CPU, where sums of 16-bit products may be 16 bits long, at least fp32."""
    return X.dtype if X.is_cuda or X.dtype == torch.float64 else torch.float32


def _by_rows(X: Float[Tensor, "n in"], packed: PackedMatrix) -> Float[Tensor, "n out"]:
    work = _work(X)
    Y = X.new_empty(len(X), packed.shape[0])
    wide = X.to(work)
    for rows in launch.by_rows(packed, CHUNK):
        Y[:, rows] = (wide @ dequantize(packed, work, rows).T).to(X.dtype)
    return Y
