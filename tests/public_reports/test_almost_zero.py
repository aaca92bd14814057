"""Numbers that are almost zero, or nearly too large, do not stop the work.

Others report rows, channels and keys near 0 that stop a quantizer or turn into NaN:
llama.cpp#7313, GPTQModel#1531, GPTQModel#2332, vllm#42601, llm-awq#96,
neural-compressor#1427. Whatever works for an exact 0 works for 1e-9, too.
"""

import math

import pytest
import torch
from helpers import tiny
from helpers.fixture import as_learners_have_it

from minquant.files.gguf_blocks import dequantize_blocks, quantize_blocks
from minquant.methods.awq import input_scales, quantize_awq, ratio_errors
from minquant.methods.catalog import BY_NAME
from minquant.methods.gptq import quantize_gptq
from minquant.methods.hqq import quantize_hqq
from minquant.methods.llm_int8 import kept_weights, llm_int8
from minquant.methods.rotation import Rotation, transform, walsh_hadamard
from minquant.methods.rtn import quantize_rtn
from minquant.methods.smoothquant import quantize_smooth, scales_of
from minquant.models.kv_cache import dequantize_states, quantize_states
from minquant.models.quantize import quantize
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import FP4, NF4, absmax, symmetric_full, zero_point
from minquant.numerics.groups import PER_CHANNEL, per_group
from minquant.numerics.scales import E4M3, E8M0, scale_values, store_input_scales

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SCALES = {
    **{str(d): lambda W, grid, d=d: d for d in DTYPES},
    "e4m3fn": lambda W, grid: torch.float8_e4m3fn,
    "e5m2": lambda W, grid: torch.float8_e5m2,
    "E8M0": lambda W, grid: E8M0.store,
    "E4M3": E4M3.of,
    "double": lambda W, grid: DoubleQuantized.store,
}
GRIDS = [absmax(4), symmetric_full(8), zero_point(4), NF4, FP4]
TINY = [1e-5, 1e-9, 1e-20, 1e-37, 1e-44]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- a row, whatever its dtype and however its scale is stored ---


