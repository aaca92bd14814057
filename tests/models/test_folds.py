"""Folded or planted, the model computes the same: ten families, two kinds of norms."""

from functools import partial

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.methods import rtn
from minquant.methods.awq import quantize_awq_shared, quantize_scaled
from minquant.methods.smoothquant import quantize_smooth_shared
from minquant.models import quantize
from minquant.models.feeders import is_norm
from minquant.models.folds import (
    divide_outputs_,
    fold,
    fold_,
    plant_outliers,
    plant_outliers_,
)
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.text import calibration_batches
from minquant.numerics import grids, groups
from minquant.numerics.tensor import QuantizedTensor

BATCHES = calibration_batches(
    tiny.tokenizer(), tiny.texts_of("calibration", 12), batch=5
)
AWQ = partial(quantize_awq_shared, grid=grids.zero_point(4), ratios=[0.5], clip=None)
SMOOTH = quantize_smooth_shared
LEFT = {"Phi": ["fc2"], "GPT2": ["mlp.c_proj"]}  # after a GELU
AFTER_NORMS = ("q_proj", "k_proj", "v_proj", "up_proj", "gate_proj")
AFTER_NORMS += ("fc1", "c_attn", "c_fc")
LLAMA_UP = "model.layers.0.mlp.up_proj"
LLAMA_DOWN = "model.layers.0.mlp.down_proj"
LLAMA_O = "model.layers.0.self_attn.o_proj"


def random_model(kind="Llama", **changes):
    """A tiny model whose norms and biases are random too, as trained ones are."""
    network = tiny.model(kind, **changes)
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        parts = dict(module.named_parameters(recurse=False))
        if is_norm(module):
            nn.init.uniform_(parts["weight"], 0.5, 1.5, generator=generator)
        if parts.get("bias") is not None:
            nn.init.normal_(parts["bias"], std=0.2, generator=generator)
    return network


def logits(network):
    """The predictions of a model for all batches."""
    return torch.cat([network(input_ids=ids).logits.flatten(0, 1) for ids in BATCHES])


def quantized(network, method=AWQ, **options):
    """A quantized copy and its report."""
    return quantize.quantize(
        network, method, calibration=BATCHES, progress=False, **options
    )


# --- folding ---


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@pytest.mark.parametrize("method", [AWQ, SMOOTH])
def test_a_folded_model_computes_the_same_and_needs_no_input_scales(kind, method):
    method = partial(method, scale_dtype=torch.float32)
    network, report = quantized(random_model(kind), method)
    before = logits(network)
    twin, (folded, left) = fold(network, report)
    torch.testing.assert_close(logits(twin), before, rtol=1e-3, atol=1e-4)
    assert list(folded) == list(report)
    kept = [name for name in folded if folded[name].input_scales is not None]
    assert sorted(kept) == sorted(left)
    ends = LEFT.get(kind, [])
    assert len(left) == 2 * len(ends)
    assert all(any(name.endswith(end) for end in ends) for name in left)
    for name, layer in linear_layers(twin).items():
        assert torch.equal(weight_of(layer), folded[name].dequantize())


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_folding_changes_the_weights_and_keeps_the_codes(kind):
    network, report = quantized(random_model(kind))
    twin, (folded, left) = fold(network, report)
    moved = {
        name
        for name, layer in linear_layers(twin).items()
        if not torch.equal(layer.weight, network.get_submodule(name).weight)
    }
    assert moved >= set(report) - set(left)
    assert sum(q.nbytes for q in folded.values()) < sum(
        q.nbytes for q in report.values()
    )
    for name in folded:
        assert torch.equal(folded[name].codes, report[name].codes)


# Heads of 8: query heads, and value heads that two, three or all of them share.
SHARED = {"2 per value": (4, 2), "3 per value": (6, 2), "4 per value": (4, 1)}
WITH_BIASES = {"Llama": {"attention_bias": True, "mlp_bias": True}}
WITH_BIASES |= {"Qwen3": {"attention_bias": True}}
FAMILIES = [("Llama", False), ("Llama", True), ("Qwen2", True), ("Qwen3", False)]
FAMILIES += [("Qwen3", True), ("Mistral", False), ("Phi3", False)]


def shared_model(kind, biases, heads):
    """A random model in which query heads share values; Phi3 has q, k, v in one."""
    query, value = SHARED[heads]
    changes = {"num_attention_heads": query, "num_key_value_heads": value}
    changes |= {"hidden_size": 8 * query}
    changes |= WITH_BIASES.get(kind, {}) if biases else {}
    return random_model(kind, **changes)


def by_powers_of_two(Ws, X, tied=None):
    """Nearest codes under random input scales that divide without rounding."""
    generator = torch.Generator().manual_seed(len(X))
    width = Ws[0].shape[1]
    s = 2.0 ** torch.randint(-2, 3, (width,), generator=generator)
    s = s if tied is None else s[tied]
    options = {"grid": grids.symmetric_full(4), "scale_dtype": torch.float32}
    return [quantize_scaled(W, s, **options) for W in Ws]


