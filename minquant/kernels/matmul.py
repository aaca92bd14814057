"""Y = X W_hatᵀ from packed words: the specification, and the ways to compute it.

    reference   W_hat whole, in float64: what every other way is measured against
    torch       W_hat a few rows at a time. It runs everywhere, and is slower than a
                product with unpacked weights, since it unpacks them first
    cpu_int4    torch's own kernel for the CPU, for some matrices (`cpu_int4`)
    triton      the kernels for a GPU (`launch`); on a CPU in Triton's interpreter
    auto        triton on a GPU, cpu_int4 on a CPU; torch where they cannot

Why packed weights are fast at one token and not at a thousand: a product of n tokens
reads out · in weights once and does n multiply-adds with each. With one token a GPU
waits for the weights, and a quarter of the bytes takes a quarter of the time. From some
hundred tokens on it waits for arithmetic. Packing saves none of that, and turning codes
into numbers comes on top.

X is fp16, bf16 or fp32 (or float64, except in triton), and Y has the same dtype. bf16
never passes through fp16, except for code − zero, which both hold exactly. Sums are in
fp32. A gradient flows back to X, from the same words (`frozen_product`): QLoRA needs
that. The matrix itself is constant.

Nothing here imports triton; `launch` does when the first kernel runs. Notebook 10.
"""

from functools import partial
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.kernels import cpu_int4, launch
from minquant.kernels.frozen_product import frozen_product, multiply_by_parts
from minquant.kernels.packed_words import PackedMatrix, dequantize

Backend: TypeAlias = Literal["auto", "triton", "torch", "cpu_int4", "reference"]
FEW = 128  # up to so many tokens cpu_int4 is faster than torch


def reference(
    X: Float[Tensor, "*n in"], packed: PackedMatrix
) -> Float[Tensor, "*n out"]:
    """The specification: Y = X W_hatᵀ, computed in float64, rounded once to X's dtype.

    >>> import minquant as mq
    >>> q = mq.quantize_rtn(7 * torch.eye(2, 32), mq.absmax(4))
    >>> reference(torch.arange(32.0), mq.pack_matrix(q))
    tensor([0., 7.])
    """
    W_hat = dequantize(packed, torch.float64)
    return (X.double() @ W_hat.T).to(X.dtype)


def matmul(
    X: Float[Tensor, "*n in"], packed: PackedMatrix, *, backend: Backend = "auto"
) -> Float[Tensor, "*n out"]:
    """Y = X W_hatᵀ in X's dtype.

    X: any leading shape, any strides; it may have no rows. backend: see the module.

    Let Y* be the `reference` before it is rounded. Then ‖Y − Y*‖ / ‖Y*‖ ≤ 1e-3 for
    fp16 and 4e-3 for bf16. Rounding Y alone makes 2e-4 and 2e-3 of that.

    With one token on a GPU, numbers in X must lie between 2^−41 and 2^64 in size. bf16
    reaches further: smaller numbers are lost, and larger ones make Y NaN (see
    `triton_kernels`).

    Raises TypeError if X holds no floats, ValueError if X does not fit the matrix or
    the backend cannot compute the product ("auto" always can).

    >>> import minquant as mq
    >>> W = torch.randn(64, 256)
    >>> q = mq.quantize_rtn(W, mq.zero_point(4), mq.per_group(64))
    >>> matmul(torch.randn(2, 5, 256), mq.pack_matrix(q)).shape
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
    if backend == "auto":
        backend = choose_backend(X, packed)
    else:
        _check_serves(backend, X, packed)
    flat = X.reshape(-1, X.shape[-1])  # (n, in)
    product = partial(_product, packed=packed, backend=backend)
    Y = frozen_product(flat, product, packed.parts)
    return Y.view(*X.shape[:-1], packed.shape[0])


def check_backend(backend: Backend) -> Backend:
    """The backend itself. Raises ValueError if none has that name."""
    names = get_args(Backend)
    if backend not in names:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(names)}")
    return backend


def choose_backend(X: Float[Tensor, "*n in"], packed: PackedMatrix) -> Backend:
    """The backend that "auto" takes for this product.

    >>> import minquant as mq
    >>> packed = mq.pack_matrix(mq.quantize_rtn(torch.ones(16, 64), mq.absmax(4)))
    >>> choose_backend(torch.ones(1, 64), packed)  # fp32 on the CPU
    'torch'
    """
    if X.is_cuda:
        return "torch" if launch.refuses(X, packed) else "triton"
    few = X.numel() <= FEW * packed.shape[1]
    return "cpu_int4" if few and not cpu_int4.refuses(X, packed) else "torch"


def _check_serves(backend: Backend, X: Tensor, packed: PackedMatrix) -> None:
    """Raises ValueError if no backend has that name, or it cannot do this product."""
    check_backend(backend)
    reason = ""
    if backend == "triton":
        reason = launch.refuses(X, packed)
    elif backend == "cpu_int4":
        reason = cpu_int4.refuses(X, packed)
    if reason:
        raise ValueError(f"backend {backend!r} does not serve here: {reason}")


def _product(X: Tensor, packed: PackedMatrix, backend: Backend) -> Tensor:
    """Y by a backend that serves, without a gradient."""
    if not len(X):
        return X.new_empty(0, packed.shape[0])
    if backend == "triton":
        return launch.product(X, packed)
    if backend == "cpu_int4":
        return cpu_int4.product(X, packed)
    if backend == "reference":
        return reference(X, packed)
    return multiply_by_parts(X, packed.parts, packed.shape[0])
