"""Layers that keep codes: gradients without floats, buffers that no cast reaches."""

import pytest
import torch
from helpers.cases import floats_alive
from helpers.fixture import as_learners_have_it
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from minquant.kernels import frozen_product, packed_words
from minquant.layers import packed_stream
from minquant.layers.linear import Int8Linear, QuantLinear
from minquant.layers.lora import nf4
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.planning.memory import Saved

OUT, IN = 48, 128


def weights(out=OUT, width=IN, seed=0):
    """A random matrix."""
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed))


def inputs(*shape, dtype=torch.float32, grad=False):
    """Random X of these leading sizes."""
    X = torch.randn(*shape, IN, generator=torch.Generator().manual_seed(1))
    return X.to(dtype).requires_grad_(grad)


def int4(W):
    """Four bits with zeros, in groups of 64."""
    return rtn.quantize_rtn(W, grids.zero_point(4), groups.per_group(64))


LAYERS = {
    "words": lambda bias=None: QuantLinear(int4(weights()), bias, layout="words"),
    "stream": lambda bias=None: QuantLinear(int4(weights()), bias, layout="stream"),
    "nf4": lambda bias=None: QuantLinear(nf4(weights()), bias),
    "int8": lambda bias=None: Int8Linear.quantize(
        weights(), bias, outlier_weights="int8"
    ),
    "int8 kept": lambda bias=None: Int8Linear.quantize(
        weights(), bias, outlier_weights=torch.float16
    ),
}
every = pytest.mark.parametrize("layer", LAYERS, indirect=True)
every_quant = pytest.mark.parametrize("kind", ["words", "stream", "nf4"])


@pytest.fixture
def layer(request):
    """A layer of its own for each test: some move it to another device."""
    return LAYERS[request.param]()


