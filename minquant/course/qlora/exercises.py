"""Exercises of lesson 09: what an adapter gives, what it learns from, what it takes.

    lora_forward      Y of a frozen layer with an adapter beside it
    lora_gradients    dL/dA and dL/dB
    qlora_bytes       what a step of QLoRA keeps in memory, batch aside

Matrices are float64, so that the order of the products does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.course.exercises import Exercise, normal
from minquant.course.nf4.exercises import nf4_bytes
from minquant.layers.lora import LoraLinear
from minquant.numerics.bits import packed_bytes
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import NF4
from minquant.planning.budget import FULL, MOMENTS, adapter_numbers


def _adapter(n: int, out: int, width: int, rank: int, seed: int) -> tuple[Tensor, ...]:
    """X (n, in), W (out, in), A (rank, in) and B (out, rank) in float64."""
    shapes = (n, width), (out, width), (rank, width), (out, rank)
    return tuple(
        normal(*shape, seed=4 * seed + i).double() for i, shape in enumerate(shapes)
    )


X, W, A, B = _adapter(n=5, out=6, width=8, rank=2, seed=1)
X1, W1, A1, B1 = _adapter(n=3, out=4, width=4, rank=1, seed=2)
G, G1 = normal(5, 6, seed=20).double(), normal(3, 4, seed=21).double()


def _layer(W: Tensor, A: Tensor, B: Tensor, alpha: float) -> LoraLinear:
    """A frozen layer with this adapter."""
    base = nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=W.dtype)
    base.weight.data = W
    layer = LoraLinear(base, len(A), alpha, dtype=A.dtype)
    layer.A.data, layer.B.data = A.clone(), B.clone()
    return layer


# --- lora_forward ---


def lora_forward(
    X: Float[Tensor, "n in"],
    W: Float[Tensor, "out in"],
    A: Float[Tensor, "r in"],
    B: Float[Tensor, "out r"],
    alpha: float,
) -> Float[Tensor, "n out"]:
    """Y of a frozen layer W with the adapter A, B beside it."""
    return _layer(W, A, B, alpha)(X).detach()


check_lora_forward = Exercise(
    name="lora_forward",
    task="lora_forward(X, W, A, B, alpha) gives Y = X Wᵀ + s (X Aᵀ) Bᵀ, s = alpha / r",
    answer=lora_forward,
    cases={
        "rank 2, alpha 16": (X, W, A, B, 16.0),
        "rank 1, alpha 3": (X1, W1, A1, B1, 3.0),
        "B = 0: the layer as it was": (X, W, A, torch.zeros_like(B), 16.0),
    },
    mistakes={
        "this is the update alone; the frozen layer's X Wᵀ is missing": (
            lambda X, W, A, B, alpha: alpha / len(A) * X @ A.T @ B.T
        ),
        "the update is not scaled: s = alpha / r": (
            lambda X, W, A, B, alpha: X @ W.T + X @ A.T @ B.T
        ),
        "the update is scaled by alpha; divide it by the rank, len(A)": (
            lambda X, W, A, B, alpha: X @ W.T + alpha * X @ A.T @ B.T
        ),
        "s scales the update alone, not X Wᵀ": (
            lambda X, W, A, B, alpha: alpha / len(A) * (X @ W.T + X @ A.T @ B.T)
        ),
        "the update is subtracted; add it": (
            lambda X, W, A, B, alpha: X @ W.T - alpha / len(A) * X @ A.T @ B.T
        ),
        "r is the number of rows of A, the thin side; you divide by `in`": (
            lambda X, W, A, B, alpha: X @ W.T + alpha / A.shape[1] * X @ A.T @ B.T
        ),
    },
    outputs=("Y",),
    solution="""\
def lora_forward(X, W, A, B, alpha):
    s = alpha / len(A)  # A has a row for each rank
    return X @ W.T + s * (X @ A.T) @ B.T
