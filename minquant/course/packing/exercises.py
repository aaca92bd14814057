"""Exercises of lesson 10: codes into words and back; where 4 bits stop paying.

    pack_nibbles      eight codes of 4 bits to an int32
    unpack_nibbles    the codes again
    crossover         the tokens at which arithmetic takes as long as reading

Eleven codes leave the second word partly empty, and a last code of 8 or more makes an
int32 negative: that is where mistakes show.
"""

from __future__ import annotations

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from minquant.course.exercises import Exercise
from minquant.numerics.bits import pack, unpack
from minquant.planning.roofline import Machine

CODES = torch.tensor([1, 3, 5, 7, 2, 4, 6, 8, 15, 0, 9, 10, 11, 12, 13, 14])
ELEVEN = torch.tensor([9, 0, 15, 4, 8, 1, 2, 14, 7, 3, 12])  # do not fill two words


# --- pack_nibbles ---


def pack_nibbles(codes: Integer[Tensor, " n"]) -> Int[Tensor, " words"]:
    """Eight codes to an int32, the first in its lowest bits; filled up with zeros."""
    filled = torch.nn.functional.pad(codes, (0, -len(codes) % 8))
    return pack(filled, 4).view(torch.int32)


def _packed(
    codes: Integer[Tensor, " n"],
    *,
    shift: int = 4,
    backwards: bool = False,
    fill: bool = True,
    cut: bool = True,
    order: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7),
) -> Int[Tensor, " words"]:
    """Words, in which one part can be made wrong. cut: to int32."""
    n = len(codes)
    if fill:
        codes = torch.nn.functional.pad(codes.long(), (0, -n % 8))
    else:
        codes = codes.long()[: n // 8 * 8]
    places = torch.arange(7, -1, -1) if backwards else torch.arange(8)
    eights = codes.view(-1, 8)[:, list(order)]
    words = (eights << shift * places).sum(1)
    return words.int() if cut else words


check_pack_nibbles = Exercise(
    name="pack_nibbles",
    task="pack_nibbles(codes) gives int32 words: code i of each eight in bits 4i to "
    "4i + 3. The last word is filled up with zeros",
    answer=pack_nibbles,
    cases={"16 codes, 2 words": (CODES,), "11 codes, 2 words": (ELEVEN,)},
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
    solution="""\
def pack_nibbles(codes):
    filled = torch.zeros(-(-len(codes) // 8) * 8, dtype=torch.int64)
    filled[: len(codes)] = codes
    words = (filled.view(-1, 8) << 4 * torch.arange(8)).sum(1)
    return words.to(torch.int32)
""",
    inside="minquant.pack_matrix",
)


# --- unpack_nibbles ---


def unpack_nibbles(words: Int[Tensor, " words"], n: int) -> Integer[Tensor, " n"]:
    """The n codes that `pack_nibbles` packed."""
    return unpack(words.view(torch.uint8), 4, (8 * len(words),))[:n]


def _unpacked(
    words: Integer[Tensor, " words"],
    n: int,
    *,
    mask: bool = True,
    mask_last: bool = True,
    backwards: bool = False,
    transposed: bool = False,
    cut: bool = True,
) -> Int[Tensor, " n"]:
    """Codes, in which one part can be made wrong. cut: to n codes."""
    places = torch.arange(7, -1, -1) if backwards else torch.arange(8)
    fields = words.int()[:, None] >> 4 * places  # (words, 8)
    codes = fields & 15 if mask else fields
    if not mask_last:
        codes[:, 7] = fields[:, 7]
    if transposed:
        codes = codes.T
    return codes.flatten()[:n] if cut else codes.flatten()


check_unpack_nibbles = Exercise(
    name="unpack_nibbles",
    task="unpack_nibbles(words, n) gives back the n codes 0 … 15 that pack_nibbles put "
    "into int32 words",
    answer=unpack_nibbles,
    cases={
        "2 words, 16 codes": (pack_nibbles(CODES), 16),
        "2 words, 11 codes": (pack_nibbles(ELEVEN), 11),
    },
    mistakes={
        "a shift alone lets all higher codes come along: & 15": (
            lambda w, n: _unpacked(w, n, mask=False)
        ),
        "the last code of a word is negative where the highest bit is 1, because >> "
        "copies the sign of an int32: shift first, then & 15": (
            lambda w, n: _unpacked(w, n, mask_last=False)
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
    solution="""\
def unpack_nibbles(words, n):
    fields = words[:, None] >> 4 * torch.arange(8)
    return (fields & 15).flatten()[:n]
""",
    inside="minquant.numerics.bits.unpack",
)


# --- crossover ---


def crossover(bits_per_weight: float, bandwidth: float, peak: float) -> float:
    """Tokens at which reading a weight takes as long as its arithmetic."""
    return Machine("yours", bandwidth, peak).crossover(bits_per_weight)


check_crossover = Exercise(
    name="crossover",
    task="crossover(bits_per_weight, bandwidth, peak) gives the tokens at which "
    "reading a weight (bytes / bandwidth) takes as long as its arithmetic (2 "
    "operations for each token / peak)",
    answer=crossover,
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
        "with fewer bits a weight is read sooner, so fewer tokens are enough: multiply "
        "by bits": lambda b, w, p: 16 / b * p / w,
    },
    outputs=("the tokens",),
    solution="""\
def crossover(bits_per_weight, bandwidth, peak):
    reading = bits_per_weight / 8 / bandwidth  # seconds for a weight
    arithmetic = 2 / peak  # seconds for a weight and a token
    return reading / arithmetic
""",
    inside="minquant.planning.roofline.Machine",
)
