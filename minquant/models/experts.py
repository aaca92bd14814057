"""Experts as matrices: a mixture of experts whose every matrix is a linear layer.

transformers holds the experts of a layer in two parameters of three dimensions,

    gate_up_proj   (experts, 2 inner, width)        down_proj   (experts, width, inner)

which is fast to multiply, and invisible to whoever looks for linear layers: of such a
model, half to nine tenths would be passed over. `separate_experts_` replaces each such
module by one that has an `nn.Linear` per expert and projection and computes the same,

    Y[t] = Σ_e p[t, e] · down_e( act(gate_e(x_t)) · up_e(x_t) )     over t's few experts

under the names that checkpoints use: experts.0.gate_proj, up_proj and down_proj; in
Mixtral w1, w3 and w2. All that works on linear layers then works on experts: methods,
hooks, packing, files. The layouts differ by family (gpt-oss stores matrices transposed,
gate and up interleaved, with biases and a clamp). transformers says in its own words
how a family does it, and its activation is called as it is. Routers are not touched.

What is left out: families whose experts transformers does not describe in this way
(Llama 4, DBRX, JetMoe). They stay as they are, and a `Report` says so.
"""

import re
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class SeparateExperts(nn.Module):
    """The experts of one layer: "0", "1", ... each with its two or three projections.

    fused: the module of transformers whose parameters they were; it keeps its
    activation. names: of gate, up and down; gate is missing where a family has none.
    stored: whether checkpoints hold the experts one by one, under these names.
    """

    def __init__(self, fused: Any, names: tuple[str, ...], stored: bool) -> None:
        super().__init__()
        self.fused, self.names, self.stored = fused, names, stored
        self.num_experts: int = fused.num_experts
        matrices = _matrices(fused)
        for e in range(self.num_experts):
            expert = nn.Module()
            for name, (W, bias) in zip(names, matrices, strict=True):
                expert.add_module(
                    name, _linear(W[e], None if bias is None else bias[e])
                )
            self.add_module(str(e), expert.train(fused.training))
        for name in dict(fused.named_parameters()):
            delattr(fused, name)

    def projections(self, e: int) -> list[nn.Module]:
        """Gate, up and down of one expert, or up and down."""
        return [getattr(self.get_submodule(str(e)), name) for name in self.names]

    def inner(self, e: int, X: Float[Tensor, "n width"]) -> Float[Tensor, "n inner"]:
        """What the expert's down reads: act(gate(x)) · up(x), in the family's way."""
        *gate, up, _ = self.projections(e)
        if not gate:
            return self.fused.act_fn(up(X))
        both = gate[0](X), up(X)
        concatenated = self.fused.is_concatenated
        fused = (
            torch.cat(both, -1) if concatenated else torch.stack(both, -1).flatten(1)
        )
        return self.fused._apply_gate(fused)

    def forward(
        self,
        hidden_states: Float[Tensor, "n width"],
        top_k_index: Int[Tensor, "n k"],
        top_k_weights: Float[Tensor, "n k"],
    ) -> Float[Tensor, "n width"]:
        """The weighted sum of what each token's experts say of it."""
        Y = torch.zeros_like(hidden_states)
        for e in top_k_index.unique().tolist():
            if e == self.num_experts:  # stands for no expert
                continue
            tokens, places = torch.where(top_k_index == e)
            down = self.projections(e)[-1]
            said = down(self.inner(e, hidden_states[tokens]))
            weighted = said * top_k_weights[tokens, places, None]
            Y.index_add_(0, tokens, weighted.to(Y.dtype))
        return Y


def separate_experts_(model: nn.Module) -> nn.Module:
    """Replace each module that fuses experts by `SeparateExperts`. Returns the model,
    which is changed in place, one layer after the other, and computes the same except
    for the order of sums.
    """
    for path, fused in fused_experts(model).items():
        names, stored = _names(fused)
        model.set_submodule(path, SeparateExperts(fused, names, stored))
    return model


def fused_experts(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose parameters are experts that can be separated, by name."""
    return {name: m for name, m in model.named_modules() if _is_fused(m)}


def separated(model: nn.Module) -> dict[str, SeparateExperts]:
    """The modules that `separate_experts_` made, by name."""
    found = model.named_modules()
    return {name: m for name, m in found if isinstance(m, SeparateExperts)}


def _is_fused(module: nn.Module) -> bool:
    """Whether transformers describes how this module stores its experts, and it stores
    nothing else."""
    if not hasattr(type(module), "_apply_gate") or not hasattr(module, "is_transposed"):
        return False
    first = "gate_up_proj" if module.has_gate else "up_proj"
    expected = {first, "down_proj"}
    if module.has_bias:
        expected |= {f"{name}_bias" for name in expected}
    return set(dict(module.named_parameters())) == expected


def _matrices(fused: Any) -> list[tuple[Tensor, Tensor | None]]:
    """The weights (experts, out, in) and biases (experts, out) of gate, up and down."""

    def stacked(name: str) -> tuple[Tensor, Tensor | None]:
        """One parameter with its bias, transposed if need be."""
        W = getattr(fused, name)
        bias = getattr(fused, f"{name}_bias") if fused.has_bias else None
        return W.mT if fused.is_transposed else W, bias

    if not fused.has_gate:
        return [stacked("up_proj"), stacked("down_proj")]
    W, bias = stacked("gate_up_proj")
    inner = W.shape[1] // 2
    if fused.is_concatenated:
        halves = slice(None, inner), slice(inner, None)
    else:  # gate, up, gate, up, ...
        halves = slice(0, None, 2), slice(1, None, 2)
    gate_up = [(W[:, h], None if bias is None else bias[:, h]) for h in halves]
    return [*gate_up, stacked("down_proj")]


def _linear(
    W: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None
) -> nn.Linear:
    """A linear layer with memory of its own."""
    out, width = W.shape
    layer = nn.Linear(width, out, bias=bias is not None, device="meta")
    for name, tensor in (("weight", W), ("bias", bias)):
        if tensor is not None:
            own = tensor.detach().clone(memory_format=torch.contiguous_format)
            setattr(layer, name, nn.Parameter(own, tensor.requires_grad))
    return layer


def _names(fused: Any) -> tuple[tuple[str, ...], bool]:
    """What checkpoints of this family call gate, up and down, and whether they store
    experts one by one: what transformers joins when it opens one."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    first = "gate_up_proj" if fused.has_gate else "up_proj"
    joined: dict[str, list[str]] = {}
    for step in get_checkpoint_conversion_mapping(fused.config.model_type) or ():
        for target in step.target_patterns:
            parts = [_projection(source) for source in step.source_patterns]
            if all(parts):
                joined[target.rpartition(".")[-1]] = parts
    if first in joined and "down_proj" in joined:
        return (*joined[first], *joined["down_proj"]), True
    names = ("gate_proj", "up_proj", "down_proj")
    return names if fused.has_gate else names[1:], False


def _projection(source: str) -> str:
    """w1 of ".experts.*.w1.weight"; nothing of other patterns."""
    found = re.search(r"experts\\?\.\*\\?\.(\w+)\\?\.weight$", source)
    return found[1] if found else ""
