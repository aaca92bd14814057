"""Lesson 08: planted mistakes, written as learners write them."""

import math

import pytest
import torch

from minquant.course import checks


def ppf(p):
    return torch.special.ndtri(torch.as_tensor(p, dtype=torch.float64))


def nf4(outermost, below=8, above=9, joint=1):
    """What a learner writes: two runs of quantiles, and what they share cut off."""
    low = -ppf(torch.linspace(outermost, 0.5, below).double())[:-1]
    high = ppf(torch.linspace(outermost, 0.5, above).double())[:-1]
    values = torch.cat([low, torch.zeros(joint).double(), high]).sort().values
    return values / values.abs().max()


def unscaled(outermost):
    high = ppf(torch.linspace(0.5, outermost, 9).double())
    low = -ppf(torch.linspace(0.5, outermost, 8).double())[1:].flip(0)
    return torch.cat([low, high])


def middles(outermost):
    values = ppf((torch.arange(16) + 0.5) / 16)
    return values / values.max()


def straight(outermost):
    values = ppf(torch.linspace(1 - outermost, outermost, 16).double())
    return values / values.max()


LEVELS = [
    (unscaled, "the values are not scaled"),
    (lambda p: nf4(p, 9, 8), "8 values lie above 0 and 7 below"),
    (lambda p: nf4(p, 9, 9, joint=0), "there is no 0"),
    (middles, "these are the middles of 16 equal slices"),
    (straight, "the steps run from one end to the other"),
    (lambda p: nf4(1 - (1 / 30 + 1 / 32) / 2), "outermost is an argument"),
]


@pytest.mark.parametrize(("yours", "words"), LEVELS)
def test_a_planted_mistake_of_the_levels_is_named(yours, words):
    assert checks.nf4_levels(yours).mistake.startswith(words)


def test_a_zero_in_both_halves_is_told_by_the_number_of_values():
    said = repr(checks.nf4_levels(lambda p: nf4(p, joint=2)))
    assert "has shape (17,), should be (16,)" in said


def distances(x, levels, absolute=True):
    gaps = x[:, None] - torch.tensor(levels)[None]
    return (gaps.abs() if absolute else gaps).argmin(dim=1)


def borders(x, levels, right):
    levels = torch.tensor(levels)
    return torch.searchsorted((levels[1:] + levels[:-1]) / 2, x, right=right)


def below(x, levels):
    return torch.searchsorted(torch.tensor(levels), x, right=True).clamp(1) - 1


NEAREST = [
    (lambda x, s: distances(x, s, absolute=False), "the smallest difference may"),
    (lambda x, s: borders(x, s, True), "in a tie the lower"),
    (below, "it takes the level below"),
    (lambda x, s: torch.tensor(s)[distances(x, s)], "these are the levels themselves"),
    (lambda x, s: distances(x, s) + 1, "the places start at 0"),
]


@pytest.mark.parametrize(("yours", "words"), NEAREST)
def test_a_planted_mistake_of_the_nearest_is_named(yours, words):
    assert checks.nearest_level(yours).mistake.startswith(words)


def stored(n, g, block=256):
    scales = n // g
    return n / 2 + scales + 4 * math.ceil(scales / block) + 4


BYTES = [
    (lambda n, g: n / 2, "the scales are forgotten"),
    (lambda n, g: n / 2 + 4 * n / g, "a scale takes one byte here"),
    (lambda n, g: n / 2 + n / g, "the scales of the scales"),
    (lambda n, g: stored(n, g) - 4, "the mean is forgotten"),
    (lambda n, g: n / 2 + n // g + 4 * (n // g // 256) + 4, "// drops a block"),
    (lambda n, g: 8 * stored(n, g), "this is in bits"),
]


@pytest.mark.parametrize(("yours", "words"), BYTES)
def test_a_planted_mistake_of_the_bytes_is_named(yours, words):
    assert checks.nf4_bytes(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.nf4_levels(nf4)
    assert checks.nearest_level(distances)
    assert checks.nearest_level(lambda x, s: borders(x, s, False))
    assert checks.nf4_bytes(stored)