@pytest.mark.parametrize("heads", SHARED)
@pytest.mark.parametrize(("kind", "biases"), FAMILIES)
def test_scales_of_query_heads_that_share_values_fold_bit_for_bit(kind, biases, heads):
    network, report = quantized(shared_model(kind, biases, heads), by_powers_of_two)
    before = logits(network)
    moved = {name for name, q in report.items() if q.input_scales.unique().numel() > 1}
    assert moved == set(report)
    twin, (folded, left) = fold(network, report)
    assert left == {}
    assert all(q.input_scales is None for q in folded.values())
    assert torch.equal(logits(twin), before)


@pytest.mark.parametrize("method", [AWQ, SMOOTH])
@pytest.mark.parametrize("heads", SHARED)
@pytest.mark.parametrize(("kind", "biases"), FAMILIES)
def test_awq_and_smoothquant_choose_one_scale_per_value(kind, biases, heads, method):
    method = partial(method, grid=grids.symmetric_full(4), scale_dtype=torch.float32)
    network, report = quantized(shared_model(kind, biases, heads).double(), method)
    before = logits(network)
    assert fold_(network, report).left == {}
    torch.testing.assert_close(logits(network), before, rtol=1e-5, atol=1e-5)
    of_values = report[LLAMA_O].input_scales.view(SHARED[heads][1], -1, 8)
    assert (of_values == of_values[:, :1]).all()
    assert len(of_values[:, 0].unique()) > 4


def test_without_query_heads_that_share_values_all_of_a_llama_folds():
    network, report = quantized(random_model(num_key_value_heads=4))
    before = logits(network)
    _, left = fold_(network, report)
    assert left == {}
    # v and up are quantized: their fp16 scales are rounded once more, by 2^-11
    change = (logits(network) - before).norm() / before.norm()
    assert 0 < change < 2**-8


def test_the_scales_of_a_quantized_feeder_are_divided_and_its_codes_stay():
    network, report = quantized(random_model())
    up, s = report[LLAMA_UP], report[LLAMA_DOWN].input_scales.float()
    twin, (folded, _) = fold(network, report)
    assert torch.equal(folded[LLAMA_UP].codes, up.codes)
    exact = up.scales.float() / s[:, None]
    assert ((folded[LLAMA_UP].scales - exact).abs() <= 2**-11 * exact).all()
    W = weight_of(twin.get_submodule(LLAMA_UP))
    assert torch.equal(W, folded[LLAMA_UP].dequantize())


def test_a_float_feeder_and_float_layers_beside_it_fold_too():
    network, report = quantized(random_model(), only=r"down|q_proj")
    before = logits(network)
    assert fold_(network, report).left == {}  # up, k and v are floats
    torch.testing.assert_close(logits(network), before, rtol=1e-3, atol=1e-4)


def test_a_report_without_input_scales_is_left_as_it_is():
    network, report = quantized(
        random_model(), partial(rtn.quantize_rtn, grid=grids.absmax(4))
    )
    twin, (folded, left) = fold(network, report)
    assert folded == report and left == {}
    assert torch.equal(logits(twin), logits(network))


def test_scales_that_nothing_can_take_stay_and_the_reason_is_given():
    network, report = quantized(random_model(), lambda Ws, X: AWQ(Ws, X))
    left = fold(network, report)[1].left
    assert "query heads that share a value of model.layers.0.sel" in left[LLAMA_O]
    assert "the method should take `tied`" in left[LLAMA_O]
    network, report = quantized(random_model("GPT2"))
    left = fold(network, report)[1].left
    assert {why[:32] for why in left.values()} == {"no norm and no linear layer of i"}


def test_layers_of_one_input_under_different_scales_stay():
    network = random_model()

    def apart(Ws, X):
        return [AWQ([W], X, ratios=[i / 4])[0] for i, W in enumerate(Ws)]

    twin, report = quantized(network, apart)
    before = logits(twin)
    folded, left = fold_(twin, report)
    assert "reads the same input under other input_scales" in left[LLAMA_UP]
    torch.testing.assert_close(logits(twin), before, rtol=1e-2, atol=1e-2)
    assert folded[LLAMA_UP].input_scales is report[LLAMA_UP].input_scales


def test_a_layer_beside_them_that_is_coded_without_scales_keeps_them_all():
    network, report = quantized(random_model(), only="gate")
    _, rest = quantized(
        network, partial(rtn.quantize_rtn, grid=grids.absmax(8)), only="up_proj"
    )
    left = fold(network, report | rest)[1].left
    assert sorted(left) == sorted(report)


def test_one_ruler_for_the_whole_feeder_cannot_be_divided():
    per_tensor = partial(AWQ, granularity=groups.PER_TENSOR)
    network, report = quantized(random_model(), per_tensor)
    left = fold(network, report)[1].left
    assert "is quantized with rulers that cannot be divided by row" in left[LLAMA_DOWN]


def test_a_weight_that_serves_twice_keeps_its_scales():
    network = random_model()
    first, second = (network.model.layers[i].mlp for i in (0, 1))
    second.up_proj.weight = first.up_proj.weight
    twin, report = quantized(network)
    before = logits(twin)
    _, left = fold_(twin, report)
    assert "shares a weight with model.layers.1.mlp.up_proj" in left[LLAMA_UP]
    torch.testing.assert_close(logits(twin), before, rtol=1e-2, atol=1e-2)


