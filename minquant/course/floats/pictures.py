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

import torch
from torch import nn

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.floats import figure_formats
from minquant.course.floats.figure_bits import bits as bits_of
from minquant.course.floats.figure_formats import number_line
from minquant.course.floats.live_bits import bits as live_bits
from minquant.course.floats.live_scale import scale as live_scale
from minquant.models.linear_layers import linear_layers, weight_of

__all__ = ["added_loss", "bits_of", "live_bits", "live_scale", "number_line", "reach"]
__all__ += ["weighs"]

LEAST = 1e-3  # nats: a logarithmic axis has no 0


def reach(model: nn.Module) -> Picture:
    """How large the weights of a model's layers are, and what each format reaches."""
    layers = linear_layers(model).values()
    weights = torch.cat([weight_of(layer).flatten() for layer in layers])
    return figure_formats.reach(weights.float().numpy())


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
