"""The pictures of lesson 02, each named by what it shows.

ruler              32 weights of a row, each joined to its nearest tick
first_weights      the arithmetic of eight weights, as a table
errors_in_steps    how far all weights of a model move, in steps
error_by_bits      the error of a matrix at 8 to 2 bits
added_loss         what rounding adds to a model's loss
live_ruler         the ruler that moves
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.drawing.ruling import Ruling
from minquant.course.drawing.table import Table
from minquant.course.rounding import figure_ruler
from minquant.course.rounding.live_ruler import RulerPicture
from minquant.measure.evaluate import Perplexity, compare
from minquant.methods.rtn import quantize_rtn
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.numerics.grids import absmax
from minquant.numerics.tensor import QuantizedTensor

SHOWN = 32  # weights of a row


def ruler(
    W: Float[Tensor, "out in"], quantized: QuantizedTensor, row: int, around: int = 0
) -> Picture:
    """32 weights of a row on its ruler; the one that moved farthest is magnified.

    around: the position in the row of one of the weights to show.
    """
    first = around // SHOWN * SHOWN
    count = min(SHOWN, W.shape[1] - first)
    seen = Ruling.of(W, quantized, row=row, first=first, count=count)
    return figure_ruler.ruler(seen, selected=int(abs(seen.errors).argmax()))


def first_weights(
    w: Float[Tensor, " n"],
    scale: Float[Tensor, ""],
    codes: Tensor,
    w_hat: Float[Tensor, " n"],
    count: int = 8,
) -> Table:
    """Weight, weight in steps, code, value and error of the first weights."""
    rows = [
        [
            f"{w[i]:.4f}",
            f"{w[i] / scale:.3f}",
            f"{codes[i]:.0f}",
            f"{w_hat[i]:.4f}",
            f"{w_hat[i] - w[i]:.4f}",
        ]
        for i in range(count)
    ]
    return Table(["weight", "÷ scale", "code", "× scale", "error"], rows)


@palette.style()
def errors_in_steps(model: nn.Module, bits: Sequence[int]) -> Picture:
    """The share of all weights of a model by how far absmax moves them, in steps."""
    fig, ax = plot(
        "error, in steps", "weights (%)", title="How far rounding moves a weight"
    )
    words = []
    for b, color in zip(bits, palette.SERIES, strict=False):
        errors = _errors_in_steps(model, b)
        share, edges = np.histogram(errors, bins=25, range=(-0.5, 0.5))
        rmse = float(np.sqrt(np.mean(errors**2)))
        label = f"{b} bits: RMSE {rmse:.3f} of a step"
        ax.stairs(100 * share / len(errors), edges, color=color, lw=2, label=label)
        words.append(label)
    ax.set_ylim(0, 8)
    ax.legend(loc="lower center")
    fig.alt = f"The weights by their error, from −½ to ½ of a step. {'; '.join(words)}."
    return fig


def _errors_in_steps(model: nn.Module, bits: int) -> Float[np.ndarray, " n"]:
    errors = []
    for layer in linear_layers(model).values():
        W = weight_of(layer).float()
        quantized = quantize_rtn(W, absmax(bits))
        errors.append((quantized.dequantize() - W) / quantized.scales.float())
    return torch.cat([e.flatten() for e in errors]).double().numpy()


@palette.style()
def error_by_bits(rmse: Mapping[int, float]) -> Picture:
    """The error at each width, and by what factor one bit less makes it larger."""
    widths = sorted(rmse, reverse=True)
    fig, ax = plot(
        "bits", "error (RMSE)", title="One bit less, about twice the error", left=90
    )
    ax.plot(widths, [rmse[b] for b in widths], "o-", color=palette.VERMILION)
    for more, less in pairwise(widths):
        middle = (rmse[more] * rmse[less]) ** 0.5
        label = f"× {rmse[less] / rmse[more]:.2f}"
        ax.annotate(
            label,
            ((more + less) / 2, middle),
            (-8, 2),
            textcoords="offset points",
            ha="right",
        )
    ax.set_yscale("log")
    ax.set_xlim(max(widths) + 0.4, min(widths) - 0.4)
    ax.set_xticks(widths)
    ax.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    steps = ", ".join(f"{b} bits: {number(rmse[b], digits=3)}" for b in widths)
    fig.alt = f"The error of the weights, on a logarithmic axis. {steps}."
    return fig


@palette.style()
def added_loss(
    before: Perplexity, after: Mapping[tuple[str, int], Perplexity]
) -> Picture:
    """What each way to round adds to the loss, on the same texts, with intervals."""
    kinds = list(dict.fromkeys(kind for kind, _ in after))
    widths = sorted({bits for _, bits in after}, reverse=True)
    fig, ax = plot(
        "bits",
        "added loss (nats per token)",
        title="What rounding costs the model",
        left=90,
    )
    words = []
    for k, (kind, color) in enumerate(zip(kinds, palette.SERIES, strict=False)):
        costs = {b: compare(before, after[kind, b]) for b in widths}
        for b, cost in costs.items():
            place = b + 0.12 * (1 - 2 * k)
            ax.plot([place, place], [cost.low, cost.high], color=color, lw=2)
            ax.plot([place], [cost.mean], "os"[k], color=color, label="_")
        ax.plot([], [], "os"[k], color=color, label=kind)
        words += [f"{kind}, {b} bits: {c.mean:+.4f}" for b, c in costs.items()]
    ax.set_yscale("symlog", linthresh=0.01, linscale=0.5)
    ax.set_yticks([0, 0.01, 0.1, 1, 10], ["0", "0.01", "0.1", "1", "10"])
    ax.set_xlim(max(widths) + 0.5, min(widths) - 0.5)
    ax.set_xticks(widths)
    ax.axhline(0, color=palette.HAIRLINE, lw=0.8, zorder=0)
    ax.legend(loc="upper left")
    fig.alt = f"Added loss in nats per token. {'; '.join(words)}."
    return fig


def live_ruler(W: Float[Tensor, "out in"], row: int, around: int = 0) -> RulerPicture:
    """The ruler that moves, under 32 weights of a row of W."""
    first = around // SHOWN * SHOWN
    return RulerPicture(W[row], first=first, count=SHOWN, weight=around)
