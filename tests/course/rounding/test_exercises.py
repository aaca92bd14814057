"""Lesson 02: answers by hand, and planted mistakes as learners write them."""

import pytest
import torch

from minquant.course import checks
from minquant.course.rounding import exercises


def test_a_row_on_a_ruler_of_step_one():
    codes, scale = exercises.absmax_row(torch.tensor([-7.0, 0.5, 1.5, 2.6]), 4)
    assert codes.tolist() == [-7, 0, 2, 3] and scale.item() == 1


def test_a_ruler_with_a_zero_by_hand():
    scale, zero = exercises.scale_and_zero(torch.tensor([-0.5, 1.0]), 2)
    assert (scale.item(), zero.item()) == (0.5, 1)
    codes = exercises.quantize_zero_point(
        torch.tensor([-0.5, 0.0, 1.0, 9.0]), 0.5, 1, 2
    )
    assert codes.tolist() == [0, 1, 3, 3]
    assert exercises.dequantize(codes, 0.5, 1).tolist() == [-0.5, 0.0, 1.0, 1.0]


# --- symmetric rulers ---


def right(w, bits):
    top = 2 ** (bits - 1) - 1
    scale = w.abs().max() / top
    return torch.round(w / scale).to(torch.int8), scale


def all_levels(w, bits):
    scale = w.abs().max() / (2**bits - 1)
    return torch.round(w / scale).long(), scale


def one_level_too_many(w, bits):
    scale = w.abs().max() / 2 ** (bits - 1)
    return torch.round(w / scale).long(), scale


def floored(w, bits):
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    return torch.floor(w / scale).long(), scale


def cut_off(w, bits):
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    return (w / scale).int(), scale


def ties_up(w, bits):
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    return torch.floor(w / scale + 0.5).long(), scale


def ties_away(w, bits):
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    ratio = w / scale
    return (torch.sign(ratio) * torch.floor(ratio.abs() + 0.5)).long(), scale


def without_abs(w, bits):
    scale = w.max() / (2 ** (bits - 1) - 1)
    return torch.round(w / scale).long(), scale


def weights_again(w, bits):
    codes, scale = right(w, bits)
    return codes * scale, scale


ABSMAX = {
    all_levels: "the highest code is 2^(b−1) − 1, one bit being the sign, not 2^b − 1",
    one_level_too_many: "the highest code is 2^(b−1) − 1, one less than yours",
    floored: "it rounds down (floor); take the nearest",
    cut_off: "it cuts towards 0, as .int() does; round first",
    ties_up: "ties go up; torch.round takes the even one (0.5 becomes 0)",
    ties_away: "ties go away from 0; torch.round takes the even one",
    without_abs: "the largest weight in size is negative; take .abs() before .max()",
    weights_again: "these are values again (codes × scale); return the codes",
    lambda w, bits: (w, right(w, bits)[1]): (
        "the codes are the weights themselves; divide by the scale and round"
    ),
}


@pytest.mark.parametrize("yours", ABSMAX)
def test_a_planted_mistake_of_a_symmetric_row_is_named(yours):
    assert checks.absmax_row(yours).mistake == ABSMAX[yours]


def test_a_learner_s_own_symmetric_row_is_accepted():
    assert checks.absmax_row(right)
    assert checks.absmax_row(lambda w, bits: (right(w, bits)[0], [right(w, bits)[1]]))


def test_codes_that_overflow_int8_are_no_pass():
    def narrow(w, bits):
        codes, scale = all_levels(w, bits)
        return codes.to(torch.int8), scale

    assert not checks.absmax_row(narrow)


# --- rulers with a zero ---


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


def test_a_learner_s_own_way_with_a_zero_is_accepted():
    assert checks.scale_and_zero(ruler)
    assert checks.quantize_zero_point(codes)
    assert checks.dequantize(lambda c, s, z: c.float() * s - z * s)