@pytest.mark.parametrize("how", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", TINY)
def test_a_row_near_zero_comes_back_near_zero(size, dtype, how):
    """llama.cpp#7313, GPTQModel#1531: one row of 1e-9 among ordinary ones."""
    W = normal(4, 32).double()
    W[0] *= size
    W = W.to(dtype)
    for grid in GRIDS:
        q = quantize_rtn(W, grid, scale_dtype=how(W, grid), clip="mse")
        assert (scale_values(q.scales) > 0).all()
        off = (q.dequantize(torch.float64) - W.double()).abs()
        gap = torch.tensor(list(grid.levels)).double().diff().max()
        step = scale_values(q.scales).double() * gap
        assert (off[0] <= W[0].double().abs().max() + step[0] / 2).all()
        assert (off[1:] < 0.5 * W.double().abs().max()).all()


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("size", TINY)
def test_every_format_by_name_takes_a_matrix_near_zero(name, size):
    W = normal(2, 128)
    for tiny_W in (W * size, torch.cat([W[:1] * size, W[1:]])):
        W_hat = BY_NAME[name].quantize(tiny_W).dequantize()
        assert W_hat.isfinite().all()
        assert (W_hat[0] - tiny_W[0]).abs().max() <= 2.0**-9 * W.abs().max()


def test_the_search_for_an_end_sees_errors_whose_squares_float32_does_not_hold():
    W = normal(4, 64)
    for size in (2.0**-90, 2.0**90):
        how = {"clip": "mse", "scale_dtype": torch.float32}
        near_1, other = (quantize_rtn(A, absmax(2), **how) for A in (W, W * size))
        assert torch.equal(near_1.scales * size, other.scales)
        assert torch.equal(near_1.codes, other.codes)


@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_key_near_zero_is_rounded_like_any_other(axis, dtype):
    """vllm#42601: a token whose keys are almost 0."""
    K = normal(1, 2, 8, 16)
    K[:, :, 0] *= 1e-7
    K[..., 3] *= 1e-9
    K = K.to(dtype)
    states = quantize_states(K, 8, axis, 8)
    back = dequantize_states(states, tuple(K.shape), axis)
    assert (back - K.float()).abs().max() < 0.02 * K.abs().max()


def test_a_zero_of_hqq_that_its_dtype_does_not_hold_is_refused():
    W = torch.tensor([[-1.0] + [0.0] * 63])
    with pytest.raises(ValueError, match="ends at 65504, but a zero reaches 655"):
        quantize_hqq(W, zero_point(16))
    q = quantize_hqq(W, zero_point(16), scale_dtype=torch.float32)
    assert (q.dequantize() - W).abs().max() < 2e-4


@pytest.mark.parametrize("size", TINY)
def test_hqq_takes_a_group_near_zero(size):
    W = normal(2, 128)
    W[0] *= size
    q = quantize_hqq(W, zero_point(4))
    assert q.zeros.isfinite().all() and q.dequantize().isfinite().all()
    assert (q.dequantize() - W)[0].abs().max() <= W[0].abs().max() + 2.0**-24


# --- GGUF: d, dmin and m are fp16 ---

QUANTIZED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K", "Q6_K"]


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-18, 1e-9, 1e-8, 3e-8])
def test_a_block_below_the_steps_of_fp16_errs_by_half_a_step(name, size):
    """llama.cpp#7313: d becomes 0, and with it weights up to 127 · 2^-25."""
    W = normal(4, 512) * size
    W_hat = dequantize_blocks(quantize_blocks(W, name), name)
    steps = 2 if name == "Q4_1" else 1  # its minimum is rounded, too
    assert (W_hat - W).abs().max() <= steps * 2.0**-25


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
@pytest.mark.parametrize("size", [1e-5, 1e-4])
def test_a_subnormal_d_of_a_k_type_costs_little(name, size):
    def error(W):
        off = dequantize_blocks(quantize_blocks(W, name), name) - W
        return (off.square().mean() / W.square().mean()).item()

    assert error(normal(16, 512) * size) < 1.5 * error(normal(16, 512))


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
@pytest.mark.parametrize("size", [1e-20, 1e20, 1e36])
def test_only_the_proportions_of_importance_matter(name, size):
    W, importance = normal(4, 512), normal(512, seed=1).exp()
    other = quantize_blocks(W, name, importance * size)
    assert (other != quantize_blocks(W, name, importance)).float().mean() < 1e-2
    zeros = quantize_blocks(W, name, torch.zeros(512))
    assert torch.equal(zeros, quantize_blocks(W, name, torch.ones(512)))


# --- channels ---


def test_awq_takes_dead_and_nearly_dead_inputs_alike():
    """llm-awq#96: an input scale of 0 or infinity."""
    W, X = normal(4, 64), normal(99, 64, seed=1)
    X[:, 0] *= 100
    found = []
    for size in (0.0, 1e-12, 1e-30):
        X[:, 1] = size
        for clip in (None, "output"):
            q = quantize_awq(W, X, absmax(4), clip=clip)
            assert q.dequantize().isfinite().all()
        found.append(q)
    assert torch.equal(found[0].input_scales, found[1].input_scales)
    assert torch.equal(found[0].codes, found[1].codes)
    assert torch.equal(found[0].codes, found[2].codes)


def test_awq_leaves_out_a_strength_whose_scales_overflow():
    W, X = normal(4, 64), normal(99, 64, seed=1)
    W[:, 0], X[:, 0] = 3e5, 1e4
    X[:, 1] *= 1e-2
    errors = ratio_errors([W], X, absmax(4), ratios=(0.0, 0.9))
    assert math.isfinite(errors[0]) and errors[1] == math.inf
    q = quantize_awq(W, X, absmax(4), ratios=(0.0, 0.9))
    assert q.input_scales.tolist() == [1.0] * 64
    with (
        as_learners_have_it(),
        pytest.raises(ValueError, match="is not finite in torch.float16; check the"),
    ):
        quantize_awq(W, X, absmax(4), ratios=(0.9,))


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_awq_finds_the_same_scales_for_inputs_of_any_size(size):
    W, X = normal(8, 64), normal(99, 64, seed=1) * normal(64, seed=2).exp()
    q, other = (quantize_awq(W, A, absmax(3)) for A in (X, X * size))
    assert not torch.equal(q.input_scales, torch.ones(64).half())
    torch.testing.assert_close(q.input_scales, other.input_scales)
    assert (q.codes != other.codes).float().mean() < 1e-2
    torch.testing.assert_close(
        input_scales(X.abs().mean(0), 0.5), input_scales(size * X.abs().mean(0), 0.5)
    )


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothquant_takes_dead_and_nearly_dead_channels_alike(alpha):
    """neural-compressor#1427: a column of W near 0 makes a scale that overflows."""
    W, X = normal(4, 64), normal(99, 64, seed=1)
    found = []
    for size in (0.0, 1e-10, 1e-30):
        W[:, 2], X[:, 1] = size, size
        found.append(quantize_smooth(W, X, alpha=alpha))
        assert found[-1].dequantize().isfinite().all()
    for other in found[1:]:
        assert torch.equal(found[0].input_scales, other.input_scales)
        assert torch.equal(found[0].codes, other.codes)


