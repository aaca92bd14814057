"""Exercises of lesson 10: codes into words and out of them; where 4 bits stop paying.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
"""

from __future__ import annotations

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.numerics import bits
from minquant.planning.roofline import Machine

CODES = torch.tensor([1, 3, 5, 7, 2, 4, 6, 8, 15, 0, 9, 10, 11, 12, 13, 14])
RAGGED = torch.tensor([9, 0, 15, 4, 8, 1, 2, 14, 7, 3, 12])


def _packed(
    codes: Integer[Tensor, " n"],
    *,
    shift: int = 4,
    backwards: bool = False,
    fill: bool = True,
    cut: bool = True,
    order: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7),
) -> Int[Tensor, " words"]:
    """Words with one part to be made wrong."""
    n = len(codes)
    codes = codes.long()
    padded = (
        torch.nn.functional.pad(codes, (0, -n % 8)) if fill else codes[: n // 8 * 8]
    )
    eights = padded.view(-1, 8)[:, list(order)]
    steps = torch.arange(8).flip(0) if backwards else torch.arange(8)
    words = (eights << shift * steps).sum(1)
    return words.int() if cut else words


pack_nibbles = Exercise(
    name="pack_nibbles",
    task="pack_nibbles(codes) gives int32 words: code i of each eight in bits 4i to "
    "4i + 3. The last word is filled up with zeros",
    answer=answers.pack_nibbles,
    cases={"16 codes, 2 words": (CODES,), "11 codes, 2 words": (RAGGED,)},
    mistakes={
        "the first code goes into the lowest four bits, not into the highest": (
            lambda c: _packed(c, backwards=True)
        ),
        "every code moves by one bit only, so codes overlap: shift by 4 · i": (
            lambda c: _packed(c, shift=1)
        ),
        "codes of 4 bits lie 4 bits apart, not 8": lambda c: _packed(c, shift=8),
        "codes that do not fill a word are dropped: fill it up with zeros": (
            lambda c: _packed(c, fill=False)
        ),
        "the bits are right, but these are not int32: where the highest bit is 1, an "
        "int32 is negative; end with .int()": lambda c: _packed(c, cut=False),
        "this is the order 0 2 4 6 1 3 5 7, which some files use; the order here is "
        "0 1 2 3 4 5 6 7": lambda c: _packed(c, order=(0, 2, 4, 6, 1, 3, 5, 7)),
    },
    outputs=("the words",),
    shows=(answers.pack_nibbles, bits.pack),
)


def _unpacked(
    words: Integer[Tensor, " words"],
    n: int,
    *,
    mask: bool = True,
    backwards: bool = False,
    signed: bool = False,
    transposed: bool = False,
    cut: bool = True,
) -> Int[Tensor, " n"]:
    """Codes with one part to be made wrong."""
    steps = 4 * (torch.arange(8).flip(0) if backwards else torch.arange(8))
    fields = words.int()[:, None] >> steps  # (words, 8)
    codes = fields & 15 if mask else fields
    if signed:
        codes[:, 7] = fields[:, 7]
    flat = (codes.T if transposed else codes).flatten()
    return flat[:n] if cut else flat


unpack_nibbles = Exercise(
    name="unpack_nibbles",
    task="unpack_nibbles(words, n) gives back the n codes 0 … 15 that pack_nibbles put "
    "into int32 words",
    answer=answers.unpack_nibbles,
    cases={
        "2 words, 16 codes": (answers.pack_nibbles(CODES), 16),
        "2 words, 11 codes": (answers.pack_nibbles(RAGGED), 11),
    },
    mistakes={
        "a shift alone lets all higher codes come along: & 15": (
            lambda w, n: _unpacked(w, n, mask=False)
        ),
        "the last code of a word is negative where the highest bit is 1, because >> "
        "copies the sign of an int32: shift first, then & 15": (
            lambda w, n: _unpacked(w, n, signed=True)
        ),
        "the lowest four bits are the first code, not the last": (
            lambda w, n: _unpacked(w, n, backwards=True)
        ),
        "these are the first codes of all words, then the second ones: eight codes of "
        "one word come one after the other": (
            lambda w, n: _unpacked(w, n, transposed=True)
        ),
        "the zeros that filled the last word are given back as codes: cut at n": (
            lambda w, n: _unpacked(w, n, cut=False)
        ),
    },
    outputs=("the codes",),
    shows=(answers.unpack_nibbles, bits.unpack),
)

crossover = Exercise(
    name="crossover",
    task="crossover(bits_per_weight, bandwidth, peak) gives the tokens at which "
    "reading a weight (bytes / bandwidth) takes as long as its arithmetic (2 "
    "operations for each token / peak)",
    answer=answers.crossover,
    cases={
        "4.125 bits on a T4": (4.125, 320e9, 65e12),
        "16 bits on an H100": (16.0, 3350e9, 989.4e12),
    },
    mistakes={
        "bits_per_weight are bits; eight of them are a byte": (
            lambda b, w, p: b * p / w / 2
        ),
        "a token takes two operations with each weight, a multiply and an add": (
            lambda b, w, p: b / 8 * p / w
        ),
        "it is upside down: how often does the time of one token's arithmetic go into "
        "the time of reading?": lambda b, w, p: 16 * w / (b * p),
        "bits_per_weight is not used; this is the answer for 16 bits": (
            lambda b, w, p: p / w
        ),
        "the fewer bits, the sooner a weight is read, the fewer tokens: multiply by "
        "bits": lambda b, w, p: 16 / b * p / w,
    },
    outputs=("the tokens",),
    shows=(answers.crossover, Machine.crossover),
)

EXERCISES = (pack_nibbles, unpack_nibbles, crossover)