class Largest(TorchDispatchMode):
    """Records the size of the largest float tensor that an operation made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor) and one.is_floating_point():
                self.numel = max(self.numel, one.numel())
        return out


@every_quant
def test_the_gradient_of_x_is_that_of_a_dense_layer(kind):
    layer = LAYERS[kind](torch.arange(OUT) / OUT)
    dense = nn.Linear(IN, OUT)
    dense.weight.data, dense.bias.data = layer.dequantize(), layer.bias.data
    G = torch.randn(2, 3, OUT)
    found, expected = inputs(2, 3, grad=True), inputs(2, 3, grad=True)
    Y, Y_dense = layer(found), dense(expected)
    torch.testing.assert_close(Y, Y_dense, rtol=1e-5, atol=1e-5)
    Y.backward(G)
    Y_dense.backward(G)
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-5)
    assert layer.bias.grad is None


@every_quant
def test_the_gradient_agrees_with_finite_differences_in_float64(kind):
    X = inputs(1, dtype=torch.float64, grad=True)
    assert torch.autograd.gradcheck(LAYERS[kind](), X)


@every
@pytest.mark.parametrize("part", [1, 2**20])
def test_between_forward_and_backward_no_floats_of_the_size_of_w_are_kept(
    layer, part, monkeypatch
):
    monkeypatch.setattr(packed_stream, "PART", part)
    X = inputs(2, grad=True)
    layer(X)  # what is made once and cached is not of this step
    before = floats_alive(OUT * IN // 4)
    with Saved(layer) as saved:
        Y = layer(X).sum()
    assert saved.nbytes == 0 and saved.tensors == []
    assert floats_alive(OUT * IN // 4) <= before
    Y.backward()


def test_a_layer_that_keeps_w_hat_would_be_seen():
    layer, X = LAYERS["nf4"](), inputs(2, grad=True)
    before = floats_alive(OUT * IN // 4)
    with Saved(layer) as saved:
        Y = nn.functional.linear(X, layer.dequantize())
    assert saved.nbytes == 4 * OUT * IN
    assert floats_alive(OUT * IN // 4) > before  # in `saved`
    Y.sum().backward()


@pytest.mark.parametrize("kind", ["stream", "nf4", "int8", "int8 kept"])
def test_forward_and_backward_never_hold_all_of_w_in_floats(kind, monkeypatch):
    monkeypatch.setattr(packed_stream, "PART", 8 * IN)  # eight rows at a time
    layer, X = LAYERS[kind](), inputs(2, grad=True)
    with Largest() as largest:
        layer(X).sum().backward()
    assert largest.numel == 8 * IN
    with Largest() as largest:
        layer.dequantize()
    assert largest.numel == OUT * IN


@every
def test_parts_change_nothing_but_the_order_of_sums(layer, monkeypatch):
    X, X_parts = inputs(5, grad=True), inputs(5, grad=True)
    Y = layer(X)
    Y.square().sum().backward()
    monkeypatch.setattr(packed_stream, "PART", 8 * IN)
    Y_parts = layer(X_parts)
    Y_parts.square().sum().backward()
    torch.testing.assert_close(Y, Y_parts, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(X.grad, X_parts.grad, rtol=1e-5, atol=1e-4)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_no_cast_reaches_the_buffers_and_the_bias_follows(layer, dtype):
    before = {name: b.clone() for name, b in layer.named_buffers()}
    layer.bias = nn.Parameter(torch.ones(OUT), requires_grad=False)
    for cast in (lambda: layer.to(dtype), layer.half, layer.double, layer.float):
        cast()
        for name, buffer in layer.named_buffers():
            assert buffer.dtype == before[name].dtype
            assert torch.equal(buffer, before[name])
    assert layer.to(dtype).bias.dtype == dtype
    assert layer(inputs(2, dtype=dtype)).dtype == dtype
    layer.bias = None


@every
def test_it_moves_to_another_device_as_a_whole(layer):
    away = layer.to("meta")
    assert {b.device.type for b in away.buffers()} == {"meta"}
    assert away.bits_per_weight > 4
    back = away.to_empty(device="cpu")
    assert {b.device.type for b in back.buffers()} == {"cpu"}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_state_dict_is_loaded_bit_for_bit(kind):
    layer, other = LAYERS[kind](torch.ones(OUT)), LAYERS[kind](torch.zeros(OUT))
    for buffer in other.buffers():
        buffer.reshape(-1).view(torch.uint8).zero_()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(inputs(2)), layer(inputs(2)))


@every_quant
def test_it_serves_under_gradient_checkpointing(kind):
    layer = LAYERS[kind]()
    plain, again = inputs(2, grad=True), inputs(2, grad=True)
    layer(plain).square().sum().backward()
    checkpoint(layer, again, use_reentrant=False).square().sum().backward()
    assert torch.equal(plain.grad, again.grad)


@pytest.mark.parametrize("kind", LAYERS)
def test_shapes_of_batches_come_back_and_no_tokens_are_no_trouble(kind):
    layer = LAYERS[kind](torch.ones(OUT))
    for batch in ((), (1,), (2, 3), (2, 1, 3), (0,), (2, 0)):
        assert layer(inputs(*batch)).shape == (*batch, OUT)


@pytest.mark.parametrize("kind", LAYERS)
def test_x_need_not_be_contiguous(kind):
    X = inputs(6)[::2]
    turned = inputs(6).T.contiguous().T[::2]
    assert not turned.is_contiguous()
    torch.testing.assert_close(LAYERS[kind]()(turned), LAYERS[kind]()(X))


def test_what_does_not_fit_is_named():
    layer = LAYERS["nf4"]()
    with pytest.raises(ValueError, match=r"X has shape \(2, 7\), but the layer r"):
        layer(torch.ones(2, 7))
    with pytest.raises(ValueError, match=r"bias has shape \(3,\); give one numb"):
        LAYERS["nf4"](torch.ones(3))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_cast_by_type_reaches_no_buffer_either(kind):
    layer = LAYERS[kind](torch.ones(OUT))
    before = {name: tensor.clone() for name, tensor in layer.named_buffers()}
    layer.type(torch.float16)
    after = dict(layer.named_buffers())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert layer.bias.dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parts_of_a_gradient_are_added_up_in_fp32_where_products_are_in_16_bits(
    dtype, monkeypatch
):
    """As on a GPU, where a large matrix comes in hundreds of parts."""
    monkeypatch.setattr(frozen_product, "product_dtype", lambda X: X.dtype)
    monkeypatch.setattr(packed_words, "row_slices", one_by_one)
    layer = QuantLinear(int4(weights(1024)), layout="words")
    X = inputs(4, dtype=dtype, grad=True)
    G = torch.randn(4, 1024, generator=torch.Generator().manual_seed(2)).to(dtype)
    layer(X).backward(G)
    exact = G.double() @ layer.dequantize(torch.float64)
    error = (X.grad.double() - exact).norm() / exact.norm()
    assert error < (1e-3 if dtype == torch.float16 else 4e-3)


def one_by_one(shape, weights):
    """A slice for each row."""
    return [slice(row, row + 1) for row in range(shape[0])]


def test_under_autocast_it_computes_in_autocasts_dtype_as_a_linear_layer_does():
    layer = LAYERS["words"](torch.ones(OUT))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(inputs(2)).dtype == nn.Linear(IN, OUT)(inputs(2)).dtype
    assert layer(inputs(2)).dtype == torch.float32


def test_a_number_is_no_row_of_inputs():
    said = r"X has shape \(\), but the layer reads 128"
    with as_learners_have_it(), pytest.raises(ValueError, match=said):
        LAYERS["words"]()(torch.tensor(1.0))
