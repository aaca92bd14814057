"""Lessons 00 and 01: planted mistakes, written as learners write them."""

import struct

import pytest

from minquant.course import checks


def mb_without_scales(n_weights, bits, g, scale_bits=16):
    return n_weights * bits / 8 / 1e6


def mb_with_a_scale_each(n_weights, bits, g, scale_bits=16):
    return n_weights * (bits + scale_bits) / 8 / 1e6


def mb_of_memory(n_weights, bits, g, scale_bits=16):
    return (n_weights * bits + n_weights / g * scale_bits) / 8 / 1024**2


def decode(pattern, exponent_bits, fraction_bits):
    """What is right, as a learner would write it."""
    said = f"{pattern:0{1 + exponent_bits + fraction_bits}b}"
    s, e = int(said[0]), int(said[1 : 1 + exponent_bits], 2)
    f = int(said[1 + exponent_bits :], 2) / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    size = 2 ** (1 - bias) * f if e == 0 else 2 ** (e - bias) * (1 + f)
    return (-1) ** s * size


def decode_without_subnormals(pattern, exponent_bits, fraction_bits):
    e, f = divmod(pattern % 2 ** (exponent_bits + fraction_bits), 2**fraction_bits)
    bias = 2 ** (exponent_bits - 1) - 1
    size = 2 ** (e - bias) * (1 + f / 2**fraction_bits)
    return -size if pattern >> (exponent_bits + fraction_bits) else size


def decode_with_a_high_bias(pattern, exponent_bits, fraction_bits):
    value = decode(pattern, exponent_bits, fraction_bits)
    return value / 2


def decode_without_the_leading_one(pattern, exponent_bits, fraction_bits):
    e, f = divmod(pattern % 2 ** (exponent_bits + fraction_bits), 2**fraction_bits)
    sign = -1 if pattern >> (exponent_bits + fraction_bits) else 1
    bias = 2 ** (exponent_bits - 1) - 1
    return sign * 2.0 ** (max(e, 1) - bias) * (f / 2**fraction_bits)


def decode_unsigned(pattern, exponent_bits, fraction_bits):
    return abs(decode(pattern, exponent_bits, fraction_bits))


PLANTED = [
    ("model_bytes", lambda n, b: n * b, "this is in bits"),
    ("model_bytes", lambda n, b: int(n * b) // 8, "it rounds down"),
    ("model_bytes", lambda n, b: n * b / 8 / 1e6, "this is in MB"),
    ("megabytes", mb_without_scales, "the scales are forgotten"),
    ("megabytes", mb_with_a_scale_each, "one scale serves g weights"),
    ("megabytes", mb_of_memory, "a MB is 10^6 bytes here"),
    ("weight_bytes", lambda n, e, f: n * (e + f) / 8, "the sign has a bit too"),
    ("decode_float", decode_without_subnormals, "exponent 0 is special"),
    ("decode_float", decode_with_a_high_bias, "the bias is 2^(E − 1) − 1"),
    ("decode_float", decode_without_the_leading_one, "the leading 1 is missing"),
    ("decode_float", decode_unsigned, "the sign bit is ignored"),
    ("gap", lambda x, e, f: 1 / 2**f, "the gap is not constant"),
    ("gap", lambda x, e, f: x / 2**f, "it grows in steps"),
]


@pytest.mark.parametrize(("name", "yours", "words"), PLANTED)
def test_a_planted_mistake_is_named(name, yours, words):
    assert checks.EXERCISES[name](yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.decode_float(decode)
    assert checks.model_bytes(lambda n, bits: bits / 8 * n)


def test_a_decoder_of_struct_s_kind_is_right_for_fp16_and_fails_for_others():
    def by_struct(pattern, exponent_bits, fraction_bits):
        return struct.unpack("<e", struct.pack("<H", pattern))[0]

    verdict = checks.decode_float(by_struct)
    assert not verdict and verdict.lines[0][0]
