"""What fine-tuning keeps in memory, computed from shapes before a model is loaded.

                     per trained number    per frozen weight
    full, 16 bits    2 + 2 + 4 + 8         none is frozen
    LoRA             4 + 4 + 8             2
    QLoRA            4 + 4 + 8             4.127 bits = 0.516

in bytes: the number, its gradient, the fp32 master that 16-bit training needs, Adam's
two moments. An adapter of rank r on a matrix (out, in) trains r · (out + in) numbers,
which are in fp32 and need no master.

What a batch leaves for the backward pass, `saved`, comes on top and grows with its
tokens. These are the bytes for one token in each decoder layer of a Llama. d is its
width, f the width inside the MLP; q, k and v are the numbers of outputs of these
matrices; e = 2 is the bytes of a number:

                          full                  LoRA and QLoRA of rank r
    a norm                4 (d + 1) + e d       4 (d + 1)
    its result            e d                   4 d for each of q, k, v (gate, up)
    attention             e (q + k + v + q)     the same, and 4 q for o
                          + 4 for each head     the same
    the MLP               4 e f                 3 e f, and 4 f for down
    X Aᵀ, each layer      nothing               4 r

The 4 stands for fp32: a norm squares its input in fp32, and each adapter makes its own
fp32 copy of its layer's input. So adapters save more than full fine-tuning does. Each
label that has a loss adds 4 bytes for each word of the vocabulary.

`memory.step_memory` measures what is computed here, and lesson 09 compares the two.
"""

import re
from collections.abc import Mapping
from math import prod
from typing import NamedTuple

from torch import nn

from minquant.models.linear_layers import linear_layers, weight_of
from minquant.planning.memory import StepMemory

Shapes = Mapping[str, tuple[int, int]]
MOMENTS = 8  # bytes for each trained number: Adam's two moments, in fp32
OPTIMIZERS = {  # bytes for each trained number, masters aside
    "Adam": MOMENTS,
    "Adam in 8 bits": 2 * (1 + 4 / 256),  # a scale in fp32 for 256 of them
    "plain descent": 0,  # keeps nothing
}
MASTER = 4  # bytes for each number trained in 16 bits: its fp32 master
FULL, HALF = 4, 2  # bytes of a number in 32 and in 16 bits
BASES = {  # bits of a frozen weight, scales included
    "fp32": 32.0,
    "16 bits": 16.0,
    "int8": 8 + 16 / 64,
    "NF4": 4 + 32 / 64,
    "NF4, double": 4 + 8 / 64 + 32 / (64 * 256),
}
ATTENTION = r"[qkvo]_proj$"
# How many tensors of the size of its output are kept for the backward pass, by layer.
# For k, v and up this is the output itself; for q the output and the result of
# attention, which has as many numbers; for gate the output and silu of it.
OUTPUTS_KEPT = {"q_proj": 2, "k_proj": 1, "v_proj": 1, "o_proj": 0}
OUTPUTS_KEPT |= {"gate_proj": 2, "up_proj": 1, "down_proj": 0}
# The layers whose input is counted. k and v read the same input as q, and up the same
# as gate; o reads the result of attention, which is counted with q.
INPUT_KEPT = "q_proj", "gate_proj", "down_proj"
AFTER_NORM = "q_proj", "gate_proj"  # each of the two norms is counted with one of them


def shapes_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of the decoder layers, by name."""
    layers = linear_layers(model).items()
    return {name: tuple(weight_of(layer).shape) for name, layer in layers}


def rest_of(model: nn.Module) -> int:
    """How many numbers a model has outside these layers: embeddings, norms, lm_head."""
    everything = sum(p.numel() for p in model.parameters())
    return everything - sum(map(prod, shapes_of(model).values()))


def llama(
    layers: int, width: int, inner: int, vocabulary: int
) -> tuple[dict[str, tuple[int, int]], int]:
    """The shapes of a Llama without grouped queries, and how many other numbers it has.

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
    """How many numbers A and B of all layers have: r · (out + in) for each.

    only: a regular expression; only layers in whose name it is found have adapters.
    Raises ValueError for a rank below 1.

    >>> adapter_numbers({"q_proj": (4096, 4096)}, 16)
    131072
    """
    _check(rank)
    return rank * sum(sum(s) for name, s in shapes.items() if re.search(only, name))


def _check(rank: int) -> None:
    if rank < 1:
        raise ValueError(f"rank is {rank}; choose 1 or more, often 8 or 16")


def full(
    shapes: Shapes, rest: int, *, bits: int = 16, optimizer: str = "Adam"
) -> StepMemory:
    """The bytes of full fine-tuning, without the batch: every number is trained.

    rest: how many numbers there are outside the shapes. bits: 16 (with fp32 masters)
    or 32 (without). optimizer: a name in OPTIMIZERS. Raises ValueError for other bits,
    and for another optimizer.

    >>> full({"q_proj": (4, 4)}, 0)
    StepMemory(weights=32, gradients=32, optimizer=192, saved=0)
    """
    if bits not in (16, 32):
        raise ValueError(f"bits is {bits}; full fine-tuning has 16 or 32")
    n = rest + sum(map(prod, shapes.values()))
    per_number = (MASTER if bits == 16 else 0) + _moments(optimizer)
    return StepMemory(n * bits // 8, n * bits // 8, round(n * per_number), 0)


def _moments(optimizer: str) -> float:
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer is {optimizer!r}; choose from {', '.join(OPTIMIZERS)}"
        )
    return OPTIMIZERS[optimizer]


