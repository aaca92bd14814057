"""A model on rotated axes: every hidden state is rotated, and no output changes.

A Llama's hidden states are a vector that each part reads and adds to, the residual
stream. No part depends on its axes, since all reach it through matrices, with one
exception: an RMS norm multiplies axis j by its gain. So the model is changed once:

    1  fold the gains      W ← W · gain  in every matrix that reads the norm; gain ← 1.
                           What is left of the norm is x / rms(x), and rotating x keeps
                           its rms: norm(x R) = norm(x) R
    2  rotate the stream   h becomes h R if everything that writes into it is rotated,
                           and no output changes if everything that reads it rotates
                           it back:

         write   embeddings E ← E R,  o_proj and down_proj  W ← Rᵀ W  (bias ← bias R)
         read    q, k, v, gate, up, lm_head                 W ← W R

    3  rotate the values   inside a head, v_proj writes v and o_proj reads a weighted
                           mean of it: W_v ← Rᵀ W_v and W_o ← W_o R, head by head

The float model is still the same function. But the inputs of q, k, v, gate, up and o
are rotated, which spreads outliers over all columns (`methods.rotation` shows it for
one matrix), and any method can now quantize the model. This costs no time when the
model runs. It is QuaRot (Ashkboos et al. 2024, section 4.1) without the parts that
would cost time, since nothing can take them in: rotating the inputs of down_proj, and
keys after their positions are added. Outliers that come from the gains are gone after
step 1, without any rotation.

The blocks of the model must be built like those of Llama, Mistral and Qwen. Others are
refused: LayerNorm subtracts the mean, which a rotation does not keep; Gemma's gain is
1 + weight, and it has norms after o and down too. If lm_head shares the weights of the
embeddings it gets its own, since the gain of the last norm belongs to lm_head alone: so
the model becomes larger by that matrix. Lesson 11.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minquant.methods.rotation import Rotation
from minquant.models.linear_layers import decoder_blocks

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # of hidden states
_WRITERS = ("o_proj", "down_proj")


def rotate(model: nn.Module, *, seed: int = 0, heads: bool = True) -> nn.Module:
    """A rotated copy of a model; see `rotate_`."""
    twin = copy.deepcopy(model)
    rotate_(twin, seed=seed, heads=heads)
    return twin


@torch.no_grad()
def rotate_(model: nn.Module, *, seed: int = 0, heads: bool = True) -> Rotation:
    """Rotate the residual stream of a Llama-like model, in place. Its logits do not
    change.

    seed: of R's signs. heads: rotate the values inside each head too. Returns R of the
    hidden states. Computed in float64, so each weight is rounded once.

    Raises ValueError if the model is not built like a Llama, and then changes nothing.
    """
    blocks = decoder_blocks(model)
    _check(model, blocks)
    fold_gains_(model)
    width = model.get_input_embeddings().weight.shape[1]
    R = Rotation.random(width, seed=seed)
    _rotate_inputs(model.get_input_embeddings(), R)  # E R: a row per token
    _rotate_inputs(model.get_output_embeddings(), R)
    for block in blocks:
        for name in _READERS:
            _rotate_inputs(_part(block, name), R)
        for name in _WRITERS:
            _rotate_outputs(_part(block, name), R)
    if heads:
        all_heads = blocks[0].self_attn.o_proj.in_features
        head_size = all_heads // model.config.num_attention_heads
        R_head = Rotation.random(head_size, seed=seed + 1)
        for block in blocks:
            _rotate_outputs(block.self_attn.v_proj, R_head)
            _rotate_inputs(block.self_attn.o_proj, R_head)
    return R


@torch.no_grad()
def fold_gains_(model: nn.Module) -> None:
    """Step 1: multiply each RMS norm's gain into the matrices that read it, in place.

    Raises ValueError as `rotate_` does.
    """
    blocks = decoder_blocks(model)
    _check(model, blocks)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is embeddings.weight:
        head.weight = nn.Parameter(head.weight.clone(), head.weight.requires_grad)
        model.config.tie_word_embeddings = False
    _fold(model.base_model.norm, [head])
    for block in blocks:
        attention, mlp = block.self_attn, block.mlp
        readers = [attention.q_proj, attention.k_proj, attention.v_proj]
        _fold(block.input_layernorm, readers)
        _fold(block.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj])


def _fold(norm: nn.Module, readers: Sequence[nn.Module]) -> None:
    """Move a norm's gain into the matrices that read it."""
    for layer in readers:
        W = layer.weight
        W.copy_(W.double() * norm.weight.double())  # column j times gain j
    norm.weight.fill_(1)


def _rotate_inputs(layer: nn.Module, R: Rotation) -> None:
    """W ← W R, in each block of columns that is as wide as R."""
    layer.weight.copy_(_rotated(layer.weight, R))


def _rotate_outputs(layer: nn.Module, R: Rotation) -> None:
    """W ← Rᵀ W and bias ← bias R, in each block of rows that is as tall as R."""
    layer.weight.copy_(_rotated(layer.weight.T, R).T)
    if layer.bias is not None:
        layer.bias.copy_(_rotated(layer.bias, R))


def _rotated(weight: Tensor, R: Rotation) -> Tensor:
    pieces = weight.double().unflatten(-1, (-1, len(R.signs)))
    return R.apply(pieces).flatten(-2)


def _part(block: nn.Module, name: str) -> nn.Module | None:
    """A matrix of a block by its name; None if there is none."""
    return getattr(block.self_attn if name in _ATTENTION else block.mlp, name, None)


def _check(model: nn.Module, blocks: nn.ModuleList) -> None:
    """Raise ValueError unless the model is a Llama in everything that rotation depends
    on."""
    expected = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
    norms = [getattr(getattr(model, "base_model", None), "norm", None)]
    for block in blocks:
        parts = {name for name, _ in block.named_children()}
        if parts != expected:
            raise ValueError(_refusal(model, f"a block has {', '.join(sorted(parts))}"))
        for name in _ATTENTION + _MLP:
            if not isinstance(_part(block, name), nn.Linear):
                raise ValueError(_refusal(model, f"a block has no Linear {name}"))
        norms += [block.input_layernorm, block.post_attention_layernorm]
    width = model.get_input_embeddings().weight.shape[1]
    if not all(norm is not None and _is_rms(norm, width) for norm in norms):
        raise ValueError(_refusal(model, "a norm is not x / rms(x) times its weight"))
    head = model.get_output_embeddings()
    if head is None or head.weight.shape[1] != width:
        raise ValueError(_refusal(model, "no lm_head reads the hidden states"))


def _is_rms(norm: nn.Module, width: int) -> bool:
    """Whether a norm computes an RMS norm, tried on numbers whose mean is not 0."""
    weight = getattr(norm, "weight", None)
    if weight is None or getattr(norm, "bias", None) is not None:
        return False
    x = torch.linspace(-1, 3, width, device=weight.device, dtype=weight.dtype)[None]
    exact = x.double() / x.double().square().mean().sqrt() * weight.double()
    slack = 8 * torch.finfo(weight.dtype).eps + 1e-4  # the epsilon under the root
    return torch.allclose(norm(x).double(), exact, rtol=slack, atol=slack)


def _refusal(model: nn.Module, reason: str) -> str:
    return (
        f"model {type(model).__name__} is not built like a Llama ({reason}), so "
        "rotating its hidden states would change its outputs; take a Llama, Mistral "
        "or Qwen"
    )
