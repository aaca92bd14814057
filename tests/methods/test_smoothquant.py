"""SmoothQuant: no output changes, the trouble moves, and both ends of alpha."""

from functools import partial

import pytest
import torch
from helpers import fixture, tiny
from helpers.fixture import as_learners_have_it
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import rtn
from minquant.methods.smoothquant import (
    quantize_smooth,
    quantize_smooth_shared,
    scales_of,
    smooth,
    smooth_product,
    smoothing_scales,
    sweep,
)
from minquant.models import quantize
from minquant.models.linear_layers import linear_layers
from minquant.models.text import calibration_batches
from minquant.numerics import grids, groups

seeds = st.integers(0, 2**32 - 1)
alphas = st.floats(0, 1)
quick = settings(max_examples=25, deadline=None)
FP32 = {"scale_dtype": torch.float32}


def case(seed=0, n=9, width=24, out=6, dtype=torch.float64):
    """Inputs with two large columns, and weights."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, width, generator=generator, dtype=torch.float64)
    X[:, torch.randperm(width, generator=generator)[:2]] *= 40
    W = torch.randn(out, width, generator=generator, dtype=torch.float64) * 0.05
    return X.to(dtype), W.to(dtype)


def tops(A):
    """The largest size in each column."""
    return A.abs().amax(0)


# --- the scales ---


def test_scales_by_hand():
    X_top, W_top = torch.tensor([16.0, 1.0]), torch.tensor([1.0, 4.0])
    for alpha, known in [(0.0, [1, 0.25]), (0.5, [4, 0.5]), (1.0, [16, 1])]:
        assert smoothing_scales(X_top, W_top, alpha).tolist() == known
    quarter = smoothing_scales(X_top, W_top, 0.25)
    assert quarter.tolist() == pytest.approx([2, 4**-0.75])


@quick
@given(seeds)
def test_alpha_0_leaves_all_to_x_and_alpha_1_moves_all_to_w(seed):
    X, W = case(seed)
    ones = torch.ones(24, dtype=X.dtype)
    X_s, W_s = smooth(X, W, scales_of([W], X, 0.0))
    torch.testing.assert_close(tops(W_s), ones)
    torch.testing.assert_close(tops(X_s), tops(X) * tops(W))
    X_s, W_s = smooth(X, W, scales_of([W], X, 1.0))
    torch.testing.assert_close(tops(X_s), ones)
    torch.testing.assert_close(tops(W_s), tops(X) * tops(W))


@quick
@given(seeds)
def test_at_one_half_each_column_is_as_large_in_x_as_in_w(seed):
    X, W = case(seed)
    X_s, W_s = smooth(X, W, scales_of([W], X, 0.5))
    torch.testing.assert_close(tops(X_s), tops(W_s))


@quick
@given(seeds, alphas)
def test_no_output_changes(seed, alpha):
    X, W = case(seed)
    X_s, W_s = smooth(X, W, scales_of([W], X, alpha))
    Y = X @ W.T
    torch.testing.assert_close(X_s @ W_s.T, Y, rtol=1e-12, atol=1e-12)


@quick
@given(seeds, alphas)
def test_powers_of_two_change_no_bit_of_any_product(seed, alpha):
    X, W = case(seed, dtype=torch.float32)
    s = scales_of([W], X, alpha).log2().round().exp2()
    X_s, W_s = smooth(X, W, s)
    assert torch.equal(X_s[:, None] * W_s, X[:, None] * W)
    assert torch.equal(X_s * s, X) and torch.equal(W_s / s, W)


@quick
@given(seeds, alphas)
def test_an_input_never_seen_or_without_weight_disturbs_no_ruler(seed, alpha):
    X, W = case(seed)
    X[:, 3], W[:, 5] = 0, 0
    s = scales_of([W], X, alpha)
    others = [j for j in range(24) if j not in (3, 5)]
    assert s[3] == s[others].min() and s[5] == s[others].max()
    assert (scales_of([W], 0 * X, alpha) == 1).all()


@quick
@given(seeds, alphas)
def test_matrices_that_share_an_input_are_one_tall_matrix(seed, alpha):
    X, W = case(seed)
    s = scales_of([W[:2], W[2:]], X, alpha)
    assert torch.equal(s, scales_of([W], X, alpha))
    parts = quantize_smooth_shared([W[:2], W[2:]], X, alpha=alpha, **FP32)
    whole = quantize_smooth(W, X, alpha=alpha, **FP32)
    assert torch.equal(torch.cat([q.codes for q in parts]), whole.codes)
    assert all(torch.equal(q.input_scales, whole.input_scales) for q in parts)


def test_tied_inputs_get_one_scale_by_the_largest_of_all():
    X, W = case(0)
    tied = torch.arange(12).repeat(2)
    (found,) = quantize_smooth_shared([W], X, tied=tied, **FP32)
    X_top = X.abs().amax(0).view(2, 12).amax(0)
    W_top = W.abs().amax(0).view(2, 12).amax(0)
    expected = (X_top / W_top).sqrt().to(W).repeat(2)
    torch.testing.assert_close(found.input_scales, expected.float())


# --- rounded ---


GRIDS = [grids.absmax(8), grids.zero_point(4), grids.NF4]


@quick
@given(seeds, alphas, st.sampled_from(GRIDS))
def test_the_codes_are_rtns_of_the_scaled_weights(seed, alpha, grid):
    X, W = case(seed, dtype=torch.float32)
    q = quantize_smooth(W, X, grid, groups.per_group(8), alpha=alpha)
    known = rtn.quantize_rtn(W * q.input_scales.float(), grid, groups.per_group(8))
    assert torch.equal(q.codes, known.codes)
    assert torch.equal(q.scales, known.scales)
    assert torch.equal(q.dequantize(), known.dequantize() / q.input_scales.float())


def test_with_nothing_to_move_it_is_rtn_bit_for_bit():
    W = case(dtype=torch.float32)[1]
    q = quantize_smooth(W, torch.ones(3, 24), alpha=1.0)  # max |x| is 1 everywhere
    known = rtn.quantize_rtn(W, grids.absmax(8))
    assert (q.input_scales == 1).all()
    assert torch.equal(q.codes, known.codes)
    assert torch.equal(q.dequantize(), known.dequantize())


def test_input_scales_are_counted():
    X, W = case(dtype=torch.float32)
    q = quantize_smooth(W, X)
    assert q.nbytes == 6 * 24 + 6 * 2 + 24 * 2
    assert quantize_smooth(W, X, **FP32).input_scales.dtype == torch.float32


@pytest.mark.parametrize("how", [groups.PER_TENSOR, groups.PER_CHANNEL], ids=str)
def test_the_product_is_that_of_the_rounded_matrices(how):
    X, W = case(dtype=torch.float32)
    q = quantize_smooth(W, X)
    X_hat = rtn.fake_quantize(X / q.input_scales.float(), grids.absmax(8), how, **FP32)
    known = (X_hat * q.input_scales.float()) @ q.dequantize().T
    torch.testing.assert_close(smooth_product(X, q, how), known)


def test_without_input_scales_the_product_is_plain_int8():
    X, W = case(dtype=torch.float32)
    q = rtn.quantize_rtn(W, grids.absmax(8))
    X_hat = rtn.fake_quantize(X, grids.absmax(8), groups.PER_TENSOR, **FP32)
    assert torch.equal(smooth_product(X, q), X_hat @ q.dequantize().T)


# --- the trade ---


def test_a_larger_alpha_is_better_for_x_and_in_the_middle_both_are_served():
    layer = fixture.layer()
    trials = sweep(layer.X_held_out, layer.W, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [t.alpha for t in trials] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    X_only = [t.X_only for t in trials]
    assert X_only == sorted(X_only, reverse=True)
    best = min(trials, key=lambda t: t.error)
    assert best.alpha == 0.6
    assert 5 * best.error < trials[0].error and 2 * best.error < trials[-1].error
    for t in trials:  # two errors that know nothing of each other add up in squares
        assert t.error == pytest.approx((t.X_only**2 + t.W_only**2) ** 0.5, rel=0.02)


def test_it_is_much_better_than_plain_int8_with_one_scale_for_all_of_x():
    layer = fixture.layer()
    X, W, Y = layer.X_held_out, layer.W, layer.X_held_out @ layer.W.T
    smoothed = quantize_smooth(W, layer.X_calibration)
    plain = rtn.quantize_rtn(W, grids.absmax(8))
    error, error_plain = (
        (smooth_product(X, q) - Y).norm() / Y.norm() for q in (smoothed, plain)
    )
    assert error < 0.026 and error_plain > 5 * error


def test_a_whole_model_is_smoothed():
    texts = tiny.texts_of("calibration", 6)
    batches = calibration_batches(tiny.tokenizer(), texts, batch=3)
    method = partial(quantize_smooth_shared, alpha=0.5)
    network = tiny.model()
    report = quantize.quantize_(network, method, calibration=batches, progress=False)
    assert list(report) == list(linear_layers(network))
    for name, layer in linear_layers(network).items():
        assert torch.equal(layer.weight, report[name].dequantize())
    q, k = (report[f"model.layers.0.self_attn.{x}_proj"] for x in "qk")
    assert torch.equal(q.input_scales, k.input_scales)


# --- every kind of input has a defined answer ---


def test_its_arguments_stay_as_they_were():
    X, W = case(dtype=torch.float32)
    before = X.clone(), W.clone()
    smooth_product(X, quantize_smooth(W, X))
    sweep(X, W, [0.5])
    assert torch.equal(X, before[0]) and torch.equal(W, before[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "alpha is 1.5; choose a number from 0 to 1, often 0.5"),
        ({"alpha": float("nan")}, "alpha is nan; choose a number from 0 to 1"),
        (
            {"X": torch.ones(3, 23)},
            r"X has shape \(3, 23\), but W 24 columns; give",
        ),
        ({"X": torch.ones(0, 24)}, r"X has shape \(0, 24\); give at least one number"),
        (
            {"X": torch.full((3, 24), torch.nan)},
            r"X holds 72 NaN and 0 infinite of 72 numbers, the first at \[0, 0\]; repl",
        ),
        ({"W": torch.full((3, 24), torch.nan)}, "W holds 72 NaN and 0 infinite of 72"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_what_to_do(change, message):
    X, W = case(dtype=torch.float32)
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        quantize_smooth(**{"W": W, "X": X, **change})


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.ones(2, 23), r"X has shape \(2, 23\), but W 24 columns"),
        (torch.full((2, 24), torch.inf), "X holds 0 NaN and 48 infinite of 48"),
    ],
)
def test_a_product_with_inputs_that_do_not_fit_is_refused(X, message):
    quantized = quantize_smooth(*reversed(case(dtype=torch.float32)))
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        smooth_product(X, quantized)
