"""GPTQ: RTN where inputs are independent, the derivation elsewhere, held to others."""

from functools import partial

import pytest
import torch
from helpers import fixture, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import gptq_derivation, rtn
from minquant.methods.gptq import quantize_gptq
from minquant.numerics import grids, groups
from minquant.numerics.scales import E8M0

SEEDS = st.integers(0, 2**32 - 1)
GRIDS = [
    grids.absmax(4),
    grids.symmetric_full(3),
    grids.zero_point(4),
    grids.zero_point(2),
    grids.NF4,
    grids.TERNARY,
]
CUTS = [groups.PER_TENSOR, groups.PER_CHANNEL, groups.per_group(8)]
OPTIONS = [
    {"act_order": a, "static_groups": s} for a in (False, True) for s in (False, True)
]
named = {"ids": lambda x: getattr(x, "name", None) or str(x)}
quick = settings(max_examples=20, deadline=None)


def case(seed=0, out=6, width=24, n=60, dtype=torch.float64):
    """Weights, and H of correlated inputs of very different size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    X = (normal(n, width) + normal(n, 1)) * normal(width).exp()
    return normal(out, width).to(dtype), (X.T @ X).to(dtype)


def damped(H, damping=0.01):
    """H as GPTQ factors it."""
    return H + damping * H.diagonal().mean() * torch.eye(len(H), dtype=H.dtype)


def same(a, b):
    """Two quantized tensors, bit for bit."""
    zeros = a.zeros is b.zeros or torch.equal(a.zeros, b.zeros)
    return zeros and torch.equal(a.codes, b.codes) and torch.equal(a.scales, b.scales)


@pytest.mark.parametrize("options", OPTIONS, **named)
@pytest.mark.parametrize("how", CUTS, **named)
@pytest.mark.parametrize("grid", GRIDS, **named)
def test_with_a_diagonal_h_gptq_is_rtn_bit_for_bit(grid, how, options):
    W, H = case(dtype=torch.float32)
    diagonal = H.diagonal().clone()
    diagonal[3] = 0  # and an input that is never seen
    for damping in (0.0, 0.01):
        found = quantize_gptq(
            W, torch.diag(diagonal), grid, how, damping=damping, block=7, **options
        )
        assert same(found, rtn.quantize_rtn(W, grid, how))


@quick
@given(SEEDS, st.sampled_from(GRIDS), st.sampled_from([*CUTS[1:], *CUTS[:1]]))
def test_with_rulers_fixed_before_the_loop_it_is_the_derivation(seed, grid, how):
    W, H = case(seed)
    rulers = gptq_derivation.column_rulers(rtn.quantize_rtn(W, grid, how))
    *_, end = gptq_derivation.steps(
        W, gptq_derivation.rows_by_elimination(damped(H)), rulers
    )
    found = quantize_gptq(W, H, grid, how, static_groups=True, block=5)
    assert torch.equal(found.codes, end.codes)


def slowly(W, H, grid, g):
    """GPTQ that moves all columns after each, and takes a group's ruler when it comes
    to its first column: codes and scales."""
    H, W, rulers, codes = damped(H), W.clone(), [], []
    for j in range(len(H)):
        if j % g == 0:
            rulers.append(rtn.scale_and_zero(W[:, None, j : j + g], grid))
        one = rtn.quantize_with(W[:, [j]], *rulers[-1], grid, groups.PER_CHANNEL)
        error = W[:, j] - one.dequantize(torch.float64)[:, 0]
        row = torch.linalg.inv(H[j:, j:])[0]
        W[:, j:] -= torch.outer(error / row[0], row)
        codes.append(one.codes)
    return torch.cat(codes, 1), torch.cat([scale for scale, _ in rulers], 1)


@quick
@given(
    SEEDS, st.sampled_from(GRIDS), st.sampled_from([1, 3, 8, 12]), st.integers(1, 30)
)
def test_groups_take_their_ruler_when_the_loop_reaches_them(seed, grid, g, block):
    W, H = case(seed)
    found = quantize_gptq(W, H, grid, groups.per_group(g), block=block)
    codes, scales = slowly(W, H, grid, g)
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.scales, scales)


@quick
@given(SEEDS, st.sampled_from(GRIDS), st.sampled_from(CUTS))
def test_act_order_is_the_plain_loop_on_sorted_columns_with_rulers_of_w(
    seed, grid, how
):
    W, H = case(seed)
    order = sorted(range(24), key=lambda j: -H[j, j])
    rulers = gptq_derivation.column_rulers(rtn.quantize_rtn(W, grid, how))
    *_, end = gptq_derivation.steps(
        W[:, order],
        gptq_derivation.rows_by_elimination(damped(H)[order][:, order]),
        [rulers[j] for j in order],
    )
    for static in (False, True):
        found = quantize_gptq(W, H, grid, how, act_order=True, static_groups=static)
        assert torch.equal(found.codes[:, order], end.codes)


@quick
@given(SEEDS, st.integers(1, 60), st.sampled_from(OPTIONS))
def test_the_size_of_a_block_does_not_matter(seed, block, options):
    W, H = case(seed, width=48)
    args = grids.zero_point(3), groups.per_group(16)
    whole = quantize_gptq(W, H, *args, block=48, **options)
    assert same(quantize_gptq(W, H, *args, block=block, **options), whole)


def test_a_case_by_hand_pushes_one_error_to_the_right():
    # H⁻¹[0, :] is in the ratio 1 : −0.9, so column 1 takes up 0.9 · 0.4: 3.2 → 3.56
    W, H = torch.tensor([[2.4, 3.2, 7.0]]), torch.eye(3)
    H[0, 1] = H[1, 0] = 0.9
    found = quantize_gptq(W, H, grids.absmax(4), damping=0.0)
    assert rtn.quantize_rtn(W, grids.absmax(4)).codes.tolist() == [[2, 3, 7]]
    assert found.codes.tolist() == [[2, 4, 7]]
    # the other way round column 1 is rounded down first, and column 0 goes up
    turned = quantize_gptq(
        W, H + torch.diag(torch.tensor([0, 0.1, 0])), grids.absmax(4), act_order=True
    )
    assert turned.codes.tolist() == [[3, 3, 7]]


@pytest.mark.parametrize(
    ("known", "options"),
    [
        (6.752e-3, {}),
        (6.568e-3, {"static_groups": True}),
        (3.037e-3, {"act_order": True}),
        (2.980e-3, {"act_order": True, "static_groups": True}),
        (3.486e-2, {"grid": grids.zero_point(3)}),
        (5.882e-3, {"clip": "mse"}),
    ],
)
def test_the_error_is_no_more_than_that_of_the_original_and_of_llm_compressor(
    known, options
):
    # their scales are float32; codes flip with the order of summation: 1e-3
    layer = fixture.layer()
    H = layer.X_calibration.T @ layer.X_calibration
    options = {"grid": grids.zero_point(4), "scale_dtype": torch.float32, **options}
    found = quantize_gptq(layer.W, H, granularity=groups.per_group(128), **options)
    assert fixture.error(found.dequantize()) <= known * (1 + 1e-3)


@quick
@given(SEEDS, st.integers(-20, 20), st.sampled_from(OPTIONS))
def test_only_the_proportions_of_h_matter(seed, power, options):
    W, H = case(seed, dtype=torch.float32)
    args = grids.zero_point(3), groups.per_group(8)
    once = quantize_gptq(W, H, *args, **options)
    assert same(quantize_gptq(W, H * 4.0**power, *args, **options), once)


@quick
@given(SEEDS)
def test_in_act_order_the_order_of_the_inputs_does_not_matter(seed):
    W, H = case(seed)
    mixed = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    args = {"grid": grids.absmax(3), "act_order": True}
    found = quantize_gptq(W[:, mixed], H[mixed][:, mixed], **args)
    assert torch.equal(found.codes, quantize_gptq(W, H, **args).codes[:, mixed])


@quick
@given(SEEDS)
def test_rows_do_not_know_of_each_other(seed):
    W, H = case(seed)
    args = H, grids.zero_point(3), groups.per_group(8)
    alone = [quantize_gptq(row[None], *args).codes for row in W]
    assert torch.equal(quantize_gptq(W, *args).codes, torch.cat(alone))


@pytest.mark.parametrize("act_order", [False, True])
def test_an_input_never_seen_is_rounded_to_nearest_and_disturbs_no_other(act_order):
    W, H = case()
    H[5] = H[:, 5] = 0
    changed = W.clone()
    changed[:, 5] *= 0.1
    found, other = (
        quantize_gptq(A, H, grids.absmax(8), act_order=act_order) for A in (W, changed)
    )
    near = rtn.quantize_with(
        changed, other.scales, None, grids.absmax(8), groups.PER_CHANNEL
    )
    assert torch.equal(other.codes[:, 5], near.codes[:, 5])
    kept = (found.scales == other.scales).all(1)  # rows whose ruler did not change
    rest = [j for j in range(24) if j != 5]
    assert kept.any()
    assert torch.equal(found.codes[kept][:, rest], other.codes[kept][:, rest])


def test_without_any_input_seen_it_is_rtn():
    W, H = case()
    found = quantize_gptq(W, 0 * H, grids.NF4, groups.per_group(8))
    assert same(found, rtn.quantize_rtn(W, grids.NF4, groups.per_group(8)))


@pytest.mark.parametrize("n", [1, 5, 16])
def test_fewer_tokens_than_inputs_need_damping_and_work_with_it(n):
    W, H = case(n=n, dtype=torch.float32)
    grid = grids.absmax(4)
    with pytest.raises(ValueError, match="does not factor at damping 0.0: some inputs"):
        quantize_gptq(W, H, grid, damping=0.0)
    E = quantize_gptq(W, H, grid).dequantize() - W
    E_rtn = rtn.quantize_rtn(W, grid).dequantize() - W
    assert torch.trace(E @ H @ E.T) < torch.trace(E_rtn @ H @ E_rtn.T)


def test_undamped_inputs_that_differ_by_a_rounding_alone_are_refused():
    near = 1 - 2.0**-24  # the float32 below 1
    H = torch.tensor([[1.0, near], [near, 1.0]])
    assert not torch.linalg.cholesky_ex(H).info  # it factors, into noise
    with pytest.raises(ValueError, match="does not factor at damping 0.0"):
        quantize_gptq(torch.tensor([[2.4, 7.0]]), H, grids.absmax(4), damping=0.0)


def test_one_huge_input_costs_float32_no_accuracy():
    W, H = case(width=256, n=300, dtype=torch.float32)
    size = torch.ones(256)
    size[7] = 3e3  # in H a factor of ten million
    H = size[:, None] * H * size
    E, E_exact = (
        quantize_gptq(W.to(t), H.to(t), grids.absmax(4)).dequantize() - W
        for t in (torch.float32, torch.float64)
    )
    # a few codes flip where w is halfway, which costs the same either way
    error, exact = (torch.trace(e @ H @ e.T).item() for e in (E, E_exact))
    assert error == pytest.approx(exact, rel=1e-2)


def test_an_h_that_float32_cannot_factor_is_factored_in_float64():
    A = torch.tensor([[1.0, -53.0, -15.0], [0.0, 1.0, 57.0], [0.0, 0.0, 1.0]])
    H = A.T @ A  # whole numbers, determinant 1, condition 4e10
    assert torch.linalg.cholesky_ex(H.flip(0, 1)).info
    W = torch.tensor([[2.4, 3.2, 7.0], [-7.0, 0.3, 1.6]])
    args = grids.absmax(4), groups.PER_CHANNEL
    found = quantize_gptq(W, H, *args, damping=1e-15)
    exact = quantize_gptq(W.double(), H.double(), *args, damping=1e-15)
    assert torch.equal(found.codes, exact.codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_worked_on_in_float32(dtype):
    W, H = case(dtype=torch.float32)
    W = W.to(dtype)
    found = quantize_gptq(W, H, grids.absmax(4))
    assert same(found, quantize_gptq(W.float(), H, grids.absmax(4)))


def test_its_arguments_stay_as_they_were():
    W, H = case(dtype=torch.float32)
    before = W.clone(), H.clone()
    quantize_gptq(W, H, grids.zero_point(4), groups.per_group(8), act_order=True)
    assert torch.equal(W, before[0]) and torch.equal(H, before[1])


def test_scales_in_a_format_of_their_own_are_fixed_before_the_loop():
    W, H = case(dtype=torch.float32)
    args = W, H, grids.FP4, groups.per_group(8)
    found = quantize_gptq(*args, scale_dtype=E8M0.store, static_groups=True)
    known = rtn.quantize_rtn(W, *args[2:], scale_dtype=E8M0.store)
    assert torch.equal(found.scales.exponents, known.scales.exponents)
    with pytest.raises(ValueError, match="is a format that .* pass static_groups=True"):
        quantize_gptq(*args, scale_dtype=E8M0.store)


def spoiled(how):
    """An H with one thing wrong."""
    H = case()[1]
    if how == "wide":
        return H[:, :20]
    if how == "small":
        return H[:20, :20]
    if how == "nan":
        H[2, 3] = float("nan")
    if how == "skew":
        H[2, 3] += H.max()
    if how == "negative":
        H[2, 2] *= -1
    if how == "indefinite":
        H[2, 3] = H[3, 2] = 2 * H.max()
    return H


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("wide", r"H has shape \(24, 20\), but W \(6, 24\) needs \(24, 24\); give X.T"),
        ("small", r"H has shape \(20, 20\), but W \(6, 24\) needs \(24, 24\)"),
        ("nan", "H holds 1 NaN and 0 infinite of 576 numbers"),
        ("skew", "H is no XᵀX: it differs from its transpose by up to"),
        ("negative", "its diagonal runs from -.*; give X.T @ X"),
        ("indefinite", "H does not factor at damping 0.01: .* choose damping=0.1, or"),
    ],
)
def test_an_h_that_cannot_be_is_refused_with_what_was_seen(how, message):
    with pytest.raises(ValueError, match=message):
        quantize_gptq(case()[0], spoiled(how), grids.absmax(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": -0.1}, "damping is -0.1; choose 0 or more, often 0.01"),
        ({"damping": float("nan")}, "damping is nan; choose 0 or more"),
        ({"block": 0}, "block is 0; choose a number of columns, often 128"),
        ({"granularity": groups.per_group(7)}, "group_size 7 does not divide in_feat"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        quantize_gptq(*case(), grids.absmax(4), **options)


def test_a_whole_model_is_quantized_with_what_the_method_asks_for():
    args = {"grid": grids.zero_point(4), "granularity": groups.per_group(16)}
    name = "model.layers.0.self_attn.q_proj"
    report, X, W = tiny.quantized(partial(quantize_gptq, **args), name, 12, batch=5)
    error, error_rtn = (
        (X @ (q.dequantize() - W).T).square().mean()
        for q in (report[name], rtn.quantize_rtn(W, **args))
    )
    assert error < error_rtn
