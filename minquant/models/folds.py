"""Scales on the move: folded into what comes before, or put there to make outliers.

Dividing the inputs of a layer by s, and multiplying its columns by s, changes nothing
that a model computes. Here both are done to a whole model, in its weights:

    fold_             AWQ's and SmoothQuant's input_scales go into what makes the inputs
    plant_outliers_   the same backwards: a few channels grow, columns of W shrink

Folded, the input scales cost neither time nor bytes:

    feeder      weight / s, bias / s          a norm, or up_proj before down_proj, ...
    layers      W_hat · s, which is what their codes stand for without input_scales

`feeders` finds what makes an input, and proves it. Norms stay floats, so there a fold
costs nothing. A linear feeder that is itself quantized keeps its codes, and its scales,
one or more per row, are divided: in fp16 that rounds them once more, by at most 2⁻¹¹.
Where nothing can take the scales they stay, and `fold_` says why: no feeder (a GELU
lies before the layer), layers that read one input under different scales, query heads
that share a value and ask for different ones, rulers that are not one per row.

Planting gives a small model what large ones have: from 6.7 billion parameters on, the
same few channels are some twenty times larger than all others, in all layers and nearly
all tokens (Dettmers et al. 2022, section 4). That is no training, and the columns of W
that meet these channels become as much smaller, which in a real model they are not: so
it shows what outliers do to the rounding of X, and flatters nothing. The factors are
powers of two, so that the float model computes the same, bit for bit (Gemma's norms,
which multiply by 1 + weight, but for one rounding). Plant before you quantize.
Lessons 05 and 07.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models import calibrate
from minquant.models.feeders import Feeder, divide_outputs_, feeders, is_norm
from minquant.models.linear_layers import Report, weight_of
from minquant.numerics.tensor import QuantizedTensor

_ROUNDED = 2.0**-10  # how far a scale may move when it is stored anew


class Folded(NamedTuple):
    """A report without the input scales that could be folded; and for each layer that
    keeps its own, by name, why."""

    report: Report
    left: dict[str, str]


def fold(model: nn.Module, report: Mapping[str, QuantizedTensor]) -> tuple:
    """A copy of the model with its input scales folded, and its `Folded`."""
    twin = copy.deepcopy(model)
    return twin, fold_(twin, report)


@torch.no_grad()
def fold_(model: nn.Module, report: Mapping[str, QuantizedTensor]) -> Folded:
    """Fold a quantized model's `input_scales` into what makes the inputs, in place.

    model, report: as `quantize_` leaves them. Layers that share an input must share
    their scales, as a method of `Ws` gives them; those that are not in the report stay
    floats, and are multiplied. The model then holds W_hat · s, as its new report says.

    Raises ValueError as `feeders` does. AWQ section 3.2, SmoothQuant section 4.
    """
    report, left = dict(report), {}
    for group, feeder in feeders(model):
        scaled = {n for n in group if n in report and _scales(report[n]) is not None}
        if not scaled:
            continue
        why = _obstacle(model, group, feeder, report)
        if why:
            left |= dict.fromkeys(sorted(scaled), why)
            continue
        s = _scales(report[min(scaled)]).float()
        divisor = feeder.to_outputs(s)
        for name, layer in group.items():
            if name in scaled:
                report[name] = replace(report[name], input_scales=None)
                _write(layer, report[name])
            else:
                W = weight_of(layer)
                W.copy_(W.float() * s)
        divide_outputs_(feeder.module, divisor)
        if feeder.name in report:  # its codes stay, so its weights are what they say
            report[feeder.name] = _divided(report[feeder.name], divisor)
            _write(feeder.module, report[feeder.name])
    return Folded(report, left)


def _scales(quantized: QuantizedTensor) -> Float[Tensor, " in"] | None:
    return quantized.input_scales


def _write(layer: nn.Module, quantized: QuantizedTensor) -> None:
    W = weight_of(layer)
    W.copy_(quantized.dequantize().to(W))


def _obstacle(
    model: nn.Module,
    group: Mapping[str, nn.Module],
    feeder: Feeder | None,
    report: Report,
) -> str:
    """Why the scales of a group cannot be folded; empty if they can."""
    if feeder is None:
        return "no norm and no linear layer of its block makes its input alone"
    shared = _shared_with(model, [*group.values(), feeder.module])
    if shared:
        return f"it, or {feeder.name} before it, shares a weight with {shared}"
    coded = {n: _scales(report[n]) for n in group if n in report}
    (_, first), *others = coded.items()
    for name, s in others:
        if (s is None) != (first is None) or (s is not None and not s.equal(first)):
            return f"{name} reads the same input under other input_scales"
    divisor = feeder.to_outputs(first.float())
    if divisor is None:
        return f"query heads that share a value of {feeder.name} differ in their scales"
    if feeder.name in report and _divided(report[feeder.name], divisor) is None:
        return f"{feeder.name} is quantized with rulers that cannot be divided by row"
    return ""


def _shared_with(model: nn.Module, modules: Sequence[nn.Module]) -> str:
    """The name of a module outside of these that holds one of their weights, or that
    is one of them under a second name; else empty."""
    weights, seen = {id(m.weight) for m in modules}, set()
    for name, module in model.named_modules(remove_duplicate=False):
        held = {id(p) for p in module.parameters(recurse=False)} & weights
        if held & seen:
            return name
        seen |= held
    return ""


def _divided(
    quantized: QuantizedTensor, s: Float[Tensor, " out"]
) -> QuantizedTensor | None:
    """Rows of W_hat divided by s, in the scales; None if these cannot hold it."""
    scales = quantized.scales
    if not isinstance(scales, Tensor) or scales.shape[0] != len(quantized.codes):
        return None
    exact = scales.float() / s[:, None]
    stored = exact.to(scales.dtype)
    if ((stored.float() - exact).abs() > _ROUNDED * exact.abs()).any():
        return None
    return replace(quantized, scales=stored)


def plant_outliers(
    model: nn.Module, calibration: Sequence[Int[Tensor, "_ _"]], **options: Any
) -> tuple[nn.Module, list[int]]:
    """A copy of the model with outlier channels, and which these are; `options` as for
    `plant_outliers_`."""
    twin = copy.deepcopy(model)
    return twin, plant_outliers_(twin, calibration, **options)


@torch.no_grad()
def plant_outliers_(
    model: nn.Module,
    calibration: Sequence[Int[Tensor, "_ _"]],
    *,
    channels: int = 6,
    size: float = 60.0,
    seed: int = 0,
) -> list[int]:
    """Make the same few channels large in all layers that a norm feeds, in place.

    Wherever a norm feeds linear layers, its gain is multiplied in these channels by a
    power of two, so that on the calibration text their largest |x| reaches `size`, and
    stays below twice that; the columns of W that meet them are divided by it. What the
    model computes stays. 6 channels of 60 is what a model of 6.7 B parameters has.

    Returns the channels, ascending. Raises ValueError if there are not so many, if no
    norm feeds a linear layer, or one shares its weights. Lesson 05.
    """
    fed = [(g, f) for g, f in feeders(model) if f and is_norm(f.module)]
    if not fed:
        raise ValueError(
            f"model {type(model).__name__} has no norm that feeds linear layers alone; "
            "give a model with its norms first, such as Llama, Qwen, OPT or GPT-2"
        )
    for group, feeder in fed:
        if shared := _shared_with(model, [*group.values(), feeder.module]):
            raise ValueError(
                f"model shares a weight of {feeder.name}, or of what reads it, with "
                f"{shared}; untie them first"
            )
    tops = _tops(model, [next(iter(group.items())) for group, _ in fed], calibration)
    alive = (torch.stack(tops) > 0).all(0).nonzero()[:, 0].cpu()
    if not 1 <= channels <= len(alive):
        raise ValueError(
            f"channels is {channels}; choose 1 to {len(alive)}, the channels that are "
            "not 0 in any layer"
        )
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))
    chosen = alive[order[:channels]].sort().values
    for (group, feeder), top in zip(fed, tops, strict=True):
        factor = torch.ones_like(top)
        grow = (size / top[chosen]).log2().ceil().clamp(min=0)
        factor[chosen] = grow.exp2()
        divide_outputs_(feeder.module, 1 / factor)
        for layer in group.values():
            W = weight_of(layer)
            W.copy_(W / factor.to(W))
    return chosen.tolist()


def _tops(
    model: nn.Module,
    layers: Sequence[tuple[str, nn.Module]],
    calibration: Sequence[Int[Tensor, "_ _"]],
) -> list[Float[Tensor, " in"]]:
    """The largest |x| of each input of each layer, over all calibration text."""
    tops: dict[str, Tensor] = {}

    def see(name: str, states: Tensor) -> None:
        """Note a batch's largest."""
        top = states.abs().flatten(0, -2).amax(0).float()
        tops[name] = torch.maximum(tops.get(name, top), top)

    body = getattr(model, "base_model", model)
    device = next(model.parameters()).device
    with calibrate.watching(dict(layers), see):
        for ids in calibration:
            body(input_ids=ids.to(device), use_cache=False)
    return [tops[name] for name, _ in layers]
