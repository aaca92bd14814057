"""QuantLinear and Int8Linear: the products of what any method returned."""

from dataclasses import replace

import pytest
import torch
from helpers import fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minquant.layers.linear import Int8Linear, QuantLinear
from minquant.layers.lora import nf4
from minquant.methods import llm_int8, rtn
from minquant.methods.awq import quantize_awq
from minquant.methods.gptq import quantize_gptq
from minquant.methods.smoothquant import quantize_smooth
from minquant.numerics import grids, groups

WITHIN = {torch.float16: 1e-3, torch.bfloat16: 4e-3, torch.float32: 1e-6}
BY64 = groups.per_group(64)
quick = settings(max_examples=25, deadline=None)


def weights(out=96, width=640, seed=0):
    """A random matrix."""
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed))


def apart(Y, Y_exact):
    """‖Y − Y*‖ / ‖Y*‖."""
    return ((Y.double() - Y_exact).norm() / Y_exact.norm()).item()


def methods():
    """What each method makes of one small matrix, by its name."""
    W, X = weights(32, 128), weights(200, 128, seed=2)
    X[:, 3] *= 20
    int4 = grids.zero_point(4), BY64
    return {
        "rtn": rtn.quantize_rtn(W, *int4),
        "clipped": rtn.quantize_rtn(W, *int4, clip="mse"),
        "gptq": quantize_gptq(W, X.T @ X, *int4),
        "awq": quantize_awq(W, X, *int4),
        "awq nf4": quantize_awq(W, X, grids.NF4, BY64),
        "nf4": nf4(W),
        "smooth": quantize_smooth(W, X),
        "ternary": rtn.quantize_rtn(W, grids.TERNARY),
    }


@quick
@given(
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([grids.zero_point, grids.absmax, grids.symmetric_full]),
    st.sampled_from([groups.PER_CHANNEL, groups.PER_TENSOR, BY64]),
    st.sampled_from(list(WITHIN)),
    st.sampled_from(["auto", "words", "stream"]),
    st.integers(1, 40),
)
def test_every_width_grid_and_layout_is_near_the_product_in_float64(
    bits, grid, cut, dtype, layout, n
):
    q = rtn.quantize_rtn(weights(), grid(bits), cut)
    layer = QuantLinear(q, layout=layout)
    X = weights(n, 640, seed=n).to(dtype)
    Y_exact = X.double() @ q.dequantize(torch.float64).T
    Y = layer(X)
    assert Y.dtype == dtype and apart(Y, Y_exact) < WITHIN[dtype]
    assert torch.equal(layer.dequantize(), q.dequantize())


@pytest.mark.parametrize("name", methods())
@pytest.mark.parametrize("dtype", WITHIN)
def test_any_methods_output_is_served(name, dtype):
    q = methods()[name]
    layer, X = QuantLinear(q, torch.ones(32)), weights(7, 128, seed=3).to(dtype)
    Y_exact = X.double() @ q.dequantize(torch.float64).T + 1
    assert apart(layer(X), Y_exact) < WITHIN[dtype]
    assert torch.equal(layer.dequantize(), q.dequantize())
    assert layer.nbytes == pytest.approx(q.nbytes, rel=0.02)
    assert layer.bits_per_weight == 8 * layer.nbytes / q.codes.numel()


@pytest.mark.parametrize("layout", ["words", "stream"])
def test_input_scales_divide_the_columns_and_are_counted(layout):
    W, s = weights(), torch.linspace(0.5, 4, 640).half()
    bare = rtn.quantize_rtn(W * s, grids.absmax(4), BY64)
    plain = QuantLinear(bare, layout=layout)
    layer = QuantLinear(replace(bare, input_scales=s), layout=layout)
    assert layer.nbytes == plain.nbytes + 2 * 640
    X = weights(5, 640, seed=1)
    torch.testing.assert_close(layer(X), plain(X / s), rtol=1e-5, atol=1e-4)
    X_grad = X.clone().requires_grad_()
    layer(X_grad).sum().backward()
    expected = (plain.dequantize() / s).sum(0).expand(5, -1)
    torch.testing.assert_close(X_grad.grad, expected, rtol=1e-5, atol=1e-4)


def test_the_repr_says_bits_per_weight():
    said = repr(QuantLinear(rtn.quantize_rtn(weights(), grids.zero_point(4), BY64)))
    assert said == (
        "QuantLinear(in_features=640, out_features=96, bias=False, 4.31 bits per weight"
        ", zero_point per group of 64)"
    )
    said = repr(Int8Linear.quantize(weights()))
    assert "8.05 bits per weight, threshold 6, outlier columns from the codes" in said
    said = repr(Int8Linear.quantize(weights(), outlier_weights=torch.float16))
    assert "24.05 bits per weight, threshold 6, outlier columns from float16" in said


