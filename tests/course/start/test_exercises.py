"""Lesson 00: answers by hand, and planted mistakes as learners write them."""

import pytest

from minquant.course import checks
from minquant.course.start import exercises


def test_bytes_of_a_model_are_bits_over_eight():
    assert exercises.model_bytes(8_000_000_000, 4) == 4e9


def test_a_scale_of_16_bits_for_128_weights_adds_an_eighth_of_a_bit():
    assert exercises.megabytes(8_000_000, 4, 128) == 4.125


def mb_without_scales(n_weights, bits, g, scale_bits=16):
    return n_weights * bits / 8 / 1e6


def mb_with_a_scale_each(n_weights, bits, g, scale_bits=16):
    return n_weights * (bits + scale_bits) / 8 / 1e6


def mb_of_memory(n_weights, bits, g, scale_bits=16):
    return (n_weights * bits + n_weights / g * scale_bits) / 8 / 1024**2


PLANTED = [
    ("model_bytes", lambda n, b: n * b, "this is in bits"),
    ("model_bytes", lambda n, b: int(n * b) // 8, "it rounds down"),
    ("model_bytes", lambda n, b: n * b / 8 / 1e6, "this is in MB"),
    ("megabytes", mb_without_scales, "the scales are forgotten"),
    ("megabytes", mb_with_a_scale_each, "one scale serves g weights"),
    ("megabytes", mb_of_memory, "a MB is 10^6 bytes here"),
]


@pytest.mark.parametrize(("name", "yours", "words"), PLANTED)
def test_a_planted_mistake_is_named(name, yours, words):
    assert getattr(checks, name)(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.model_bytes(lambda n, bits: bits / 8 * n)
