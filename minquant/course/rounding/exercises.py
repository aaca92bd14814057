"""Exercises of lesson 02: a ruler with a zero-point, there and back.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
Some rows lie on one side of 0, some reach beyond the ends of their ruler, and some
codes do not fit into int8: that is where mistakes show.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.course.rounding.checks_rounding import HEAVY, ROUNDINGS
from minquant.methods import rtn
from minquant.numerics import grids
from minquant.numerics.tensor import QuantizedTensor

LIFTED = torch.tensor([0.31, 0.52, 0.44, 0.9, 0.75, 0.61])  # all above 0
SUNK = torch.tensor([-0.31, -0.52, -0.9, -0.75])  # all below 0
WIDE = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 9.2, -8.0, 12.0])


def _ruler(
    w: Float[Tensor, " n"],
    bits: int,
    *,
    top: int = 0,
    sign: int = -1,
    with_zero: bool = True,
    whole: Callable = torch.round,
    shift: int = 0,
) -> tuple[Tensor, Tensor]:
    """A zero-point ruler with one part to be made wrong."""
    low, high = w.min(), w.max()
    if with_zero:
        low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (top or 2**bits - 1)
    return scale, whole(sign * low / scale) + shift


def _whole(w: Tensor, bits: int, **changes: object) -> tuple[Tensor, Tensor]:
    scale, zero = _ruler(w, bits, **changes)
    return scale, zero.long()


scale_and_zero = Exercise(
    name="scale_and_zero",
    task="scale_and_zero(w, bits) gives the scale and the zero (the code of 0) of a "
    "row on the grid 0 … 2^b − 1; its range always contains 0",
    answer=answers.scale_and_zero,
    cases={
        "8 weights on both sides of 0, 4 bits": (HEAVY, 4),
        "the same, 2 bits": (HEAVY, 2),
        "a wide row, 6 bits": (WIDE, 6),
        "all weights above 0": (LIFTED, 4),
        "all weights below 0": (SUNK, 3),
    },
    mistakes={
        "your zero-point has the wrong sign; it is round(−min / scale)": (
            lambda w, bits: _whole(w, bits, sign=1)
        ),
        "the range must contain 0; take min(0, lowest) and max(0, highest)": (
            lambda w, bits: _whole(w, bits, with_zero=False)
        ),
        "the zero is a code, a whole number; round it": lambda w, bits: _ruler(
            w, bits, whole=lambda x: x
        ),
        "2^b codes have 2^b − 1 steps between them, one less than yours": (
            lambda w, bits: _whole(w, bits, top=2**bits)
        ),
        "codes go from 0 to 2^b − 1 here; 2^(b−1) − 1 belongs to absmax": (
            lambda w, bits: _whole(w, bits, top=2 ** (bits - 1) - 1)
        ),
        "the zero is cut off (floor); round it to the nearest": (
            lambda w, bits: _whole(w, bits, whole=torch.floor)
        ),
        "the zero belongs to signed codes; here they begin at 0": (
            lambda w, bits: _whole(w, bits, shift=-(2 ** (bits - 1)))
        ),
        "the zero is the lowest weight; divide it by the scale, and turn its sign": (
            lambda w, bits: (_ruler(w, bits)[0], w.min().clamp(max=0))
        ),
    },
    outputs=("scale", "zero"),
    shows=(answers.scale_and_zero, rtn._ends, rtn._step, rtn._zeros),
)


def _codes(
    w: Float[Tensor, " n"],
    scale: float,
    zero: int,
    bits: int,
    *,
    rounding: Callable = torch.round,
    sign: int = 1,
    ends: tuple[int, int] | None = None,
) -> Tensor:
    """Zero-point codes with one part to be made wrong."""
    low, high = (0, 2**bits - 1) if ends is None else ends
    return (rounding(w / scale) + sign * zero).clamp(low, high).long()


def _wrapped(w: Tensor, scale: float, zero: int, bits: int) -> Tensor:
    """Codes above 127 in int8: they come back negative."""
    return (_codes(w, scale, zero, bits) + 128) % 256 - 128


quantize_zero_point = Exercise(
    name="quantize_zero_point",
    task="quantize_zero_point(w, scale, zero, bits) gives the codes of a row, 0 to "
    "2^b − 1",
    answer=answers.quantize_zero_point,
    cases={
        "ties, and weights beyond both ends, 4 bits": (WIDE, 1.0, 5, 4),
        "8 bits, codes above 127": (WIDE, 0.08, 101, 8),
        "a zero of 0": (LIFTED, 0.06, 0, 4),
    },
    mistakes={
        "the clamp is missing: codes leave 0 … 2^b − 1": (
            lambda w, s, z, b: _codes(w, s, z, b, ends=(-(10**9), 10**9))
        ),
        "it clamps to signed codes; here they go from 0 to 2^b − 1": (
            lambda w, s, z, b: _codes(
                w, s, z, b, ends=(-(2 ** (b - 1)), 2 ** (b - 1) - 1)
            )
        ),
        "the highest code is 2^b − 1, one less than yours": (
            lambda w, s, z, b: _codes(w, s, z, b, ends=(0, 2**b))
        ),
        "your zero-point has the wrong sign; it is added": (
            lambda w, s, z, b: _codes(w, s, z, b, sign=-1)
        ),
        "the zero is not added": lambda w, s, z, b: _codes(w, s, z, b, sign=0),
        "codes above 127 overflow int8 and come back negative; use uint8": _wrapped,
        "the zero is added before rounding, which changes where ties go": (
            lambda w, s, z, b: (w / s + z).round().clamp(0, 2**b - 1).long()
        ),
        "these are values again; return the codes": (
            lambda w, s, z, b: (_codes(w, s, z, b) - z) * s
        ),
        **{
            words: lambda w, s, z, b, rule=rule: _codes(w, s, z, b, rounding=rule)
            for words, rule in ROUNDINGS.items()
        },
    },
    outputs=("codes",),
    shows=(answers.quantize_zero_point, grids.round_to_codes),
)

BYTES = torch.tensor([0, 3, 7, 12, 255], dtype=torch.uint8)

dequantize = Exercise(
    name="dequantize",
    task="dequantize(codes, scale, zero) gives the values that codes stand for",
    answer=answers.dequantize,
    cases={
        "codes in uint8, some below the zero": (BYTES, 0.25, 7),
        "no zero": (torch.tensor([-7, 0, 5]), 0.5, 0),
    },
    mistakes={
        "your zero-point has the wrong sign; it is subtracted": (
            lambda codes, scale, zero: (codes.long() + zero) * scale
        ),
        "the zero is not subtracted": lambda codes, scale, zero: codes * scale,
        "subtract the zero before multiplying: (codes − zero) · scale": (
            lambda codes, scale, zero: codes * scale - zero
        ),
        "uint8 cannot go below 0: codes under the zero wrapped around; convert first": (
            lambda codes, scale, zero: (codes - zero) * scale
        ),
        "multiply by the scale; a code counts steps": (
            lambda codes, scale, zero: (codes.long() - zero) / scale
        ),
    },
    outputs=("the values",),
    shows=(answers.dequantize, QuantizedTensor.dequantize),
)

EXERCISES = (scale_and_zero, quantize_zero_point, dequantize)
