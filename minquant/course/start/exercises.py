"""Exercises of lessons 00 and 01: what numbers weigh, and what their bits say.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
"""

from __future__ import annotations

from math import floor, log2

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.numerics.floats import FloatFormat


def _decode(
    pattern: int,
    e_bits: int,
    f_bits: int,
    *,
    lead: int = 1,
    bias: int = -1,
    lowest: int = 1,
    subnormal: bool = True,
    signed: bool = True,
    steps: int = 0,
) -> float:
    """A decoder with one part to be made wrong."""
    sign = pattern >> (e_bits + f_bits)
    e, f = (pattern >> f_bits) % 2**e_bits, pattern % 2**f_bits
    bias = 2 ** (e_bits - 1) - 1 if bias < 0 else bias
    fraction = f / (steps or 2**f_bits)
    if e == 0 and subnormal:
        size = 2.0 ** (lowest - bias) * fraction
    else:
        size = 2.0 ** (e - bias) * (lead + fraction)
    return -size if sign and signed else size


def _whole_bias(pattern: int, e_bits: int, f_bits: int) -> float:
    return _decode(pattern, e_bits, f_bits, bias=2 ** (e_bits - 1))


model_bytes = Exercise(
    name="model_bytes",
    task="model_bytes(n_weights, bits) gives the bytes of all weights",
    answer=answers.model_bytes,
    cases={
        "1000 weights of 16 bits": (1000, 16),
        "8.03 thousand million weights of 4 bits": (8_030_000_000, 4),
        "7 weights of 3 bits": (7, 3),
        "100 weights of 1.58 bits": (100, 1.58),
    },
    mistakes={
        "this is in bits; eight bits are a byte": lambda n, bits: n * bits,
        "it rounds down to whole bytes; divide with /": lambda n, bits: n * bits // 8,
        "it counts weights, whatever their bits": lambda n, bits: n,
        "it takes two bytes for every weight, whatever its bits": lambda n, bits: 2 * n,
        "this is in MB; give bytes": lambda n, bits: n * bits / 8e6,
        "one byte is 8 bits, not 1/8 of one": lambda n, bits: n * bits * 8,
    },
    outputs=("the size",),
    shows=(answers.model_bytes,),
)

megabytes = Exercise(
    name="megabytes",
    task="megabytes(n_weights, bits, g, scale_bits=16) gives MB (10^6 bytes) of codes "
    "and of one scale for every g weights",
    answer=answers.megabytes,
    cases={
        "4 bits in groups of 128": (12_800, 4, 128),
        "2 bits in groups of 16, 8-bit scales": (40_000, 2, 16, 8),
    },
    mistakes={
        "the scales are forgotten": lambda n, bits, g, s=16: n * bits / 8e6,
        "one scale serves g weights, and not one": lambda n, bits, g, s=16: (
            n * (bits + s) / 8e6
        ),
        "there are n_weights / g scales, not one": lambda n, bits, g, s=16: (
            (n * bits + s) / 8e6
        ),
        "a MB is 10^6 bytes here, not 2^20": lambda n, bits, g, s=16: (
            n * (bits + s / g) / 8 / 2**20
        ),
        "this is in megabits; divide by 8": lambda n, bits, g, s=16: (
            n * (bits + s / g) / 1e6
        ),
        "this is in bytes; divide by 10^6": lambda n, bits, g, s=16: (
            n * (bits + s / g) / 8
        ),
        "scale_bits is an argument; it is not always 16": lambda n, bits, g, s=16: (
            n * (bits + 16 / g) / 8e6
        ),
    },
    outputs=("the size",),
    shows=(answers.megabytes, answers.bits_per_weight),
)

weight_bytes = Exercise(
    name="weight_bytes",
    task="weight_bytes(n_weights, exponent_bits, fraction_bits) gives the bytes of "
    "numbers of that format",
    answer=answers.weight_bytes,
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
    shows=(answers.weight_bytes, FloatFormat.bits),
)

decode_float = Exercise(
    name="decode_float",
    task="decode_float(pattern, exponent_bits, fraction_bits) gives the value of a "
    "pattern of bits (a whole number) that is neither infinity nor NaN",
    answer=answers.decode_float,
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
            p, e, f, lead=0
        ),
        "exponent 0 is special: subnormals have no leading 1": lambda p, e, f: _decode(
            p, e, f, subnormal=False
        ),
        "subnormals have the power 2^(1 − bias), not 2^(0 − bias)": lambda p, e, f: (
            _decode(p, e, f, lowest=0)
        ),
        "the bias is 2^(E − 1) − 1, one less than yours": _whole_bias,
        "the bias is not subtracted from the exponent": lambda p, e, f: _decode(
            p, e, f, bias=0
        ),
        "the sign bit is ignored": lambda p, e, f: _decode(p, e, f, signed=False),
        "the fraction is f / 2^F, not f": lambda p, e, f: _decode(p, e, f, steps=1),
        "the fraction is f / 2^F, not f / (2^F − 1)": lambda p, e, f: _decode(
            p, e, f, steps=2**f - 1
        ),
    },
    outputs=("the value",),
    shows=(answers.decode_float, FloatFormat.fields, FloatFormat.decode),
)

gap = Exercise(
    name="gap",
    task="gap(x, exponent_bits, fraction_bits) gives the distance from x, a positive "
    "number of full precision in the format, to the next above it",
    answer=answers.gap,
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
    shows=(answers.gap, FloatFormat.neighbours, FloatFormat.encode),
)

EXERCISES = (model_bytes, megabytes, decode_float, gap, weight_bytes)
