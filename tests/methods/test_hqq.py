"""HQQ: the zero that leaves the least error in a norm that outliers do not decide."""

from functools import partial

import pytest
import torch
from helpers import fixture, tiny

import minquant as mq
from minquant.files.gguf_codes import tensor_of
from minquant.models.packed_model import load_, save
from minquant.numerics.ruler import Ruler

INT4 = mq.zero_point(4)


def loss(W, quantized, p=0.7):
    """What HQQ minimises."""
    return (W - quantized.dequantize()).abs().pow(p).sum()


def test_a_ruler_is_moved_where_most_weights_lie():
    """Four weights a quarter of a step off every tick, and the two ends on theirs: RTN
    keeps the ends on theirs, HQQ moves all towards the four."""
    W = torch.tensor([[0.0, 1.25, 2.25, 3.25, 4.25, 15.0]])
    nearest = mq.quantize_rtn(W, INT4, mq.per_group(6))
    moved = mq.quantize_hqq(W, INT4, mq.per_group(6))
    assert nearest.scales.item() == moved.scales.item() == 1
    assert nearest.zeros.item() == 0
    assert -0.3 < moved.zeros.item() < -0.1
    assert loss(W, moved) < loss(W, nearest)


def test_without_rounds_it_is_rtn_on_a_zero_that_is_not_rounded():
    W = fixture.layer(32, 128).W
    q = mq.quantize_hqq(W, INT4, mq.per_group(64), rounds=0)
    scales = mq.quantize_rtn(W, INT4, mq.per_group(64)).scales
    assert torch.equal(q.scales, scales)
    groups = W.reshape(32, 2, 64)
    zeros = (-groups.amin(-1) / scales.float()).half()
    assert torch.equal(q.zeros, zeros)
    codes = Ruler.of_groups(scales, zeros, INT4).codes(groups).reshape(32, 128)
    assert torch.equal(q.codes, codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_more_rounds_leave_less(bits):
    W = fixture.layer(64, 256).W
    grid = mq.zero_point(bits)
    losses = [loss(W, mq.quantize_hqq(W, grid, rounds=n)) for n in (0, 1, 2, 5, 20)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_its_error_is_that_of_the_authors_program():
    """The package hqq on this layer: 2.5685e-2, where rounding to nearest has 2.79e-2
    (its zeros are fp32, and it stops when the mean |error| no longer falls)."""
    layer = fixture.layer()
    q = mq.quantize_hqq(layer.W, INT4, mq.per_group(128))
    error = (layer.X_held_out @ (q.dequantize() - layer.W).T).square().mean().item()
    assert error == pytest.approx(2.5685e-2, rel=1e-2)


def test_its_zeros_are_counted_in_full():
    q = mq.quantize_hqq(torch.randn(8, 128), INT4)
    assert q.bits_per_weight == 4 + 32 / 64
    assert "zeros" in repr(q) and "(8, 2) float16" in repr(q)


def test_a_group_of_zeros_stays_zero():
    W = torch.randn(4, 128)
    W[1, :64] = 0
    assert not mq.quantize_hqq(W, INT4).dequantize()[1, :64].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": mq.absmax(4)}, "grid is absmax, which has no zeros"),
        ({"grid": mq.NF4}, "grid is NF4, which has no zeros"),
        ({"p": 1.0}, "p is 1.0; choose a number between 0 and 1"),
        ({"rounds": -1}, "rounds is -1; choose 0 or more"),
        ({"granularity": mq.per_group(48)}, "group_size 48 does not divide"),
        ({"W": torch.full((2, 64), torch.nan)}, "W holds 128 NaN"),
    ],
)
def test_what_it_cannot_do_is_refused(change, message):
    options = {"W": torch.randn(2, 64), "grid": INT4, **change}
    with pytest.raises(ValueError, match=message):
        mq.quantize_hqq(**options)


def test_a_model_is_quantized_packed_saved_and_loaded(tmp_path):
    method = partial(mq.quantize_hqq, grid=INT4, granularity=mq.per_group(16))
    small, report = mq.quantize(tiny.model(), method, progress=False)
    ids = torch.arange(4, 12)[None]
    expected = small(ids).logits
    packed = mq.pack_(small, report)
    torch.testing.assert_close(packed(ids).logits, expected, rtol=1e-4, atol=1e-4)
    save(packed, tmp_path / "m.safetensors")
    back = load_(tiny.model(seed=1), tmp_path / "m.safetensors")
    assert torch.equal(back(ids).logits, packed(ids).logits)


def test_its_codes_go_into_a_file_for_llama_cpp():
    q = mq.quantize_hqq(torch.randn(8, 128), INT4)
    stored = tensor_of(q)
    assert stored.type == "Q4_1"
    room = q.dequantize().abs().max() / 1024  # the minimum is rounded to fp16
    assert (stored.dequantize() - q.dequantize()).abs().max() <= room


def test_words_for_kernels_refuse_zeros_that_are_floats():
    q = mq.quantize_hqq(torch.randn(8, 128), INT4)
    with pytest.raises(ValueError, match="zeros are floats, and words hold whole"):
        mq.pack_matrix(q)
    assert torch.equal(mq.QuantLinear(q).dequantize(), q.dequantize())
