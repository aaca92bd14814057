"""A ruler whose scale has a sign: llama.cpp's Q4_0 and Q5_0."""

import pytest
import torch

import minquant as mq
from minquant.files.gguf_blocks import quantize_blocks
from minquant.files.gguf_codes import tensor_of
from minquant.files.pack_quantized import check
from minquant.methods.rtn import quantize_with

G32 = mq.per_group(32)


def weights(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("clip", [None, "mse"])
@pytest.mark.parametrize(
    ("bits", "low", "high"), [(2, -2, 1), (4, -8, 7), (5, -16, 15)]
)
def test_the_extreme_gets_the_lowest_code_and_no_weight_moves_by_more_than_a_step(
    bits, low, high, clip
):
    W = weights(8, 64)
    q = mq.quantize_rtn(W, mq.signed(bits), G32, clip=clip, scale_dtype=torch.float32)
    assert (q.codes.min(), q.codes.max()) == (low, high)
    assert (q.scales < 0).any() and (q.scales > 0).any()
    groups, moved = W.view(8, 2, 32), (q.dequantize() - W).view(8, 2, 32)
    if clip is None:
        at = groups.abs().argmax(-1, keepdim=True)
        assert (q.codes.view(8, 2, 32).gather(-1, at) == low).all()
        assert moved.gather(-1, at).abs().max() < 1e-6
        assert (moved.abs() <= q.scales.abs()[..., None] * (1 + 1e-6)).all()


def test_clipping_is_never_worse_than_none():
    W = weights(16, 64)
    plain, cut = (mq.quantize_rtn(W, mq.signed(3), G32, clip=c) for c in (None, "mse"))
    error, least = ((q.dequantize() - W).view(-1, 32) ** 2 for q in (plain, cut))
    assert (least.sum(-1) <= error.sum(-1) * (1 + 1e-6)).all()
    assert least.sum() < error.sum()


@pytest.mark.parametrize(("bits", "name"), [(4, "Q4_0"), (5, "Q5_0")])
def test_rounding_to_nearest_gives_the_bytes_of_llama_cpp(bits, name):
    W = weights(64, 256)
    W[0, :32], W[1, :32] = 0, -1.0  # no ruler needed; all extremes
    groups = W.view(-1, 32)
    at = groups.abs().argmax(1, keepdim=True)
    exact = groups.gather(1, at).half().float()  # so that d is a number of fp16
    groups.scatter_(1, at, exact)
    ours = tensor_of(mq.quantize_rtn(W, mq.signed(bits), G32))
    assert ours.type == name
    theirs = quantize_blocks(W, name)
    nonzero = groups.any(1)
    same = (ours.data.view(len(groups), -1) == theirs.view(len(groups), -1)).all(1)
    assert same[nonzero].all()
    assert torch.equal(ours.dequantize()[0, :32], torch.zeros(32))


def test_it_errs_less_than_the_symmetric_ruler_and_so_does_gptq():
    W, X = weights(64, 256), weights(512, 256, seed=1)
    H = X.T @ X
    for method in (mq.quantize_rtn, lambda W, *a: mq.quantize_gptq(W, H, *a)):
        errors = [
            ((method(W, grid, G32).dequantize() - W) @ X.T).square().mean().item()
            for grid in (mq.signed(4), mq.symmetric_full(4))
        ]
        # a step of 1/8 instead of 1/7.5 alone: (7.5 / 8)² = 0.88
        assert errors[0] < 0.9 * errors[1]


def test_gptq_with_a_diagonal_h_is_rounding_to_nearest():
    W = weights(8, 64)
    rounded = mq.quantize_rtn(W, mq.signed(4), G32)
    solved = mq.quantize_gptq(W, torch.eye(64), mq.signed(4), G32)
    assert torch.equal(solved.codes, rounded.codes)
    assert torch.equal(solved.scales, rounded.scales)


def test_packed_layers_compute_the_same():
    q = mq.quantize_rtn(weights(32, 64), mq.signed(4), G32)
    X = weights(5, 64, seed=1)
    layer = mq.QuantLinear(q)
    assert torch.equal(layer.dequantize(torch.float32), q.dequantize())
    assert torch.allclose(layer(X), X @ q.dequantize().T, atol=1e-4)


def test_what_knows_no_sign_is_refused():
    W, grid = weights(8, 64), mq.signed(4)
    formats = mq.E8M0.store, mq.E4M3.of(W, grid), mq.DoubleQuantized.store
    for store in formats:
        with pytest.raises(ValueError, match="format of positive scales"):
            mq.quantize_rtn(W, grid, G32, scale_dtype=store)
    with pytest.raises(ValueError, match="signed of 4 bits, which the format has no"):
        check(mq.quantize_rtn(W, grid, G32))
    scales = mq.quantize_rtn(W, grid, G32).scales
    quantize_with(W, scales, None, grid, G32)
    with pytest.raises(ValueError, match="not positive"):
        quantize_with(W, scales, None, mq.symmetric_full(4), G32)
    with pytest.raises(ValueError, match="not positive"):
        quantize_with(W, scales * 0, None, grid, G32)
    with pytest.raises(ValueError, match=r"up to 1.25e\+05, is not finite"):
        mq.quantize_rtn(torch.full((1, 32), -1e6), grid, G32)
