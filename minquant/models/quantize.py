"""Quantize a whole model: every matrix of its decoder layers, one after the other.

    model, tokenizer = load()
    model_hat, report = quantize(model, method)   # a copy; quantize_ works in place
    size(model_hat, report)                       # what it weighs now

A method is a function of one matrix (`quantize_rtn` with its grid filled in, say). It
knows no model; here we hand it each matrix of the decoder layers in turn, and put what
its codes stand for back in the matrix' place.

A method says what else it needs by the names of its parameters: `X` (n, in) the inputs
of the layer, or `H` = XᵀX. It gets them from calibration text that has gone through the
layers *already quantized*, so each layer sees, and can make up for, the errors of those
before it, as in GPTQ's code (Frantar et al. 2023, section 4). Lessons 00 and 06.
"""

import copy
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.models import calibrate
from minquant.models.linear_layers import (
    Report,
    decoder_blocks,
    distinct,
    layers_in,
    linear_layers,
    weight_of,
)
from minquant.models.method import Method, relative_error
from minquant.numerics.tensor import QuantizedTensor


def quantize(model: nn.Module, method: Callable, **options: Any) -> tuple:
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
    report: Report | None = None,
    progress: bool = True,
) -> Report:
    """Replace each linear layer's weights by their quantized values, in place.

    method: a function whose first parameter is a matrix `W`, or `Ws`, the list of all
    matrices that share an input. If it has parameters `X` or `H` without a default, it
    gets them from `calibration`, the batches of `calibration_batches`. Fill in all else
    with functools.partial.
    float_inputs: take X and H from the layers as they were, not as they are now.
    only: a regular expression found in the names of the layers to quantize, or names.
    report: a dict, at first an empty one, that each layer is entered in when it is
    done. After an interruption call again with it: the work goes on where it stopped,
    and ends as if it had never been interrupted.

    Returns what each layer became, by name. Weights keep their dtype. Two layers that
    share one weight are quantized once. If it is interrupted, each layer is either old
    or new, and those that are new work. The bar shows the mean `relative_error` so far.

    Raises ValueError if calibration is missing, `only` fits no layer, the report is of
    another model, or the method returns something of another shape or not finite.
    """
    call = Method.read(method, calibration)
    names = _chosen(linear_layers(model), only)
    layers, first_of = distinct(model, names)
    report = {} if report is None else report
    _take_up(model, report, float_inputs)
    left = {name: layer for name, layer in layers.items() if name not in report}
    groups = _groups(model, left, call, calibration, float_inputs)
    errors: list[float] = []
    bar = tqdm(total=len(layers), desc="quantizing", delay=1, disable=not progress)
    with bar:
        bar.update(len(layers) - len(left))
        for group, given in groups:
            Ws = {name: weight_of(left[name]) for name in group}
            made = call.on(Ws, given)
            if progress:
                errors += [relative_error(Ws[n], made[n][1], given) for n in group]
                error = f"{sum(errors) / len(errors):.2e}"
                bar.set_postfix(error=error, refresh=False)  # shown with the next bar
            report.update({name: quantized for name, (quantized, _) in made.items()})
            for name, (_, W_hat) in made.items():  # all are in the report: see _take_up
                Ws[name].copy_(W_hat)
                bar.update()
    report.update({name: report[first_of[name]] for name in names})
    return {name: report[name] for name in linear_layers(model) if name in report}


def _take_up(model: nn.Module, report: Report, float_inputs: bool) -> None:
    """Write what a report of earlier work holds into the model once more: a group is
    entered as a whole before its weights are written, so that none can be half done.
    """
    if report and float_inputs:
        raise ValueError(
            f"report holds {len(report)} layers, but with float_inputs=True all inputs "
            "come from the model as it was; start anew, with an empty report"
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
    call: Method,
    calibration: Sequence[Tensor] | None,
    float_inputs: bool,
) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
    """Names that share an input, with its X or H, in the order of the forward pass.

    The caller writes a group's new weights before it asks for the next, so what comes
    next has gone through them; with `float_inputs` all of a block is collected before.
    """
    if not call.needs and not call.takes_all:
        yield from (([name], {}) for name in layers)
        return
    blocks = decoder_blocks(model)
    inputs = calibrate.block_inputs(model, blocks, calibration)
    hidden = None
    for block, calls in zip(blocks, inputs, strict=True):
        run = partial(calibrate.advance, block, calls, hidden)
        mine = layers_in(block, layers)
        collected = (
            (names, {n: calibrate.collect(mine, names, run, n) for n in call.needs})
            for names in calibrate.sharing(mine, run)
        )
        if float_inputs:
            collected = list(collected)
            hidden = run()
            yield from collected
        else:
            yield from collected
            hidden = run()


def _chosen(
    layers: dict[str, nn.Module], only: str | Collection[str] | None
) -> dict[str, nn.Module]:
    """The layers that `only` names. Raises ValueError if it names none, or others."""
    if only is None:
        return layers
    if isinstance(only, str):
        names = [name for name in layers if re.search(only, name)]
    else:
        names = list(only)
    strangers = [name for name in names if name not in layers]
    if strangers or not names:
        raise ValueError(
            f"only={only!r} names {strangers or 'no layer'}; the linear layers are "
            f"{', '.join(list(layers)[:3])}, ... (all: linear_layers(model))"
        )
    return {name: layers[name] for name in layers if name in names}
