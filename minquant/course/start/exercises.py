"""Exercises of lesson 00: how large is a model?

    model_bytes    the bytes of so many weights of so many bits
    megabytes      the same in MB, with a scale for every g weights

Both are arithmetic, and both go wrong in the same few ways: bits are taken for bytes,
2^20 for 10^6, and the scales are forgotten. `minquant/course/exercises.py` says how an
exercise is judged.
"""

from __future__ import annotations

from minquant.course.exercises import Exercise
from minquant.course.rulers.exercises import bits_per_weight

# --- model_bytes ---


def model_bytes(n_weights: int, bits: float) -> float:
    """Bytes of n_weights weights of so many bits; eight bits are a byte."""
    return n_weights * bits / 8


check_model_bytes = Exercise(
    name="model_bytes",
    task="model_bytes(n_weights, bits) gives the bytes of all weights",
    answer=model_bytes,
    cases={
        "1000 weights of 16 bits": (1000, 16),
        "8.03 billion weights of 4 bits": (8_030_000_000, 4),
        "7 weights of 3 bits": (7, 3),
        "100 weights of 1.58 bits": (100, 1.58),
    },
    mistakes={
        "this is in bits; eight bits are a byte": lambda n, bits: n * bits,
        "it rounds down to whole bytes; divide with /": lambda n, bits: n * bits // 8,
        "it counts weights, whatever their bits": lambda n, bits: n,
        "it takes two bytes for every weight, whatever its bits": lambda n, bits: 2 * n,
        "this is in MB; give bytes": lambda n, bits: n * bits / 8e6,
        "eight bits are a byte: divide by 8, do not multiply": (
            lambda n, bits: n * bits * 8
        ),
    },
    outputs=("the size",),
    solution="""\
def model_bytes(n_weights, bits):
    return n_weights * bits / 8
""",
    inside="minquant.size",
)


# --- megabytes ---


def megabytes(n_weights: int, bits: float, g: int, scale_bits: int = 16) -> float:
    """MB (10^6 bytes) of the codes, and of one scale for every g weights."""
    return model_bytes(n_weights, bits_per_weight(bits, g, scale_bits)) / 1e6


check_megabytes = Exercise(
    name="megabytes",
    task="megabytes(n_weights, bits, g, scale_bits=16) gives MB (10^6 bytes) of codes "
    "and of one scale for every g weights",
    answer=megabytes,
    cases={
        "4 bits in groups of 128": (12_800, 4, 128),
        "2 bits in groups of 16, 8-bit scales": (40_000, 2, 16, 8),
    },
    mistakes={
        "the scales are forgotten": lambda n, bits, g, s=16: n * bits / 8e6,
        "one scale serves g weights, not one": lambda n, bits, g, s=16: (
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
    solution="""\
def megabytes(n_weights, bits, g, scale_bits=16):
    bits_per_weight = bits + scale_bits / g
    return n_weights * bits_per_weight / 8 / 1e6
""",
    inside="minquant.size",
)
