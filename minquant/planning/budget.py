"""What fine-tuning will keep in memory, from shapes alone: before a model is loaded.

                     per trained number    per frozen weight
    full, 16 bits    2 + 2 + 4 + 8         none is frozen
    LoRA             4 + 4 + 8             2
    QLoRA            4 + 4 + 8             4.127 bits = 0.516

in bytes: the number, its gradient, the fp32 master that 16-bit training needs, Adam's
two moments. An adapter of rank r on a matrix (out, in) trains r · (out + in) numbers,
which are fp32 themselves and need no master.

That is the batch aside. What a batch leaves for the backward pass, `saved`, grows with
its tokens. Bytes for one token, in a Llama of width d, inner width f, layers of q, k, v
outputs, and e = 2 bytes to a number:

                          full                  LoRA and QLoRA of rank r
    a norm                4 (d + 1) + e d       4 (d + 1)
    its result            e d                   4 d for each of q, k, v (gate, up)
    attention             e (q + k + v + q)     the same, and 4 q for o
                          + 4 for each head     the same
    the MLP               4 e f                 3 e f, and 4 f for down
    X Aᵀ, each layer      nothing               4 r

The 4 are fp32: a norm squares its input there, and each adapter makes an fp32 copy of
its own of the layer's input. So adapters save more than full fine-tuning. The loss adds
4 bytes for each word of the vocabulary, for every label that asks.

`memory.step_memory` measures the same; lesson 09 holds one against the other.
"""

import re
from collections.abc import Mapping
from math import prod
from typing import NamedTuple

from torch import nn

from minquant.models.linear_layers import linear_layers, weight_of
from minquant.planning.memory import StepMemory

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
# How many tensors of its output's size a layer is the cause of: k, v, up and q stay as
# they are, with q's goes attention's result, and with gate's what silu makes of it.
KEPT = {"q_proj": 2, "k_proj": 1, "v_proj": 1, "o_proj": 0}
KEPT |= {"gate_proj": 2, "up_proj": 1, "down_proj": 0}
FIRST = "q_proj", "gate_proj", "down_proj"  # to read an input that nothing else keeps


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
    _check(rank)
    return rank * sum(sum(s) for name, s in shapes.items() if re.search(only, name))


def _check(rank: int) -> None:
    if rank < 1:
        raise ValueError(f"rank is {rank}; choose 1 or more, often 8 or 16")


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


class Batch(NamedTuple):
    """What one step reads: so many rows of so many tokens; `asked` of their labels have
    a loss (`rows * (tokens - 1)` if all do)."""

    rows: int
    tokens: int
    asked: int


def saved(
    shapes: Shapes,
    batch: Batch,
    vocabulary: int,
    head_size: int,
    *,
    rank: int | None = None,
    bits: int = 16,
) -> int:
    """Bytes that a batch leaves for the backward pass of a Llama, by the account above.

    For `finetune.batch_loss`, attention that never holds its (tokens, tokens) scores,
    and without dropout. rank: of the adapters on all linear layers (the base may be
    floats or codes: these save nothing); None if all weights are trained. bits: 16 or
    32, of what the model computes in. In 32 no copy is needed: an adapter keeps the
    layer's own input.

    Raises ValueError for a rank below 1, other bits, a layer that is none of a Llama's.

    >>> shapes, _ = llama(32, 4096, 11008, 32000)
    >>> round(saved(shapes, Batch(1, 512, 511), 32000, 128, rank=16) / 1e9, 1)  # GB
    4.6
    """
    if bits not in (16, 32):
        raise ValueError(f"bits is {bits}; a model computes in 16 or 32 here")
    if rank is not None:
        _check(rank)
    kinds = {name: name.rsplit(".", 1)[-1] for name in shapes}
    if odd := [name for name, kind in kinds.items() if kind not in KEPT]:
        raise ValueError(f"shapes has {odd[0]!r}; a Llama's layers end in {[*KEPT]}")
    size, width = bits // 8, next(s[1] for n, s in shapes.items() if kinds[n] in FIRST)
    tokens = batch.rows * batch.tokens
    each = sum(_left(kinds[name], *shape, size, rank) for name, shape in shapes.items())
    heads = sum(s[0] // head_size for n, s in shapes.items() if kinds[n] == "q_proj")
    loss = batch.asked * (FULL * vocabulary + 8) + FULL  # log p, labels of 8 bytes
    loss += batch.rows * (batch.tokens - 1)  # which ask: a byte each
    turns = 2 * size * batch.tokens * head_size  # cos and sin, which all layers share
    # the last norm; but the first, beneath all adapters, needs no gradient
    last = FULL * (width + 1) + size * width if rank is None else 0
    if rank is None:
        loss += size * width * batch.asked + 8 * tokens  # lm_head's input, and the ids
    return tokens * (each + FULL * heads + last) + turns + loss


def _left(kind: str, out: int, width: int, size: int, rank: int | None) -> int:
    """Bytes that a layer leaves for a token, with the norm before it if it is the first
    to read that. size: bytes of a number."""
    left = KEPT[kind] * out * size
    norm = FULL * (width + 1) if kind in ("q_proj", "gate_proj") else 0
    if rank is None:
        return left + norm + width * size * ((kind in FIRST) + (norm > 0))
    copy = FULL * width if kind in FIRST or size < FULL else 0
    return left + norm + copy + FULL * rank
