"""Lesson 01: answers by hand, and planted mistakes as learners write them."""

import struct
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minquant.course import checks
from minquant.course.floats import exercises


def test_half_precision_by_hand():
    assert exercises.decode_float(0b0_01111_1000000000, 5, 10) == 1.5
    assert exercises.decode_float(0b1_00000_0000000001, 5, 10) == -(2.0**-24)


@given(st.integers(-10, 10), st.integers(0, 1023))
def test_the_gap_of_fp16_is_2_to_the_floor_of_log2_less_ten(power, fraction):
    x = 2.0**power * (1 + fraction / 1024)
    assert exercises.gap(x, 5, 10) == 2.0 ** (int(log2(x) // 1) - 10)


def test_a_hundred_numbers_of_half_precision_are_200_bytes():
    assert exercises.weight_bytes(100, 5, 10) == 200


def decode(pattern, exponent_bits, fraction_bits):
    """What is right, as a learner would write it."""
    digits = f"{pattern:0{1 + exponent_bits + fraction_bits}b}"
    s, e = int(digits[0]), int(digits[1 : 1 + exponent_bits], 2)
    f = int(digits[1 + exponent_bits :], 2) / 2**fraction_bits
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
    ("decode_float", decode_without_subnormals, "exponent 0 is special"),
    ("decode_float", decode_with_a_high_bias, "the bias is 2^(E − 1) − 1"),
    ("decode_float", decode_without_the_leading_one, "the leading 1 is missing"),
    ("decode_float", decode_unsigned, "the sign bit is ignored"),
    ("gap", lambda x, e, f: 1 / 2**f, "the gap is not constant"),
    ("gap", lambda x, e, f: x / 2**f, "it grows in steps"),
    ("weight_bytes", lambda n, e, f: n * (e + f) / 8, "the sign has a bit too"),
]


@pytest.mark.parametrize(("name", "yours", "words"), PLANTED)
def test_a_planted_mistake_is_named(name, yours, words):
    assert getattr(checks, name)(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.decode_float(decode)


def test_a_decoder_of_struct_s_kind_is_right_for_fp16_and_fails_for_others():
    def by_struct(pattern, exponent_bits, fraction_bits):
        return struct.unpack("<e", struct.pack("<H", pattern))[0]

    verdict = checks.decode_float(by_struct)
    assert not verdict and verdict.lines[0][0]
