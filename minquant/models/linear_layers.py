"""Where a model keeps its matrices, and what they weigh.

    decoder_blocks   the repeated layers: the list as long as the config says
    linear_layers    the matrices in them, by name: what there is to quantize
    layers_in        those of them that one block holds
    select_layers    those of them that `only` names
    distinct         without those that share the weight of an earlier one
    weight_of        one of them as (out, in), however it is stored
    size             bytes of a model: codes where there are codes, floats elsewhere

In a Llama of L layers these are 7 L matrices: q, k, v and o of the attention; gate, up
and down of the MLP. Embeddings, norms and the last projection (lm_head) are left out:
in a large model they hold few of the weights. A `Report` says what became of the
layers: a QuantizedTensor by the name of each. Only torch is needed here.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.numerics.tensor import QuantizedTensor

Report = dict[str, QuantizedTensor]


class ModelReport(Report):
    """The report of `quantize_`. fell_back: by name, why a layer has one scale per row,
    and not the groups that the method was to make."""

    def __init__(self, matrices: Report, fell_back: dict[str, str]) -> None:
        super().__init__(matrices)
        self.fell_back = fell_back

    def summary(self) -> str:
        """One line on the layers that fell back; empty if there are none."""
        names_by_reason: dict[str, list[str]] = {}
        for name, reason in self.fell_back.items():
            names_by_reason.setdefault(reason, []).append(name)
        reasons = [
            f"{reason} ({len(names)} layers, the first {names[0]})"
            for reason, names in names_by_reason.items()
        ]
        count = f"one scale per row in {len(self.fell_back)} of {len(self)} layers"
        return f"{count}, as {', '.join(reasons)}" if reasons else ""


L = TypeVar("L", bound=nn.Module)


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of a model: its list of as many modules as its config says.

    Raises ValueError if it has no such list.
    """
    depth = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(
        f"model {type(model).__name__} has no list of {depth} decoder layers; give a "
        "causal language model such as Llama, Qwen, OPT or GPT-2"
    )


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers inside the decoder layers, by name, in the model's order.

    lm_head and embeddings are never among them. GPT-2's Conv1D, a linear layer that
    stores its weight transposed, is: `weight_of` gives the matrix of both kinds.

    Raises ValueError as `decoder_blocks` does.
    """
    inside = {id(m) for block in decoder_blocks(model) for m in block.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside and is_linear(module)
    }


def layers_in(
    block: nn.Module, layers: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Those of the layers that this block holds, by name."""
    inside = set(block.modules())
    return {name: layer for name, layer in layers.items() if layer in inside}


def select_layers(
    layers: Mapping[str, L], only: str | Collection[str] | None
) -> dict[str, L]:
    """The layers whose names `only` finds: a regular expression or a collection of
    names; None finds all.

    Raises ValueError if it finds no layer, or if a name of the collection is unknown.
    """
    if only is None or isinstance(only, str):
        pattern = only or ""
        selected = {n: layer for n, layer in layers.items() if re.search(pattern, n)}
        unknown = []
    else:
        selected = {n: layer for n, layer in layers.items() if n in only}
        unknown = [name for name in only if name not in layers]
    if unknown or not selected:
        raise ValueError(
            f"only={only!r} names {unknown or 'no layer'}; the layers are "
            f"{', '.join(list(layers)[:3]) or 'none'}, ..."
        )
    return selected


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: torch's, or GPT-2's Conv1D."""
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def weight_of(layer: nn.Module) -> Float[Tensor, "out in"]:
    """A layer's weights as (out, in): a view, so writing to it changes the layer."""
    weight = layer.weight.detach()
    return weight.T if _is_conv1d(layer) else weight


def distinct(
    model: nn.Module, layers: dict[str, nn.Module]
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The layers without those that share the weight of an earlier one; and for every
    name the first layer with the same weight, most often the layer itself.

    Raises ValueError if a module outside the linear layers also uses a weight.
    """
    first: dict[int, str] = {}
    for name, layer in layers.items():
        first.setdefault(id(layer.weight), name)
    inside = {id(layer) for layer in linear_layers(model).values()}
    for name, module in model.named_modules():
        for weight in module.parameters(recurse=False):
            if id(module) not in inside and id(weight) in first:
                raise ValueError(
                    f"model shares the weight of {first[id(weight)]} with {name}, "
                    "which is not to be quantized; leave the layer out with only="
                )
    first_of = {name: first[id(layer.weight)] for name, layer in layers.items()}
    return {name: layers[name] for name in first.values()}, first_of


@dataclass(frozen=True)
class Size:
    """The bytes of a model: those of its quantized layers, and those of the rest."""

    quantized: int
    elsewhere: int
    layers: int
    weights: int  # in the quantized layers

    @property
    def total(self) -> int:
        """All bytes."""
        return self.quantized + self.elsewhere

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight of the quantized layers, with scales and zeros."""
        return 8 * self.quantized / self.weights if self.weights else float("nan")

    def __repr__(self) -> str:
        text = f"{self.total / 1e6:.3f} MB"
        if self.layers:
            text += (
                f" = {self.quantized / 1e6:.3f} in {self.layers} quantized layers "
                f"({self.bits_per_weight:.2f} bits per weight) "
                f"+ {self.elsewhere / 1e6:.3f} elsewhere"
            )
        return text


def size(
    model: nn.Module,
    report: Report | None = None,
    *,
    dtype: torch.dtype | None = torch.float16,
) -> Size:
    """The bytes of a model: codes, scales and zeros of the matrices in `report`, and
    all other weights as if stored in `dtype` (None: in their own). A shared weight
    counts once.

    Raises ValueError if the report names a layer that the model does not have.
    """
    report = report or {}
    layers = linear_layers(model)
    for name in report:
        if name not in layers:
            raise ValueError(f"report names {name!r}, but model has no such layer")
    coded = {id(layers[name].weight): q for name, q in report.items()}
    rest = [p for p in model.parameters() if id(p) not in coded]
    return Size(
        quantized=sum(q.nbytes for q in coded.values()),
        elsewhere=sum(p.numel() * (dtype or p.dtype).itemsize for p in rest),
        layers=len(coded),
        weights=sum(q.codes.numel() for q in coded.values()),
    )
