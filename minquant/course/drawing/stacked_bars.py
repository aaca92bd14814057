"""Stacked bars: one bar for each row, its parts end to end, and a legend above.

    full fine-tuning   ▇▇▇▇▇▇▇▇░░░░░░░▒▒▒▒▒▒▒▒
    LoRA               ▇▇▇▇▇▇▇▇░

Parts are told apart by colour and hatch, and stand in the order of the legend. A part
that is too thin for a rim gets none, or the rim would hide it. Lessons 09 and 12 show
memory like this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture

RIM, THIN = 0.8, 6  # a part's rim, in points; it has none below so many CSS pixels


class Part(NamedTuple):
    """A part of a bar: what the legend calls it, its colour and its hatch."""

    label: str
    color: str
    hatch: str = ""

    @property
    def patch(self) -> Patch:
        """Its sign in the legend."""
        return Patch(
            fc=self.color, hatch=self.hatch, ec=palette.PAPER, label=self.label
        )


def add_parts(ax: Axes, parts: Mapping[str, Part]) -> dict[str, PolyCollection]:
    """An artist for each part, by its name, with no bars yet; `stack` sets them."""
    bars = {}
    for name, part in parts.items():
        bars[name] = artists.boxes(ax, part.color)
        bars[name].set(hatch=part.hatch, edgecolor=palette.PAPER)
    return bars


def stack(
    bars: Mapping[str, PolyCollection],
    rows: Collection[tuple],
    unit: float,
    pixel: float,
    end: float = inf,
) -> None:
    """Lay the parts of each row end to end, as one bar, in their order.

    bars: from `add_parts`. rows: named tuples of bytes with a field for each part.
    unit: bytes in a step of the axis. pixel: how much of the axis a CSS pixel is.
    end: where a bar that is longer is cut off, on the axis.
    """
    tops = [row - 0.3 for row in range(len(rows))]
    bottoms = [row + 0.3 for row in range(len(rows))]
    left = [0.0] * len(rows)
    for part, bar in bars.items():
        sizes = [getattr(row, part) / unit for row in rows]
        right = [min(end, a + size) for a, size in zip(left, sizes, strict=True)]
        artists.fill(bar, left, right, bottoms, tops)
        widths = [b - a for a, b in zip(left, right, strict=True)]
        bar.set_linewidths([RIM if width >= THIN * pixel else 0 for width in widths])
        left = right


def add_legend(fig: Picture, left: float, patches: Iterable[Patch]) -> None:
    """A line of labelled patches from `left` on, in CSS pixels, below the title."""
    fig.legend(
        handles=list(patches),
        ncols=4,
        loc="upper left",
        borderaxespad=0,
        bbox_to_anchor=(left / WIDTH, 1 - 24 / fig.size[1]),
        handlelength=1.6,
        columnspacing=1.6,
    )
