"""A change that a `with` block makes ends with the block, and reaches no copy.

accelerate#1835     a deep copy of a hooked model calls the original's forward
transformers#36051  generate writes garbage while checkpointing is on
unsloth-zoo#590     a replaced forward takes fewer arguments than the one it replaces
"""

import copy
import json
import pickle
import threading
from functools import partial

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.layers import lora
from minquant.methods import rtn
from minquant.models import kv_cache, load, packed_model, quantize, text
from minquant.models.linear_layers import linear_layers
from minquant.models.temporary import changed
from minquant.models.w8a8 import w8a8
from minquant.numerics.grids import absmax, zero_point
from minquant.training import adapters, finetune, qat

IDS = torch.randint(3, 30, (2, 24), generator=torch.Generator().manual_seed(0))
BLOCKS = {  # the package's `with` blocks that change a model
    "w8a8": w8a8,
    "rounding": partial(
        kv_cache.rounding,
        scheme=kv_cache.Rounding(2, 2, group=4, window=4),
        chunk=4,
    ),
    "checkpointed": adapters.checkpointed,
}
every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


@torch.no_grad()
def logits(network):
    """What a model says of IDS."""
    return network(input_ids=IDS).logits


def classes(network):
    """The class of each module."""
    return [type(module) for module in network.modules()]


def pickled(network):
    """A copy by way of pickle."""
    return pickle.loads(pickle.dumps(network))


@every_block
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_a_copy_made_inside_is_a_plain_model_of_its_own_accelerate_1835(
    kind, copied, block
):
    network = tiny.model(kind)
    plain = logits(network)
    with block(network):
        inside = logits(network)
        twin = copied(network)
        assert torch.equal(logits(twin), plain)
        for layer in linear_layers(twin).values():
            layer.weight.zero_()
        assert torch.equal(logits(network), inside)  # it kept its weights
    assert classes(twin) == classes(network) == classes(tiny.model(kind))
    assert not torch.equal(logits(twin), plain)
    assert torch.equal(logits(network), plain)
    assert not any("forward" in vars(m) for n in (network, twin) for m in n.modules())


@every_block
def test_a_model_quantized_inside_is_the_one_quantized_outside(block):
    network, two = tiny.model(), partial(rtn.quantize_rtn, grid=absmax(2))
    outside, _ = quantize.quantize(network, two, progress=False)
    with block(network):
        inside, report = quantize.quantize(network, two, progress=False)
        packed = packed_model.pack_(copy.deepcopy(network), report)
        assert torch.equal(logits(inside), logits(outside))
    torch.testing.assert_close(logits(packed), logits(outside), rtol=1e-4, atol=1e-4)


@every_block
def test_a_layer_changed_in_place_inside_is_seen_inside_and_after(block):
    network, two = tiny.model(), partial(rtn.quantize_rtn, grid=absmax(2))
    expected, _ = quantize.quantize(network, two, progress=False)
    with block(expected):
        inside = logits(expected)
    with block(network):
        quantize.quantize_(network, two, progress=False)
        assert torch.equal(logits(network), inside)
    assert torch.equal(logits(network), logits(expected))


@every_block
def test_what_is_trained_or_saved_inside_is_what_it_would_be_outside(block, tmp_path):
    network = tiny.model()
    batches = [IDS]
    outside = qat.train(network, batches, teacher=False, progress=False)
    student = finetune.prepared(network, "lora", dtype=torch.float32)
    losses = finetune.train_(student, [(IDS, IDS)])
    with block(network):
        inside = qat.train(network, batches, teacher=False, progress=False)
        twin = finetune.prepared(network, "lora", dtype=torch.float32)
        assert finetune.train_(twin, [(IDS, IDS)]) == losses
        network.save_pretrained(tmp_path)
    assert inside.losses == outside.losses
    assert torch.equal(logits(inside.model), logits(outside.model))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    read = type(network).from_pretrained(tmp_path)
    assert torch.equal(logits(read), logits(network))


def test_the_almanac_quantized_inside_a_rounding_has_its_own_two_bits():
    network, _ = load.load()
    two = partial(rtn.quantize_rtn, grid=absmax(2))
    with kv_cache.rounding(network, kv_cache.Rounding(8, 8)):
        made, _ = quantize.quantize(network, two, progress=False)
    expected, _ = quantize.quantize(network, two, progress=False)
    assert torch.equal(logits(made), logits(expected))
    assert (logits(made) - logits(network)).abs().max() > 1


