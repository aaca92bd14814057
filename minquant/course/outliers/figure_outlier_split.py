"""The split of LLM.int8(): which columns are taken out, and what the rest gains.

    largest |x|  ┄┄┄█┄┄┄┄█┄┄┄ threshold      error │    ____╱  at each threshold; the
      by column  ▂▁▂█▁▂▁▁█▂▁                       │ __╱       dot is the one set

    one token    · ·· ···· ··  its values that stay       out │╲___   columns in floats
                 ╲│╱╲│╱│╲│╱
                 │  │  │  │    the ticks of its ruler

The picture keeps its artists; for another X or W the background is drawn anew. The
numbers are an `OutlierSplit` (one threshold) and a `Sweep` (many). Lesson 05 shows it
inside `widget_outliers`.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axis import Axis

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.outliers.figure_token_ruler import TokenRuler
from minquant.course.outliers.outlier_split import OutlierSplit, Sweep

# Where things stand, in CSS pixels: left, top, width, height.
SIZE = (900, 484)
COLUMNS = (74, 44, 540, 172)
TOKEN = (74, 312, 540, 116)
ERROR = (704, 44, 180, 172)
OUT = (704, 312, 180, 116)


class SplitPicture:
    """The picture of an `OutlierSplit` and its `Sweep`; `update` shows another."""

    @palette.style()
    def __init__(self, sweep: Sweep, split: OutlierSplit) -> None:
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
        self.drawn: Sweep | None = None  # in the background
        self._write()
        self._add_artists()
        self.update(sweep, split)

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
        self.outlier_bars = artists.boxes(columns, palette.VIOLET)
        self.limit = artists.lines(columns, palette.INK, 1.4, linestyles=(0, (4, 3)))
        (self.curve,) = self.error_ax.plot([], [], color=palette.VERMILION)
        (self.shares,) = self.out_ax.plot([], [], color=palette.VIOLET)
        self.dots = [
            artists.marks(self.error_ax, "o", 9, color=palette.VERMILION),
            artists.marks(self.out_ax, "o", 9, color=palette.VIOLET),
        ]
        self.fig.move(self.lit, self.bars, self.outlier_bars, self.limit)
        self.fig.move(token.ticks, token.snaps, token.dots, token.title, *self.dots)

    @palette.style()
    def update(self, sweep: Sweep, split: OutlierSplit) -> None:
        """Show this threshold and token, and write the alt text anew.

        sweep: of the same X and W; for another sweep the background is drawn anew.
        """
        if self.drawn is not sweep:
            self._draw_background(sweep, split)
            self.drawn = sweep
        low, high = self.columns_ax.get_ylim()
        largest, outliers, measured = split.largest, split.outliers, split.measured
        x = np.arange(len(largest))
        artists.fill(self.lit, x[outliers] - 0.5, x[outliers] + 0.5, low, high)
        for bars, here in ((self.bars, ~outliers), (self.outlier_bars, outliers)):
            artists.fill(bars, x[here] - 0.42, x[here] + 0.42, low, largest[here])
        height = min(max(measured.threshold, low), high)
        self.limit.set_segments(artists.segments(-1, height, len(largest), height))
        first, last = self.error_ax.get_xlim()
        place = min(max(measured.threshold, first), last)
        bottom, top = self.error_ax.get_ylim()
        error_dot, columns_dot = self.dots
        error_dot.set_data([place], [min(max(measured.error, bottom), top)])
        columns_dot.set_data([place], [100 * measured.columns])
        self.token.update(split)
        self.fig.alt = split.describe()

    def _draw_background(self, sweep: Sweep, split: OutlierSplit) -> None:
        """Axes and curves for another matrix or other inputs."""
        largest = split.largest[split.largest > 0]
        self.columns_ax.set(xlim=(-1, len(split.largest)))
        self.columns_ax.set_ylim(0.6 * largest.min(), max(1.6 * largest.max(), 9))
        thresholds = [point.threshold for point in sweep.splits]
        errors = [point.error for point in sweep.splits]
        self.curve.set_data(thresholds, errors)
        self.shares.set_data(thresholds, [100 * p.columns for p in sweep.splits])
        positive = [error for error in [*errors, sweep.without] if error > 0]
        self.error_ax.set_ylim(min(positive) / 1.5, 1.6 * max(positive))
        for ax in (self.error_ax, self.out_ax):
            ax.set_xlim(thresholds[0], thresholds[-1])
        for axis in (self.columns_ax.yaxis, self.error_ax.xaxis, self.out_ax.xaxis):
            _label_decades(axis, "")
        _label_decades(self.error_ax.yaxis, " %")
        self.fig.forget_background()


def _label_decades(axis: Axis, unit: str) -> None:
    """Ticks at powers of ten, written out as 0.1 and 100, or in per cent."""
    low, high = axis.get_view_interval()
    ticks = [10.0**k for k in range(-7, 7) if low <= 10.0**k <= high]
    scale = 100 if unit == " %" else 1
    axis.set_ticks(ticks, labels=[f"{scale * tick:g}{unit}" for tick in ticks])
    axis.set_ticks([], minor=True)