""",
    inside="minquant.LoraLinear",
)


# --- lora_gradients ---


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


def _gradients(
    X: Tensor, G: Tensor, A: Tensor, B: Tensor, s_A: float, s_B: float
) -> tuple[Tensor, Tensor]:
    """The gradients, each with its own s."""
    return s_A * (G @ B).T @ X, s_B * G.T @ (X @ A.T)


check_lora_gradients = Exercise(
    name="lora_gradients",
    task="lora_gradients(X, G, A, B, s) gives dL/dA and dL/dB, where G = dL/dY",
    answer=lora_gradients,
    cases={
        "rank 2": (X, G, A, B, 8.0),
        "rank 1": (X1, G1, A1, B1, 3.0),
        "B = 0: A gets no gradient yet": (X, G, A, torch.zeros_like(B), 2.0),
    },
    mistakes={
        "the factor s is missing: it is in the forward pass, so it is in both": (
            lambda X, G, A, B, s: _gradients(X, G, A, B, 1.0, 1.0)
        ),
        "s is missing in dL/dA": lambda X, G, A, B, s: _gradients(X, G, A, B, 1.0, s),
        "s is missing in dL/dB": lambda X, G, A, B, s: _gradients(X, G, A, B, s, 1.0),
        "s is there twice": lambda X, G, A, B, s: _gradients(X, G, A, B, s * s, s * s),
        "the sign is the step's; the gradient itself has none": (
            lambda X, G, A, B, s: _gradients(X, G, A, B, -s, -s)
        ),
        "sum over the n rows of X, do not take their mean: G has that already": (
            lambda X, G, A, B, s: _gradients(X, G, A, B, s / len(X), s / len(X))
        ),
    },
    outputs=("dA", "dB"),
    solution="""\
def lora_gradients(X, G, A, B, s):
    dA = s * (G @ B).T @ X
    dB = s * G.T @ (X @ A.T)
    return dA, dB
""",
    inside="minquant.LoraLinear",
)


# --- qlora_bytes ---


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


def _bytes(
    shapes: Sequence[tuple[int, int]],
    rank: int,
    *,
    per_number: float = 16,
    per_weight: float | None = None,
) -> float:
    """The bytes, in which one part can be made wrong.

    per_number: of the adapters. per_weight: of the frozen matrices.
    """
    if per_weight is None:
        frozen = sum(nf4_bytes(prod(shape), 64) for shape in shapes)
    else:
        frozen = per_weight * sum(prod(shape) for shape in shapes)
    numbers = rank * sum(out + width for out, width in shapes)
    return frozen + per_number * numbers


check_qlora_bytes = Exercise(
    name="qlora_bytes",
    task="qlora_bytes(shapes, rank) gives the bytes of a step of QLoRA, batch aside: "
    "NF4 with double quantization (lesson 08's nf4_bytes), and fp32 adapters with all "
    "that training needs",
    answer=qlora_bytes,
    cases={
        "one matrix, 4096 × 4096, rank 16": ([(4096, 4096)], 16),
        "two, of 128 × 64 and 64 × 128, rank 1": ([(128, 64), (64, 128)], 1),
        "the matrices of a layer of Llama-2-7B, rank 64": (
            [*[(4096, 4096)] * 4, *[(11008, 4096)] * 2, (4096, 11008)],
            64,
        ),
    },
    mistakes={
        "this is without the adapters": lambda s, r: _bytes(s, r, per_number=0),
        "these are the adapters alone; the frozen codes take memory too": (
            lambda s, r: _bytes(s, r, per_weight=0.0)
        ),
        "A and B take 4 bytes a number, and their gradients too; Adam 8 more": (
            lambda s, r: _bytes(s, r, per_number=4)
        ),
        "4 bytes a number are missing: the gradients, or one of Adam's two moments": (
            lambda s, r: _bytes(s, r, per_number=12)
        ),
        "Adam's two moments are forgotten": lambda s, r: _bytes(s, r, per_number=8),
        "A and B are fp32 already: they need no master copy": (
            lambda s, r: _bytes(s, r, per_number=20)
        ),
        "the frozen weights have 16 bits here: that is LoRA": (
            lambda s, r: _bytes(s, r, per_weight=2.0)
        ),
        "the scales of the codes are forgotten": (
            lambda s, r: _bytes(s, r, per_weight=0.5)
        ),
    },
    outputs=("the bytes",),
    solution="""\
def qlora_bytes(shapes, rank):
    total = 0
    for out, width in shapes:
        scales = out * width / 64  # 8 bits each, and 32 bits for 256 of them
        total += out * width / 2 + scales + 4 * math.ceil(scales / 256) + 4
        total += 16 * rank * (out + width)  # adapter, gradient, Adam's two moments
    return total
""",
    inside="minquant.planning.budget",
)
