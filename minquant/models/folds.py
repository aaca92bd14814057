"""Scales moved through a model: folded into what comes before, or planted as outliers.

Dividing the inputs of a layer by s, and multiplying its columns by s, changes nothing
that a model computes. Here both are done to a whole model, in its weights:

    fold_             AWQ's and SmoothQuant's input_scales go into what makes the inputs
    plant_outliers_   the other way round: a few channels grow, columns of W shrink

Once folded, input scales cost neither time nor bytes:

    feeder      weight / s, bias / s          a norm, or up_proj before down_proj, ...
    layers      W_hat · s, which is what their codes stand for without input_scales

`feeders` finds what makes an input, and proves it. Norms stay floats, so folding into a
norm costs nothing. A linear feeder that is itself quantized keeps its codes, and its
scales, one or more per row, are divided: in fp16 this rounds them once more, by at most
2⁻¹¹. Where nothing can take the scales they stay, and `fold_` says why: no feeder (a
GELU stands before the layer), layers that read one input under different scales, query
heads that share a value under different ones (`quantize_` has one for them, if the
method can tie inputs), rulers that are not one per row.

Planting gives a small model what large ones have: from 6.7 billion parameters on, the
same few channels are some twenty times larger than all others, in all layers and nearly
all tokens (Dettmers et al. 2022, section 4). Nothing is trained, and the columns of W
that meet these channels become smaller by the same factors, which they are not in a
real model: so planting shows what outliers do to the rounding of X, and makes no method
look better than it is. The factors are powers of two, so the float model computes the
same, bit for bit (except for one rounding in Gemma's norms, which multiply by 1 +
weight). Plant before you quantize. Lessons 05 and 07.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models import calibrate
from minquant.models.feeders import Feeder, feeders, is_norm
from minquant.models.linear_layers import (
    Matrices,
    is_linear,
    linear_layers,
    weight_of,
)
from minquant.numerics.tensor import QuantizedTensor

_ROUNDING = 2.0**-10  # the relative change allowed when a scale is stored anew


class Folded(NamedTuple):
    """A report without the input scales that could be folded; and, by name, why each
    other layer keeps its input scales."""

    report: Matrices
    left: dict[str, str]


def fold(
    model: nn.Module, report: Mapping[str, QuantizedTensor]
) -> tuple[nn.Module, Folded]:
    """A copy of the model with its input scales folded, and its `Folded`."""
    twin = copy.deepcopy(model)
    return twin, fold_(twin, report)


@torch.no_grad()
def fold_(model: nn.Module, report: Mapping[str, QuantizedTensor]) -> Folded:
    """Fold a quantized model's `input_scales` into what makes the inputs, in place.

    model, report: as `quantize_` leaves them. Scales are folded if all layers that
    share an input have the same ones, as they do if a method of `Ws` made them. Layers
    beside them that are not in the report are floats, and their columns are multiplied
    by s. Afterwards the model holds W_hat · s, and the report that is returned says so.

    Raises ValueError as `feeders` does, and if the report names a layer that holds no
    floats (now). AWQ (Lin et al. 2024), section 3.2; SmoothQuant (Xiao et al. 2023),
    section 4.
    """
    layers = linear_layers(model)
    if unknown := [name for name in report if name not in layers]:
        raise ValueError(
            f"report names {unknown[0]!r}, which is no linear layer of the model "
            "(now); fold the scales before you pack the model"
        )
    report, left = copy.copy(report), {}
    for group, feeder in feeders(model):
        coded = {name: report[name] for name in group if name in report}
        scaled = [name for name, q in coded.items() if q.input_scales is not None]
        if not scaled:
            continue
        obstacle = _obstacle(model, group, feeder, report)
        if obstacle:
            left |= dict.fromkeys(sorted(scaled), obstacle)
            continue
        s = report[scaled[0]].input_scales.float()
        divisor = feeder.to_outputs(s)
        for name, layer in group.items():
            if name in scaled:
                report[name] = replace(report[name], input_scales=None)
                _write(layer, report[name])
            else:
                W = weight_of(layer)
                W.copy_(W.float() * s)
        divide_outputs_(feeder.module, divisor)
        if feeder.name in report:  # its codes stay: its weights follow from the scales
            report[feeder.name] = _divided(report[feeder.name], divisor)
            _write(feeder.module, report[feeder.name])
    return Folded(report, left)


@torch.no_grad()
def divide_outputs_(module: nn.Module, s: Float[Tensor, " out"]) -> None:
    """Divide the outputs of a norm or a linear layer by s, in its weights and bias.

    A norm may multiply by 1 + weight, as Gemma's does: then it still multiplies by 1
    when its weight is 0. Computed in float32, then stored in the weights' dtype.
    """
    s = s.float()
    if is_linear(module):
        W = weight_of(module)
        W.copy_(W.float() / s[:, None])
    else:
        offset = _gain_at_zero(module)
        module.weight.copy_((offset + module.weight.float()) / s - offset)
    bias = getattr(module, "bias", None)
    if bias is not None:
        bias.copy_(bias.float() / s)


def _gain_at_zero(norm: nn.Module) -> int:
    """The factor by which a norm multiplies if its weight is 0: 0, or 1 for Gemma's."""
    twin = copy.deepcopy(norm)
    twin.weight.zero_()
    if getattr(twin, "bias", None) is not None:
        twin.bias.zero_()
    ramp = torch.linspace(-1, 1, len(twin.weight), dtype=torch.float32, device="cpu")
    ramp = ramp.to(twin.weight)
    return int(bool(twin(ramp).any()))


