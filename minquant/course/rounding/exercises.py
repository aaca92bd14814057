"""Exercises of lesson 02: one row of weights on a ruler, and back.

    absmax_row             codes and scale on the symmetric ruler
    scale_and_zero         the ruler that has a zero-point: its scale, and the code of 0
    quantize_zero_point    codes on such a ruler
    dequantize             from codes back to values

The rows hold ties, values halfway between two levels, because rules of rounding differ
there. In some the largest weight in size is negative, some lie on one side of 0, some
reach beyond the ends of their ruler, and some codes do not fit into int8: that is where
mistakes show.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.course.exercises import Exercise
from minquant.methods import rtn
from minquant.numerics import grids
from minquant.numerics.grids import absmax, round_to_codes, zero_point

TIES = torch.tensor([-7.0, 0.5, 1.5, 2.5, -0.5, -3.5, 4.2, 0.0])
HEAVY = torch.tensor([0.013, -0.094, 0.041, 0.002, -0.027, 0.0585, -0.0113, 0.03])
LIFTED = torch.tensor([0.31, 0.52, 0.44, 0.9, 0.75, 0.61])  # all above 0
SUNK = torch.tensor([-0.31, -0.52, -0.9, -0.75])  # all below 0
WIDE = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 9.2, -8.0, 12.0])
BYTES = torch.tensor([0, 3, 7, 12, 255], dtype=torch.uint8)


# --- wrong rules of rounding, which several exercises share ---


def _half_up(x: Tensor) -> Tensor:
    """Ties go up: what adding ½ and cutting off does."""
    return (x + 0.5).floor()


def _half_away(x: Tensor) -> Tensor:
    """Ties go away from 0: what is taught at school."""
    return x.sign() * (x.abs() + 0.5).floor()


def wrong_roundings(quantize: Callable) -> dict[str, Callable]:
    """A mistake for each wrong rule of rounding.

    quantize: a function that takes the rule as its argument `rounding`.
    """
    rules = {
        "it rounds down (floor); take the nearest": torch.floor,
        "it cuts towards 0, as .int() does; round first": torch.trunc,
        "ties go up; torch.round takes the even one (0.5 becomes 0)": _half_up,
        "ties go away from 0; torch.round takes the even one": _half_away,
    }
    return {words: partial(quantize, rounding=rule) for words, rule in rules.items()}


# --- absmax_row ---


def absmax_row(
    w: Float[Tensor, " n"], bits: int
) -> tuple[Integer[Tensor, " n"], Float[Tensor, ""]]:
    """Codes and scale of one row on a symmetric grid; the scale is kept in float32."""
    scale, _ = rtn.scale_and_zero(
        w[None, None], absmax(bits), scale_dtype=torch.float32
    )
    scale = scale[0, 0]
    return round_to_codes(w / scale, absmax(bits)), scale


def _absmax(
    w: Float[Tensor, " n"],
    bits: int,
    *,
    top: int | None = None,
    rounding: Callable = torch.round,
    size: Callable = torch.abs,
) -> tuple[Tensor, Tensor]:
    """Codes and scale, in which one part can be made wrong. top: the highest code."""
    scale = size(w).max() / (top or 2 ** (bits - 1) - 1)
    return rounding(w / scale).to(torch.int32), scale


def _values(w: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    codes, scale = _absmax(w, bits)
    return codes * scale, scale


def _inverse_scale(w: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    codes, scale = _absmax(w, bits)
    return codes, 1 / scale


check_absmax_row = Exercise(
    name="absmax_row",
    task="absmax_row(w, bits) gives codes and scale of a row of weights on the "
    "symmetric grid −(2^(b−1)−1) … 2^(b−1)−1",
    answer=absmax_row,
    cases={
        "a row with ties, 4 bits": (TIES, 4),
        "8 small weights, 8 bits": (HEAVY, 8),
        "8 small weights, 3 bits": (HEAVY, 3),
    },
    mistakes={
        "the codes are the weights themselves; divide by the scale and round": (
            lambda w, bits: (w, _absmax(w, bits)[1])
        ),
        "these are values again (codes × scale); return the codes": _values,
        "the scale is its own inverse; a step is absmax / (2^(b−1) − 1)": (
            _inverse_scale
        ),
        "the largest weight in size is negative; take .abs() before .max()": (
            lambda w, bits: _absmax(w, bits, size=lambda w: w)
        ),
        "the highest code is 2^(b−1) − 1, one bit being the sign, not 2^b − 1": (
            lambda w, bits: _absmax(w, bits, top=2**bits - 1)
        ),
        "the highest code is 2^(b−1) − 1, one less than yours": (
            lambda w, bits: _absmax(w, bits, top=2 ** (bits - 1))
        ),
        **wrong_roundings(_absmax),
    },
    outputs=("codes", "scale"),
    solution="""\
