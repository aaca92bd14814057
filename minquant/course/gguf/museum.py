"""The museum of lesson 13: faults that files really have, put into a sound one.

    broken = swap_nibbles(read("model.gguf"))      # a `Gguf`; nothing is written
    model = opened(broken)

    swap_nibbles      the high half of each byte is read as the low one
    shift_scales      each block has the scale and minimum of the block before it
    lower_zeros       zeros that are stored as zero − 1, as in GPTQ's first file format,
                      are read as they are: every weight comes out one step too large
    keep_row_order    the rows of q and k stand as transformers has them

Each is one line of somebody's program. No number is out of range, so the file opens
everywhere. All faults keep to matrices of type Q4_1, as SmolLM2's file has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from minquant.files.gguf import Gguf, GgufTensor
from minquant.files.gguf_blocks import block_type
from minquant.models.gguf_model import from_llama_cpp, model_of

TYPE = "Q4_1"  # fp16 d, fp16 m, 16 bytes of codes
RULER = 4  # bytes of d and m
Blocks = UInt8[Tensor, "rows blocks bytes"]


def swap_nibbles(file: Gguf, only: str = "") -> Gguf:
    """Low and high half of each byte of codes exchanged: weights 0–15 of a block and
    16–31 change places. only: the name of a tensor; else all."""

    def swapped(blocks: Blocks) -> Blocks:
        ruler, codes = blocks.split((RULER, blocks.shape[2] - RULER), 2)
        return torch.cat([ruler, (codes >> 4) | (codes << 4)], 2)

    return _changed(file, swapped, only)


def shift_scales(file: Gguf) -> Gguf:
    """Every block with the d and m of the block before it in its row; the first has
    those of the last."""

    def shifted(blocks: Blocks) -> Blocks:
        ruler, codes = blocks.split((RULER, blocks.shape[2] - RULER), 2)
        return torch.cat([ruler.roll(1, 1), codes], 2)

    return _changed(file, shifted)


def lower_zeros(file: Gguf) -> Gguf:
    """Every zero one too low. A weight is (q − zero) · d, so m = −zero · d becomes
    m + d, and all weights grow by one step."""

    def lowered(blocks: Blocks) -> Blocks:
        ruler, codes = blocks.split((RULER, blocks.shape[2] - RULER), 2)
        d, m = ruler.contiguous().view(torch.float16).float().unbind(2)
        ruler = torch.stack([d, m + d], 2).half().view(torch.uint8)
        return torch.cat([ruler, codes], 2)

    return _changed(file, lowered)


def keep_row_order(file: Gguf) -> Gguf:
    """The rows of q and k in the order of transformers, which a converter has to change
    for llama.cpp (`gguf_model`)."""
    settings = file.settings
    kind = settings["general.architecture"]
    heads = {
        "attn_q": int(settings[f"{kind}.attention.head_count"]),
        "attn_k": int(settings[f"{kind}.attention.head_count_kv"]),
    }
    tensors = {}
    for name, tensor in file.tensors.items():
        count = heads.get(name.split(".")[-2], 0)
        data = from_llama_cpp(tensor.data, count) if count else tensor.data
        tensors[name] = replace(tensor, data=data)
    return Gguf(settings, tensors)


def _changed(file: Gguf, change: Callable[[Blocks], Blocks], only: str = "") -> Gguf:
    """The same file with the blocks of its matrices changed, or of one of them.

    Raises ValueError if no such tensor has the type that the faults are made for.
    """
    chosen = {
        name: _with_blocks(tensor, change)
        for name, tensor in file.tensors.items()
        if tensor.type == TYPE and only in ("", name)
    }
    if not chosen:
        named = f" {only!r}" if only else ""
        raise ValueError(f"file has no tensor{named} of type {TYPE}; take SmolLM2's")
    return Gguf(file.settings, file.tensors | chosen)


def _with_blocks(tensor: GgufTensor, change: Callable[[Blocks], Blocks]) -> GgufTensor:
    rows = tensor.data.unflatten(1, (-1, block_type(TYPE).nbytes))
    return replace(tensor, data=change(rows).flatten(1))


# --- the exhibition ---

EXHIBITS: dict[str, Callable[[Gguf], Gguf]] = {
    "A": shift_scales,
    "B": keep_row_order,
    "C": swap_nibbles,
    "D": lower_zeros,
}
FAULTS: dict[Callable[[Gguf], Gguf], str] = {
    swap_nibbles: "swapped nibbles",
    shift_scales: "the scales of the block before",
    lower_zeros: "zeros one too low",
    keep_row_order: "q and k in the order of transformers",
}


def exhibits(file: Gguf) -> dict[str, Gguf]:
    """Four broken copies, without a word about what is wrong with each."""
    return {letter: fault(file) for letter, fault in EXHIBITS.items()}


def fault_of(letter: str) -> str:
    """What is wrong with an exhibit, in words."""
    return FAULTS[EXHIBITS[letter]]


def opened(file: Gguf) -> nn.Module:
    """The model of a file, whether it is sound or not."""
    return model_of(file)
