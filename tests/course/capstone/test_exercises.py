"""Lesson 12: planted mistakes about a cache and a file, as learners write them."""

import pytest
import torch

from minquant.course import answers_serving
from minquant.course.capstone.exercises import EXERCISES, cache_bytes, read_layer


def cache(layers, kv_heads, head_size, tokens, bits=16):
    """What a learner writes: up from a token in a layer."""
    numbers = 2 * kv_heads * head_size  # a key and a value
    return layers * tokens * numbers * bits // 8


CACHES = [
    (lambda n, h, d, t, bits=16: n * h * d * t * bits // 8, "a token leaves a key and"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t * bits, "these are bits"),
    (lambda n, h, d, t, bits=16: 2 * h * d * t * bits / 8, "this is one layer"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t * 2, "bits is not used"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t * (bits // 8), "bits // 8 is 0"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * bits / 8, "this is one token"),
    (lambda n, h, d, t, bits=16: 2 * n * d * t * bits / 8, "this is one head"),
    (lambda n, h, d, t, bits=16: 2 * n * h * t * bits / 8, "a head is one number"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t**2 * bits / 8, "a cache grows with"),
]


@pytest.mark.parametrize(("yours", "words"), CACHES)
def test_a_planted_mistake_of_the_cache_is_named(yours, words):
    assert cache_bytes(yours).mistake.startswith(words)


def test_bytes_are_right_as_an_int_and_as_a_float():
    assert cache_bytes(cache)
    assert cache_bytes(lambda *given: float(cache(*given)))


def test_a_cache_without_the_usual_16_bits_is_told_so():
    said = repr(cache_bytes(lambda n, h, d, t, bits: cache(n, h, d, t, bits)))
    assert "3 of 4 hold" in said and "missing 1 required positional argument" in said


def layer(
    packed,
    scales,
    shape,
    code=lambda word, i: (word >> 4 * i & 15) - 8,
    group=lambda column, g, n_groups: column // g,
    number=float,
):
    """What a learner writes: a weight at a time."""
    out, width = shape
    n_groups = scales.shape[1]
    W_hat = torch.zeros(out, width)
    for row in range(out):
        for column in range(width):
            q = code(packed[row, column // 8].item(), column % 8)
            scale = scales[row, group(column, width // n_groups, n_groups)]
            W_hat[row, column] = q * (scale if number is None else scale.item())
    return W_hat


def nibbles(packed):
    """All codes of all words, as a matrix at once: (out, 8 words)."""
    return torch.stack([packed >> 4 * i & 15 for i in range(8)], dim=-1).flatten(1)


def twos(word, i):
    code = word >> 4 * i & 15
    return code - 16 if code > 7 else code


def unmasked_last(word, i):
    return (word >> 28 if i == 7 else word >> 4 * i & 15) - 8


def transposed(packed, scales, shape):
    columns = [packed >> 4 * i & 15 for i in range(8)]
    codes = torch.cat(columns, dim=1)[:, : shape[1]] - 8
    return codes * scales.float().repeat_interleave(shape[1] // scales.shape[1], dim=1)


def flat(packed, scales, shape):
    """As lesson 10 unpacked them, where a row did not begin with a new word."""
    out, width = shape
    codes = nibbles(packed).flatten()[: out * width].reshape(out, width) - 8
    return codes * scales.float().repeat_interleave(width // scales.shape[1], dim=1)


def grouped_uncut(packed, scales, shape):
    codes = nibbles(packed) - 8
    grouped = codes.view(shape[0], scales.shape[1], -1)  # (out, n_groups, g)
    return (grouped * scales.float()[:, :, None]).flatten(1)


def uncut(packed, scales, shape):
    g = shape[1] // scales.shape[1]
    return (nibbles(packed) - 8) * scales.float().repeat_interleave(g, dim=1)


def in_halves(packed, scales, shape):
    codes = (nibbles(packed) - 8)[:, : shape[1]]
    return codes * scales.repeat_interleave(shape[1] // scales.shape[1], dim=1)


def late(packed, scales, shape):
    codes = nibbles(packed)[:, : shape[1]]
    return (
        codes * scales.float().repeat_interleave(len(codes[0]) // len(scales[0]), 1) - 8
    )


def with_code(code):
    return lambda *given: layer(*given, code=code)


READING = [
    (with_code(lambda word, i: (word >> 28 - 4 * i & 15) - 8), "the lowest four bits"),
    (with_code(lambda word, i: word >> 4 * i & 15), "codes are stored plus 8: sub"),
    (late, "subtract 8 from the code, before the scale"),
    (with_code(lambda word, i: (word >> 4 * i & 15) - 7), "subtract 8, not 7:"),
    (with_code(lambda word, i: (word >> 4 * i & 15) - 7.5), "subtract 8, not 7.5:"),
    (with_code(twos), "codes are stored plus 8, not in two's complement"),
    (with_code(lambda word, i: (word >> 4 * i) - 8), "a shift alone lets"),
    (with_code(unmasked_last), "the last code of a word is negative"),
    (
        lambda *given: layer(
            *given, group=lambda column, g, n_groups: column % n_groups
        ),
        "a scale is for neighbours",
    ),
    (in_halves, "the product is rounded to fp16"),
    (lambda *given: layer(*given, number=None), "the product is rounded to fp16"),
    (transposed, "these are the first codes of all words"),
    (flat, "each row begins with a new word"),
    (grouped_uncut, "what fills up the last word of a row is no weight"),
    (uncut, "the last word of a row is filled up, so that there are more"),
]


@pytest.mark.parametrize(("yours", "words"), READING)
def test_a_planted_mistake_of_the_layer_is_named(yours, words):
    assert read_layer(yours).mistake.startswith(words)


def by_bytes(packed, scales, shape):
    """A byte holds two codes, the first in its lower half."""
    data = packed.view(torch.uint8)  # (out, 4 words)
    codes = torch.stack([data & 15, data >> 4], dim=-1).flatten(1)[:, : shape[1]]
    grouped = codes.int().view(shape[0], scales.shape[1], -1) - 8  # (out, n_groups, g)
    return (grouped * scales[:, :, None].float()).view(shape)


def by_division(packed, scales, shape):
    """Whole division and remainder round down, below zero too."""
    codes = torch.stack([packed // 16**i % 16 for i in range(8)], 2).flatten(1)
    groups = torch.arange(shape[1]) // (shape[1] // scales.shape[1])
    return (codes[:, : shape[1]] - 8.0) * scales[:, groups]


@pytest.mark.parametrize("yours", [layer, by_bytes, by_division])
def test_a_learner_s_own_way_to_read_a_layer_is_accepted(yours):
    verdict = read_layer(yours)
    assert verdict, verdict


def test_a_row_that_is_not_cut_is_told_the_shapes():
    said = repr(read_layer(grouped_uncut))
    assert "W_hat has shape (3, 16), should be (3, 11)" in said
    assert "it raised RuntimeError: The size of tensor a (16)" in repr(
        read_layer(uncut)
    )


def test_two_that_raise_are_alike_and_one_that_raises_is_like_no_result():
    error, result = (ValueError("no"),), (torch.zeros(2),)
    assert read_layer._compare(error, (IndexError("!"),)) == ""
    assert read_layer._compare(error, result) == "it raised ValueError: no"
    assert read_layer._compare(result, error)


def test_what_only_raises_is_no_known_mistake():
    for exercise in EXERCISES:
        verdict = exercise(lambda *given: 1 // 0)
        assert verdict.attempted and not verdict and verdict.mistake == ""
        assert "it raised ZeroDivisionError" in repr(verdict)


def unfinished(*given):
    """A function with no body yet."""
    raise NotImplementedError


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("yours", [None, ..., lambda *given: None, unfinished])
def test_a_stub_is_left_alone(exercise, yours):
    assert not exercise(yours).attempted


def test_the_words_of_every_case_have_a_negative_one_among_them():
    for packed, _, _ in read_layer.cases.values():
        assert (packed < 0).any() and (packed >= 0).any()


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_answer_passes_and_is_shown_first(exercise):
    answer = getattr(answers_serving, exercise.name)
    assert exercise(answer)
    assert exercise.shows[0] is answer and len(exercise.shows) == 2