def adapted(
    shapes: Shapes,
    rest: int,
    rank: int,
    *,
    base: str = "NF4, double",
    only: str = "",
    optimizer: str = "Adam",
) -> StepMemory:
    """The bytes of LoRA or QLoRA, without the batch: only adapters are trained.

    base: how the frozen linear layers are stored, a name in BASES. The rest has 32 bits
    if the base is "fp32", else 16. only: as in `adapter_numbers`. optimizer: a name in
    OPTIMIZERS.

    Raises ValueError for a base that is not in BASES, another optimizer, or a rank
    below 1.

    >>> adapted({"q_proj": (64, 256)}, 0, 2, base="16 bits")
    StepMemory(weights=35328, gradients=2560, optimizer=5120, saved=0)
    """
    if base not in BASES:
        raise ValueError(f"base is {base!r}; choose from {', '.join(BASES)}")
    frozen = sum(map(prod, shapes.values())) * BASES[base] / 8
    frozen += rest * (FULL if base == "fp32" else HALF)
    n = adapter_numbers(shapes, rank, only)
    moments = round(n * _moments(optimizer))
    return StepMemory(round(frozen) + FULL * n, FULL * n, moments, 0)


class Batch(NamedTuple):
    """What one step reads: `rows` texts of `tokens` tokens each.

    asked: how many labels have a loss; `rows * (tokens - 1)` if all do.
    """

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
    checkpointed: bool = False,
) -> int:
    """Bytes that a batch leaves for the backward pass of a Llama: the account above.

    It holds for `finetune.batch_loss`, for attention that never stores its (tokens,
    tokens) scores, and without dropout. rank: of adapters on all linear layers, whether
    these are floats or codes; None if all weights are trained. bits: 16 or 32, of what
    the model computes in. In 32 bits an adapter needs no copy: it keeps the layer's own
    input. checkpointed: as inside `adapters.checkpointed`, each decoder layer keeps its
    input alone, and on the way back one layer at a time is whole again.

    Raises ValueError for a rank below 1, other bits, or a layer that no Llama has.

    >>> shapes, _ = llama(32, 4096, 11008, 32000)
    >>> round(saved(shapes, Batch(1, 512, 511), 32000, 128, rank=16) / 1e9, 1)  # GB
    4.6
    """
    if bits not in (16, 32):
        raise ValueError(f"bits is {bits}; a model computes in 16 or 32 here")
    if rank is not None:
        _check(rank)
    kinds = {name: name.rsplit(".", 1)[-1] for name in shapes}
    if unknown := [name for name, kind in kinds.items() if kind not in OUTPUTS_KEPT]:
        raise ValueError(
            f"shapes has {unknown[0]!r}; a Llama's layers end in {[*OUTPUTS_KEPT]}"
        )
    size = bits // 8
    tokens = batch.rows * batch.tokens

    width = next(s[1] for n, s in shapes.items() if kinds[n] in AFTER_NORM)
    layers = sum(kind == "q_proj" for kind in kinds.values())
    per_token = 0
    for name, (out, inputs) in shapes.items():
        per_token += _layer_bytes(kinds[name], out, inputs, size, rank)
        if kinds[name] == "q_proj":
            per_token += FULL * (out // head_size)  # a log-sum-exp for each head
    if checkpointed:
        per_token = per_token // layers + layers * size * width
        # With adapters the sum counts one norm too few here: see the end.
        per_token += FULL * (width + 1) if rank is not None else 0

    total = tokens * per_token
    total += 2 * size * batch.tokens * head_size  # cos and sin, the same for all layers
    total += batch.asked * FULL * vocabulary  # log p of every word
    total += batch.asked * 8  # the labels, int64
    total += batch.rows * (batch.tokens - 1)  # which labels have a loss, a byte each
    total += FULL  # how many have a loss
    if rank is None:
        total += tokens * (FULL * (width + 1) + size * width)  # the last norm
        total += batch.asked * size * width  # the input of lm_head
        total += tokens * 8  # the token ids, for the embedding
    # With adapters lm_head and the embedding are frozen and keep nothing. Then the last
    # norm keeps FULL * (width + 1) as well, but the first one keeps nothing, as nothing
    # is trained before it: the sum over the layers counts the right number of norms.
    return total


def _layer_bytes(kind: str, out: int, width: int, size: int, rank: int | None) -> int:
    """Bytes that a layer (out, width) keeps for each token, by the account above.

    size: bytes of a number. rank: as in `saved`.
    """
    kept = OUTPUTS_KEPT[kind] * out * size
    if kind in AFTER_NORM:
        kept += FULL * (width + 1)  # the norm's input, and what it is divided by
    if rank is None:
        if kind in AFTER_NORM:
            kept += size * width  # the normalized input, for the norm's weights
        if kind in INPUT_KEPT:
            kept += size * width
        return kept
    if size < FULL or kind in INPUT_KEPT:
        kept += FULL * width  # in 16 bits each adapter has its own fp32 copy
    return kept + FULL * rank  # X Aᵀ
