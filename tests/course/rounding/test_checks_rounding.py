"""Lesson 02, symmetric rulers: planted mistakes, written as learners write them."""

import pytest
import torch

from minquant.course import checks


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


PLANTED = {
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


@pytest.mark.parametrize("yours", PLANTED)
def test_a_planted_mistake_is_named(yours):
    assert checks.absmax_row(yours).mistake == PLANTED[yours]


def test_a_learner_s_own_way_is_accepted():
    assert checks.absmax_row(right)
    assert checks.absmax_row(lambda w, bits: (right(w, bits)[0], [right(w, bits)[1]]))


def test_codes_that_overflow_int8_are_no_pass():
    def narrow(w, bits):
        codes, scale = all_levels(w, bits)
        return codes.to(torch.int8), scale

    assert not checks.absmax_row(narrow)
