"""Quantize a whole model: every matrix of its decoder layers, one after the other.

    model, tokenizer = load()
    model_hat, report = quantize(model, method)   # a copy; quantize_ works in place
    size(model_hat, report)                       # what it weighs now

A method is a function of one matrix, such as `quantize_rtn` with its grid filled in. It
knows no model. Here it is called with each matrix of the decoder layers in turn, and
the values of its codes are written where the matrix was.

The names of a method's parameters say what else it needs: `X` (n, in), the inputs of
the layer, or `H` = XᵀX. These come from calibration text that has gone through the
layers *already quantized*, so each layer sees the errors of the layers before it and
can make up for them, as in GPTQ's code (Frantar et al. 2023, section 4). Lessons 00
and 06.
"""

import copy
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.models import calibrate, feeders
from minquant.models.experts import separate_experts_
from minquant.models.linear_layers import (
    Report,
    decoder_blocks,
    distinct,
    layers_in,
    left_in_floats,
    linear_layers,
    select_layers,
    weight_of,
)
from minquant.models.method import Method, relative_error
from minquant.models.packed_model import check_floats
from minquant.models.text import check_batches, check_model
from minquant.numerics.tensor import QuantizedTensor


def quantize(
    model: nn.Module, method: Callable, **options: Any
) -> tuple[nn.Module, Report]:
    """A quantized copy of a model, and its report; `options` as for `quantize_`."""
    twin = copy.deepcopy(model)
    return twin, quantize_(twin, method, **options)


@torch.no_grad()
def quantize_(
    model: nn.Module,
    method: Callable[..., QuantizedTensor | list[QuantizedTensor]],
    *,
    calibration: Sequence[Int[Tensor, "_ _"]] | None = None,
    float_inputs: bool = False,
    only: str | Collection[str] | None = None,
    report: dict[str, QuantizedTensor] | None = None,
    progress: bool = True,
) -> Report:
    """Replace each linear layer's weights by their quantized values, in place. Experts
    that a mixture holds in one tensor are first made linear layers
    (`separate_experts_`).

    method: a function whose first parameter is a matrix `W`, or `Ws`, the list of all
    matrices that share an input. Its parameters `X` and `H`, if they have no default,
    are computed from `calibration`, the batches of `calibration_batches`. Fill in all
    other parameters with functools.partial.
    float_inputs: take X and H from the model before any layer was quantized.
    only: a regular expression found in the names of the layers to quantize, or names.
    report: a `Report()`, empty at first, in which each layer is entered when it is
    done. After an interruption call again with the same one: the work goes on where it
    stopped, and ends as if it had never been interrupted.
    progress: show a bar, with the mean `relative_error` so far, and at the end print
    `Report.summary()`: one line about what is quantized, and what stays floats.

    Returns a QuantizedTensor for each layer, by name; its `left` names all weights that
    stay floats. Rows that the method's groups do not divide get one scale each;
    `fell_back` names these layers and says why. Weights keep their dtype. Two layers
    that share one weight are quantized once. Experts that too few tokens reach are
    rounded to nearest, on the same grid, and `rounded_to_nearest` names them. After an
    interruption each layer is either old or new, and the model works.

    Raises ValueError if calibration is missing or not of this model, a parameter of the
    model is not finite, `only` finds no layer, the report is of another model, or the
    method's result has another shape or is not finite; TypeError for a wrong kind of
    argument, such as a report that is another dict.
    """
    check_model(model)
    check_finite(model)
    if calibration is not None:
        check_batches(model, calibration)
    checked_method = Method.from_function(method, calibration)
    if not isinstance(report, Report | None):
        raise TypeError(
            f"report is a {type(report).__name__}, which has no place for what is left "
            "in floats; give Report()"
        )
    separate_experts_(model)
    check_floats(model)
    selected = select_layers(linear_layers(model), only)
    layers, first_of = distinct(model, selected)
    report = Report() if report is None else report
    _resume(model, report, float_inputs)
    remaining = {name: layer for name, layer in layers.items() if name not in report}
    tied = feeders.tied_inputs(model) if checked_method.ties else {}
    groups = _groups(model, remaining, checked_method, calibration, float_inputs)
    errors: list[float] = []
    bar = tqdm(total=len(layers), desc="quantizing", delay=1, disable=not progress)
    with bar, closing(groups):
        bar.update(len(layers) - len(remaining))
        for names, inputs, too_few in groups:
            Ws = {name: weight_of(remaining[name]) for name in names}
            inputs |= {"tied": tied[names[0]]} if names[0] in tied else {}
            results = checked_method.apply(Ws, inputs)
            if progress:
                for name, (_, W_hat) in results.items():
                    errors.append(relative_error(Ws[name], W_hat, inputs))
                error = f"{sum(errors) / len(errors):.2e}"
                bar.set_postfix(error=error, refresh=False)  # shown with the next bar
            if too_few:
                report.rounded_to_nearest |= dict.fromkeys(names, too_few)
            if why := checked_method.misfit(Ws[names[0]].shape[1]):
                report.fell_back |= dict.fromkeys(names, why)
            # The whole group is entered before a weight is written: see _resume.
            report.update({name: quantized for name, (quantized, _) in results.items()})
            for name, (_, W_hat) in results.items():
                Ws[name].copy_(W_hat)
                bar.update()
            del inputs, results, W_hat  # before the text goes on to the next group
    report.update({name: report[first_of[name]] for name in selected})
    for name in selected:
        if why := report.fell_back.get(first_of[name]):
            report.fell_back[name] = why
    report.left = left_in_floats(model, report)
    if progress:
        print(report.summary())
    return Report(
        {name: report[name] for name in linear_layers(model) if name in report},
        left=report.left,
        rounded_to_nearest=report.rounded_to_nearest,
        fell_back=report.fell_back,
    )


