"""One token's values on the ruler that they share.

    values   · · ·· ···· ··  ·      the values near 0, where nearly all are
             ╲ │╱ ╲ │ ╱  ╲ │╱
    ticks      │    │      │        the ticks that are in view; the ruler goes on, as
                                    far as the largest value
             −0.2   0     0.2

The largest value sets the end of the ruler, and all others get the ticks that this
leaves near 0. The panels stand above one another, with the same axis. The numbers are
`OutlierSplit`s. Lesson 05 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number, round_numbers, tick_labels
from minquant.course.outliers.outlier_split import OutlierSplit

LEFT, TALL, ROW = 74, 92, 166  # CSS pixels of a still picture
ROWS = ((0.08, "values", palette.BLUE), (0.84, "ticks", palette.INK))


def words(split: OutlierSplit) -> str:
    """The token's ruler in words."""
    if not split.step:
        return "nothing is left for a ruler"
    reach, every = number(127 * split.step, digits=3), number(split.step, digits=2)
    return f"its ruler ends at ±{reach} and has a tick every {every}"


def _panel(
    fig: Picture, top: float, split: OutlierSplit, name: str, reach: float
) -> None:
    """One token from `top` down, in CSS pixels. reach: the end of the axis."""
    place = LEFT, top, WIDTH - LEFT - 20, TALL
    ax = fig.axes_at(*place, facecolor="none", yticks=[], ylim=(0, 1))
    ax.spines["left"].set_visible(False)
    for y, said, color in ROWS:
        fig.write(LEFT - 10, top + TALL * y, said, ha="right", color=color)
    ax.set_xlim(-reach, reach)
    marks = round_numbers(reach)
    ax.set_xticks(marks, tick_labels(marks))
    step = split.step
    ticks = step * np.arange(-(reach // step), reach // step + 1) if step else []
    upright = artists.segments(ticks, 0.06, ticks, 0.26)
    artists.lines(ax, palette.INK, 0.9).set_segments(upright)
    seen = ~split.outliers & (np.abs(split.x) <= reach)
    x, rounded = split.x[seen], split.codes[seen] * step
    joins = artists.segments(x, 0.88, rounded, 0.26) if step else []
    artists.lines(ax, palette.VERMILION, 0.9).set_segments(joins)
    artists.marks(ax, "o", 4, color=palette.BLUE).set_data(x, np.full(len(x), 0.92))
    fig.write(LEFT, top - 26, f"{name}: {words(split)}", weight="bold")


@palette.style()
def tokens_over_rulers(tokens: Mapping[str, OutlierSplit]) -> Picture:
    """A panel for each of a few tokens, with the same axis.

    tokens: title to `OutlierSplit`. Raises ValueError if there is none.
    """
    if not tokens:
        raise ValueError(
            "tokens is empty; give at least one, a title to an OutlierSplit"
        )
    fig = Picture(WIDTH, ROW * len(tokens) + 32)
    wide = max(split.window for split in tokens.values())
    step = max(split.step for split in tokens.values())
    reach = max(wide, min(1.08 * step, 2 * wide))  # a second tick, if it is near
    described = []
    for i, (name, split) in enumerate(tokens.items()):
        _panel(fig, 40 + ROW * i, split, name, reach)
        described.append(f"{name}: {words(split)}; the values use {split.used} ticks.")
    middle, bottom = LEFT + (WIDTH - LEFT - 20) / 2, ROW * len(tokens) + 14
    fig.write(middle, bottom, "value of x, near 0", ha="center")
    fig.alt = "The values of one token, each joined to its tick. "
    fig.alt += " ".join(described)
    return fig
