"""What a training step keeps, a bar for each way to train: weights, gradients, Adam.

    full fine-tuning   ▇▇▇▇▇▇▇▇░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   107.8 GB
    LoRA               ▇▇▇▇▇▇▇▇                                  13.8 GB
    QLoRA              ▇▇                                         4.3 GB

Parts are told apart by colour and hatch, and their order is the legend's, which has
those that some bar has. A part that is too thin for a rim gets none, or the rim would
hide it. `update` moves the bars; the axis keeps the first bar's end, so that bars
shrink before the eye. Notebook 09 reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf

from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.planning.memory import StepMemory

PARTS = {  # name, colour, hatch
    "weights": (palette.BLUE, ""),
    "gradients": (palette.SKY, "///"),
    "optimizer": (palette.INK, ""),
    "saved": (palette.HAIRLINE, "..."),
}
SAID = ("weights", "gradients", "Adam and masters", "saved for backward")
LEFT, RIGHT, TOP, ROW = 200, 110, 66, 44  # CSS pixels
RIM, THIN = 0.8, 6  # of a part, in points; the CSS pixels below which it has none
UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}


def amount(n_bytes: float, digits: int = 3) -> str:
    """Bytes in the unit that suits them; 1 kB is 1000 bytes.

    >>> amount(6_738_415_616 * 2), amount(2130), amount(512)
    ('13.5 GB', '2.13 kB', '512 bytes')
    """
    for unit, size in UNITS.items():
        if n_bytes >= size:
            number, whole = n_bytes / size, 10**digits
            text = f"{number:,.0f}" if number >= whole else f"{number:#.{digits}g}"
            return f"{text.rstrip('.')} {unit}"
    return f"{n_bytes:.0f} bytes"


def stack(
    bars: Mapping[str, PolyCollection],
    rows: Collection[tuple],
    unit: float,
    pixel: float,
    end: float = inf,
) -> None:
    """Lay the parts of each row end to end, as one bar, in their order.

    bars: part to its artist; rows: named tuples of bytes that have these parts. unit:
    bytes to a step of the axis; pixel: how much of it a CSS pixel is; end: where a bar
    that is longer is cut off.
    """
    at, left = range(len(rows)), [0.0] * len(rows)
    tops, bottoms = [i - 0.3 for i in at], [i + 0.3 for i in at]
    for part, bar in bars.items():
        sizes = [getattr(row, part) / unit for row in rows]
        right = [min(end, a + b) for a, b in zip(left, sizes, strict=True)]
        artists.fill(bar, left, right, bottoms, tops)
        long = [b - a >= THIN * pixel for a, b in zip(left, right, strict=True)]
        bar.set_linewidths([RIM * rim for rim in long])
        left = right


class StepMemoryPicture:
    """The bars. rows: name to bytes; the longest of the first drawing fills the width.

    Raises ValueError if there is no row, or none takes any memory.
    """

    @palette.style()
    def __init__(self, rows: Mapping[str, StepMemory], title: str = "") -> None:
        if not rows or not max(row.total for row in rows.values()):
            raise ValueError("rows is empty, or takes no bytes; give at least one")
        fig = Picture(WIDTH, TOP + ROW * len(rows) + 52)
        width = WIDTH - LEFT - RIGHT
        self.fig, self.title = fig, title or "What a training step keeps"
        self.ax = fig.axes_at(LEFT, TOP, width, ROW * len(rows))
        self.ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
        self.ax.spines["left"].set_visible(False)
        self.bars = {}
        for name, (colour, hatch) in PARTS.items():
            self.bars[name] = artists.boxes(self.ax, colour)
            self.bars[name].set(hatch=hatch, edgecolor=palette.PAPER)
        self.names = artists.words(self.ax, len(rows), -0.015, ha="right")
        self.sums = artists.words(self.ax, len(rows), 1.015, ha="left", weight="bold")
        fig.write(LEFT, 14, self.title, weight="bold")
        self.scale(rows)
        fig.move(*self.bars.values(), *self.names, *self.sums)
        self.update(rows)

    @palette.style()
    def scale(self, rows: Mapping[str, StepMemory]) -> None:
        """Lay axis and legend out anew: the longest of these bars fills the width, and
        the parts that one of them has are named."""
        most = max(row.total for row in rows.values())
        unit = next((u for u, size in UNITS.items() if most >= size), "kB")
        self.size = UNITS[unit]
        self.ax.set(xlim=(0, most / self.size), xlabel=f"memory, {unit}")
        self._name(rows)
        self.fig.settle()

    def _name(self, rows: Mapping[str, StepMemory]) -> None:
        """The legend."""
        there = {
            said: Patch(fc=colour, hatch=hatch, ec=palette.PAPER)
            for said, (part, (colour, hatch)) in zip(SAID, PARTS.items(), strict=True)
            if any(getattr(row, part) for row in rows.values())
        }
        for legend in self.fig.legends[:]:
            legend.remove()
        self.fig.legend(
            there.values(), there, ncols=4, loc="upper left", borderaxespad=0,
            bbox_to_anchor=(LEFT / WIDTH, 1 - 24 / self.fig.size[1]),
            handlelength=1.6, columnspacing=1.6,
        )  # fmt: skip

    @palette.style()
    def update(self, rows: Mapping[str, StepMemory]) -> None:
        """Move the bars to other numbers."""
        at = range(len(rows))
        pixel = self.ax.get_xlim()[1] / (WIDTH - LEFT - RIGHT)
        stack(self.bars, rows.values(), self.size, pixel)
        artists.write(self.names, at, rows)
        artists.write(self.sums, at, [amount(row.total) for row in rows.values()])
        self.fig.alt = describe(rows)


def describe(rows: Mapping[str, StepMemory]) -> str:
    """The bars in words: each sum, and its parts."""
    said = []
    for name, row in rows.items():
        parts = zip(SAID, row, strict=True)
        some = ", ".join(f"{part} {amount(size)}" for part, size in parts if size)
        said.append(f"{name} {amount(row.total)} ({some})")
    return f"Memory of a training step: {'; '.join(said)}."


def step_memory(rows: Mapping[str, StepMemory], title: str = "") -> Picture:
    """The picture that stands still."""
    return StepMemoryPicture(rows, title).fig