def check_finite(model: nn.Module) -> None:
    """Raises ValueError with the name of the first parameter that holds NaN or an
    infinite number."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta or parameter.dtype.itemsize == 1:
            continue  # these are refused later, as no weights to quantize
        if not parameter.numel() or torch.stack(parameter.aminmax()).isfinite().all():
            continue  # aminmax passes NaN on, and makes no mask as large as the weights
        if bad := int((~parameter.isfinite()).sum()):
            raise ValueError(
                f"model has {bad} of {parameter.numel()} numbers in {name} that are "
                "NaN or infinite; load it again, in torch.float32 if it overflowed"
            )


def _resume(model: nn.Module, report: Report, float_inputs: bool) -> None:
    """Write the layers in a report of earlier work into the model again. A group was
    entered as a whole before its weights were written, so none stays half done.
    """
    if report and float_inputs:
        raise ValueError(
            f"report holds {len(report)} layers, but with float_inputs=True all inputs "
            "come from the model as it was; start again with an empty report"
        )
    layers = linear_layers(model)
    for name, quantized in report.items():
        if name not in layers or weight_of(layers[name]).shape != quantized.codes.shape:
            raise ValueError(
                f"report holds {name!r} {tuple(quantized.codes.shape)}, but model has "
                "no such layer; give the report of this model, or an empty one"
            )
    for name, quantized in report.items():
        W = weight_of(layers[name])
        W.copy_(quantized.dequantize().to(W))


def _groups(
    model: nn.Module,
    layers: dict[str, nn.Module],
    method: Method,
    calibration: Sequence[Tensor] | None,
    float_inputs: bool,
) -> Iterator[calibrate.Group]:
    """Names of layers that share an input, with its X or H, in the order of the forward
    pass.

    The caller writes the new weights of a group before it asks for the next group, so
    the next inputs have gone through them. With `float_inputs` all inputs of a block
    are collected before any of its weights is written.
    """
    if not method.needs and not method.takes_all:
        for name in layers:
            yield calibrate.Group([name], {})
    elif layers:
        with closing(
            calibrate.groups(model, layers, calibration, method.needs)
        ) as groups:
            if not float_inputs:
                yield from groups
                return
            block_of = {
                name: number
                for number, block in enumerate(decoder_blocks(model))
                for name in layers_in(block, layers)
            }
            for _, in_block in itertools.groupby(
                groups, lambda g: block_of[g.names[0]]
            ):
                yield from list(in_block)  # the text is now in front of the next block
