"""A model on rotated axes: every hidden state is turned, and no output changes.

A Llama's hidden states are a vector that each part reads and adds to, the residual
stream. Its axes are of no importance to anyone, as all parts reach it through matrices;
except that an RMS norm multiplies axis j by its gain. So, once for all:

    1  fold the gains    W ← W · gain  in every matrix that reads the norm; gain ← 1.
                         What is left of the norm is x / rms(x), and turning x keeps
                         its rms: norm(x R) = norm(x) R
    2  turn the stream   h becomes h R when all that writes into it is turned, and
                         stays unnoticed when all that reads it turns it back:

         write   embeddings E ← E R,  o_proj and down_proj  W ← Rᵀ W  (bias ← bias R)
         read    q, k, v, gate, up, lm_head                 W ← W R

    3  turn the values   inside a head, v is written by v_proj and, weighted, read by
                         o_proj: W_v ← Rᵀ W_v and W_o ← W_o R, head by head

The float model is the same function; but the inputs of q, k, v, gate, up and o are
rotated, where outliers are spread over all columns (`rotate` shows it for one matrix),
and any method can now quantize it. It costs no time when the model runs. This is QuaRot
(Ashkboos et al. 2024, section 4.1) without what would cost time: turning the inputs of
down_proj, and keys after their positions are added, where nothing can be folded.
Outliers that the gains themselves make are gone after step 1, without any rotation.

Which model: one whose blocks are built as Llama's, Mistral's and Qwen's are. Others are
refused: LayerNorm takes the mean away, which rotation does not keep; Gemma's gain is
1 + weight, and its norms also stand after o and down. A model whose lm_head shares the
embeddings' weights gets its own, as the last norm's gain belongs to lm_head alone: so
it is larger afterwards by that matrix. Lesson 11.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minquant.methods.rotation import Rotation
from minquant.models.linear_layers import decoder_blocks

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


def rotate(model: nn.Module, *, seed: int = 0, heads: bool = True) -> nn.Module:
    """A rotated copy of a model; all else as `rotate_`."""
    twin = copy.deepcopy(model)
    rotate_(twin, seed=seed, heads=heads)
    return twin


@torch.no_grad()
def rotate_(model: nn.Module, *, seed: int = 0, heads: bool = True) -> Rotation:
    """Turn a Llama-like model's residual stream, in place; its logits do not change.

    seed: of R's signs. heads: turn the values inside each head too. Returns R, of the
    hidden states. It is calculated in float64, and each weight rounded once.

    Raises ValueError if the model is not built like a Llama; nothing is changed then.
    """
    blocks = decoder_blocks(model)
    _check(model, blocks)
    fold_gains_(model)
    width = model.get_input_embeddings().weight.shape[1]
    turn = Rotation.random(width, seed=seed)
    _turn_inputs(model.get_input_embeddings(), turn)  # E R: a row per token
    _turn_inputs(model.get_output_embeddings(), turn)
    for block in blocks:
        for name in _ATTENTION[:3] + _MLP[:2]:
            _turn_inputs(_part(block, name), turn)
        for name in ("o_proj", "down_proj"):
            _turn_outputs(_part(block, name), turn)
    if heads:
        together = blocks[0].self_attn.o_proj.in_features
        size = together // model.config.num_attention_heads
        inner = Rotation.random(size, seed=seed + 1)
        for block in blocks:
            _turn_outputs(block.self_attn.v_proj, inner)
            _turn_inputs(block.self_attn.o_proj, inner)
    return turn


@torch.no_grad()
def fold_gains_(model: nn.Module) -> None:
    """Multiply each RMS norm's gain into the matrices that read it, in place: step 1.

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
        readers = [_part(block, name) for name in _ATTENTION[:3]]
        _fold(block.input_layernorm, readers)
        _fold(block.post_attention_layernorm, [block.mlp.gate_proj, block.mlp.up_proj])


def _fold(norm: nn.Module, readers: Sequence[nn.Module]) -> None:
    for layer in readers:
        W = layer.weight
        W.copy_(W.double() * norm.weight.double())  # column j times gain j
    norm.weight.fill_(1)


def _turn_inputs(layer: nn.Module, turn: Rotation) -> None:
    """W ← W R, in as many blocks of columns as R fits into."""
    layer.weight.copy_(_turned(layer.weight, turn))


def _turn_outputs(layer: nn.Module, turn: Rotation) -> None:
    """W ← Rᵀ W and bias ← bias R, in as many blocks of rows as R fits into."""
    layer.weight.copy_(_turned(layer.weight.T, turn).T)
    if layer.bias is not None:
        layer.bias.copy_(_turned(layer.bias, turn))


def _turned(weight: Tensor, turn: Rotation) -> Tensor:
    pieces = weight.double().unflatten(-1, (-1, len(turn.signs)))
    return turn.apply(pieces).flatten(-2)


def _part(block: nn.Module, name: str) -> nn.Module:
    return getattr(block.self_attn if name in _ATTENTION else block.mlp, name)


def _check(model: nn.Module, blocks: nn.ModuleList) -> None:
    """Raise ValueError unless this is a Llama in all that rotation depends on."""
    expected = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
    norms = [getattr(getattr(model, "base_model", None), "norm", None)]
    for block in blocks:
        found = {name for name, _ in block.named_children()}
        if found != expected:
            raise ValueError(_refusal(model, f"a block has {', '.join(sorted(found))}"))
        for name in _ATTENTION + _MLP:
            place = block.self_attn if name in _ATTENTION else block.mlp
            if not isinstance(getattr(place, name, None), nn.Linear):
                raise ValueError(_refusal(model, f"a block has no Linear {name}"))
        norms += [block.input_layernorm, block.post_attention_layernorm]
    width = model.get_input_embeddings().weight.shape[1]
    if not all(norm is not None and _is_rms(norm, width) for norm in norms):
        raise ValueError(_refusal(model, "a norm is not x / rms(x) times its weight"))
    head = model.get_output_embeddings()
    if head is None or head.weight.shape[1] != width:
        raise ValueError(_refusal(model, "no lm_head reads the hidden states"))


def _is_rms(norm: nn.Module, width: int) -> bool:
    """Whether a norm is an RMS norm, seen on numbers whose mean is not 0."""
    weight = getattr(norm, "weight", None)
    if weight is None or getattr(norm, "bias", None) is not None:
        return False
    x = torch.linspace(-1, 3, width, device=weight.device, dtype=weight.dtype)[None]
    exact = x.double() / x.double().square().mean().sqrt() * weight.double()
    slack = 8 * torch.finfo(weight.dtype).eps + 1e-4  # the epsilon under the root
    return torch.allclose(norm(x).double(), exact, rtol=slack, atol=slack)


def _refusal(model: nn.Module, seen: str) -> str:
    return (
        f"model {type(model).__name__} is not built like a Llama ({seen}), so its "
        "hidden states cannot be rotated unnoticed; take a Llama, Mistral or Qwen"
    )
