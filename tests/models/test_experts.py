"""Experts one by one compute what they compute in one tensor."""

import copy

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.models.experts import fused_experts, separate_experts_, separated
from minquant.models.linear_layers import is_router, linear_layers

IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))
OTHERS = {  # families beside tiny.MIXTURES: w1 … w3, names of their own, linear routers
    "GraniteMoe": {**tiny.SIZE, **tiny.LOCAL},
    "Phimoe": {**tiny.SIZE, **tiny.LOCAL},
    "Lfm2Moe": {
        **tiny.SIZE,
        **tiny.MOE,
        "moe_intermediate_size": 24,
        "layer_types": ["conv", "full_attention"],
        "num_dense_layers": 1,
    },
    "DeepseekV2": tiny.MIXTURES["DeepseekV3"],
}


@pytest.mark.parametrize("kind", [*tiny.MIXTURES, *OTHERS])
@pytest.mark.parametrize("way", ["eager", "grouped_mm", "batched_mm"])
def test_a_mixture_computes_the_same(kind, way, monkeypatch):
    monkeypatch.setattr(tiny, "CONFIGS", {**tiny.CONFIGS, **OTHERS})
    network = tiny.model(kind)
    network.set_experts_implementation(way)
    expected = network(input_ids=IDS).logits
    weights = sum(p.numel() for p in network.parameters())
    assert separate_experts_(network) is network and not fused_experts(network)
    torch.testing.assert_close(network(input_ids=IDS).logits, expected)
    assert sum(p.numel() for p in network.parameters()) == weights
    assert not any(
        p.ndim == 3 for n, p in network.named_parameters() if "conv" not in n
    )


@pytest.mark.parametrize("kind", tiny.MIXTURES)
def test_copies_and_other_dtypes_compute_the_same(kind):
    network = separate_experts_(tiny.model(kind))
    expected = network(input_ids=IDS).logits
    twin = copy.deepcopy(network)
    for weight in network.parameters():
        weight.zero_()
    assert torch.equal(twin(input_ids=IDS).logits, expected)
    half = tiny.model(kind, dtype=torch.bfloat16)
    half.set_experts_implementation("eager")  # the others round sums elsewhere
    wanted = half(input_ids=IDS).logits
    separate_experts_(half)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    rounding = 0.05 * wanted.abs().max()
    assert (half(input_ids=IDS).logits - wanted).abs().max() <= rounding


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("Mixtral", ("w1", "w3", "w2")),
        ("Qwen3Moe", ("gate_proj", "up_proj", "down_proj")),
    ],
)
def test_names_are_those_of_checkpoints(kind, names, tmp_path):
    from safetensors import safe_open

    network = tiny.model(kind)
    network.save_pretrained(tmp_path)  # transformers writes what others read
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        stored = {name for name in file.keys() if ".experts." in name}  # noqa: SIM118
    experts = separated(separate_experts_(network))
    assert all(module.names == names and module.stored for module in experts.values())
    ours = {n for n in network.state_dict() if ".experts." in n}
    assert {n.partition(".experts.")[2] for n in stored} == {
        n.partition(".experts.")[2] for n in ours
    }
    network.save_pretrained(tmp_path / "again")
    with safe_open(tmp_path / "again/model.safetensors", framework="pt") as file:
        assert stored <= set(file.keys())


def test_gpt_oss_by_hand():
    network = tiny.model("GptOss")
    fused = network.model.layers[0].mlp.experts
    W, bias = fused.gate_up_proj[2].clone(), fused.gate_up_proj_bias[2].clone()
    separate_experts_(network)
    gate, up, _ = network.model.layers[0].mlp.experts.projections(2)
    assert torch.equal(gate.weight, W[:, 0::2].T) and torch.equal(up.bias, bias[1::2])


def test_experts_of_two_layers_share_no_memory():
    network = separate_experts_(tiny.model("Qwen3Moe"))
    places = [p.untyped_storage().data_ptr() for p in network.parameters()]
    assert len(set(places)) == len(places)


def test_a_token_whose_expert_is_none_gets_nothing():
    experts = separate_experts_(tiny.model("Qwen3Moe")).model.layers[0].mlp.experts
    X, weights = torch.randn(3, 32), torch.ones(3, 2)
    nobody = torch.full((3, 2), experts.num_experts)
    assert not experts(X, nobody, weights).any()


def test_a_model_without_such_experts_is_left_alone():
    network = tiny.model()
    modules = list(network.modules())
    assert list(separate_experts_(network).modules()) == modules


def test_linear_layers_does_not_pass_over_experts_in_one_tensor():
    network = tiny.model("Mixtral")
    message = r"experts in one tensor \(model.layers.0.mlp.experts, .*separate_experts_"
    with pytest.raises(ValueError, match=message):
        linear_layers(network)
    assert len(linear_layers(separate_experts_(network))) == 2 * (4 + 4 * 3)


@pytest.mark.parametrize(
    ("name", "out", "expected"),
    [
        ("model.layers.0.mlp.gate", 4, True),
        ("model.layers.0.mlp.router.layer", 4, True),
        ("model.layers.0.mlp.shared_expert_gate", 1, True),
        ("model.layers.0.mlp.gate", 48, False),  # the gate of an MLP
        ("model.layers.0.mlp.gate_proj", 4, False),
        ("model.layers.0.mlp.aggregate", 4, False),
    ],
)
def test_a_router_is_known_by_its_name_and_its_outputs(name, out, expected):
    weight = nn.Linear(32, out).weight
    assert is_router(tiny.model("Qwen3Moe"), name, weight) == expected
    assert not is_router(tiny.model("Llama"), name, weight)
