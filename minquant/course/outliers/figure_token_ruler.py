"""One token's values on the ruler that they share.

    values   · · ·· ···· ··  ·      the values near 0, where nearly all are
             ╲ │╱ ╲ │ ╱  ╲ │╱
    ticks      │    │      │        the ticks that are in view; the ruler goes on, as
                                    far as the largest value
             −0.2   0     0.2

The largest value sets the end of the ruler, and all others get the ticks that this
leaves near 0. `TokenRuler` is the panel, whose artists move; `tokens_over_rulers` shows
a few panels above one another, with the same axis. The numbers are `OutlierSplit`s.
Lesson 05 reads it.
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


class TokenRuler:
    """The panel, at a place of a picture (left, top, width, height; CSS pixels)."""

    def __init__(self, fig: Picture, place: tuple[int, int, int, int]) -> None:
        self.fig = fig
        self.ax = fig.axes_at(*place, facecolor="none", yticks=[], ylim=(0, 1))
        self.ax.spines["left"].set_visible(False)
        left, top, _, tall = place
        for y, name, color in ROWS:
            fig.write(left - 10, top + tall * y, name, ha="right", color=color)
        self.ticks = artists.lines(self.ax, palette.INK, 0.9)
        self.snaps = artists.lines(self.ax, palette.VERMILION, 0.9)
        self.dots = artists.marks(self.ax, "o", 4, color=palette.BLUE)
        self.title = fig.write(left, top - 26, "", weight="bold")

    def update(self, split: OutlierSplit, name: str = "", reach: float = 0.0) -> None:
        """Show a token. name: by default its number. reach: the end of the axis."""
        reach = reach or split.window
        if (ends := (-reach, reach)) != self.ax.get_xlim():
            self.ax.set_xlim(*ends)
            marks = round_numbers(reach)
            self.ax.set_xticks(marks, tick_labels(marks))
            self.fig.forget_background()
        step = split.step
        ticks = step * np.arange(-(reach // step), reach // step + 1) if step else []
        self.ticks.set_segments(artists.segments(ticks, 0.06, ticks, 0.26))
        seen = ~split.outliers & (np.abs(split.x) <= reach)
        x, rounded = split.x[seen], split.codes[seen] * step
        self.dots.set_data(x, np.full(len(x), 0.92))
        lines = artists.segments(x, 0.88, rounded, 0.26)
        self.snaps.set_segments(lines if step else [])
        self.title.set_text(f"{name or f'Token {split.row}'}: {words(split)}")


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
        panel = TokenRuler(fig, (LEFT, 40 + ROW * i, WIDTH - LEFT - 20, TALL))
        panel.update(split, name, reach)
        described.append(f"{name}: {words(split)}; the values use {split.used} ticks.")
    middle, bottom = LEFT + (WIDTH - LEFT - 20) / 2, ROW * len(tokens) + 14
    fig.write(middle, bottom, "value of x, near 0", ha="center")
    fig.alt = "The values of one token, each joined to its tick. "
    fig.alt += " ".join(described)
    return fig