def test_by_hand_a_norm_takes_the_scale_of_the_layers_after_it():
    network = random_model()
    s = torch.ones(32)
    s[5] = 4.0
    names = [f"model.layers.1.mlp.{part}_proj" for part in ("gate", "up")]
    report: dict[str, QuantizedTensor] = {}
    for name in names:
        W = weight_of(network.get_submodule(name))
        report[name] = quantize_scaled(W, s, grids.absmax(8))
        W.copy_(report[name].dequantize())
    norm = network.model.layers[1].post_attention_layernorm
    gain = norm.weight.clone()
    fold_(network, report)
    assert norm.weight[5] == gain[5] / 4
    others = torch.arange(32) != 5
    assert torch.equal(norm.weight[others], gain[others])


# --- dividing the outputs of one module ---


def norms(kind):
    """All norms of a family's model, their weights and biases random."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for norm in filter(is_norm, tiny.model(kind).modules()):
            for parameter in norm.parameters():
                nn.init.normal_(parameter, 0.5)
            yield norm


@pytest.mark.parametrize("kind", ["Llama", "Gemma", "Gemma3Text", "OPT", "GPT2"])
def test_a_norms_outputs_are_divided(kind):
    found = list(norms(kind))
    assert found
    for norm in found:
        width = len(norm.weight)
        x, s = torch.randn(5, width), torch.rand(width) * 4 + 0.5
        before = norm(x)
        divide_outputs_(norm, s)
        torch.testing.assert_close(norm(x), before / s, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["GPT2", "Qwen2"])
def test_a_linear_layers_outputs_are_divided(kind):
    layer = next(iter(linear_layers(tiny.model(kind)).values()))
    nn.init.normal_(layer.bias)
    rows, width = weight_of(layer).shape
    x, s = torch.randn(5, width), torch.rand(rows) * 4 + 0.5
    before = layer(x)
    divide_outputs_(layer, s)
    torch.testing.assert_close(layer(x), before / s, rtol=1e-5, atol=1e-5)


# --- planting ---


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_planted_outliers_change_nothing_that_the_model_computes(kind):
    network = random_model(kind)
    twin, channels = plant_outliers(network, BATCHES, channels=3)
    assert len(channels) == 3
    if "Gemma" in kind:  # 1 + weight is rounded
        torch.testing.assert_close(logits(twin), logits(network), rtol=1e-4, atol=1e-4)
    else:  # powers of two are not
        assert torch.equal(logits(twin), logits(network))


@pytest.mark.parametrize("kind", ["Llama", "Gemma2", "OPT", "Phi", "GPT2"])
def test_planted_channels_are_large_in_all_layers_that_a_norm_feeds(kind):
    network = random_model(kind)
    twin, channels = plant_outliers(network, BATCHES, channels=2, size=60.0)
    others = [c for c in range(32) if c not in channels]
    grown = 0
    for name in linear_layers(twin):
        before = tiny.inputs_of(network, name, BATCHES)
        X = tiny.inputs_of(twin, name, BATCHES)
        if name.endswith(AFTER_NORMS):
            top = X[:, channels].abs().amax(0)
            assert ((top >= 60 * 0.999) & (top < 120 * 1.001)).all()
            assert (X[:, channels].abs() >= 6).any(0).all()
            X, before = X[:, others], before[:, others]
            grown += 1
        torch.testing.assert_close(X, before, rtol=1e-3, atol=1e-3)
    assert grown >= 4


def test_the_same_seed_plants_the_same_and_another_seed_elsewhere():
    network = random_model()
    twins = [plant_outliers(network, BATCHES, seed=seed) for seed in (1, 1, 2)]
    assert twins[0][1] == twins[1][1] != twins[2][1]
    pairs = zip(twins[0][0].parameters(), twins[1][0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_channels_that_are_large_enough_are_not_made_smaller():
    network = random_model()
    twin, _ = plant_outliers(network, BATCHES, size=1e-6)
    pairs = zip(network.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_dead_channel_is_not_chosen():
    network = random_model(tie_word_embeddings=False)
    for layer in network.model.layers:
        layer.input_layernorm.weight[:30] = 0
    assert plant_outliers_(network, BATCHES, channels=2) == [30, 31]


def test_what_cannot_be_planted_is_refused():
    with pytest.raises(ValueError, match="channels is 33; choose 1 to 32, the chann"):
        plant_outliers(random_model(), BATCHES, channels=33)
    after = tiny.model("OPT", do_layer_norm_before=False)
    with pytest.raises(ValueError, match="OPTForCausalLM has no norm that feeds lin"):
        plant_outliers(after, BATCHES)
    tied = random_model()
    first, second = (layer.input_layernorm for layer in tied.model.layers)
    second.weight = first.weight
    with pytest.raises(ValueError, match="shares a weight of .*input_layernorm, or of"):
        plant_outliers(tied, BATCHES)
