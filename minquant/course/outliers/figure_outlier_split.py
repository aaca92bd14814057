"""The split of LLM.int8(): which columns are taken out, and what the rest wins.

    largest |x|  ┄┄┄█┄┄┄┄█┄┄┄ threshold      error │    ____╱  at each threshold; the
      by column  ▂▁▂█▁▂▁▁█▂▁                       │ __╱       dot is the one set

    one token    · ·· ···· ··  its values that stay       out │╲___   columns in floats
                 ╲│╱╲│╱│╲│╱
                 │  │  │  │    the ticks of its ruler

The picture keeps its artists; another X or W draws the background anew. The numbers
are a `Parted` (one threshold) and a `Sweep` (many). Lesson 05 shows it inside
`widget_outliers`.
"""

from __future__ import annotations

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.outliers.figure_token_ruler import TokenRuler
from minquant.course.outliers.outlier_split import Parted, Sweep

# Where things stand, in CSS pixels: left, top, width, height.
SIZE = (900, 484)
COLUMNS = (74, 44, 540, 172)
TOKEN = (74, 312, 540, 116)
ERROR = (704, 44, 180, 172)
OUT = (704, 312, 180, 116)


class SplitPicture:
    """The picture of a `Parted` before its `Sweep`; `update` moves on to another."""

    @palette.style()
    def __init__(self, sweep: Sweep, parted: Parted) -> None:
        self.fig = Picture(*SIZE)
        self.columns_ax, self.error_ax, self.out_ax = (
            self.fig.axes_at(*place, facecolor="none")
            for place in (COLUMNS, ERROR, OUT)
        )
        self.token = TokenRuler(self.fig, TOKEN)
        self.columns_ax.set(yscale="log", xlabel="column of X")
        self.error_ax.set(xscale="log", yscale="log")
        self.out_ax.set(xscale="log", ylim=(0, 105), xlabel="threshold")
        self.out_ax.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
        self.of: Sweep | None = None
        self._write()
        self._add_artists()
        self.update(sweep, parted)

    def _write(self) -> None:
        write = self.fig.write
        write(COLUMNS[0], 18, "Largest |x| of each column", weight="bold")
        write(COLUMNS[0] + 262, 18, "█", color=palette.VIOLET)
        write(COLUMNS[0] + 282, 18, "taken out, multiplied in floats")
        write(ERROR[0] - 30, 18, "Error, share of Y", weight="bold")
        write(OUT[0] - 30, OUT[1] - 26, "Columns taken out", weight="bold")
        middle = TOKEN[0] + TOKEN[2] / 2
        write(middle, TOKEN[1] + TOKEN[3] + 40, "value of x, near 0", ha="center")

    def _add_artists(self) -> None:
        columns, token = self.columns_ax, self.token
        self.lit = artists.boxes(columns, palette.HIGHLIGHT)
        self.bars = artists.boxes(columns, palette.BLUE)
        self.gone = artists.boxes(columns, palette.VIOLET)
        self.limit = artists.lines(columns, palette.INK, 1.4, linestyles=(0, (4, 3)))
        (self.curve,) = self.error_ax.plot([], [], color=palette.VERMILION)
        (self.shares,) = self.out_ax.plot([], [], color=palette.VIOLET)
        self.here = [
            artists.marks(self.error_ax, "o", 9, color=palette.VERMILION),
            artists.marks(self.out_ax, "o", 9, color=palette.VIOLET),
        ]
        self.fig.move(self.lit, self.bars, self.gone, self.limit)
        self.fig.move(token.ticks, token.snaps, token.dots, token.title, *self.here)

    @palette.style()
    def update(self, sweep: Sweep, parted: Parted) -> None:
        """Show this threshold and token, and write the alt text anew.

        sweep: of the same X and W. The background is drawn anew for another one.
        """
        if self.of is not sweep:
            self._change(sweep, parted)
            self.of = sweep
        low, high = self.columns_ax.get_ylim()
        x, tops, taken = np.arange(len(parted.tops)), parted.tops, parted.taken
        artists.fill(self.lit, x[taken] - 0.5, x[taken] + 0.5, low, high)
        for bars, which in ((self.bars, ~taken), (self.gone, taken)):
            artists.fill(bars, x[which] - 0.42, x[which] + 0.42, low, tops[which])
        limit = min(max(parted.split.threshold, low), high)
        self.limit.set_segments(artists.segments(-1, limit, len(tops), limit))
        first, last = self.error_ax.get_xlim()
        at = min(max(parted.split.threshold, first), last)
        bottom, top = self.error_ax.get_ylim()
        self.here[0].set_data([at], [min(max(parted.split.error, bottom), top)])
        self.here[1].set_data([at], [100 * parted.split.columns])
        self.token.update(parted)
        self.fig.alt = parted.describe()

    def _change(self, sweep: Sweep, parted: Parted) -> None:
        """Another matrix or other inputs: the background is drawn anew."""
        tops = parted.tops[parted.tops > 0]
        self.columns_ax.set(xlim=(-1, len(parted.tops)))
        self.columns_ax.set_ylim(0.6 * tops.min(), max(1.6 * tops.max(), 9))
        places = [split.threshold for split in sweep.splits]
        errors = [split.error for split in sweep.splits]
        self.curve.set_data(places, errors)
        self.shares.set_data(places, [100 * split.columns for split in sweep.splits])
        seen = [e for e in [*errors, sweep.whole] if e > 0]
        self.error_ax.set_ylim(min(seen) / 1.5, 1.6 * max(seen))
        for ax in (self.error_ax, self.out_ax):
            ax.set_xlim(places[0], places[-1])
        for axis in (self.columns_ax.yaxis, self.error_ax.xaxis, self.out_ax.xaxis):
            _label_decades(axis, "")
        _label_decades(self.error_ax.yaxis, " %")
        self.fig.settle()


def _label_decades(axis: object, unit: str) -> None:
    """Powers of ten in full, as 0.1 and 100, or as per cent."""
    low, high = axis.get_view_interval()
    places = [10.0**k for k in range(-7, 7) if low <= 10.0**k <= high]
    scale = 100 if unit else 1
    axis.set_ticks(places, labels=[f"{scale * place:g}{unit}" for place in places])
    axis.set_ticks([], minor=True)
