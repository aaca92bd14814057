"""What fine-tuning will keep in memory, from shapes alone: before a model is loaded.

                     per trained number    per frozen weight
    full, 16 bits    2 + 2 + 4 + 8         none is frozen
    LoRA             4 + 4 + 8             2
    QLoRA            4 + 4 + 8             4.127 bits = 0.516

in bytes: the number, its gradient, the fp32 master that 16-bit training needs, Adam's
two moments. An adapter of rank r on a matrix (out, in) trains r · (out + in) numbers,
which are fp32 themselves and need no master.

`memory.step_memory` measures the same, and one thing more, `saved`: what a batch leaves
for the backward pass. It depends on batch and length, is alike for LoRA and QLoRA, and
is 0 here. Lesson 09 holds one against the other.
"""

import re
from collections.abc import Mapping
from math import prod

from torch import nn

from .anatomy import linear_layers, weight_of
from .memory import StepMemory

Shapes = Mapping[str, tuple[int, int]]
MOMENTS, MASTER, FULL, HALF = 8, 4, 4, 2  # bytes
BASES = {  # bits of a frozen weight, scales and all
    "fp32": 32.0,
    "16 bits": 16.0,
    "int8": 8 + 16 / 64,
    "NF4": 4 + 32 / 64,
    "NF4, double": 4 + 8 / 64 + 32 / (64 * 256),
}
ATTENTION = r"[qkvo]_proj$"


def shapes_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of the decoder layers, by name."""
    layers = linear_layers(model).items()
    return {name: tuple(weight_of(layer).shape) for name, layer in layers}


def rest_of(model: nn.Module) -> int:
    """How many numbers a model has beside these: embeddings, norms, lm_head."""
    everything = sum(p.numel() for p in model.parameters())
    return everything - sum(map(prod, shapes_of(model).values()))


def llama(
    layers: int, width: int, inner: int, vocabulary: int
) -> tuple[dict[str, tuple[int, int]], int]:
    """The shapes of a Llama whose heads all have keys of their own, and its rest.

    >>> shapes, rest = llama(32, 4096, 11008, 32000)  # Llama-2-7B
    >>> sum(out * width for out, width in shapes.values()) + rest
    6738415616
    """
    block = {f"self_attn.{x}_proj": (width, width) for x in "qkvo"}
    block |= {f"mlp.{x}_proj": (inner, width) for x in ("gate", "up")}
    block |= {"mlp.down_proj": (width, inner)}
    shapes = {f"layers.{i}.{n}": s for i in range(layers) for n, s in block.items()}
    return shapes, (2 * layers + 1) * width + 2 * vocabulary * width


def adapter_numbers(shapes: Shapes, rank: int, only: str = "") -> int:
    """Numbers in A and B of all layers whose name fits `only`: r · (out + in) each.

    Raises ValueError for a rank below 1.

    >>> adapter_numbers({"q_proj": (4096, 4096)}, 16)
    131072
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; choose 1 or more, often 8 or 16")
    return rank * sum(sum(s) for name, s in shapes.items() if re.search(only, name))


def full(shapes: Shapes, rest: int, *, bits: int = 16) -> StepMemory:
    """Every number is trained. bits: 16 (with fp32 masters) or 32 (without).

    >>> full({"q_proj": (4, 4)}, 0)
    StepMemory(weights=32, gradients=32, optimizer=192, saved=0)
    """
    if bits not in (16, 32):
        raise ValueError(f"bits is {bits}; full fine-tuning has 16 or 32")
    n = rest + sum(map(prod, shapes.values()))
    masters = MASTER if bits == 16 else 0
    return StepMemory(n * bits // 8, n * bits // 8, n * (masters + MOMENTS), 0)


def adapted(
    shapes: Shapes, rest: int, rank: int, *, base: str = "NF4, double", only: str = ""
) -> StepMemory:
    """Adapters are trained, all else is frozen. base: of BASES, for the linear layers;
    the rest has 16 bits (32 if they are fp32).

    Raises ValueError for another base.

    >>> adapted({"q_proj": (64, 256)}, 0, 2, base="16 bits")
    StepMemory(weights=35328, gradients=2560, optimizer=5120, saved=0)
    """
    if base not in BASES:
        raise ValueError(f"base is {base!r}; choose from {', '.join(BASES)}")
    frozen = sum(map(prod, shapes.values())) * BASES[base] / 8
    around = rest * (FULL if base == "fp32" else HALF)
    n = adapter_numbers(shapes, rank, only)
    return StepMemory(round(frozen + around) + FULL * n, FULL * n, MOMENTS * n, 0)
