"""Exercises of lesson 01: what the bits of a number say.

    decode_float    the value of a pattern of bits, as IEEE 754 reads it
    gap             the distance from a number to the next one of its format
    weight_bytes    the bytes of so many numbers of a format

A format has 1 sign bit, E exponent bits and F fraction bits. Its bias is 2^(E−1) − 1,
and exponent 0 means subnormal numbers, which have no leading 1: that is where
most mistakes are.
"""

from __future__ import annotations

from math import floor, log2

from minquant.course.exercises import Exercise
from minquant.course.start.exercises import model_bytes
from minquant.numerics.floats import FloatFormat

# --- decode_float ---


def decode_float(pattern: int, exponent_bits: int, fraction_bits: int) -> float:
    """The value of a pattern that is neither infinity nor NaN, read by IEEE 754."""
    return FloatFormat("yours", exponent_bits, fraction_bits).decode(pattern)


def _decode(
    pattern: int,
    e_bits: int,
    f_bits: int,
    *,
    leading: int = 1,
    bias: int | None = None,
    subnormals: bool = True,
    subnormal_exponent: int = 1,
    signed: bool = True,
    denominator: int | None = None,
) -> float:
    """A decoder in which one part can be made wrong."""
    sign = pattern >> (e_bits + f_bits)
    exponent = (pattern >> f_bits) % 2**e_bits
    fraction = pattern % 2**f_bits / (denominator or 2**f_bits)
    if bias is None:
        bias = 2 ** (e_bits - 1) - 1
    if exponent == 0 and subnormals:
        size = 2.0 ** (subnormal_exponent - bias) * fraction
    else:
        size = 2.0 ** (exponent - bias) * (leading + fraction)
    return -size if sign and signed else size


check_decode_float = Exercise(
    name="decode_float",
    task="decode_float(pattern, exponent_bits, fraction_bits) gives the value of a "
    "pattern of bits (a whole number) that is neither infinity nor NaN",
    answer=decode_float,
    cases={
        "1.5 in fp16, 0 01111 1000000000": (0b0_01111_1000000000, 5, 10),
        "−2.75 in fp8 e4m3, 1 1000 011": (0b1_1000_011, 4, 3),
        "a subnormal of fp16, 0 00000 0000000011": (3, 5, 10),
        "zero": (0, 5, 2),
        "the smallest normal number of fp8 e4m3": (0b0_0001_000, 4, 3),
        "a negative subnormal of fp8 e5m2": (0b1_00000_10, 5, 2),
    },
    mistakes={
        "the leading 1 is missing: (1 + f / 2^F)": lambda p, e, f: _decode(
            p, e, f, leading=0
        ),
        "exponent 0 is special: subnormals have no leading 1": lambda p, e, f: _decode(
            p, e, f, subnormals=False
        ),
        "subnormals have the power 2^(1 − bias), not 2^(0 − bias)": lambda p, e, f: (
            _decode(p, e, f, subnormal_exponent=0)
        ),
        "the bias is 2^(E − 1) − 1, one less than yours": lambda p, e, f: _decode(
            p, e, f, bias=2 ** (e - 1)
        ),
        "the bias is not subtracted from the exponent": lambda p, e, f: _decode(
            p, e, f, bias=0
        ),
        "the sign bit is ignored": lambda p, e, f: _decode(p, e, f, signed=False),
        "the fraction is f / 2^F, not f": lambda p, e, f: _decode(
            p, e, f, denominator=1
        ),
        "the fraction is f / 2^F, not f / (2^F − 1)": lambda p, e, f: _decode(
            p, e, f, denominator=2**f - 1
        ),
    },
    outputs=("the value",),
    solution="""\
def decode_float(pattern, exponent_bits, fraction_bits):
    sign = -1 if pattern >> (exponent_bits + fraction_bits) else 1
    exponent = (pattern >> fraction_bits) % 2**exponent_bits
    fraction = pattern % 2**fraction_bits / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    if exponent == 0:  # subnormal: no hidden 1
        return sign * 2.0 ** (1 - bias) * fraction
    return sign * 2.0 ** (exponent - bias) * (1 + fraction)
""",
    inside="minquant.numerics.floats.FloatFormat",
)


# --- gap ---


def gap(x: float, exponent_bits: int, fraction_bits: int) -> float:
    """The distance from x, a positive number of the format, to the next one above."""
    form = FloatFormat("yours", exponent_bits, fraction_bits)
    _, above = form.neighbours(form.encode(x))
    return above - x


check_gap = Exercise(
    name="gap",
    task="gap(x, exponent_bits, fraction_bits) gives the distance from x, a positive "
    "normal number of the format, to the next number above it",
    answer=gap,
    cases={
        "1 in fp16": (1.0, 5, 10),
        "1000 in fp16": (1000.0, 5, 10),
        "0.375 in bf16": (0.375, 8, 7),
        "6 in fp8 e4m3": (6.0, 4, 3),
        "8 in fp8 e5m2": (8.0, 5, 2),
    },
    mistakes={
        "the gap is not constant: it doubles at each power of two": lambda x, e, f: (
            2.0**-f
        ),
        "it grows in steps, 2^(floor(log2 x) − F), not in proportion to x": (
            lambda x, e, f: x * 2.0**-f
        ),
        "the power of two is rounded; take the one below x": lambda x, e, f: (
            2.0 ** (round(log2(x)) - f)
        ),
        "int() cuts towards 0, so below 1 the power is one too high; use floor": (
            lambda x, e, f: 2.0 ** (int(log2(x)) - f)
        ),
        "this is the power of two alone; divide by 2^F": lambda x, e, f: (
            2.0 ** floor(log2(x))
        ),
    },
    outputs=("the gap",),
    solution="""\
def gap(x, exponent_bits, fraction_bits):
    power = math.floor(math.log2(x))  # the power of two at or below x
    return 2.0 ** (power - fraction_bits)
""",
    inside="minquant.numerics.floats.FloatFormat",
)


# --- weight_bytes ---


def weight_bytes(n_weights: int, exponent_bits: int, fraction_bits: int) -> float:
    """Bytes of n_weights numbers of a floating-point format."""
    return model_bytes(n_weights, FloatFormat("", exponent_bits, fraction_bits).bits)


check_weight_bytes = Exercise(
    name="weight_bytes",
    task="weight_bytes(n_weights, exponent_bits, fraction_bits) gives the bytes of "
    "numbers of that format",
    answer=weight_bytes,
    cases={
        "100 in fp16": (100, 5, 10),
        "10 in fp8 e4m3": (10, 4, 3),
        "3 in fp4": (3, 2, 1),
    },
    mistakes={
        "the sign has a bit too": lambda n, e, f: n * (e + f) / 8,
        "this is in bits; eight bits are a byte": lambda n, e, f: n * (1 + e + f),
        "it rounds down to whole bytes": lambda n, e, f: n * (1 + e + f) // 8,
    },
    outputs=("the size",),
    solution="""\
def weight_bytes(n_weights, exponent_bits, fraction_bits):
    bits = 1 + exponent_bits + fraction_bits  # the first one is the sign
    return n_weights * bits / 8
""",
    inside="minquant.numerics.floats.FloatFormat",
)
