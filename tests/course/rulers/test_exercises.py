"""Lesson 03: answers by hand, and planted mistakes as learners write them."""

import pytest
import torch

from minquant.course import checks
from minquant.course.rulers import exercises
from minquant.methods import rtn
from minquant.numerics import grids, groups


def test_a_scale_of_16_bits_for_128_weights_adds_an_eighth_of_a_bit():
    assert exercises.bits_per_weight(4, 128) == 4.125
    assert exercises.bits_per_weight(4, 128, 16, 4) == 4.15625


@pytest.mark.parametrize(("bits", "g"), [(2, 16), (4, 64), (8, 32)])
def test_bits_per_weight_are_those_of_a_quantized_matrix(bits, g):
    made = rtn.quantize_rtn(
        torch.randn(64, 64), grids.zero_point(bits), groups.per_group(g)
    )
    assert exercises.bits_per_weight(bits, g, 16, bits) == made.bits_per_weight


def test_groups_are_rows_of_a_narrower_matrix():
    W = torch.randn(3, 8)
    codes, scales = exercises.absmax_groups(W, 4, 4)
    flat, _ = exercises.absmax_groups(W.reshape(6, 4), 4, 4)
    assert torch.equal(codes.reshape(6, 4), flat) and scales.shape == (3, 2)


def test_one_weight_far_out_is_worth_clipping_and_a_flat_row_is_not():
    keeps = [1.0, 0.5]
    flat = torch.linspace(-1, 1, 101)
    assert exercises.best_clip(flat, 4, keeps) == 1.0
    assert exercises.best_clip(torch.cat([flat, torch.tensor([2.0])]), 2, keeps) == 0.5


def in_groups(W, bits, g, dim=-1, levels=None):
    out, width = W.shape
    cut = W.view(out, width // g, g)
    largest = cut.abs().amax(dim, keepdim=True)
    scales = (largest / (levels or 2 ** (bits - 1) - 1)).expand(out, width // g, 1)
    return torch.round(cut / scales).int().view(out, width), scales[..., 0]


def per_tensor(W, bits, g):
    scale = W.abs().max() / (2 ** (bits - 1) - 1)
    return torch.round(W / scale).int(), scale.expand(len(W), W.shape[1] // g)


def floored(W, bits, g):
    out, width = W.shape
    cut = W.view(out, width // g, g)
    scales = cut.abs().amax(-1) / (2 ** (bits - 1) - 1)
    return torch.floor(cut / scales[..., None]).int().view(out, width), scales


GROUPS = [
    (per_tensor, "there is one scale for the whole tensor"),
    (lambda W, b, g: in_groups(W, b, g, dim=(1, 2)), "there is one scale for each row"),
    (lambda W, b, g: in_groups(W, b, g, dim=(0, 2)), "all rows share their scales"),
    (
        lambda W, b, g: in_groups(W, b, g, levels=2**b - 1),
        "the highest code is 2^(b−1) − 1, one bit",
    ),
    (floored, "it rounds down (floor)"),
]


@pytest.mark.parametrize(("yours", "words"), GROUPS)
def test_a_planted_mistake_of_the_groups_is_named(yours, words):
    assert checks.absmax_groups(yours).mistake.startswith(words)


def test_scales_in_a_flat_list_are_told_their_shape():
    def flat(W, bits, g):
        codes, scales = in_groups(W, bits, g)
        return codes, scales.flatten()

    assert "scales has shape (8,), should be (4, 2)" in repr(checks.absmax_groups(flat))


BITS = [
    (lambda bits, g, scale_bits=16, zero_bits=0: bits, "the scales and zeros are"),
    (lambda bits, g, scale_bits=16, zero_bits=0: bits + scale_bits / g, "the zeros"),
    (
        lambda bits, g, scale_bits=16, zero_bits=0: bits + scale_bits + zero_bits,
        "one scale serves g weights",
    ),
]


@pytest.mark.parametrize(("yours", "words"), BITS)
def test_a_planted_mistake_of_the_bits_is_named(yours, words):
    assert checks.bits_per_weight(yours).mistake.startswith(words)


def search(w, bits, keeps, judge, clamp=True):
    """What a learner writes: a loop that keeps the best."""
    top, best = 2 ** (bits - 1) - 1, None
    for keep in keeps:
        scale = keep * w.abs().max() / top
        codes = torch.round(w / scale)
        if clamp:
            codes = codes.clamp(-top, top)
        error = judge(codes * scale - w).item()
        if best is None or error < best[0]:
            best = error, keep
    return best[1]


def mse(e):
    return (e**2).mean()


CLIPS = [
    (lambda w, b, k: search(w, b, k, mse, clamp=False), "clipping costs nothing"),
    (
        lambda w, b, k: search(w, b, k, lambda e: e.abs().max()),
        "this has the least l",
    ),
    (
        lambda w, b, k: search(w, b, k, lambda e: e.abs().sum()),
        "this has the least m",
    ),
    (lambda w, b, k: search(w, b, k, lambda e: -mse(e)), "this has the greatest error"),
]


@pytest.mark.parametrize(("yours", "words"), CLIPS)
def test_a_planted_mistake_of_the_search_is_named(yours, words):
    assert checks.best_clip(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.absmax_groups(in_groups)
    assert checks.best_clip(lambda w, b, k: search(w, b, k, mse))
    assert checks.bits_per_weight(lambda b, g, s=16, z=0: (b * g + s + z) / g)
