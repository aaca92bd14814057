"""Exercises of lesson 12: what a cache weighs, and what an exported file says.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
Some of the mistakes raise: what does not cut a row finds two shapes that do not fit.
The third exercise of the lesson, which file to take, stands in `checks_choice`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minquant.course import answers_serving
from minquant.course.exercises import Exercise
from minquant.files import pack_quantized
from minquant.planning import serving_memory


def _cache(layers: int, heads: int, size: int, tokens: int, bits: float = 16) -> float:
    return 2 * layers * heads * size * tokens * bits / 8


cache_bytes = Exercise(
    name="cache_bytes",
    task="cache_bytes(layers, kv_heads, head_size, tokens, bits=16) gives the bytes of "
    "the keys and values of so many tokens, each number in so many bits",
    # bytes in a float are as right as in an int
    answer=lambda *given: float(answers_serving.cache_bytes(*given)),
    cases={
        "a token of Llama-2-7B, in 16 bits as nothing else is said": (32, 32, 128, 1),
        "8192 tokens of Llama-3.1-8B": (32, 8, 128, 8192, 16),
        "the same in 4 bits": (32, 8, 128, 8192, 4),
        "24 layers, 2 heads of 64, 1000 tokens, 8 bits": (24, 2, 64, 1000, 8),
    },
    mistakes={
        "a token leaves a key and a value in each layer: times 2": (
            lambda *given: _cache(*given) / 2
        ),
        "these are bits; eight of them are a byte": lambda *given: 8 * _cache(*given),
        "this is one layer; every layer has a cache of its own": (
            lambda layers, *given: _cache(1, *given)
        ),
        "bits is not used; this is the answer for 16": (
            lambda *given: _cache(*given[:4])
        ),
        "bits // 8 is 0 below 8 bits: multiply first, divide by 8 at the end": (
            lambda *given: _cache(*given[:4], 8 * ([*given, 16][4] // 8))
        ),
        "this is one token; each has keys and values": (
            lambda *given: _cache(*given[:3], 1, *given[4:])
        ),
        "this is one head; there are kv_heads": (
            lambda layers, heads, *given: _cache(layers, 1, *given)
        ),
        "a head is one number here; it has head_size": (
            lambda layers, heads, size, *given: _cache(layers, heads, 1, *given)
        ),
        "a cache grows with the tokens, not with their square; those are the scores": (
            lambda *given: _cache(*given) * given[3]
        ),
    },
    outputs=("the size in bytes",),
    shows=(answers_serving.cache_bytes, serving_memory.cache_bytes),
)


class Raising(Exercise):
    """Unlike other exercises: to raise is a result, so a known mistake may be to raise.

    Two results that raise are alike, whatever they say.
    """

    def _run(self, function: Callable, arguments: tuple) -> tuple[Any, ...]:
        try:
            return super()._run(function, arguments)
        except Exception as error:  # a learner's function may raise anything
            if isinstance(error, NotImplementedError) and not error.args:
                raise  # a stub
            return (error,)

    def _compare(self, got: tuple[Any, ...], want: tuple[Any, ...]) -> str:
        raised = [isinstance(result[0], Exception) for result in (got, want)]
        if any(raised):
            said = f"it raised {type(got[0]).__name__}: {got[0]}"
            return "" if all(raised) else said
        return super()._compare(got, want)


def _drawn(out: int, width: int, n_groups: int) -> tuple[Tensor, Tensor, tuple]:
    """A layer of random codes and scales as an exported file has it."""
    draw = torch.Generator().manual_seed(width)
    words = pack_quantized.pack_words(
        torch.randint(-8, 8, (out, width), generator=draw), 4
    )
    return words, torch.rand(out, n_groups, generator=draw).half(), (out, width)


HAND = torch.tensor([[0x76543210], [0x89ABCDEF - 2**32]], dtype=torch.int32)
STEPS = 4 * torch.arange(8)  # where the codes of a word begin


def _signed(fields: Tensor) -> Tensor:
    """Codes, of which the last of a word is not masked."""
    return torch.cat([fields[..., :7] & 15, fields[..., 7:]], -1) - 8


def _layer(
    packed: Tensor,
    scales: Tensor,
    shape: tuple,
    *,
    steps: Tensor = STEPS,
    read: Callable[[Tensor], Tensor] = lambda fields: (fields & 15) - 8,
    rows: Callable[..., Tensor] = lambda codes, out, n: codes.flatten(1)[:, :n],
    spread: Callable[[Tensor, int], Tensor] = lambda s, g: s.repeat_interleave(g, 1),
    exact: bool = True,
) -> Tensor:
    """W_hat with one part to be made wrong. rows: from (out, words, 8) to (out, in)."""
    codes = rows(read(packed[:, :, None] >> steps), *shape)
    scales = scales.float() if exact else scales
    return codes * spread(scales, codes.shape[1] // scales.shape[1])


def _one_stream(codes: Tensor, out: int, width: int) -> Tensor:
    """Read as if a row went on in the last word of the row above."""
    return codes.flatten()[: out * width].view(out, width)


def _uncut(packed: Tensor, scales: Tensor, shape: tuple) -> Tensor:
    """The groups are as wide as they should be, and the rows are not."""
    codes = (((packed[:, :, None] >> STEPS) & 15) - 8).flatten(1)
    return codes * scales.float().repeat_interleave(shape[1] // scales.shape[1], 1)


read_layer = Raising(
    name="read_layer",
    task="read_layer(packed, scales, shape) gives W_hat (out, in) in float32 from the "
    "words (out, words) and scales (out, n_groups) of a file: eight codes to a word, "
    "the lowest bits first, each stored plus 8; shape is (out, in)",
    answer=answers_serving.read_layer,
    cases={
        "two words by hand": (HAND, torch.tensor([[0.5], [2.0]]).half(), (2, 8)),
        "2 rows of 32, groups of 8": _drawn(2, 32, 4),
        "3 rows of 11, whose last words are filled up": _drawn(3, 11, 1),
    },
    mistakes={
        "the lowest four bits are the first code, not the last": (
            partial(_layer, steps=STEPS.flip(0))
        ),
        "codes are stored plus 8: subtract 8": (
            partial(_layer, read=lambda fields: fields & 15)
        ),
        "subtract 8 from the code, before the scale": (
            lambda *given: _layer(*given, read=lambda fields: fields & 15) - 8
        ),
        "subtract 8, not 7: codes go from −8 to 7": (
            partial(_layer, read=lambda fields: (fields & 15) - 7)
        ),
        "subtract 8, not 7.5: one code is 0": (
            partial(_layer, read=lambda fields: (fields & 15) - 7.5)
        ),
        "codes are stored plus 8, not in two's complement: subtract 8 from all": (
            partial(_layer, read=lambda fields: ((fields & 15) ^ 8) - 8)
        ),
        "a shift alone lets all higher codes come along: & 15": (
            partial(_layer, read=lambda fields: fields - 8)
        ),
        "the last code of a word is negative where the highest bit is 1, because >> "
        "copies the sign of an int32: shift first, then & 15": (
            partial(_layer, read=_signed)
        ),
        "a scale is for neighbours: s0 s0 … s1 s1 …, by repeat_interleave; this is s0 "
        "s1 … s0 s1 …": partial(_layer, spread=lambda s, g: s.repeat(1, g)),
        "the product is rounded to fp16; make the scales float32 first": (
            partial(_layer, exact=False)
        ),
        "these are the first codes of all words, then the second ones: eight codes of "
        "one word come one after the other": (
            partial(_layer, rows=lambda codes, out, n: codes.mT.flatten(1)[:, :n])
        ),
        "each row begins with a new word: cut every row, not the whole": (
            partial(_layer, rows=_one_stream)
        ),
        "what fills up the last word of a row is no weight: cut rows at `in`": (
            partial(_layer, rows=lambda codes, out, n: codes.flatten(1))
        ),
        "the last word of a row is filled up, so that there are more codes than "
        "columns: cut rows at `in`": _uncut,
    },
    outputs=("W_hat",),
    shows=(answers_serving.read_layer, pack_quantized.unpack_words),
)

EXERCISES = (cache_bytes, read_layer)
