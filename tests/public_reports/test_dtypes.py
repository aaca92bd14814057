"""Weights in every dtype and layout: taken as floats, or refused with what to do.

compressed-tensors#134: weights that are float8 already stop a quantizer with
"not implemented for Float8_e4m3fn".
"""

import pytest
import torch
from helpers import tiny
from helpers.fixture import as_learners_have_it

from minquant.layers.linear import Int8Linear
from minquant.layers.lora import nf4
from minquant.methods.awq import quantize_awq
from minquant.methods.catalog import BY_NAME, score
from minquant.methods.codebooks import error_by_code, lloyd, places
from minquant.methods.gptq import quantize_gptq
from minquant.methods.hqq import quantize_hqq
from minquant.methods.llm_int8 import llm_int8
from minquant.methods.rotation import Rotation
from minquant.methods.rtn import fake_quantize, quantize_rtn
from minquant.methods.smoothquant import quantize_smooth
from minquant.models.quantize import quantize
from minquant.numerics.grids import NF4, zero_point
from minquant.numerics.tensor import QuantizedTensor

FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
INT4 = zero_point(4)
X = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
H = X.T @ X
METHODS = {
    "rtn": lambda W: quantize_rtn(W, INT4),
    "rtn mse": lambda W: quantize_rtn(W, NF4, clip="mse"),
    "gptq": lambda W: quantize_gptq(W, H, INT4),
    "awq": lambda W: quantize_awq(W, X, INT4),
    "smoothquant": lambda W: quantize_smooth(W, X),
    "hqq": lambda W: quantize_hqq(W, INT4),
    "llm_int8": lambda W: llm_int8(X, W, 2.0),
    "layer": lambda W: Int8Linear.quantize(W, outlier_weights=torch.float16)(X),
    "nf4": nf4,
    **{name: form.quantize for name, form in BY_NAME.items() if form.g <= 64},
}


def normal(dtype=torch.float32):
    W = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    return W.to(dtype)


def result(method, W):
    found = METHODS[method](W)
    return found.dequantize() if isinstance(found, QuantizedTensor) else found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", FLOAT8)
def test_weights_in_8_bits_are_taken_as_the_numbers_they_are(method, dtype):
    """compressed-tensors#134."""
    W = normal(dtype)
    with as_learners_have_it():
        assert torch.equal(result(method, W), result(method, W.float()))


STRANGE = {
    "complex": (normal(torch.complex64), TypeError, "W has dtype torch.complex64"),
    "bool": (normal() > 0, TypeError, "W has dtype torch.bool; give floats"),
    "int": (normal().int(), TypeError, "W has dtype torch.int32; give floats"),
    "sparse": (normal().to_sparse(), TypeError, "W is torch.sparse_coo; give a dense"),
    "1-D": (normal()[0], ValueError, r"W has shape \(64,\); give one matrix"),
    "3-D": (normal()[None], ValueError, r"W has shape \(1, 8, 64\); give one matrix"),
    "meta": (normal().to("meta"), ValueError, "W is on the meta device and has no val"),
    "nan": (normal() / 0 * 0, ValueError, "W holds 512 NaN and 0 infinite of 512"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_matrix_of_floats_is_refused_by_every_method(method, kind):
    W, error, message = STRANGE[kind]
    with as_learners_have_it(), pytest.raises(error, match=message):
        METHODS[method](W)


@pytest.mark.parametrize("method", METHODS)
def test_neither_strides_nor_gradients_change_a_result(method):
    W = normal()
    expected = result(method, W)
    assert torch.equal(result(method, W.T.contiguous().T), expected)
    learns = W.clone().requires_grad_()
    found = result(method, learns)
    assert torch.equal(found, expected) and not found.requires_grad
    assert torch.equal(learns, W)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("X", lambda A: quantize_awq(normal(), A, INT4)),
        ("X", lambda A: quantize_smooth(normal(), A)),
        ("X", lambda A: llm_int8(A, normal())),
        ("H", lambda A: quantize_gptq(normal(), A[:, :40].T @ A[:, :40], INT4)),
        ("x", lambda A: lloyd(A.flatten(), [0.0, 1.0])),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(name, call, bad):
    A = X.clone()
    A[3, 5] = bad
    if name == "H":
        square = H.clone()
        square[3, 5] = bad
        call = lambda _: quantize_gptq(normal(), square, INT4)  # noqa: E731
    with as_learners_have_it(), pytest.raises(ValueError, match=f"^{name} holds"):
        call(A)


@pytest.mark.parametrize("dtype", FLOAT8)
def test_a_result_in_8_bits_is_rounded_and_not_cut(dtype):
    W = normal(dtype)
    W_hat = fake_quantize(W, INT4)
    assert W_hat.dtype == dtype
    assert torch.equal(W_hat.float(), fake_quantize(W.float(), INT4).to(dtype).float())
    big = (normal() * 400).clamp(-448, 448).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="dtype torch.float8_e4m3fn ends at 448, but"):
        quantize_rtn(big.float() * 2, INT4).dequantize(torch.float8_e4m3fn)


def test_what_looks_at_weights_takes_8_bits_too():
    W = normal(torch.float8_e4m3fn)
    q = quantize_rtn(W, NF4)
    with as_learners_have_it():
        assert torch.equal(places(W, q), places(W.float(), q))
        assert torch.equal(error_by_code(W, q), error_by_code(W.float(), q))
        assert score([W], BY_NAME["NVFP4"]) == score([W.float()], BY_NAME["NVFP4"])


@pytest.mark.parametrize("dtype", [*FLOAT8, torch.int32, torch.bool])
def test_a_rotation_asks_for_wider_floats(dtype):
    rotation = Rotation.random(64)
    for turn in (rotation.apply, rotation.undo):
        with (
            as_learners_have_it(),
            pytest.raises(TypeError, match=f"X has dtype {dtype}; give wider floats"),
        ):
            turn(normal().to(dtype))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_a_model_whose_weights_have_8_bits_is_refused_by_its_layers_name(dtype):
    network = tiny.model()
    layer = network.get_submodule("model.layers.0.mlp.up_proj")
    layer.weight = torch.nn.Parameter(layer.weight.to(dtype), requires_grad=False)
    with (
        as_learners_have_it(),
        pytest.raises(TypeError, match="layers.0.mlp.up_proj has dtype .*float"),
    ):
        quantize(network, lambda W: quantize_rtn(W, INT4), progress=False)