@pytest.mark.parametrize("kind", ["Llama", "Phi", "OPT", "GPT2"])
def test_what_is_written_inside_checkpointing_is_no_garbage_transformers_36051(kind):
    network = tiny.model(kind).requires_grad_(True)
    options = {"attention_mask": torch.ones_like(IDS), "pad_token_id": 0}
    options |= {"max_new_tokens": 8, "do_sample": False}
    ours = text.continue_greedily(network, IDS, 8)
    theirs = network.generate(IDS, **options)
    with adapters.checkpointed(network):
        assert torch.equal(text.continue_greedily(network, IDS, 8), ours)
        assert torch.equal(network.generate(IDS, **options), theirs)
        # with gradients there is no cache, so nobody continues with an empty one
        assert network(IDS).past_key_values is None


@every_block
def test_a_mask_by_place_is_a_mask_unsloth_zoo_590(block):
    network, mask = tiny.model(), torch.ones_like(IDS)
    mask[1, 20:] = 0
    with block(network), torch.no_grad():
        by_place, by_name = network(IDS, mask), network(IDS, attention_mask=mask)
        with pytest.raises(TypeError):
            network(IDS, mask, attention_mask=mask)
    assert torch.equal(by_place.logits, by_name.logits)


def test_a_linear_layer_in_integers_takes_what_a_linear_layer_takes():
    network = tiny.model()
    layer, X = network.model.layers[0].mlp.up_proj, torch.randn(3, 32)
    with w8a8(network):
        assert torch.equal(layer(input=X), layer(X))
        with pytest.raises(TypeError, match="missing a required argument: 'input'"):
            layer()
        with pytest.raises(TypeError, match="too many positional arguments"):
            layer(X, X)


@every_block
@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_after_any_problem_everything_is_as_before(block, problem):
    network = tiny.model()
    before, plain = classes(network), logits(network)
    with pytest.raises(problem), block(network):
        raise problem
    assert classes(network) == before
    assert torch.equal(logits(network), plain)


@every_block
@pytest.mark.parametrize("at", [1, 2])
def test_an_interruption_while_the_block_is_entered_leaves_nothing(
    block, at, monkeypatch
):
    from minquant.models import temporary

    network, made = tiny.model(), []
    before = classes(network)
    class_with = temporary._class_with

    def interrupted(*given):
        made.append(class_with(*given))
        if len(made) >= at:
            raise KeyboardInterrupt
        return made[-1]

    monkeypatch.setattr(temporary, "_class_with", interrupted)
    with pytest.raises(KeyboardInterrupt), block(network):
        raise KeyboardInterrupt  # where the block changes one module only
    assert classes(network) == before


def test_all_three_blocks_within_each_other_end_one_by_one():
    network = tiny.model()
    states = [classes(network)]
    with kv_cache.rounding(network, kv_cache.Rounding(2, 2, group=4, window=4)):
        states.append(classes(network))
        with adapters.checkpointed(network):
            states.append(classes(network))
            with w8a8(network):
                assert torch.equal(logits(copy.deepcopy(network)), logits(tiny.model()))
            assert classes(network) == states[2]
        assert classes(network) == states[1]
    assert classes(network) == states[0]


@every_block
def test_a_second_thread_is_refused_and_leaves_the_first_one_alone(block):
    network, seen = tiny.model(), []
    before = classes(network)

    def enter():
        try:
            with block(network):
                seen.append("entered")
        except ValueError as problem:
            seen.append(str(problem))

    with block(network):
        inside = classes(network)
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert classes(network) == inside
    (message,) = seen
    assert "is inside a `with` block that changes it already" in message
    assert classes(network) == before


def test_a_change_that_could_not_take_effect_or_would_reach_a_copy_is_refused():
    hooked, parametrized = nn.Linear(2, 2), nn.Linear(2, 2)
    hooked.forward = hooked.forward  # as accelerate and others do
    nn.utils.parametrizations.weight_norm(parametrized)
    for layer, seen in (
        (
            hooked,
            "this Linear has a forward of its own, which hides the one of its cla",
        ),
        (parametrized, "this ParametrizedLinear copies itself in its own way"),
    ):
        cls = type(layer)
        with (
            pytest.raises(ValueError, match=seen),
            changed(layer, forward=lambda module, forward, X: X),
        ):
            pass
        assert type(layer) is cls


def test_nothing_draws_from_the_generator_that_belongs_to_the_user():
    state = torch.get_rng_state()
    network, _ = load.load()
    load.load("smollm2")
    report = quantize.quantize(
        network, partial(rtn.quantize_rtn, grid=zero_point(4)), progress=False
    )[1]
    packed = packed_model.pack_(copy.deepcopy(network), report)
    packed_model.unpack_(packed)
    student = finetune.prepared(network, "qlora")
    finetune.train_(student, [(IDS, IDS)])
    adapters.merge_adapters_(student.model)
    qat.train(network, [IDS], progress=False)
    layer = lora.LoraLinear(nn.utils.skip_init(nn.Linear, 8, 8), rank=2)
    assert layer.A.any()
    assert torch.equal(torch.get_rng_state(), state)