@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_input_scales_beyond_their_dtype_keep_their_proportions(size):
    W, X = normal(4, 24), normal(30, 24, seed=1) * normal(24, seed=2).exp()
    s = scales_of([W], X)
    stored = store_input_scales(s * size, torch.float16, absmax(8)).float()
    shares = stored / stored[0] / (s / s[0])
    torch.testing.assert_close(shares, torch.ones(24), rtol=2.0**-9, atol=0)


def problem(width=64):
    X = normal(400, width, seed=1) + 2 * normal(400, 1, seed=2)
    return normal(8, width), X


@pytest.mark.parametrize("damping", [0.0, 1e-6, 0.01])
@pytest.mark.parametrize("cut", [PER_CHANNEL, per_group(16)])
@pytest.mark.parametrize("act_order", [False, True])
def test_gptq_takes_dead_and_nearly_dead_inputs_alike(damping, cut, act_order):
    """GPTQModel#2332: the column of an input near 0 takes whatever is pushed on it."""
    W, X = problem()
    X[:, 5] = 0
    dead = X.T @ X
    how = {"damping": damping, "act_order": act_order}
    expected = quantize_gptq(W, dead, zero_point(4), cut, **how)
    for size in (1e-9, 1e-12, 1e-20):
        X[:, 5] = size * X[:, 4]
        found = quantize_gptq(W, X.T @ X, zero_point(4), cut, **how)
        assert torch.equal(found.scales, expected.scales)
        assert (found.codes != expected.codes).float().mean() < 1e-2


@pytest.mark.parametrize("size", [1e-9, 1e-20])
def test_gptq_takes_rows_and_columns_of_weights_near_zero(size):
    W, X = problem()
    W[0] *= size
    W[:, 7] *= size
    for grid in (absmax(4), zero_point(3), NF4):
        q = quantize_gptq(W, X.T @ X, grid, per_group(16))
        assert (q.dequantize() - W)[0].abs().max() < 1e-6


@pytest.mark.parametrize("times", [1e3, 1e6])
def test_gptq_takes_inputs_of_a_huge_range(times):
    W, X = problem()
    X[:, 3] *= times
    for damping in (0.0, 0.01):
        q = quantize_gptq(W, X.T @ X, absmax(4), damping=damping)
        error, plain = (
            (X @ (W - A.dequantize()).T).square().sum()
            for A in (q, quantize_rtn(W, absmax(4)))
        )
        assert error <= 1.01 * plain


@pytest.mark.parametrize("damping", [math.inf, -1.0, math.nan])
def test_a_damping_that_leaves_no_h_is_refused(damping):
    W, X = problem()
    with pytest.raises(ValueError, match="damping is .*; choose 0 or more"):
        quantize_gptq(W, X.T @ X, absmax(4), damping=damping)


# --- LLM.int8() ---


@pytest.mark.parametrize("size", [1e-9, 1e-20, 1e6])
def test_outlier_columns_are_kept_in_a_dtype_that_holds_them(size):
    W, X = normal(6, 40), normal(9, 40, seed=1)
    W[2] *= size
    X[:, 7] *= 50
    assert kept_weights(W, torch.float16).dtype == torch.float32
    off = llm_int8(X, W) - X @ W.T
    assert (off.norm(dim=0) < 0.02 * (X @ W.T).norm(dim=0)).all()  # of each output


