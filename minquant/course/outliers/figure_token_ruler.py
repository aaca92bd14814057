"""One token's values on the ruler that they share: who sets its end, who pays for it.

    values   · · ·· ···· ··  ·      the values near 0, where nearly all are
             ╲ │╱ ╲ │ ╱  ╲ │╱
    ticks      │    │      │        the ticks of the ruler in view; it goes on, as far
                                    as the largest value asks
             −0.2   0     0.2

`TokenRuler` is the panel, whose artists move; `tokens_over_rulers` shows a few of them
above one another, in one window. The numbers are `Parted`. Lesson 05 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number, round_numbers, tick_labels
from minquant.course.outliers.outlier_split import Parted

LEFT, TALL, ROW = 74, 92, 166  # CSS pixels of a still picture
ROWS = ((0.08, "values", palette.BLUE), (0.84, "ticks", palette.INK))


def words(parted: Parted) -> str:
    """The token's ruler in words."""
    if not parted.step:
        return "nothing is left for a ruler"
    reach, every = number(127 * parted.step, digits=3), number(parted.step, digits=2)
    return f"its ruler ends at ±{reach} and has a tick every {every}"


class TokenRuler:
    """The panel, at a place of a picture (left, top, width, height; CSS pixels)."""

    def __init__(self, fig: Picture, place: tuple[int, int, int, int]) -> None:
        self.fig = fig
        self.ax = fig.axes_at(*place, facecolor="none", yticks=[], ylim=(0, 1))
        self.ax.spines["left"].set_visible(False)
        left, top, _, tall = place
        for y, said, color in ROWS:
            fig.write(left - 10, top + tall * y, said, ha="right", color=color)
        self.ticks = artists.lines(self.ax, palette.INK, 0.9)
        self.snaps = artists.lines(self.ax, palette.VERMILION, 0.9)
        self.dots = artists.marks(self.ax, "o", 4, color=palette.BLUE)
        self.title = fig.write(left, top - 26, "", weight="bold")

    def update(self, parted: Parted, name: str = "", reach: float = 0.0) -> None:
        """Show a token. name: by default its number. reach: of the window."""
        reach = reach or parted.window
        if (ends := (-reach, reach)) != self.ax.get_xlim():
            self.ax.set_xlim(*ends)
            marks = round_numbers(reach)
            self.ax.set_xticks(marks, tick_labels(marks))
            self.fig.settle()
        step, stay = parted.step, parted.x[~parted.taken]
        ticks = step * np.arange(-(reach // step), reach // step + 1) if step else []
        self.ticks.set_segments(artists.segments(ticks, 0.06, ticks, 0.26))
        seen = np.abs(stay) <= reach
        ends = (parted.codes[~parted.taken] * step)[seen]
        self.dots.set_data(stay[seen], np.full(seen.sum(), 0.92))
        lines = artists.segments(stay[seen], 0.88, ends, 0.26)
        self.snaps.set_segments(lines if step else [])
        self.title.set_text(f"{name or f'Token {parted.row}'}: {words(parted)}")


@palette.style()
def tokens_over_rulers(tokens: Mapping[str, Parted]) -> Picture:
    """A panel for each of a few tokens, all in one window.

    tokens: title to `Parted`. Raises ValueError if there is none.
    """
    if not tokens:
        raise ValueError("tokens is empty; give at least one, a title to a Parted")
    fig = Picture(WIDTH, ROW * len(tokens) + 32)
    wide = max(parted.window for parted in tokens.values())
    step = max(parted.step for parted in tokens.values())
    reach = max(wide, min(1.08 * step, 2 * wide))  # a second tick, if it is near
    said = []
    for i, (name, parted) in enumerate(tokens.items()):
        panel = TokenRuler(fig, (LEFT, 40 + ROW * i, WIDTH - LEFT - 20, TALL))
        panel.update(parted, name, reach)
        said.append(f"{name}: {words(parted)}; the values use {parted.used} ticks.")
    end = ROW * len(tokens) + 14
    fig.write(LEFT + (WIDTH - LEFT - 20) / 2, end, "value of x, near 0", ha="center")
    fig.alt = "The values of one token, each joined to its tick. " + " ".join(said)
    return fig