def _write(layer: nn.Module, quantized: QuantizedTensor) -> None:
    """Write W_hat into a layer's weights."""
    W = weight_of(layer)
    W.copy_(quantized.dequantize().to(W))


def _obstacle(
    model: nn.Module,
    group: Mapping[str, nn.Module],
    feeder: Feeder | None,
    report: Matrices,
) -> str:
    """Why the scales of a group cannot be folded; empty if they can."""
    if feeder is None:
        return "no norm and no linear layer of its block makes its input alone"
    other = _shared_with(model, [*group.values(), feeder.module])
    if other:
        return f"it, or {feeder.name} before it, shares a weight with {other}"
    input_scales = {n: report[n].input_scales for n in group if n in report}
    (_, first), *others = input_scales.items()
    for name, s in others:
        if (s is None) != (first is None) or (s is not None and not s.equal(first)):
            return f"{name} reads the same input under other input_scales"
    divisor = feeder.to_outputs(first.float())
    if divisor is None:
        return (
            f"query heads that share a value of {feeder.name} differ in their scales; "
            "the method should take `tied`, as quantize_awq_shared does"
        )
    if feeder.name in report and _divided(report[feeder.name], divisor) is None:
        return f"{feeder.name} is quantized with rulers that cannot be divided by row"
    return ""


def _shared_with(model: nn.Module, modules: Sequence[nn.Module]) -> str:
    """The name under which the model holds a weight of these modules a second time: in
    another module, or in one of these again. Empty if there is none."""
    weights = {id(module.weight) for module in modules}
    seen: set[int] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        in_module = {id(p) for p in module.parameters(recurse=False)} & weights
        if in_module & seen:
            return name
        seen |= in_module
    return ""


def _divided(
    quantized: QuantizedTensor, s: Float[Tensor, " out"]
) -> QuantizedTensor | None:
    """The rows of W_hat divided by s, in its scales. None if there is no scale per row,
    or if the scales' dtype cannot hold the result."""
    scales = quantized.scales
    if not isinstance(scales, Tensor) or scales.shape[0] != len(quantized.codes):
        return None
    exact = scales.float() / s[:, None]
    stored = exact.to(scales.dtype)
    if ((stored.float() - exact).abs() > _ROUNDING * exact.abs()).any():
        return None
    return replace(quantized, scales=stored)


def plant_outliers(
    model: nn.Module, calibration: Sequence[Int[Tensor, "_ _"]], **options: Any
) -> tuple[nn.Module, list[int]]:
    """A copy of the model with outlier channels, and their indices; `options` as for
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

    Wherever a norm feeds linear layers, its gain in these channels is multiplied by a
    power of two, so that their largest |x| on the calibration text is at least `size`
    and below 2 · `size`. The columns of W that meet them are divided by the same
    factor, so what the model computes does not change. The defaults, 6 channels of 60,
    are what a model of 6.7 B parameters has.

    Returns the channels, ascending. Raises ValueError if there are fewer channels, if
    no norm feeds a linear layer, or if one of these shares its weights. Lesson 05.
    """
    after_norms = [
        (group, feeder)
        for group, feeder in feeders(model)
        if feeder and is_norm(feeder.module)
    ]
    if not after_norms:
        raise ValueError(
            f"model {type(model).__name__} has no norm that feeds linear layers alone; "
            "give a model with its norms first, such as Llama, Qwen, OPT or GPT-2"
        )
    for group, feeder in after_norms:
        other = _shared_with(model, [*group.values(), feeder.module])
        if other:
            raise ValueError(
                f"model shares a weight of {feeder.name}, or of what reads it, with "
                f"{other}; untie them first"
            )
    first_layers = dict(next(iter(group.items())) for group, _ in after_norms)
    tops = _largest_inputs(model, first_layers, calibration)
    alive = (torch.stack(tops) > 0).all(0).nonzero()[:, 0].cpu()
    if not 1 <= channels <= len(alive):
        raise ValueError(
            f"channels is {channels}; choose 1 to {len(alive)}, the channels that are "
            "not 0 in any layer"
        )
    draw = {"generator": torch.Generator().manual_seed(seed), "device": "cpu"}
    order = torch.randperm(len(alive), **draw)
    chosen = alive[order[:channels]].sort().values
    for (group, feeder), top in zip(after_norms, tops, strict=True):
        exponent = (size / top[chosen]).log2().ceil().clamp(min=0)
        factor = torch.ones_like(top)
        factor[chosen] = exponent.exp2()
        divide_outputs_(feeder.module, 1 / factor)
        for layer in group.values():
            W = weight_of(layer)
            W.copy_(W / factor.to(W))
    return chosen.tolist()


def _largest_inputs(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    calibration: Sequence[Int[Tensor, "_ _"]],
) -> list[Float[Tensor, " in"]]:
    """The largest |x| of each input of each layer, over all calibration text."""
    tops: dict[str, Tensor] = {}

    def see(name: str, states: Tensor) -> None:
        """Keep the largest |x| so far."""
        top = states.abs().flatten(0, -2).amax(0).float()
        tops[name] = torch.maximum(tops.get(name, top), top)

    with calibrate.watching(layers, see):
        calibrate.run_body(model, calibration)
    return [tops[name] for name in layers]