def test_kept_weights_stay_in_16_bits_where_these_hold_them():
    W = normal(6, 40)
    W[2] = 0
    W[:, 3] *= 1e-9
    for dtype in (torch.float16, torch.bfloat16):
        assert kept_weights(W, dtype).dtype == dtype
    assert kept_weights(W * 1e-9, torch.bfloat16).dtype == torch.bfloat16


def test_products_of_small_and_of_large_scales_are_neither_0_nor_nan():
    W, X = normal(4, 16), normal(3, 16, seed=1)
    Y = llm_int8(X, W, math.inf)
    small = llm_int8(X * 1e-20, W * 1e-20, math.inf, outlier_weights="int8")
    torch.testing.assert_close(small * 1e20 * 1e20, Y, rtol=1e-4, atol=1e-4)
    X[0] = 0
    W[0] *= 1e38
    large = llm_int8(X[:1] + 0 * X, W, math.inf, outlier_weights="int8")
    assert not large.any()


# --- rotation ---


def test_a_rotation_in_fp16_sums_without_overflow():
    X = normal(4, 128).half() * 900  # their plain sums pass 65504
    X[0] = 5000
    exact = walsh_hadamard(X.float(), 128)
    assert (exact * math.sqrt(128)).abs().max() > 65504
    assert torch.equal(walsh_hadamard(X, 128), exact.half())
    rotation = Rotation.random(128)
    torch.testing.assert_close(
        rotation.undo(rotation.apply(X)).float(), X.float(), rtol=0, atol=2.0**-9 * 6e4
    )
    with pytest.raises(ValueError, match="ends at 65504, but the rotated X reaches"):
        walsh_hadamard(torch.full((1, 128), 6e4).half(), 128)
    assert walsh_hadamard(X[:0], 128).shape == (0, 128)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_any_transform_works_in_16_bits(dtype):
    X, W, T = normal(3, 8).to(dtype), normal(2, 8).to(dtype), torch.eye(8) * 4
    X_T, W_T = transform(X, W, T)
    assert torch.equal(X_T, X * 4) and torch.equal(W_T, W / 4)


# --- too large ---


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "smooth"])
def test_a_scale_that_overflows_says_what_to_do(method):
    W, X = torch.full((2, 16), 1e6), normal(40, 16)
    quantizers = {
        "rtn": lambda how: quantize_rtn(W, absmax(4), **how),
        "gptq": lambda how: quantize_gptq(W, X.T @ X, absmax(4), **how),
        "awq": lambda how: quantize_awq(W, X, absmax(4), **how),
        "smooth": lambda how: quantize_smooth(W, X, absmax(4), alpha=1.0, **how),
    }
    with pytest.raises(ValueError, match="is not finite in torch.float16; check the "):
        quantizers[method]({})
    q = quantizers[method]({"scale_dtype": torch.float32})
    assert (q.dequantize() - W).abs().max() <= 0.2 * 1e6


# --- the layer is named ---


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e7])
def test_a_matrix_that_stops_a_model_is_named(bad):
    network = tiny.model()
    name = "model.layers.1.mlp.up_proj"
    with torch.no_grad():
        network.get_submodule(name).weight[0, 0] = bad
    before = {k: v.clone() for k, v in network.state_dict().items()}
    said = f"^{name}: scale: |numbers in {name}.weight that are NaN or infinite"
    with pytest.raises(ValueError, match=said):
        quantize(network, lambda W: quantize_rtn(W, absmax(4)), progress=False)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), before[key].nan_to_num())


def test_matrices_of_one_input_are_named_together():
    network = tiny.model()

    def refuses(Ws):
        raise TypeError("Ws are not for me")

    batches = [torch.ones(1, 4).long()]
    with pytest.raises(TypeError, match="q_proj, .*k_proj, .*v_proj: Ws are not for"):
        quantize(network, refuses, calibration=batches, progress=False)


def test_a_model_with_nearly_dead_rows_is_quantized():
    network = tiny.model()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter[1] *= 1e-9
    made, report = quantize(
        network, lambda W: quantize_rtn(W, zero_point(4)), progress=False
    )
    assert report and all(p.isfinite().all() for p in made.parameters())