def absmax_row(w, bits):
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    return (w / scale).round().int(), scale
""",
    inside="minquant.quantize_rtn",
)


# --- scale_and_zero ---


def scale_and_zero(
    w: Float[Tensor, " n"], bits: int
) -> tuple[Float[Tensor, ""], Integer[Tensor, ""]]:
    """The ruler of one row: levels 0 … 2^bits − 1, and the code that stands for 0."""
    scale, zero = rtn.scale_and_zero(
        w[None, None], zero_point(bits), scale_dtype=torch.float32
    )
    return scale[0, 0], zero[0, 0]


def _ruler(
    w: Float[Tensor, " n"],
    bits: int,
    *,
    steps: int | None = None,
    contains_zero: bool = True,
    sign: int = -1,
    rounding: Callable = torch.round,
    shift: int = 0,
) -> tuple[Tensor, Tensor]:
    """Scale and zero, in which one part can be made wrong.

    steps: how many lie between the lowest code and the highest.
    """
    low, high = w.min(), w.max()
    if contains_zero:
        low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (steps or 2**bits - 1)
    return scale, rounding(sign * low / scale).long() + shift


def _fractional_zero(w: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, _ = _ruler(w, bits)
    return scale, -w.min().clamp(max=0) / scale


check_scale_and_zero = Exercise(
    name="scale_and_zero",
    task="scale_and_zero(w, bits) gives the scale and the zero (the code of 0) of a "
    "row on the grid 0 … 2^b − 1; its range always contains 0",
    answer=scale_and_zero,
    cases={
        "8 weights on both sides of 0, 4 bits": (HEAVY, 4),
        "the same, 2 bits": (HEAVY, 2),
        "a wide row, 6 bits": (WIDE, 6),
        "all weights above 0": (LIFTED, 4),
        "all weights below 0": (SUNK, 3),
    },
    mistakes={
        "your zero-point has the wrong sign; it is round(−min / scale)": (
            lambda w, bits: _ruler(w, bits, sign=1)
        ),
        "the range must contain 0; take min(0, lowest) and max(0, highest)": (
            lambda w, bits: _ruler(w, bits, contains_zero=False)
        ),
        "the zero is a code, a whole number; round it": _fractional_zero,
        "2^b codes have 2^b − 1 steps between them, one less than yours": (
            lambda w, bits: _ruler(w, bits, steps=2**bits)
        ),
        "codes go from 0 to 2^b − 1 here; 2^(b−1) − 1 belongs to absmax": (
            lambda w, bits: _ruler(w, bits, steps=2 ** (bits - 1) - 1)
        ),
        "the zero is cut off (floor); round it to the nearest": (
            lambda w, bits: _ruler(w, bits, rounding=torch.floor)
        ),
        "the zero belongs to signed codes; here they begin at 0": (
            lambda w, bits: _ruler(w, bits, shift=-(2 ** (bits - 1)))
        ),
        "the zero is the lowest weight; divide it by the scale and change its sign": (
            lambda w, bits: (_ruler(w, bits)[0], w.min().clamp(max=0))
        ),
    },
    outputs=("scale", "zero"),
    solution="""\
def scale_and_zero(w, bits):
    low, high = w.min().clamp(max=0), w.max().clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    return scale, (-low / scale).round().int()
""",
    inside="minquant.methods.rtn.scale_and_zero",
)


# --- quantize_zero_point ---


def quantize_zero_point(
    w: Float[Tensor, " n"], scale: float, zero: int, bits: int
) -> Integer[Tensor, " n"]:
    """Codes 0 … 2^bits − 1 of a row on a given ruler."""
    return round_to_codes(w / scale, zero_point(bits), torch.tensor(zero))


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
    """Zero-point codes, in which one part can be made wrong."""
    low, high = ends or (0, 2**bits - 1)
    return (rounding(w / scale) + sign * zero).clamp(low, high).long()


def _signed_codes(w: Tensor, scale: float, zero: int, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return _codes(w, scale, zero, bits, ends=(-half, half - 1))


def _wrapped_codes(w: Tensor, scale: float, zero: int, bits: int) -> Tensor:
    """Codes above 127 in int8 come back negative."""
    return (_codes(w, scale, zero, bits) + 128) % 256 - 128


check_quantize_zero_point = Exercise(
    name="quantize_zero_point",
    task="quantize_zero_point(w, scale, zero, bits) gives the codes of a row, 0 to "
    "2^b − 1",
    answer=quantize_zero_point,
    cases={
        "ties, and weights beyond both ends, 4 bits": (WIDE, 1.0, 5, 4),
        "8 bits, codes above 127": (WIDE, 0.08, 101, 8),
        "a zero of 0": (LIFTED, 0.06, 0, 4),
    },
    mistakes={
        "the clamp is missing: codes leave 0 … 2^b − 1": (
            lambda w, s, z, b: _codes(w, s, z, b, ends=(-(10**9), 10**9))
        ),
        "it clamps to signed codes; here they go from 0 to 2^b − 1": _signed_codes,
        "the highest code is 2^b − 1, one less than yours": (
            lambda w, s, z, b: _codes(w, s, z, b, ends=(0, 2**b))
        ),
        "your zero-point has the wrong sign; it is added": (
            lambda w, s, z, b: _codes(w, s, z, b, sign=-1)
        ),
        "the zero is not added": lambda w, s, z, b: _codes(w, s, z, b, sign=0),
        "codes above 127 overflow int8 and come back negative; use uint8": (
            _wrapped_codes
        ),
        "the zero is added before rounding, which changes where ties go": (
            lambda w, s, z, b: (w / s + z).round().clamp(0, 2**b - 1).long()
        ),
        "these are values again; return the codes": (
            lambda w, s, z, b: (_codes(w, s, z, b) - z) * s
        ),
        **wrong_roundings(_codes),
    },
    outputs=("codes",),
    solution="""\
def quantize_zero_point(w, scale, zero, bits):
    codes = (w / scale).round() + zero
    return codes.clamp(0, 2**bits - 1).int()
""",
    inside="minquant.Ruler",
)


# --- dequantize ---


def dequantize(
    codes: Integer[Tensor, " n"], scale: float, zero: int
) -> Float[Tensor, " n"]:
    """The values that codes stand for."""
    return (grids.value(codes, zero_point(8)) - zero) * scale


check_dequantize = Exercise(
    name="dequantize",
    task="dequantize(codes, scale, zero) gives the values that codes stand for",
    answer=dequantize,
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
    solution="""\
def dequantize(codes, scale, zero):
    return (codes.int() - zero) * scale  # uint8 has no numbers below 0
""",
    inside="minquant.Ruler",
)
