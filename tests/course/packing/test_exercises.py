"""Lesson 10: planted mistakes, written as learners write them."""

import pytest
import torch

from minquant.course import checks


def pack(codes, place=lambda i: 4 * i, cut=True):
    """What a learner writes: a loop over codes, one OR each."""
    words = [0] * -(-len(codes) // 8)
    for at, code in enumerate(codes.tolist()):
        words[at // 8] |= code << place(at % 8)
    return torch.tensor(words).int() if cut else torch.tensor(words)


def short(codes):
    whole = len(codes) // 8 * 8
    return pack(codes[:whole])


PACKING = [
    (lambda c: pack(c, lambda i: 28 - 4 * i), "the first code goes into the lowest"),
    (short, "codes that do not fill a word"),
    (lambda c: pack(c, cut=False), "the bits are right, but these are not int32"),
    (lambda c: pack(c, lambda i: 4 * (i // 2 + 4 * (i % 2))), "this is the order 0 2"),
]


@pytest.mark.parametrize(("yours", "words"), PACKING)
def test_a_planted_mistake_of_packing_is_named(yours, words):
    assert checks.pack_nibbles(yours).mistake.startswith(words)


def unpack(words, n, read=lambda word, i: (word >> 4 * i) & 15):
    codes = [read(word, i) for word in words.tolist() for i in range(8)]
    return torch.tensor(codes[:n])


UNPACKING = [
    (lambda w, n: unpack(w, n, lambda x, i: x >> 4 * i), "a shift alone lets"),
    (
        lambda w, n: unpack(w, n, lambda x, i: x >> 28 if i == 7 else x >> 4 * i & 15),
        "the last code of a word is negative",
    ),
    (lambda w, n: unpack(w, n, lambda x, i: x >> 28 - 4 * i & 15), "the lowest four"),
    (
        lambda w, n: torch.cat([(w >> 4 * i) & 15 for i in range(8)])[:n],
        "these are the first codes of all words",
    ),
    (lambda w, n: unpack(w, 8 * len(w)), "the zeros that filled"),
]


@pytest.mark.parametrize(("yours", "words"), UNPACKING)
def test_a_planted_mistake_of_unpacking_is_named(yours, words):
    assert checks.unpack_nibbles(yours).mistake.startswith(words)


CROSSING = [
    (lambda b, w, p: (b / w) / (2 / p), "bits_per_weight are bits"),
    (lambda b, w, p: (b / 8 / w) / (1 / p), "a token takes two operations"),
    (lambda b, w, p: (2 / p) / (b / 8 / w), "it is upside down"),
    (lambda b, w, p: (2 / w) / (2 / p), "bits_per_weight is not used"),
    (lambda b, w, p: 16 / b * p / w, "with fewer bits a weight is read sooner"),
]


@pytest.mark.parametrize(("yours", "words"), CROSSING)
def test_a_planted_mistake_of_the_crossover_is_named(yours, words):
    assert checks.crossover(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.pack_nibbles(pack)
    assert checks.unpack_nibbles(unpack)
    assert checks.crossover(lambda b, w, p: (b / 8 / w) / (2 / p))


def test_overlapping_codes_are_named():
    def overlap(codes):
        padded = torch.cat([codes, codes.new_zeros(-len(codes) % 8)])
        return (padded.view(-1, 8) << torch.arange(8)).sum(1).int()

    assert checks.pack_nibbles(overlap).mistake.startswith("every code moves by one")
