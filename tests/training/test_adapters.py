"""Adapters on a whole model: put on, trained, checkpointed, merged, taken off."""

import contextlib
import copy
import functools

import pytest
import torch
from helpers import tiny
from torch import nn
from transformers import DynamicCache

from minquant.layers import lora
from minquant.layers.linear import QuantLinear
from minquant.layers.lora import LoraLinear
from minquant.methods import rtn
from minquant.models import packed_model, quantize
from minquant.numerics import grids, groups
from minquant.planning.memory import Saved, step_memory
from minquant.training import adapters

IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))
nf4 = functools.partial(
    rtn.quantize_rtn, grid=grids.NF4, granularity=groups.per_group(16)
)


def adapted(kind="Llama", **options):
    """A tiny model with adapters of rank 2."""
    return adapters.add_adapters_(
        tiny.model(kind), **{"rank": 2, "method": nf4, **options}
    )


def loss(network):
    """What a model makes of IDS."""
    return network(input_ids=IDS, labels=IDS).loss


def train(network, steps=20, rate=0.02):
    """A few steps on one batch; its losses."""
    optimizer = torch.optim.AdamW(adapters.trainable(network), lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(network)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


@functools.cache
def learnt():
    """An adapted model after training; copy it before you change it."""
    network = adapted()
    train(network)
    return network


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_new_adapters_leave_the_predictions_of_the_quantized_model(kind):
    twin, report = quantize.quantize(tiny.model(kind), nf4, progress=False)
    network = adapted(kind)
    assert list(adapters.adapters(network)) == list(report)
    assert list(adapters.adaptable(network)) == list(report)
    for layer in adapters.adapters(network).values():
        assert isinstance(layer.base, QuantLinear)
    found = network(input_ids=IDS).logits
    torch.testing.assert_close(found, twin(input_ids=IDS).logits, rtol=1e-4, atol=1e-3)


def test_only_adapters_are_trained_and_all_else_is_bit_identical_after():
    network = adapted()
    network.requires_grad_(True)  # as a model is that was just made
    network = adapters.add_adapters_(adapters.remove_adapters_(network), rank=2)
    codes = adapters.base_bytes(network)
    floats = {n: p.clone() for n, p in network.named_parameters() if ".base." not in n}
    trained = {id(p) for p in adapters.trainable(network)}
    assert trained == {id(p) for p in network.parameters() if p.requires_grad}
    assert len(trained) == 2 * 14
    losses = train(network)
    assert losses[-1] < losses[0] - 0.2
    assert adapters.base_bytes(network) == codes and codes
    for name, parameter in network.named_parameters():
        if not name.endswith((".A", ".B")):
            assert torch.equal(parameter, floats[name]), name


def test_chosen_layers_alone_get_one_and_others_may_follow():
    network = adapted(only="q_proj|v_proj")
    assert len(adapters.adapters(network)) == 4
    assert len(packed_model.coded_layers(network)) == 4
    adapters.add_adapters_(network, only="up_proj", rank=3, method=None)
    assert len(adapters.trainable(network)) == 2 * 6
    assert all(p.requires_grad for p in adapters.trainable(network))
    up = network.model.layers[0].mlp.up_proj
    assert type(up.base) is nn.Linear and up.rank == 3


def test_without_a_method_it_is_plain_lora_and_codes_stay_what_they_are():
    network = adapted(method=None)
    assert not packed_model.coded_layers(network)
    assert torch.equal(loss(network), loss(tiny.model()))
    packed = tiny.model()
    report = quantize.quantize_(
        packed,
        functools.partial(rtn.quantize_rtn, grid=grids.absmax(4)),
        progress=False,
    )
    packed_model.pack_(packed, report)
    before = loss(packed)
    adapters.add_adapters_(packed, method=None)  # `method` is for floats
    assert torch.equal(loss(packed), before)
    assert "4.50 bits per weight, absmax per channel" in repr(packed)


def test_nf4_with_double_quantization_is_the_default():
    wide = {"hidden_size": 64, "intermediate_size": 64}
    network = adapters.add_adapters_(tiny.model(**wide))
    layer = network.model.layers[0].mlp.up_proj
    assert torch.equal(
        layer.base.dequantize(),
        lora.nf4(tiny.model(**wide).model.layers[0].mlp.up_proj.weight).dequantize(),
    )
    assert layer.rank == 8 and layer.scaling == 2.0


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_rows_that_64_does_not_divide_get_one_scale_each_and_this_is_said(kind, capsys):
    sizes = {"GPT2": {"n_embd": 64, "n_inner": 172}}
    sizes = sizes.get(kind, {"hidden_size": 64, "intermediate_size": 172})
    network = adapters.add_adapters_(tiny.model(kind, **sizes), rank=2)
    end = "mlp.c_proj" if kind == "GPT2" else "mlp.down_proj"
    for name, layer in adapters.adapters(network).items():
        ruler = "per channel" if name.endswith(end) else "per group of 64"
        assert layer.base.ruler == f"NF4 {ruler}"
    said = capsys.readouterr().out
    assert said.startswith("2 layers have one scale per row, as groups of 64 do not ")
    assert "divide rows of 172 (" in said
    losses = train(network)
    assert losses[-1] < losses[0]
    before = loss(network)
    adapters.merge_adapters_(network)
    torch.testing.assert_close(loss(network), before)


def test_seeds_decide_the_adapters():
    one, two = adapted(), adapted()
    other = adapted(generator=torch.Generator().manual_seed(7))
    A, same, different = (
        [p for p in adapters.trainable(m) if p.any()] for m in (one, two, other)
    )
    assert all(torch.equal(a, b) for a, b in zip(A, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(A, different, strict=True))
    assert not torch.equal(A[0], A[3])  # q and o of one shape


def test_gradient_checkpointing_gives_the_same_gradients_and_saves_less():
    plain, again = lambda _: contextlib.nullcontext(), adapters.checkpointed
    gradients, kept = [], []
    for how in (plain, again):
        network = copy.deepcopy(learnt()).train()
        with how(network), Saved(network) as saved:
            value = loss(network)
        kept.append(saved.nbytes)
        del saved
        value.backward()
        gradients.append([p.grad for p in adapters.trainable(network)])
    with again(network):  # a cache would be filled once more in the backward pass
        assert network(input_ids=IDS).past_key_values is None
    assert kept[1] < 0.5 * kept[0]
    assert [type(m) for m in network.modules()] == [type(m) for m in learnt().modules()]
    assert all(g is not None and g.any() for g in gradients[0])
    for g, g_again in zip(*gradients, strict=True):
        torch.testing.assert_close(g, g_again)


def test_gradient_checkpointing_repeats_the_same_dropout():
    gradients = []
    for how in (lambda _: contextlib.nullcontext(), adapters.checkpointed):
        network = adapted(dropout=0.5).train()
        for seed, adapter in enumerate(adapters.adapters(network).values()):
            draw = torch.Generator().manual_seed(seed)
            adapter.B.data = 0.1 * torch.randn(adapter.B.shape, generator=draw)
        torch.manual_seed(3)
        with how(network):
            value = loss(network)
        value.backward()
        gradients.append([p.grad for p in adapters.trainable(network)])
    for g, g_again in zip(*gradients, strict=True):
        assert g.any()
        torch.testing.assert_close(g, g_again)


def test_checkpointing_within_checkpointing_is_refused_and_leaves_the_outer_one():
    network = adapted().train()
    classes, plain = [type(m) for m in network.modules()], loss(network)
    with adapters.checkpointed(network):
        inside = [type(m) for m in network.modules()]
        seen = "this LlamaModel is inside a `with` block that changes it already"
        with pytest.raises(ValueError, match=seen), adapters.checkpointed(network):
            pass
        assert [type(m) for m in network.modules()] == inside != classes
        torch.testing.assert_close(loss(network), plain)
        with pytest.raises(RuntimeError), adapters.checkpointed(adapted()):
            raise RuntimeError
    assert [type(m) for m in network.modules()] == classes


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_checkpointing_is_of_every_family_and_a_cache_is_refused_with_gradients(kind):
    network = tiny.model(kind).requires_grad_(True)
    plain = loss(network)
    plain.backward()
    before = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    with adapters.checkpointed(network):
        again = loss(network)
        for asked in ({"use_cache": True}, {"past_key_values": DynamicCache()}):
            with pytest.raises(ValueError, match="asks for a cache, and inside checkp"):
                network(IDS, **asked)
            with torch.no_grad():
                assert network(IDS, **asked).past_key_values.get_seq_length() == 20
    again.backward()  # after the block
    torch.testing.assert_close(again, plain)
    for p, g in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_qlora_saves_no_more_than_lora_and_its_weights_are_smaller():
    wide = {"hidden_size": 64, "intermediate_size": 64}
    found = []
    for method in (None, lora.nf4):
        network = adapters.add_adapters_(tiny.model(**wide), rank=2, method=method)
        optimizer = torch.optim.AdamW(adapters.trainable(network))
        step = functools.partial(loss, network)
        found.append(step_memory(network, optimizer, step))
    plain, quantized = found
    assert quantized.saved == plain.saved
    assert quantized[1:3] == plain[1:3]
    linear = sum(m.weight.numel() for m in linear_of(tiny.model(**wide)))
    codes = linear * (4 + 8 / 64) / 8
    ends = 4 * sum(
        -(-m.weight.numel() // (64 * 256)) + 1 for m in linear_of(tiny.model(**wide))
    )
    assert plain.weights - quantized.weights == 4 * linear - codes - ends


def linear_of(network):
    """The linear layers of a model of floats."""
    return adapters.adaptable(network).values()


def test_removed_they_leave_the_base_untouched():
    network = copy.deepcopy(learnt())
    expected = adapters.remove_adapters_(adapted())
    assert adapters.remove_adapters_(network) is network
    assert not adapters.adapters(network)
    assert torch.equal(loss(network), loss(expected))
    assert adapters.base_bytes(network) == adapters.base_bytes(expected)


def test_merged_they_are_floats_that_compute_the_same():
    network = copy.deepcopy(learnt())
    before = network(input_ids=IDS).logits
    assert adapters.merge_adapters_(network) is network
    assert not adapters.adapters(network) and not packed_model.coded_layers(network)
    after = network(input_ids=IDS).logits
    torch.testing.assert_close(after, before, rtol=1e-3, atol=2e-3)
    quantize.quantize_(network, nf4, progress=False)  # to round again is a choice
    again = network(input_ids=IDS).logits
    assert (again - before).abs().max() > 10 * (after - before).abs().max()


def test_a_packed_model_with_adapters_goes_through_a_file(tmp_path):
    network = copy.deepcopy(learnt())
    packed_model.save(network, tmp_path / "adapted.safetensors")
    again = packed_model.load_(adapted(), tmp_path / "adapted.safetensors")
    assert torch.equal(loss(again), loss(network))
    assert adapters.base_bytes(again) == adapters.base_bytes(network)


def test_a_shared_weight_has_its_codes_once():
    network = tiny.model()
    first, second = (network.model.layers[i].mlp.up_proj for i in (0, 1))
    second.weight = first.weight
    adapters.add_adapters_(network, rank=2, method=nf4)
    first, second = (network.model.layers[i].mlp.up_proj for i in (0, 1))
    assert first.base.codes.data_ptr() == second.base.codes.data_ptr()
    assert first.A is not second.A


def nothing_fits(W):
    """A method that fails at the MLP's last layer, the 7th of 14."""
    return rtn.quantize_rtn(W, grids.NF4, groups.per_group(32))  # 48 inputs


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("Llama", {"rank": 0}, ValueError, "rank is 0; choose an integer"),
        ("Llama", {"alpha": float("nan")}, ValueError, "alpha is nan; choose a number"),
        ("Llama", {"dropout": 1.0}, ValueError, "dropout is 1.0; choose a share"),
        ("Llama", {"dtype": torch.int8}, ValueError, "dtype is torch.int8; choose fl"),
        ("Llama", {"method": nothing_fits}, ValueError, "does not divide"),
        ("Llama", {"only": ["up_proj"]}, ValueError, "names .'up_proj'."),
        ("GPT2", {"method": None}, TypeError, "base is a Conv1D; give an nn.Linear"),
    ],
)
def test_a_refused_call_leaves_the_model_as_it_was(kind, options, error, message):
    network = tiny.model(kind).requires_grad_(True)
    before = {name: id(m) for name, m in network.named_modules()}
    with pytest.raises(error, match=message):
        adapters.add_adapters_(network, **{"rank": 2, "method": nf4, **options})
    assert {name: id(m) for name, m in network.named_modules()} == before
    assert all(p.requires_grad for p in network.parameters())


def test_what_does_not_fit_is_named():
    network = adapted()
    with pytest.raises(ValueError, match="has an adapter on model.layers.0.self"):
        adapters.add_adapters_(network)
    with pytest.raises(ValueError, match="model has no adapters; put some on w"):
        adapters.trainable(tiny.model())
    with pytest.raises(ValueError, match="only='lm_head' names no layer"):
        adapted(only="lm_head")
    with pytest.raises(TypeError, match="base is a Conv1D; give an nn.Linear"):
        adapted("GPT2", method=None)
    assert all(isinstance(m, LoraLinear) for m in adapters.adapters(network).values())
