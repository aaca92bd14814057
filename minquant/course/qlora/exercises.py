"""Exercises of lesson 09: an adapter's output, its gradients, and what a step keeps.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from minquant.course import answers, answers_adapters
from minquant.course.exercises import Exercise
from minquant.layers import lora
from minquant.planning import budget


def _random(*shape: int, seed: int) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.double()


def _adapter(n: int, out: int, width: int, rank: int, seed: int) -> tuple[Tensor, ...]:
    """X, W, A and B; or X, G, A and B with W's place for G."""
    shapes = (n, width), (out, width), (rank, width), (out, rank)
    return tuple(_random(*s, seed=4 * seed + i) for i, s in enumerate(shapes))


X, W, A, B = _adapter(5, 6, 8, 2, 1)
X1, W1, A1, B1 = _adapter(3, 4, 4, 1, 2)
G, G1 = _random(5, 6, seed=20), _random(3, 4, seed=21)

lora_forward = Exercise(
    name="lora_forward",
    task="lora_forward(X, W, A, B, alpha) gives Y = X Wᵀ + s (X Aᵀ) Bᵀ, s = alpha / r",
    answer=answers_adapters.lora_forward,
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
    shows=(answers_adapters.lora_forward, lora.LoraLinear.forward),
)


def _gradients(X: Tensor, G: Tensor, A: Tensor, B: Tensor, s: float) -> tuple:
    return s * (G @ B).T @ X, s * G.T @ (X @ A.T)


lora_gradients = Exercise(
    name="lora_gradients",
    task="lora_gradients(X, G, A, B, s) gives dL/dA and dL/dB, where G = dL/dY",
    answer=answers_adapters.lora_gradients,
    cases={
        "rank 2": (X, G, A, B, 8.0),
        "rank 1": (X1, G1, A1, B1, 3.0),
        "B = 0: A gets no gradient yet": (X, G, A, torch.zeros_like(B), 2.0),
    },
    mistakes={
        "the factor s is missing: it is in the forward pass, so it is in both": (
            lambda X, G, A, B, s: _gradients(X, G, A, B, 1.0)
        ),
        "s is missing in dL/dA": lambda X, G, A, B, s: (
            _gradients(X, G, A, B, 1.0)[0],
            _gradients(X, G, A, B, s)[1],
        ),
        "s is missing in dL/dB": lambda X, G, A, B, s: (
            _gradients(X, G, A, B, s)[0],
            _gradients(X, G, A, B, 1.0)[1],
        ),
        "s is there twice": lambda X, G, A, B, s: _gradients(X, G, A, B, s * s),
        "the sign is the step's; the gradient itself has none": (
            lambda X, G, A, B, s: _gradients(X, G, A, B, -s)
        ),
        "sum over the n rows of X, do not take their mean: G has that already": (
            lambda X, G, A, B, s: _gradients(X, G, A, B, s / len(X))
        ),
    },
    outputs=("dA", "dB"),
    shows=(answers_adapters.lora_gradients, lora.LoraLinear.forward),
)


def _bytes(
    shapes: Sequence[tuple[int, int]],
    rank: int,
    each: float = 16,
    base: float | None = None,
) -> float:
    """The bytes with one part to be made wrong."""
    frozen = sum(answers.nf4_bytes(prod(shape), 64) for shape in shapes)
    frozen = frozen if base is None else base * sum(map(prod, shapes))
    return frozen + each * rank * sum(map(sum, shapes))


qlora_bytes = Exercise(
    name="qlora_bytes",
    task="qlora_bytes(shapes, rank) gives the bytes of a step of QLoRA, batch aside: "
    "NF4 with double quantization (answers.nf4_bytes) and fp32 adapters with all that "
    "training needs",
    answer=answers_adapters.qlora_bytes,
    cases={
        "one matrix, 4096 × 4096, rank 16": ([(4096, 4096)], 16),
        "two, of 128 × 64 and 64 × 128, rank 1": ([(128, 64), (64, 128)], 1),
        "the matrices of a layer of Llama-2-7B, rank 64": (
            [*[(4096, 4096)] * 4, *[(11008, 4096)] * 2, (4096, 11008)],
            64,
        ),
    },
    mistakes={
        "this is without the adapters": lambda s, r: _bytes(s, r, each=0),
        "these are the adapters alone; the frozen codes take memory too": (
            lambda s, r: _bytes(s, r, base=0.0)
        ),
        "A and B take 4 bytes a number, and their gradients too; Adam 8 more": (
            lambda s, r: _bytes(s, r, each=4)
        ),
        "4 bytes a number are missing: the gradients, or one of Adam's two moments": (
            lambda s, r: _bytes(s, r, each=12)
        ),
        "Adam's two moments are forgotten": lambda s, r: _bytes(s, r, each=8),
        "A and B are fp32 already: they need no master besides": (
            lambda s, r: _bytes(s, r, each=20)
        ),
        "the frozen weights have 16 bits here: that is LoRA": (
            lambda s, r: _bytes(s, r, base=2.0)
        ),
        "the scales of the codes are forgotten": lambda s, r: _bytes(s, r, base=0.5),
    },
    outputs=("the bytes",),
    shows=(answers_adapters.qlora_bytes, budget.adapter_numbers),
)

EXERCISES = (lora_forward, lora_gradients, qlora_bytes)
