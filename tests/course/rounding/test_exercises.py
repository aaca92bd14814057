"""Lesson 02, rulers with a zero: planted mistakes, written as learners write them."""

import pytest
import torch

from minquant.course import checks


def ruler(w, bits, levels=None, sign=-1.0, with_zero=True):
    low, high = w.min(), w.max()
    if with_zero:
        low, high = min(low, torch.tensor(0.0)), max(high, torch.tensor(0.0))
    scale = (high - low) / (levels or 2**bits - 1)
    return scale, torch.round(sign * low / scale).int()


def codes(w, scale, zero, bits):
    return torch.clamp(torch.round(w / scale) + zero, 0, 2**bits - 1).to(torch.uint8)


RULERS = [
    (lambda w, b: ruler(w, b, sign=1.0), "your zero-point has the wrong sign"),
    (lambda w, b: ruler(w, b, levels=2**b), "2^b codes have 2^b − 1 steps"),
    (lambda w, b: ruler(w, b, with_zero=False), "the range must contain 0"),
    (
        lambda w, b: (ruler(w, b)[0], -min(w.min(), 0 * w.min()) / ruler(w, b)[0]),
        "the zero is a code, a whole number; round it",
    ),
]


@pytest.mark.parametrize(("yours", "words"), RULERS)
def test_a_planted_mistake_of_the_ruler_is_named(yours, words):
    assert checks.scale_and_zero(yours).mistake.startswith(words)


CODES = [
    (
        lambda w, s, z, b: (torch.round(w / s) + z).long(),
        "the clamp is missing",
    ),
    (
        lambda w, s, z, b: (torch.round(w / s) - z).clamp(0, 2**b - 1).long(),
        "your zero-point has the wrong sign",
    ),
    (
        lambda w, s, z, b: torch.round(w / s).clamp(0, 2**b - 1).long(),
        "the zero is not added",
    ),
    (
        lambda w, s, z, b: codes(w, s, z, b).view(torch.int8),
        "codes above 127 overflow int8",
    ),
    (
        lambda w, s, z, b: torch.round(w / s + z).clamp(0, 2**b - 1).long(),
        "the zero is added before rounding",
    ),
    (
        lambda w, s, z, b: (torch.floor(w / s) + z).clamp(0, 2**b - 1).long(),
        "it rounds down (floor)",
    ),
    (
        lambda w, s, z, b: (torch.floor(w / s + 0.5) + z).clamp(0, 2**b - 1).long(),
        "ties go up",
    ),
    (
        lambda w, s, z, b: (codes(w, s, z, b).float() - z) * s,
        "these are values again",
    ),
]


@pytest.mark.parametrize(("yours", "words"), CODES)
def test_a_planted_mistake_of_the_codes_is_named(yours, words):
    assert checks.quantize_zero_point(yours).mistake.startswith(words)


VALUES = [
    (lambda c, s, z: (c.float() + z) * s, "your zero-point has the wrong sign"),
    (lambda c, s, z: c * s - z, "subtract the zero before multiplying"),
    (lambda c, s, z: c * s, "the zero is not subtracted"),
    (lambda c, s, z: (c - z) * s, "uint8 cannot go below 0"),
    (lambda c, s, z: (c.float() - z) / s, "multiply by the scale"),
]


@pytest.mark.parametrize(("yours", "words"), VALUES)
def test_a_planted_mistake_of_the_way_back_is_named(yours, words):
    assert checks.dequantize(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.scale_and_zero(ruler)
    assert checks.quantize_zero_point(codes)
    assert checks.dequantize(lambda c, s, z: c.float() * s - z * s)
