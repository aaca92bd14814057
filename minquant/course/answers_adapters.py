"""The answers to the exercises of lesson 09, made of the package's own functions.

Unlike the others in `answers`, which know matrices alone, these build a layer with an
adapter and ask it. `answers` has them by name.

    lora_forward      what a layer with an adapter gives
    lora_gradients    what its A and B learn from
    qlora_bytes       what a step of QLoRA keeps, batch aside
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.layers.lora import LoraLinear
from minquant.numerics.bits import packed_bytes
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import NF4
from minquant.planning.budget import FULL, MOMENTS, adapter_numbers


def lora_forward(
    X: Float[Tensor, "n in"],
    W: Float[Tensor, "out in"],
    A: Float[Tensor, "r in"],
    B: Float[Tensor, "out r"],
    alpha: float,
) -> Float[Tensor, "n out"]:
    """Y of a frozen layer W with the adapter A, B beside it."""
    return _layer(W, A, B, alpha)(X).detach()


def lora_gradients(
    X: Float[Tensor, "n in"],
    G: Float[Tensor, "n out"],
    A: Float[Tensor, "r in"],
    B: Float[Tensor, "out r"],
    s: float,
) -> tuple[Float[Tensor, "r in"], Float[Tensor, "out r"]]:
    """dL/dA and dL/dB, where G is dL/dY and s = alpha / r. W does not matter."""
    layer = _layer(B.new_zeros(len(B), A.shape[1]), A, B, s * len(A))
    layer(X).backward(G)
    return layer.A.grad, layer.B.grad


def qlora_bytes(shapes: Sequence[tuple[int, int]], rank: int) -> float:
    """Codes and scales of every matrix (out, in) in NF4, groups of 64, with double
    quantization; and 16 bytes for each number of an adapter."""
    named = {str(i): shape for i, shape in enumerate(shapes)}
    trained = adapter_numbers(named, rank)
    frozen = 0
    for out, width in shapes:
        scales = DoubleQuantized.store(torch.ones(out, width // 64), NF4)
        frozen += packed_bytes(out * width, NF4.bits) + scales.nbytes
    return float(frozen + (FULL + FULL + MOMENTS) * trained)


def _layer(W: Tensor, A: Tensor, B: Tensor, alpha: float) -> LoraLinear:
    base = nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=W.dtype)
    base.weight.data = W
    layer = LoraLinear(base, len(A), alpha, dtype=A.dtype)
    layer.A.data, layer.B.data = A.clone(), B.clone()
    return layer
