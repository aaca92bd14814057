"""AWQ: RTN where nothing is scaled, the searches by brute force, held to others."""

from functools import partial

import pytest
import torch
from helpers import fixture, tiny
from helpers.fixture import as_learners_have_it
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import awq, rtn
from minquant.methods.awq import (
    CLIP_RATIOS,
    RATIOS,
    input_scales,
    keep_columns,
    quantize_awq,
    quantize_awq_shared,
    quantize_scaled,
    ratio_errors,
    salient,
)
from minquant.numerics import grids, groups
from minquant.numerics.scales import E8M0

SEEDS = st.integers(0, 2**32 - 1)
GRIDS = [
    grids.absmax(4),
    grids.symmetric_full(3),
    grids.zero_point(4),
    grids.NF4,
    grids.TERNARY,
]
CUTS = [groups.PER_TENSOR, groups.PER_CHANNEL, groups.per_group(8)]
INT4 = grids.zero_point(4), groups.per_group(128)
FP32 = {"scale_dtype": torch.float32}
named = {"ids": lambda x: getattr(x, "name", None) or str(x)}
quick = settings(max_examples=15, deadline=None)


def case(seed=0, n=60, width=24, out=6, dtype=torch.float32):
    """Weights, and correlated inputs of very different size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    X = (normal(n, width) + normal(n, 1)) * normal(width).exp()
    return normal(out, width).to(dtype), X.to(dtype)


def output_error(W, X, quantized):
    """mean((X (W_hat − W)ᵀ)²), from the definition."""
    D = quantized.dequantize(torch.float64) - W.double()
    return (X.double() @ D.T).square().mean().item()


def same(a, b):
    """Codes, scales, zeros and values, bit for bit."""
    zeros = a.zeros is b.zeros or torch.equal(a.zeros, b.zeros)
    return (
        zeros
        and torch.equal(a.codes, b.codes)
        and torch.equal(a.scales, b.scales)
        and torch.equal(a.dequantize(), b.dequantize())
    )


# --- limit cases ---


@pytest.mark.parametrize("how", CUTS, **named)
@pytest.mark.parametrize("grid", GRIDS, **named)
def test_with_scales_of_one_it_is_rtn_bit_for_bit(grid, how):
    W, X = case()
    known = rtn.quantize_rtn(W, grid, how)
    assert same(quantize_scaled(W, torch.ones(24), grid, how), known)
    found = quantize_awq(W, X, grid, how, ratios=(0.0,), clip=None)
    assert (found.input_scales == 1).all() and same(found, known)


@quick
@given(SEEDS, st.sampled_from(GRIDS), st.integers(-8, 8))
def test_one_factor_for_all_columns_changes_nothing(seed, grid, power):
    W, _ = case(seed)
    s = torch.full((24,), 2.0**power)
    found, known = (
        quantize_scaled(W, t, grid, CUTS[2], torch.float32) for t in (s, s / s)
    )
    assert torch.equal(found.dequantize(), known.dequantize())


def test_inputs_that_are_all_alike_leave_nothing_to_protect():
    W, _ = case()
    X = torch.randn(50, 24, generator=torch.Generator().manual_seed(1)).sign()
    found = quantize_awq(W, X, grids.absmax(4), clip=None)
    assert (found.input_scales == 1).all()
    assert same(found, rtn.quantize_rtn(W, grids.absmax(4)))


# --- by hand ---


def test_a_protected_column_rounds_in_finer_steps():
    # one step is 1: 0.4 becomes 0; times 4 it is 1.6, becomes 2, and comes back as 0.5
    W, s = torch.tensor([[7.0, 0.4]]), torch.tensor([1.0, 4.0])
    assert rtn.fake_quantize(W, grids.absmax(4)).tolist() == [[7.0, 0.0]]
    found = quantize_scaled(W, s, grids.absmax(4))
    assert found.codes.tolist() == [[7, 2]]
    assert found.dequantize().tolist() == [[7.0, 0.5]]


def test_input_scales_by_hand():
    mean = torch.tensor([4.0, 64.0, 16.0])
    assert input_scales(mean, 0.0).tolist() == [1, 1, 1]
    # square roots 2, 8, 4, divided by √(8 · 2)
    assert input_scales(mean, 0.5).tolist() == [0.5, 2.0, 1.0]
    assert input_scales(mean, 1.0).tolist() == [0.25, 4.0, 1.0]


@quick
@given(SEEDS, st.floats(0, 1))
def test_scales_lie_around_one_and_do_not_know_the_size_of_x(seed, ratio):
    mean = case(seed)[1].abs().mean(0)
    s = input_scales(mean, ratio)
    assert (s.max() * s.min()).item() == pytest.approx(1, rel=1e-5)
    assert (s[mean.argsort()].diff() >= 0).all()
    torch.testing.assert_close(input_scales(mean * 1e3, ratio), s)


def test_an_input_never_seen_counts_as_the_smallest():
    W, X = case()
    X[:, 5] = 0
    s = input_scales(X.abs().mean(0), 0.7)
    assert s[5] == s.min() == s[torch.arange(24) != 5].min()
    assert (input_scales(torch.zeros(4), 0.7) == 1).all()
    assert quantize_awq(W, 0 * X, grids.absmax(4)).dequantize().isfinite().all()


# --- the search for the ratio ---


@quick
@given(SEEDS, st.sampled_from(GRIDS), st.sampled_from(CUTS), st.sampled_from([9, 60]))
def test_the_curve_is_the_output_error_by_its_definition(seed, grid, how, n):
    W, X = case(seed, n=n)  # fewer tokens than inputs, and more
    ratios = (0.0, 0.35, 0.9)
    found = ratio_errors([W], X, grid, how, ratios=ratios, **FP32)
    for ratio, error in zip(ratios, found, strict=True):
        s = input_scales(X.abs().mean(0), ratio)
        made = quantize_scaled(W, s, grid, how, torch.float32)
        assert error == pytest.approx(output_error(W, X, made), rel=1e-3)


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.sampled_from(GRIDS))
def test_the_lowest_point_of_the_curve_is_taken(seed, grid):
    W, X = case(seed)
    curve = ratio_errors([W], X, grid, CUTS[2])
    best = RATIOS[curve.index(min(curve))]
    found = quantize_awq(W, X, grid, CUTS[2], clip=None)
    assert torch.equal(found.input_scales, input_scales(X.abs().mean(0), best).half())
    assert output_error(W, X, found) == pytest.approx(min(curve), rel=1e-3)
    assert min(curve) <= curve[0]  # of RTN


@settings(max_examples=5, deadline=None)
@given(SEEDS, st.integers(1, 100))
def test_neither_early_stop_nor_the_rows_at_a_time_change_the_best_ratio(seed, chunk):
    W, X = case(seed)
    calm = ratio_errors([W, 2 * W], X, grids.absmax(3), CUTS[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(awq, "_CHUNK", chunk)
        quick = ratio_errors([W, 2 * W], X, grids.absmax(3), CUTS[1], early_stop=True)
    assert quick.index(min(quick)) == calm.index(min(calm))
    for one, other in zip(quick, calm, strict=True):
        assert one == pytest.approx(other, rel=1e-4) or (
            one == torch.inf and other > min(calm)
        )


def test_an_early_stop_drops_bad_ratios():
    layer = fixture.layer()
    options = {"ratios": (0, 0.35, 0.9), "early_stop": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(awq, "_CHUNK", 64 * 1024)
        found = ratio_errors([layer.W], layer.X_calibration, *INT4, **options)
    assert found[0] == found[2] == torch.inf and found[1] < 0.0121


# --- the search for the clipping ---


@quick
@given(SEEDS, st.sampled_from(GRIDS), st.sampled_from(CUTS))
def test_each_group_is_cut_where_its_part_of_the_outputs_errs_least(seed, grid, how):
    W, X = case(seed, dtype=torch.float64)
    found = quantize_awq(W, X, grid, how, ratios=(0.0,), **FP32)
    parts = groups.split(W, how)
    top = parts.abs().amax(-1, keepdim=True)
    trials = []
    for ratio in CLIP_RATIOS:
        rulers = rtn.scale_and_zero(
            parts.clamp(-top * ratio, top * ratio), grid, **FP32
        )
        trials.append(rtn.quantize_with(W, *rulers, grid, how).dequantize())
    least = torch.stack([group_errors(T - W, X, how) for T in trials]).amin(0)
    error = group_errors(found.dequantize() - W, X, how)
    torch.testing.assert_close(error, least, rtol=1e-5, atol=1e-9)


def group_errors(D, X, how):
    """For each ruler, the squares that its columns alone add to the outputs."""
    g = how.group_size or D.shape[1]
    parts = [
        (X[:, a : a + g] @ D[:, a : a + g].T).square().sum(0)
        for a in range(0, D.shape[1], g)
    ]
    errors = torch.stack(parts, 1)  # (out, n_groups)
    return errors.sum().reshape(1, 1) if how.kind == "tensor" else errors


def test_clipping_knows_the_inputs_where_rtns_does_not():
    # 0.5 matters, 1.0 does not: its input is small; RTN sees a large weight
    W = torch.tensor([[1.0, *[0.4] * 9]])
    X = torch.eye(10)
    X[0, 0] = 1e-3
    args = grids.absmax(2), groups.PER_CHANNEL
    ours = quantize_awq(W, X, *args, ratios=(0.0,), **FP32)
    assert ours.scales.item() == pytest.approx(0.55)
    X[0, 0] = 1e3
    ours = quantize_awq(W, X, *args, ratios=(0.0,), **FP32)
    assert ours.scales.item() == pytest.approx(1.0)


# --- numbers that others measured ---


def test_with_rtns_clipping_it_is_rtn_of_the_scaled_weights():
    generator = torch.Generator().manual_seed(3)
    W, X = (torch.randn(n, 32, generator=generator) for n in (8, 64))
    X[:, 5] *= 30
    ruler = grids.zero_point(3), groups.per_group(16)
    found = quantize_awq(W, X, *ruler, clip="mse")
    scaled = W * found.input_scales.float()
    wanted = rtn.quantize_rtn(scaled, *ruler, clip="mse")
    assert torch.equal(found.codes, wanted.codes)
    assert found.input_scales.max() > 2 * found.input_scales.min()


def test_the_error_of_the_seeded_layer_is_that_of_llm_awq():
    layer = fixture.layer()
    curve = ratio_errors([layer.W], layer.X_calibration, *INT4, **FP32)
    assert RATIOS[curve.index(min(curve))] == 0.35
    found = quantize_awq(layer.W, layer.X_calibration, *INT4, clip=None, **FP32)
    assert f"{fixture.error(found.dequantize()):.4e}" == "1.1946e-02"


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16])
def test_with_clipping_it_is_no_worse_than_llm_awq(scale_dtype):
    layer = fixture.layer()
    options = {"ratios": (0.35,), "scale_dtype": scale_dtype}
    found = quantize_awq(layer.W, layer.X_calibration, *INT4, **options)
    assert fixture.error(found.dequantize()) <= 1.0497e-2


def test_one_percent_of_columns_matter_chosen_by_inputs_and_not_by_weights():
    W, X, _ = fixture.layer()
    q = rtn.quantize_rtn(W, *INT4)
    chance = torch.rand(1024, generator=torch.Generator().manual_seed(0))
    sizes = {"X": X.abs().mean(0), "W": W.abs().mean(0), "chance": chance}
    plain = fixture.error(q.dequantize())
    left = {
        name: fixture.error(keep_columns(W, q, salient(size))) / plain
        for name, size in sizes.items()
    }
    assert left["X"] < 0.35
    assert left["W"] > 0.9 and left["chance"] > 0.9


# --- matrices that share an input ---


def test_shared_matrices_get_one_set_of_scales_for_the_sum_of_their_errors():
    W, X = case()
    Ws = [W, W.flip(0)[:3] * 0.3, W.flip(1)]
    found = quantize_awq_shared(Ws, X, grids.absmax(3), clip=None, **FP32)
    assert all(q.input_scales is found[0].input_scales for q in found)
    curves = [ratio_errors([A], X, grids.absmax(3), **FP32) for A in Ws]
    together = [
        sum(e * len(A) for e, A in zip(errors, Ws, strict=True)) / 15
        for errors in zip(*curves, strict=True)
    ]
    shared = ratio_errors(Ws, X, grids.absmax(3), **FP32)
    assert shared == pytest.approx(together, rel=1e-4)
    ratio = RATIOS[shared.index(min(shared))]
    assert torch.equal(found[0].input_scales, input_scales(X.abs().mean(0), ratio))


TIED = torch.arange(24).view(2, 3, 4).fmod(12).flatten()  # 12 scales for 24 inputs


def test_tied_inputs_get_one_scale_and_the_search_is_with_it():
    W, X = case()
    X = X / X.abs().mean(0) * torch.linspace(-3, 3, 12).exp().repeat(2)
    (found,) = quantize_awq_shared(
        [W], X, grids.absmax(3), clip=None, tied=TIED, **FP32
    )
    s = found.input_scales
    assert torch.equal(s[:12], s[12:]) and len(s.unique()) > 6
    pooled = X.abs().mean(0).view(2, 12).mean(0).repeat(2)
    curve = []
    for ratio in RATIOS:  # by brute force
        tried = quantize_scaled(W, input_scales(pooled, ratio), grids.absmax(3), **FP32)
        curve.append(output_error(W, X, tried))
    measured = ratio_errors([W], X, grids.absmax(3), tied=TIED, **FP32)
    assert measured == pytest.approx(curve, rel=1e-4)
    best = RATIOS[curve.index(min(curve))]
    torch.testing.assert_close(s, input_scales(pooled, best))
    assert best != RATIOS[0]


def test_numbers_of_tied_inputs_must_fit():
    W, X = case()
    for wrong in (TIED[:5], TIED - 1):
        with pytest.raises(
            ValueError, match="tied has .* one number, 0 or more, for e"
        ):
            quantize_awq_shared([W], X, grids.absmax(3), tied=wrong)


def test_alone_a_matrix_is_what_it_is_in_a_list_of_one():
    W, X = case()
    (listed,) = quantize_awq_shared([W], X, grids.NF4, CUTS[2])
    assert same(quantize_awq(W, X, grids.NF4, CUTS[2]), listed)


@pytest.mark.parametrize("function", [quantize_awq, quantize_awq_shared])
def test_a_whole_model_is_quantized_better_than_by_rtn(function):
    args = {"grid": grids.zero_point(3), "granularity": groups.per_group(16)}
    name = "model.layers.0.self_attn.q_proj"
    report, X, W = tiny.quantized(partial(function, **args), name, 3, batch=3)
    plain = output_error(W, X, rtn.quantize_rtn(W, **args))
    assert output_error(W, X, report[name]) < plain
    shared = report["model.layers.0.self_attn.k_proj"].input_scales
    equal = torch.equal(report[name].input_scales, shared)
    assert equal or function is quantize_awq


# --- what is stored, and what is refused ---


def test_input_scales_are_counted_and_kept_in_16_bits_at_least():
    W, X = case()
    q = quantize_awq(W, X, grids.absmax(4))
    assert q.input_scales.dtype == torch.float16
    assert q.nbytes == 6 * 24 // 2 + 6 * 2 + 24 * 2
    q = quantize_awq(W, X, grids.absmax(4), **FP32)
    assert q.input_scales.dtype == torch.float32
    q = quantize_awq(W, X, grids.FP4, CUTS[2], scale_dtype=E8M0.store)
    assert q.input_scales.dtype == torch.float16 and isinstance(q.scales, E8M0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_worked_on_in_float32(dtype):
    W, X = (A.to(dtype) for A in case())
    before = W.clone(), X.clone()
    found = quantize_awq(W, X, grids.absmax(4), CUTS[2])
    assert same(found, quantize_awq(W.float(), X.float(), grids.absmax(4), CUTS[2]))
    assert torch.equal(W, before[0]) and torch.equal(X, before[1])


def test_salient_columns_are_the_largest_and_at_least_one():
    sizes = torch.tensor([1.0, 9.0, 5.0, 2.0])
    for share, known in [
        (0.01, [1]),
        (0.5, [1, 2]),
        (0.75, [1, 2, 3]),
        (1, [0, 1, 2, 3]),
    ]:
        assert salient(sizes, share).tolist() == known
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"share is {share}; choose a part of 1"):
            salient(sizes, share)


def test_kept_columns_are_those_of_w_and_the_others_are_not():
    W, _ = case()
    q = rtn.quantize_rtn(W, grids.absmax(2))
    kept = keep_columns(W, q, torch.tensor([3, 7]))
    assert torch.equal(kept[:, [3, 7]], W[:, [3, 7]])
    rest = [j for j in range(24) if j not in (3, 7)]
    assert torch.equal(kept[:, rest], q.dequantize()[:, rest])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"X": torch.ones(3, 23)},
            r"X has shape \(3, 23\), but W 24 columns; give X \(n, in\)",
        ),
        ({"X": torch.ones(0, 24)}, r"X has shape \(0, 24\); give at least one number"),
        ({"X": torch.full((3, 24), torch.nan)}, "X holds 72 NaN and 0 infinite of 72"),
        ({"W": torch.full((3, 24), torch.nan)}, "W holds 72 NaN and 0 infinite of 72"),
        ({"ratios": ()}, "ratios is empty; give some numbers from 0 to 1"),
        ({"ratios": (0.5, 1.5)}, "ratios hold 1.5; choose numbers from 0 to 1"),
        ({"clip": "best"}, 'clip is \'best\'; choose None, "output" or "mse"'),
        ({"granularity": groups.per_group(7)}, "group_size 7 does not divide in_feat"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_what_to_do(change, message):
    W, X = case()
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        quantize_awq(**{"W": W, "X": X, "grid": grids.absmax(4), **change})