def test_a_backend_of_no_such_name_is_refused_when_the_layer_is_made():
    quantized = rtn.quantize_rtn(weights(), grids.zero_point(4), BY64)
    with (
        fixture.as_learners_have_it(),
        pytest.raises(ValueError, match="backend is 'cuda'"),
    ):
        QuantLinear(quantized, backend="cuda")


def test_the_matrix_is_made_anew_only_when_its_buffers_are_others():
    layer = QuantLinear(rtn.quantize_rtn(weights(), grids.zero_point(4), BY64))
    first = layer.matrix
    assert layer.matrix is first and first.words is layer.words
    layer.words = layer.words.clone()
    assert layer.matrix.words is layer.words
    assert layer.to("meta").matrix.words.is_meta


def test_3_bits_take_3_0_in_a_stream_and_3_2_in_words_and_a_wide_layer_takes_words():
    quantized = rtn.quantize_rtn(weights(16, 4000), grids.absmax(3))
    scale = 16 / 4000  # one of fp16 for each row
    for layout, bits in (("stream", 3.0), ("words", 3.2), ("auto", 3.2)):
        layer = QuantLinear(quantized, layout=layout)
        assert layer.bits_per_weight == pytest.approx(bits + scale)
    assert quantized.bits_per_weight == pytest.approx(3.0 + scale)


def test_around_a_packed_matrix_it_shares_the_memory():
    layer = QuantLinear(rtn.quantize_rtn(weights(), grids.absmax(4), BY64))
    twin = layer.sharing(torch.ones(96))
    assert twin.words.data_ptr() == layer.words.data_ptr() and repr(twin)
    X = weights(3, 640)
    assert torch.equal(twin(X), layer(X) + 1)


# --- LLM.int8() ---


@pytest.mark.parametrize("outlier_weights", [torch.float16, torch.bfloat16, "int8"])
@pytest.mark.parametrize("row_scale", ["columns", "values"])
@pytest.mark.parametrize("threshold", [0.0, 2.5, 6.0, torch.inf])
def test_int8_linear_is_llm_int8_bit_for_bit(outlier_weights, row_scale, threshold):
    W, X = weights(24, 64), weights(9, 64, seed=1)
    X[:, 5] *= 10
    how = {"outlier_weights": outlier_weights, "row_scale": row_scale}
    layer = Int8Linear.quantize(W, threshold=threshold, **how)
    assert torch.equal(layer(X), llm_int8.llm_int8(X, W, threshold, **how))


def test_the_errors_on_the_fixture_are_those_of_the_paper_and_of_bitsandbytes():
    X, W = fixture.layer().X_held_out[:256], fixture.layer().W
    for how, expected in ((torch.float16, "0.0056"), ("int8", "0.0091")):
        layer = Int8Linear.quantize(W, outlier_weights=how, row_scale="values")
        assert f"{apart(layer(X), (X @ W.T).double()):.4f}" == expected


def test_at_threshold_zero_it_is_the_float_product_and_so_is_its_gradient():
    W = weights(24, 64).half().float()
    layer = Int8Linear.quantize(W, outlier_weights=torch.float16, threshold=0.0)
    X = weights(9, 64, seed=1).requires_grad_()
    Y = layer(X)
    torch.testing.assert_close(Y, X @ W.T, rtol=1e-5, atol=1e-5)
    Y.sum().backward()
    torch.testing.assert_close(X.grad, W.sum(0).expand(9, -1), rtol=1e-5, atol=1e-5)


def test_the_gradient_passes_the_rounding_of_x_as_if_it_were_none():
    layer = Int8Linear.quantize(weights(24, 64), outlier_weights="int8")
    X = weights(9, 64, seed=1).requires_grad_()
    layer(X).sum().backward()
    expected = layer.dequantize().sum(0).expand(9, -1)
    torch.testing.assert_close(X.grad, expected, rtol=1e-5, atol=1e-5)


def test_int8_bytes_are_codes_scales_and_what_is_kept():
    W = weights(24, 64)
    for how, bits in (("int8", 8), (torch.float16, 24), (torch.bfloat16, 24)):
        layer = Int8Linear.quantize(W, outlier_weights=how)
        assert layer.bits_per_weight == bits + 32 / 64


def test_int8_refuses_what_it_cannot_serve():
    with (
        fixture.as_learners_have_it(),
        pytest.raises(ValueError, match="outlier_weights is 'fp16'; choose a dtype"),
    ):
        Int8Linear.quantize(torch.ones(2, 8), outlier_weights="fp16")
    with pytest.raises(ValueError, match="quantized is 4-bit absmax per channel; give"):
        Int8Linear(rtn.quantize_rtn(weights(2, 8), grids.absmax(4)))


def test_it_stands_where_a_linear_layer_stood():
    dense = nn.Linear(128, 32)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), dense)
    model[2] = QuantLinear(nf4(dense.weight), dense.bias)
    X = weights(5, 64)
    Y = model(X)
    Y.square().sum().backward()
    assert model[0].weight.grad.isfinite().all() and Y.shape == (5, 32)
    assert "2.bias" in model.state_dict() and "2.scales_mean" in model.state_dict()
