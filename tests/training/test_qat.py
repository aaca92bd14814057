"""Training through rounding: the gradient goes straight through, and codes come out."""

import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minquant.methods import rtn
from minquant.models import quantize, text
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.w8a8 import w8a8
from minquant.numerics.grids import NF4, TERNARY, absmax, zero_point
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, per_group
from minquant.training import adapters, qat

GRIDS = [TERNARY, absmax(2), absmax(4), zero_point(3), NF4]


def batches(n=6, shape=(4, 12), seed=0):
    """Random ids, all of one shape."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 30, shape, generator=generator) for _ in range(n)]


def test_ternary_weights_and_their_gradient_by_hand():
    W = torch.tensor([[1.0, -0.4, 0.1, -2.5]], requires_grad=True)  # mean |w| is 1
    W_hat = qat.straight_through(W, TERNARY)
    assert W_hat.tolist() == [[1, 0, 0, -1]]
    x = torch.tensor([[2.0, 3.0, 5.0, 7.0]])
    loss = ((x * W_hat).sum() - 1).square()  # (2 - 7 - 1)² = 36
    loss.backward()
    assert loss.item() == 36
    assert W.grad.tolist() == [[2 * -6 * v for v in (2, 3, 5, 7)]]


@settings(max_examples=40, deadline=None)
@given(
    grid=st.sampled_from(GRIDS),
    granularity=st.sampled_from([PER_CHANNEL, per_group(4)]),
    seed=st.integers(0, 999),
)
def test_forward_is_rounding_to_nearest_and_backward_the_identity(
    grid, granularity, seed
):
    generator = torch.Generator().manual_seed(seed)
    W, G = torch.randn(2, 3, 8, generator=generator)
    W.requires_grad_(True)
    W_hat = qat.straight_through(W, grid, granularity)
    assert torch.equal(W_hat, rtn.fake_quantize(W, grid, granularity))
    W_hat.backward(G)
    assert torch.equal(W.grad, G)


def test_the_gradient_is_that_of_w_plus_a_constant():
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    X = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    shift = rtn.fake_quantize(W, absmax(3)) - W
    twice = []
    for rounded in (lambda w: qat.straight_through(w, absmax(3)), lambda w: w + shift):
        w = W.clone().requires_grad_(True)
        (X @ rounded(w).T).sigmoid().square().sum().backward()
        twice.append(w.grad)
    assert torch.allclose(*twice, rtol=1e-12)


def test_the_rate_rises_and_falls_to_nothing():
    rates = [qat.schedule(step, 50) for step in range(51)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == 0
    assert qat.schedule(0, 1) == 1


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_at_a_rate_of_nothing_training_is_rounding_to_nearest(kind):
    network = tiny.model(kind)
    made = qat.train(network, batches(2), rate=0.0, progress=False)
    rounded, _ = quantize.quantize(network, lambda W: rtn.quantize_rtn(W, TERNARY))
    expected = dict(rounded.named_parameters())
    assert all(torch.equal(w, expected[n]) for n, w in made.model.named_parameters())


@pytest.mark.parametrize("teacher", [True, False])
def test_training_wins_back_much_of_what_rounding_costs(teacher):
    network, seen = tiny.model(), batches(1) * 40
    made = qat.train(network, seen, teacher=teacher, progress=False)
    assert sum(made.losses[-5:]) < 0.6 * sum(made.losses[:5])
    assert len(made.losses) == 40


def test_the_model_that_comes_out_holds_its_codes_and_no_trace_of_training():
    network = tiny.model()
    made = qat.train(network, batches(), zero_point(2), per_group(8), progress=False)
    layers = linear_layers(made.model)
    assert list(made.report) == list(layers)
    for name, quantized in made.report.items():
        assert type(layers[name]) is nn.Linear
        assert torch.equal(weight_of(layers[name]), quantized.dequantize())
        assert quantized.grid == zero_point(2)
    assert not any(w.requires_grad for w in made.model.parameters())
    names = [name for name, _ in network.named_parameters()]
    assert [name for name, _ in made.model.named_parameters()] == names


def test_the_model_that_was_given_is_left_alone_and_the_result_repeats():
    network = tiny.model()
    kept = [w.clone() for w in network.parameters()]
    first, second = (qat.train(network, batches(3), progress=False) for _ in range(2))
    assert first.losses == second.losses
    pairs = zip(kept, network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(w.requires_grad or w.grad is not None for w in network.parameters())


def test_no_step_follows_more_than_a_gradient_of_norm_one(monkeypatch):
    norms, step = [], torch.optim.AdamW.step

    def watched(adam):
        gradients = [w.grad for group in adam.param_groups for w in group["params"]]
        norms.append(nn.utils.get_total_norm(gradients).item())
        return step(adam)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    qat.train(tiny.model(), batches(3), teacher=False, progress=False)
    assert norms == pytest.approx([1, 1, 1], abs=1e-4)  # each was longer


def test_at_sixteen_bits_the_teacher_has_nothing_to_say():
    made = qat.train(tiny.model(), batches(1), absmax(16), rate=0.0, progress=False)
    # scales in fp16 cut the largest weights by up to 1 in 2048
    assert 0 <= made.losses[0] < 1e-3


def test_documents_come_one_by_one_in_their_order_and_cut():
    texts = tiny.texts_of("train", 6)
    rows = text.encode(tiny.tokenizer(), texts)
    made = qat.one_by_one(tiny.tokenizer(), texts, length=20)
    assert [ids.shape[0] for ids in made] == [1] * 6
    assert all(torch.equal(a[0], b[:20]) for a, b in zip(made, rows, strict=True))
    with pytest.raises(ValueError, match="test split"):
        qat.one_by_one(tiny.tokenizer(), tiny.texts_of("test", 1))


def test_what_cannot_be_trained_is_refused_with_what_to_do():
    network = tiny.model()
    with pytest.raises(ValueError, match="batches is empty; pass qat.one_by_one"):
        qat.train(network, [])
    with pytest.raises(ValueError, match="torch.bfloat16, in which small steps are lo"):
        qat.train(tiny.model(dtype=torch.bfloat16), batches())
    network.model.layers[0].mlp.up_proj.weight = network.model.layers[
        0
    ].mlp.gate_proj.weight
    with pytest.raises(ValueError, match="shares weights between layers; give each it"):
        qat.train(network, batches())
    worn = adapters.add_adapters_(tiny.model(), rank=2, method=None)
    with pytest.raises(ValueError, match="an adapter on model.layers.0.self_attn.q_p"):
        qat.train(worn, batches())
    broken = tiny.model()
    broken.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="norm nan at step 0; lower rate 0.002"):
        qat.train(broken, batches(), progress=False)


def test_without_a_grid_training_alone_changes_the_model_and_rounds_nothing():
    model = tiny.model()
    control = qat.train(
        model, batches(), None, rate=1e-2, teacher=False, progress=False
    )
    assert not control.report and len(control.losses) == 6
    before, after = (linear_layers(m) for m in (model, control.model))
    for name, layer in after.items():
        W = weight_of(layer)
        assert not torch.equal(W, weight_of(before[name]))
        assert W.unique().numel() > 0.9 * W.numel()
        assert not hasattr(layer, "parametrizations")


def test_inputs_are_rounded_in_training_as_w8a8_rounds_them_and_not_after():
    model = tiny.model()
    ids = batches(1)[0]
    options = {"rate": 0.0, "progress": False, "teacher": False}
    trained = qat.train(model, [ids], None, input_bits=4, **options)
    assert trained.losses[0] != qat.train(model, [ids], None, **options).losses[0]
    assert not any(layer._forward_pre_hooks for layer in trained.model.modules())
    eight = qat.train(model, [ids], TERNARY, PER_TENSOR, input_bits=8, **options)
    with w8a8(eight.model, "vector_wise"):
        logits = eight.model(input_ids=ids).logits
    loss = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    assert loss.item() == pytest.approx(eight.losses[0], rel=1e-4)
    for quantized in eight.report.values():
        assert quantized.scales.numel() == 1  # one for the matrix, as BitNet has it
