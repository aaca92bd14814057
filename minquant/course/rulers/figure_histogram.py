"""How the weights of a row are spread, and the rulers that have to reach them.

          ▂▅█▇▅▂                 the weights of one row, counted
    ──────┴─────┴──────────▪──
    │ │ │ │ │ │ │ │ │ │ │ │ │    below, on the same axis, the ticks of rulers: one
      ││││││││││││      ◆        for the whole row, one cut short (what lies beyond is
      |||   ||||                 clipped), many short ones, one for each group

A ruler that reaches the one large weight has few ticks where the many small ones are.
Notebook 03 reads it. The rulers are `Ruling`s of the same row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number
from minquant.course.drawing.ruling import Ruling

LEFT, RIGHT = 150, 148  # CSS pixels beside the axes: names, errors
TOP, TALL = 34, 170  # the histogram
STRIP = 58  # the height of each ruler
BINS = 80


@palette.style()
def weights_over_rulers(rulers: Mapping[str, Ruling], *, title: str = "") -> Picture:
    """A histogram of a row's weights, and below it rulers for that row.

    rulers: name to the `Ruling` of the whole row, quantized in different ways. All
    rulers of a row (one per group) are drawn, the first at the top.

    Raises ValueError unless all are of the same weights.
    """
    first = _same_weights(rulers)
    height = TOP + TALL + STRIP * len(rulers) + 56
    fig = Picture(WIDTH, height)
    reach = 1.04 * float(np.abs(first).max())
    span = {"xlim": (-reach, reach), "yticks": [], "facecolor": "none"}
    width = WIDTH - LEFT - RIGHT
    top = fig.axes_at(LEFT, TOP, width, TALL, **span, xticks=[])
    fig.write(LEFT, 14, title or f"{len(first)} weights of a row", weight="bold")
    _draw_histogram(fig, top, first, reach)
    below = fig.axes_at(LEFT, TOP + TALL + 6, width, STRIP * len(rulers), **span)
    below.set_ylim(len(rulers), 0)
    below.set_xlabel("value of a weight")
    for ax in (top, below):
        ax.spines["left"].set_visible(False)
    fig.write(WIDTH - RIGHT + 12, TOP + TALL - 8, "error (RMSE)", color=palette.MUTED)
    for i, (name, ruling) in enumerate(rulers.items()):
        _draw_ruler(fig, below, i, name, ruling)
    fig.alt = _describe(first, rulers)
    return fig


def _same_weights(rulers: Mapping[str, Ruling]) -> np.ndarray:
    if not rulers:
        raise ValueError("rulers is empty; give at least one Ruling")
    first, *others = (ruling.weights for ruling in rulers.values())
    if not all(np.array_equal(first, other) for other in others):
        raise ValueError("rulers are of different weights; take one row for all")
    return first


def _draw_histogram(fig: Picture, ax: Axes, weights: np.ndarray, reach: float) -> None:
    counts, edges = np.histogram(weights, BINS, (-reach, reach))
    ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=palette.BLUE)
    ax.set_ylim(0, 1.05 * max(counts.max(), 1))
    low = (counts > 0) & (counts < counts.max() / 60)  # too low a bar to be seen
    x = ((edges[:-1] + edges[1:]) / 2)[low]
    ax.plot(x, np.full(len(x), counts.max() / 50), "o", color=palette.BLUE, ms=3.5)
    fig.write(LEFT - 12, TOP + 14, "weights", ha="right")
    note = f"up to {counts.max()} a bar"
    fig.write(LEFT - 12, TOP + 32, note, ha="right", color=palette.MUTED)


def _draw_ruler(fig: Picture, ax: Axes, i: int, name: str, ruling: Ruling) -> None:
    """One strip: the rulers of the row from top to bottom, and clipped weights."""
    owners = np.unique(ruling.owner)
    edges = i + np.linspace(0.14, 0.86, len(owners) + 1)
    gap = 0.0 if len(owners) == 1 else 0.12 * (edges[1] - edges[0])
    for owner, top, bottom in zip(owners, edges[:-1], edges[1:], strict=True):
        levels = ruling.levels[owner]
        ticks = artists.lines(
            ax, palette.INK, float(np.clip(90 / len(levels), 0.4, 1.3))
        )
        ticks.set_segments(artists.segments(levels, top + gap, levels, bottom - gap))
        middle = (top + bottom) / 2
        ax.plot([levels[0], levels[-1]], [middle] * 2, color=palette.INK, lw=0.6)
    clipped = ruling.weights[ruling.clipped]
    y = np.full(len(clipped), i + 0.5)
    ax.plot(clipped, y, "D", color=palette.VIOLET, ms=5, mew=0)
    place = TOP + TALL + 6 + STRIP * (i + 0.5)
    many = f"{len(owners)} rulers" if len(owners) > 1 else "one ruler"
    fig.write(LEFT - 12, place - 9, name, ha="right")
    fig.write(LEFT - 12, place + 9, many, ha="right", color=palette.MUTED)
    fig.write(WIDTH - RIGHT + 12, place - 9, number(ruling.rmse, digits=3))
    if len(clipped):
        note = f"◆ {len(clipped)} clipped"
        fig.write(WIDTH - RIGHT + 12, place + 9, note, color=palette.VIOLET)


def _describe(weights: np.ndarray, rulers: Mapping[str, Ruling]) -> str:
    rows = (
        f"{name}: {len(np.unique(r.owner))} ruler(s) of {len(r.level_codes)} ticks, "
        f"RMSE {number(r.rmse, digits=3)}, {int(r.clipped.sum())} clipped"
        for name, r in rulers.items()
    )
    middle = number(float(np.median(np.abs(weights))), digits=2)
    return (
        f"A histogram of {len(weights)} weights from {number(weights.min(), digits=3)} "
        f"to {number(weights.max(), digits=3)}, half of them within {middle} of 0; "
        f"beneath it rulers with their ticks. {'; '.join(rows)}."
    )
