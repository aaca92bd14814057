"""What a training step keeps, a bar for each way to train: weights, gradients, Adam.

    full fine-tuning   ▇▇▇▇▇▇▇▇░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   107.8 GB
    LoRA               ▇▇▇▇▇▇▇▇                                  13.8 GB
    QLoRA              ▇▇                                         4.3 GB

The legend names the parts that some bar has. `update` moves the bars; the axis keeps
the end of the first drawing, so that bars shrink before the eye. Notebook 09 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import UNITS, readable_bytes
from minquant.course.drawing.stacked_bars import Part, add_legend, add_parts, stack
from minquant.planning.memory import StepMemory

PARTS = {  # by the fields of a StepMemory
    "weights": Part("weights", palette.BLUE),
    "gradients": Part("gradients", palette.SKY, "///"),
    "optimizer": Part("Adam and masters", palette.INK),
    "saved": Part("saved for backward", palette.HAIRLINE, "..."),
}
LEFT, RIGHT, TOP, ROW = 200, 110, 66, 44  # CSS pixels


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
        self.bars = add_parts(self.ax, PARTS)
        self.names = artists.words(self.ax, len(rows), -0.015, ha="right")
        self.sums = artists.words(self.ax, len(rows), 1.015, ha="left", weight="bold")
        fig.write(LEFT, 14, self.title, weight="bold")
        self.scale(rows)
        fig.move(*self.bars.values(), *self.names, *self.sums)
        self.update(rows)

    @palette.style()
    def scale(self, rows: Mapping[str, StepMemory]) -> None:
        """Fit axis and legend to these rows: the longest bar fills the width, and the
        legend names the parts that one of them has.
        """
        longest = max(row.total for row in rows.values())
        unit = next((name for name, size in UNITS.items() if longest >= size), "kB")
        self.unit = UNITS[unit]
        self.ax.set(xlim=(0, longest / self.unit), xlabel=f"memory, {unit}")
        for legend in self.fig.legends[:]:
            legend.remove()
        shown = [
            part.patch
            for name, part in PARTS.items()
            if any(getattr(row, name) for row in rows.values())
        ]
        add_legend(self.fig, LEFT, shown)
        self.fig.forget_background()

    @palette.style()
    def update(self, rows: Mapping[str, StepMemory]) -> None:
        """Move the bars to other numbers."""
        pixel = self.ax.get_xlim()[1] / (WIDTH - LEFT - RIGHT)
        stack(self.bars, rows.values(), self.unit, pixel)
        sums = [readable_bytes(row.total) for row in rows.values()]
        artists.write(self.names, range(len(rows)), rows)
        artists.write(self.sums, range(len(rows)), sums)
        self.fig.alt = describe(rows)


def describe(rows: Mapping[str, StepMemory]) -> str:
    """The bars in words: each sum, and its parts."""
    bars = []
    for name, row in rows.items():
        parts = ", ".join(
            f"{part.label} {readable_bytes(size)}"
            for part, size in zip(PARTS.values(), row, strict=True)
            if size
        )
        bars.append(f"{name} {readable_bytes(row.total)} ({parts})")
    return f"Memory of a training step: {'; '.join(bars)}."


def step_memory(rows: Mapping[str, StepMemory], title: str = "") -> Picture:
    """The picture that stands still."""
    return StepMemoryPicture(rows, title).fig
