"""Anatomy: the matrices of ten families of models, and their bytes counted by hand."""

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.methods import rtn
from minquant.models import linear_layers
from minquant.numerics import grids, groups


def int4(W):
    """Four bits, one scale per row."""
    return rtn.quantize_rtn(W, grids.zero_point(4), groups.PER_CHANNEL)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_every_matrix_of_the_decoder_layers_is_found_and_no_other(kind):
    model = tiny.model(kind)
    found = linear_layers.linear_layers(model)
    assert len(found) == 2 * tiny.LINEAR_PER_LAYER.get(kind, 7)
    blocks = linear_layers.decoder_blocks(model)
    matrices = {id(p) for p in blocks.parameters() if p.ndim == 2}
    assert {id(layer.weight) for layer in found.values()} == matrices
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    assert not any(layer in ends for layer in found.values())
    assert all(model.get_submodule(name) is layer for name, layer in found.items())


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_a_weight_is_a_view_that_multiplies_as_the_layer_does(kind):
    for layer in linear_layers.linear_layers(tiny.model(kind)).values():
        W = linear_layers.weight_of(layer)
        x = torch.randn(3, W.shape[1])
        y = x @ W.T + (0 if layer.bias is None else layer.bias)
        torch.testing.assert_close(layer(x), y, rtol=1e-5, atol=1e-5)
        W.zero_()
        assert not layer.weight.any()


def test_a_model_without_decoder_layers_is_refused():
    model = tiny.model()
    model.config.num_hidden_layers = 3
    with pytest.raises(
        ValueError, match="has no list of 3 decoder layers; give a causal"
    ):
        linear_layers.linear_layers(model)


def test_shared_weights_are_counted_once_and_point_at_the_first():
    model = tiny.model()
    layers = linear_layers.linear_layers(model)
    first, second = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"
    layers[second].weight = layers[first].weight
    once, first_of = linear_layers.distinct(model, layers)
    assert second not in once and first_of[second] == first
    assert len(once) == len(layers) - 1
    assert all(first_of[name] == name for name in once)


def test_a_weight_that_also_serves_elsewhere_is_refused():
    model = tiny.model(vocab_size=48)
    layer = model.model.layers[0].mlp.gate_proj  # 48 x 32, the shape of the embeddings
    layer.weight = model.model.embed_tokens.weight
    with pytest.raises(
        ValueError, match="gate_proj with model.embed_tokens, which is not"
    ):
        linear_layers.distinct(model, linear_layers.linear_layers(model))


def test_bytes_of_a_model_without_codes_are_its_parameters_tied_ones_once():
    model = tiny.model(tie_word_embeddings=True)
    n = sum(p.numel() for p in model.parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert linear_layers.size(model).total == 2 * n
    assert linear_layers.size(model, dtype=None).total == 4 * n
    assert linear_layers.size(model, dtype=torch.float64).total == 8 * n
    assert repr(linear_layers.size(model)) == f"{2 * n / 1e6:.3f} MB"


def test_bytes_of_a_quantized_model_by_hand():
    model = tiny.model("Phi")
    report = {
        n: int4(linear_layers.weight_of(m))
        for n, m in linear_layers.linear_layers(model).items()
    }
    found = linear_layers.size(model, report)
    # per layer: q, k, v, o (32, 32), fc1 (48, 32), fc2 (32, 48)
    weights, rows = 2 * (4 * 32 * 32 + 2 * 32 * 48), 2 * (4 * 32 + 48 + 32)
    assert found.weights == weights and found.layers == 12
    assert found.quantized == weights // 2 + 2 * rows + rows // 2  # codes, fp16, zeros
    rest = sum(p.numel() for p in model.parameters()) - weights
    assert found.elsewhere == 2 * rest
    assert found.total == found.quantized + found.elsewhere
    bits = 8 * found.quantized / weights
    assert found.bits_per_weight == bits
    assert f"in 12 quantized layers ({bits:.2f} bits per weight)" in repr(found)


def test_a_shared_matrix_weighs_once():
    model = tiny.model()
    layers = linear_layers.linear_layers(model)
    names = ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")
    layers[names[1]].weight = layers[names[0]].weight
    codes = int4(linear_layers.weight_of(layers[names[0]]))
    one = linear_layers.size(model, {names[0]: codes})
    assert linear_layers.size(model, dict.fromkeys(names, codes)) == one


def test_a_report_of_another_model_is_refused():
    with pytest.raises(
        ValueError, match="report names 'lm_head', but model has no such"
    ):
        linear_layers.size(tiny.model(), {"lm_head": int4(torch.ones(4, 4))})


def test_a_model_of_other_modules_keeps_them():
    model = tiny.model()
    model.model.layers[0].mlp.gate_proj = nn.Identity()
    assert "model.layers.0.mlp.gate_proj" not in linear_layers.linear_layers(model)
