"""A rotated model predicts the same; only its hidden states change."""

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.methods import rotation, rtn
from minquant.models import rotate_model
from minquant.models.linear_layers import linear_layers
from minquant.numerics import grids

IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))


def logits(network):
    """Predictions in float64, so that only the rounding of weights is left."""
    return network.double()(input_ids=IDS).logits


def trained(kind="Llama", **changes):
    """A tiny model whose gains and biases are no longer all 1 and 0."""
    network = tiny.model(kind, **changes)
    generator = torch.Generator().manual_seed(1)
    for name, weight in network.named_parameters():
        if weight.ndim == 1:
            drawn = torch.rand(weight.shape, generator=generator)
            weight.copy_(drawn + 0.5 if "norm" in name else drawn - 0.5)
    return network


KINDS = [
    ("Llama", {}),
    ("Llama", {"tie_word_embeddings": True}),
    ("Llama", {"attention_bias": True, "mlp_bias": True}),
    ("Llama", {"hidden_size": 48, "head_dim": 12}),
    ("Qwen2", {}),
    ("Qwen3", {}),
    ("Mistral", {}),
]


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize(("kind", "changes"), KINDS)
def test_a_rotated_model_computes_the_same_function(kind, changes, heads):
    network = trained(kind, dtype=torch.float64, **changes)
    rotated = rotate_model.rotate(network, heads=heads)
    before, after = logits(network), logits(rotated)
    assert before.std() > 0.1
    # weights are float64, but transformers' norms and positions compute in float32
    assert (after - before).abs().max() < 1e-5 * before.abs().max()
    W, W_R = (n.model.layers[1].mlp.up_proj.weight for n in (network, rotated))
    assert not torch.allclose(W, W_R, atol=1e-2)


def test_in_float32_the_logits_move_by_rounding_alone():
    network = trained()
    rotated = rotate_model.rotate(network)
    before, after = (n(input_ids=IDS).logits for n in (network, rotated))
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_folded_gains_are_one_and_the_function_stays():
    network = trained(dtype=torch.float64)
    before = logits(network)
    rotate_model.fold_gains_(network)
    assert all((w == 1).all() for n, w in network.named_parameters() if "norm" in n)
    assert (logits(network) - before).abs().max() < 1e-12 * before.abs().max()


def test_the_copy_leaves_the_model_alone_and_in_place_changes_it():
    network = trained()
    kept = {n: w.clone() for n, w in network.named_parameters()}
    rotate_model.rotate(network)
    assert all(torch.equal(w, kept[n]) for n, w in network.named_parameters())
    turn = rotate_model.rotate_(network)
    E = kept["model.embed_tokens.weight"]
    assert torch.allclose(network.model.embed_tokens.weight, turn.apply(E), atol=1e-5)


def test_a_tied_head_gets_its_own_matrix():
    network = trained(tie_word_embeddings=True)
    assert network.lm_head.weight is network.model.embed_tokens.weight
    rotate_model.rotate_(network)
    assert network.lm_head.weight is not network.model.embed_tokens.weight
    assert not network.config.tie_word_embeddings
    assert not network.lm_head.weight.requires_grad


def with_outliers():
    """A model in which two channels of the hidden states are many times larger."""
    network = trained(hidden_size=64)
    network.model.embed_tokens.weight[:, [3, 17]] *= 40
    return network


def kurtosis(X):
    """mean(x⁴) / mean(x²)² of a row, averaged over rows: 3 for normal numbers."""
    return (X.pow(4).mean(-1) / X.square().mean(-1).square()).mean().item()


@pytest.mark.parametrize("layer", ["self_attn.q_proj", "mlp.gate_proj"])
def test_planted_outliers_are_gone_from_the_inputs_of_layers(layer):
    network = with_outliers()
    name = f"model.layers.0.{layer}"
    X = tiny.inputs_of(network, name, [IDS])
    X_R = tiny.inputs_of(rotate_model.rotate(network), name, [IDS])
    assert kurtosis(X) > 5 and kurtosis(X_R) < 3.5
    assert rotation.peak(X_R) < rotation.peak(X) / 1.2


def rounded_inputs(network, grid):
    """Logits when what flows into each matrix is rounded, a scale for each token."""

    def hook(_, given):
        X = given[0].flatten(0, -2)
        X_hat = rtn.fake_quantize(X, grid, scale_dtype=torch.float32)
        return (X_hat.reshape(given[0].shape),)

    layers = linear_layers(network).values()
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    logits = network(input_ids=IDS).logits
    for handle in handles:
        handle.remove()
    return logits


def test_inputs_with_outliers_can_be_rounded_after_rotation():
    network = with_outliers()
    before, grid = network(input_ids=IDS).logits, grids.absmax(8)
    plain = (rounded_inputs(network, grid) - before).norm()
    rotated = rotate_model.rotate(network)
    assert (rounded_inputs(rotated, grid) - before).norm() < plain / 1.5


@pytest.mark.parametrize("kind", ["OPT", "GPT2", "Gemma", "Gemma2", "Phi"])
def test_models_whose_axes_matter_are_refused_and_left_alone(kind):
    network = tiny.model(kind)
    kept = [w.clone() for w in network.parameters()]
    with pytest.raises(ValueError, match="is not built like a Llama .*take a Llama"):
        rotate_model.rotate_(network)
    pairs = zip(kept, network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_norm_that_subtracts_the_mean_is_found_by_trying_it():
    network = tiny.model()
    network.model.norm = nn.LayerNorm(32, bias=False)
    with pytest.raises(ValueError, match=r"a norm is not x / rms\(x\) times its weig"):
        rotate_model.fold_gains_(network)
