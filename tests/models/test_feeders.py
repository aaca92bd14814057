"""Who makes a layer's inputs, found by experiment in ten families of models."""

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.models.feeders import Feeder, feeders, is_norm, tied_inputs

LLAMA = {"q_proj": "input_layernorm", "o_proj": "v_proj", "down_proj": "up_proj"}
LLAMA |= {"gate_proj": "post_attention_layernorm"}
SANDWICH = {**LLAMA, "gate_proj": "pre_feedforward_layernorm"}
FEEDERS = {  # by the first layer of each group
    "Gemma2": SANDWICH,
    "Gemma3Text": SANDWICH,
    "Phi": {"q_proj": "input_layernorm", "dense": "v_proj", "fc2": None},
    "OPT": {
        "q_proj": "self_attn_layer_norm",
        "out_proj": "v_proj",
        "fc1": "final_layer_norm",
        "fc2": "fc1",  # a ReLU stands between
    },
    "GPT2": {"c_attn": "ln_1", "attn.c_proj": "c_attn", "c_fc": "ln_2"}
    | {"mlp.c_proj": None},
}


def found_in(network):
    """Groups and feeders of each block, by name."""
    return [(list(group), feeder) for group, feeder in feeders(network)]


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_each_familys_feeders(kind):
    expected = FEEDERS.get(kind, LLAMA)
    found = found_in(tiny.model(kind))
    assert len(found) == 2 * len(expected)
    for i, (group, feeder) in enumerate(found):
        first = next(key for key in expected if group[0].endswith(key))
        if expected[first] is None:
            assert feeder is None
        else:
            assert feeder.name.endswith(expected[first])
        block = i // len(expected)
        assert all(f"s.{block}." in n or f"h.{block}." in n for n in group)


def test_query_heads_that_share_a_value_are_made_by_it():
    network = tiny.model()  # 4 query heads of 8, 2 of values
    feeder = found_in(network)[1][1]
    heads = feeder.rows.view(4, 8)
    assert torch.equal(heads[0], torch.arange(8)) and torch.equal(heads[0], heads[1])
    assert torch.equal(heads[2], torch.arange(8, 16))
    assert torch.equal(heads[2], heads[3])
    s = torch.rand(4, 8) + 0.5
    assert feeder.to_outputs(s.flatten()) is None
    s[1], s[3] = s[0], s[2]
    assert torch.equal(feeder.to_outputs(s.flatten()), s[::2].flatten())


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Phi3"])
def test_the_inputs_that_one_value_makes_are_tied(kind):
    tied = tied_inputs(tiny.model(kind))  # 4 query heads of 8, 2 of values
    assert list(tied) == [f"model.layers.{i}.self_attn.o_proj" for i in (0, 1)]
    values = torch.arange(16).view(2, 1, 8).expand(2, 2, 8).flatten()
    assert all(torch.equal(numbers, values) for numbers in tied.values())


@pytest.mark.parametrize("kind", ["Phi", "OPT", "GPT2"])
def test_query_heads_with_values_of_their_own_tie_nothing(kind):
    assert tied_inputs(tiny.model(kind)) == {}


def test_values_are_the_last_third_of_gpt2s_attention():
    feeder = found_in(tiny.model("GPT2"))[1][1]
    assert torch.equal(feeder.rows, torch.arange(64, 96))
    s = feeder.to_outputs(torch.full((32,), 2.0))
    assert s.tolist() == [1.0] * 64 + [2.0] * 32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_the_same(dtype):
    network = tiny.model(dtype=dtype)
    names = [feeder.name for _, feeder in found_in(network)]
    assert names == [feeder.name for _, feeder in found_in(tiny.model())]


def test_a_norm_whose_output_also_goes_elsewhere_feeds_nothing():
    after = tiny.model("OPT", do_layer_norm_before=False)  # the norm goes on as it is
    pairs = [(group[0].split(".")[-1], f and f.name) for group, f in found_in(after)]
    for layer, feeder in pairs:
        if layer in ("q_proj", "fc1"):
            assert feeder is None
        else:
            assert feeder.endswith({"out_proj": "v_proj", "fc2": "fc1"}[layer])


def test_a_gelu_lets_no_factor_pass_and_a_relu_does():
    act = {"activation_function": "gelu"}
    assert [f for _, f in found_in(tiny.model("OPT", **act))][3] is None
    assert [f for _, f in found_in(tiny.model("OPT"))][3] is not None


def test_the_experiment_leaves_no_trace():
    network, twin = tiny.model("Gemma2"), tiny.model("Gemma2")
    found_in(network)
    pairs = zip(network.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())


def test_the_outputs_of_a_feeder_are_counted():
    rows = torch.arange(4)
    assert Feeder("norm", nn.LayerNorm(4), rows).outputs == 4
    assert Feeder("linear", nn.Linear(3, 12), rows).outputs == 12
    assert not is_norm(nn.Linear(3, 12)) and not is_norm(nn.GELU())
