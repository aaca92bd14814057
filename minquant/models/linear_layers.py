"""Where a model keeps its matrices, and what they weigh.

    decoder_blocks   the repeated layers: the list as long as the config says
    linear_layers    the matrices in them, by name: what there is to quantize
    layers_in        those of them that one block holds
    select_layers    those of them that `only` names
    distinct         without those that share the weight of an earlier one
    weight_of        one of them as (out, in), however it is stored
    left_in_floats   all other weights of a model, each with its share and the reason
    size             bytes of a model: codes where there are codes, floats elsewhere

In a Llama of L layers these are 7 L matrices: q, k, v and o of the attention; gate, up
and down of the MLP. Embeddings, norms and the last projection (lm_head) are left out:
in a large model they hold few of the weights. So are the routers of a mixture of
experts: few weights again, and a wrong choice of experts is worse than a wrong weight.
A `Report` says what became of the layers: a QuantizedTensor by the name of each; and of
the weights that stay floats, none of them in silence. Only torch is needed here.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.models.experts import fused_experts
from minquant.numerics.tensor import QuantizedTensor

Matrices = Mapping[str, QuantizedTensor]  # by the names of their layers
L = TypeVar("L", bound=nn.Module)

EMBEDDING, HEAD, ROUTER = "embeddings", "output head", "routers"
VECTOR, LEFT_OUT = "norms and biases", "layers left out by only="
OTHER = "other matrices"


class Left(NamedTuple):
    """A parameter that stays in floats: its share of a model's weights, and why."""

    share: float
    why: str


def fell_back_in_words(fell_back: Mapping[str, str]) -> str:
    """Which layers have one scale per row instead of groups, and why; empty if none."""
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in fell_back.items():
        names_by_reason.setdefault(reason, []).append(name)
    reasons = [f"{why} ({_first(names)})" for why, names in names_by_reason.items()]
    if not reasons:
        return ""
    return f"{len(fell_back)} layers have one scale per row, as {', '.join(reasons)}"


class Report(dict[str, QuantizedTensor]):
    """What became of a model's weights: the QuantizedTensor of each layer that has one,
    by name.

    left: each parameter that stays in floats, by name. rounded_to_nearest: the layers
    for which a method that needs calibration had too little of it, and the reason.
    fell_back: the layers that have one scale per row, and not the groups that the
    method was to make, and the reason.
    """

    def __init__(
        self,
        matrices: Matrices | Iterable[tuple[str, QuantizedTensor]] = (),
        *,
        left: Mapping[str, Left] | None = None,
        rounded_to_nearest: Mapping[str, str] | None = None,
        fell_back: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(matrices)
        self.left = dict(left or {})
        self.rounded_to_nearest = dict(rounded_to_nearest or {})
        self.fell_back = dict(fell_back or {})

    def summary(self) -> str:
        """One line: the share of the weights that are quantized, and what the others
        are. Up to two names stand for those that nobody expects."""
        shares: dict[str, float] = {}
        names: dict[str, list[str]] = {}
        for name, (share, why) in self.left.items():
            shares[why] = shares.get(why, 0.0) + share
            names.setdefault(why, []).append(name)
        parts = []
        for why, share in sorted(shares.items(), key=lambda item: -item[1]):
            which = f" ({_first(names[why])})" if why in (LEFT_OUT, OTHER) else ""
            parts.append(f"{why} {share:.1%}{which}")
        text = (
            f"quantized: {1 - sum(shares.values()):.1%} of the weights, in {len(self)} "
            f"layers; floats: {', '.join(parts) or 'none'}"
        )
        if self.rounded_to_nearest:
            text += (
                f"; {len(self.rounded_to_nearest)} layers only rounded to nearest, for "
                f"want of text ({_first(list(self.rounded_to_nearest))})"
            )
        if told := fell_back_in_words(self.fell_back):
            text += f"; {told}"
        return text


def _first(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


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

    lm_head, embeddings and routers are never among them. GPT-2's Conv1D, a linear layer
    that stores its weight transposed, is: `weight_of` gives the matrix of both kinds.

    Raises ValueError as `decoder_blocks` does, and if the model has experts that no
    layer would show: `load` and `quantize_` separate them.
    """
    inside = {id(m) for block in decoder_blocks(model) for m in block.modules()}
    fused = list(fused_experts(model))
    if fused:
        raise ValueError(
            f"model has its experts in one tensor ({_first(fused)}); call "
            "minquant.models.experts.separate_experts_(model) first"
        )
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside
        and is_linear(module)
        and not is_router(model, name, weight_of(module))
    }


def is_router(model: nn.Module, name: str, weight: Tensor) -> bool:
    """Whether a layer with this weight (out, in) chooses experts, or weighs shared
    ones: it is called gate or router, and has an output per expert, or only one."""
    sizes = ("num_experts", "num_local_experts", "n_routed_experts")
    counts = [getattr(model.config, size, None) for size in sizes]
    experts = [count for count in counts if isinstance(count, int) and count > 1]
    called = re.search(r"(^|[._])(gate|router)(\.|$)", name) is not None
    return called and bool(experts) and weight.shape[0] in (1, *experts)


def left_in_floats(model: nn.Module, report: Matrices) -> dict[str, Left]:
    """The parameters of a model, by name, without the weights of the layers in the
    report: their shares of all weights, and why they stay floats. A shared parameter
    counts once."""
    layers = {id(layer.weight) for layer in linear_layers(model).values()}
    modules = dict(model.named_modules())
    coded = {id(modules[name].weight) for name in report}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    total = sum(weight.numel() for weight in model.parameters())
    left: dict[str, Left] = {}
    for name, weight in model.named_parameters():
        path = name.rpartition(".")[0]
        if id(weight) in coded:
            continue
        if id(weight) in layers:
            why = LEFT_OUT
        elif isinstance(modules[path], nn.Embedding):
            why = EMBEDDING
        elif modules[path] is head:
            why = HEAD
        elif weight.ndim < 2:
            why = VECTOR
        elif weight.ndim == 2 and is_router(model, path, weight):
            why = ROUTER
        else:
            why = OTHER
        left[name] = Left(weight.numel() / total, why)
    return left


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
    report: Matrices | None = None,
    *,
    dtype: torch.dtype | None = torch.float16,
) -> Size:
    """The bytes of a model: codes, scales and zeros of the matrices in `report`, and
    all other weights as if stored in `dtype` (None: in their own). A shared weight
    counts once.

    Raises ValueError if the report names a layer that the model does not have.
    """
    report = report or {}
    layers = linear_layers(model) if report else {}
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
