"""The pictures of lesson 01, each named by what it shows.

bits_of        the bits of a number, and what each says
live_bits      bits to click on
number_line    the numbers that exist in each format
reach          how large weights are, over the sizes that each format has
live_scale     what a scale does: too long, too short, right
added_loss     what each format costs, without a scale and with one per row
weighs         what models weigh at 16, 8 and 4 bits, beside cards
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.floats import figure_formats
from minquant.course.floats.figure_bits import bits as bits_of
from minquant.course.floats.figure_formats import number_line
from minquant.models.linear_layers import linear_layers, weight_of

__all__ = ["added_loss", "bits_of", "live_bits", "live_scale", "number_line", "reach"]
__all__ += ["weighs"]

LEAST = 1e-3  # nats: a logarithmic axis has no 0


def live_bits(name: str, x: float) -> object:
    """A number whose bits can be flipped. name: of a format, such as 'fp16'."""
    from minquant.course.floats.widget_bits import bits

    return bits(name, x)


def reach(model: nn.Module) -> Picture:
    """How large the weights of a model's layers are, and what each format reaches."""
    layers = linear_layers(model).values()
    weights = torch.cat([weight_of(layer).flatten() for layer in layers])
    return figure_formats.reach(weights.float().numpy())


@palette.style()
def live_scale(W: Float[Tensor, "out in"]) -> Picture:
    """The share of weights that int8 and fp4 turn into 0, or cut off, by the scale."""
    w = W.float().abs().flatten().double().numpy()
    scales = 2.0 ** np.linspace(-12, 1, 200)
    fig, ax = plot(
        "scale (powers of two)", "weights (%)", title="Too long, too short, right"
    )
    told = []
    for (name, top, least), color in zip(
        (("int8", 127.0, 0.5), ("fp4", 6.0, 0.25)), palette.SERIES, strict=False
    ):
        lost = [100 * float((w / s <= least).mean()) for s in scales]
        cut = [100 * float((w / s > top + least).mean()) for s in scales]
        ax.plot(scales, lost, color=color, label=f"{name}: become 0")
        ax.plot(scales, cut, color=color, ls=(0, (3, 2)), label=f"{name}: cut off")
        best = float(w.max() / top)
        ax.axvline(best, color=color, lw=0.8)
        at = float((w / best <= least).mean())
        told.append(f"{name} at absmax/{top:g}: {at:.0%} become 0")
    ax.set_xscale("log", base=2)
    ax.legend(loc="center right")
    fig.alt = f"Weights that become 0, or are cut off, by the scale. {'; '.join(told)}."
    return fig


@palette.style()
def added_loss(added: Mapping[str, Sequence[float]]) -> Picture:
    """Added loss of each format: without a scale, and with one for each row."""
    names = list(added)
    fig, ax = plot(
        "added loss (nats per token)",
        "",
        title="A scale makes the difference",
        left=110,
        height=60 + 52 * len(names),
    )
    ways = (
        ("without a scale", "s", palette.VERMILION),
        ("one per row", "o", palette.BLUE),
    )
    for k, (way, mark, color) in enumerate(ways):
        shown = [max(added[name][k], LEAST) for name in names]
        ax.plot(shown, range(len(names)), mark, color=color, label=way, ms=8)
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_formatter(lambda x, _: "≤ 0.001" if x <= LEAST else f"{x:g}")
    ax.grid(axis="y", color=palette.HAIRLINE)
    ax.legend(loc="center")
    told = [
        f"{name} {number(a, digits=2)} and {number(b, digits=2)}"
        for name, (a, b) in added.items()
    ]
    fig.alt = (
        "Added loss in nats per token, without a scale and with one per row: "
        f"{', '.join(told)}."
    )
    return fig


def weighs(models: Mapping[str, float], cards: Mapping[str, float]) -> Picture:
    """What models of so many weights take at 16, 8 and 4 bits, and what cards hold."""
    widths = {"16 bits": 16, "8 bits": 8, "4 bits": 4}
    return figure_formats.weighs(models, widths, limits=cards)
