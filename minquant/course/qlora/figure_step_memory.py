"""What a training step keeps, a bar for each way to train: weights, gradients, Adam.

    full fine-tuning   ▇▇▇▇▇▇▇▇░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   107.8 GB
    LoRA               ▇▇▇▇▇▇▇▇                                  13.8 GB
    QLoRA              ▇▇                                         4.3 GB

The legend names the parts that some bar has. Lesson 09.
"""

from __future__ import annotations

from collections.abc import Mapping

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import UNITS, readable_bytes
from minquant.course.drawing.stacked_bars import Part, add_legend, add_parts, stack
from minquant.planning.memory import StepMemory

PARTS = {  # by the fields of a StepMemory
    "weights": Part("weights", palette.BLUE),
    "gradients": Part("gradients", palette.SKY, "///"),
    "optimizer": Part("optimizer", palette.INK),
    "saved": Part("kept for the way back", palette.HAIRLINE, "..."),
}
LEFT, RIGHT, TOP, ROW = 200, 110, 66, 44  # CSS pixels


@palette.style()
def step_memory(rows: Mapping[str, StepMemory], title: str = "") -> Picture:
    """The bars. rows: name to bytes; the longest fills the width.

    Raises ValueError if there is no row, or none takes any memory.
    """
    if not rows or not max(row.total for row in rows.values()):
        raise ValueError("rows is empty, or takes no bytes; give at least one")
    fig = Picture(WIDTH, TOP + ROW * len(rows) + 52)
    width = WIDTH - LEFT - RIGHT
    ax = fig.axes_at(LEFT, TOP, width, ROW * len(rows))
    longest = max(row.total for row in rows.values())
    unit = next((name for name, size in UNITS.items() if longest >= size), "kB")
    end = longest / UNITS[unit]
    ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
    ax.set(xlim=(0, end), xlabel=f"memory, {unit}")
    ax.spines["left"].set_visible(False)
    fig.write(LEFT, 14, title or "What a training step keeps", weight="bold")
    shown = [
        part.patch
        for name, part in PARTS.items()
        if any(getattr(row, name) for row in rows.values())
    ]
    add_legend(fig, LEFT, shown)
    stack(add_parts(ax, PARTS), rows.values(), UNITS[unit], end / width)
    for i, (name, row) in enumerate(rows.items()):
        place = TOP + ROW * (i + 0.5)
        fig.write(LEFT - 12, place, name, ha="right")
        total = readable_bytes(row.total)
        fig.write(WIDTH - RIGHT + 12, place, total, weight="bold")
    fig.alt = describe(rows)
    return fig


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
