"""Measured numbers with their intervals: a dot, a line, a name, one row for each.

    full precision   ──●──                  1.234
    4 bits             ──●──                1.251
    3 bits                      ──●──       1.507
                 ┊
             entropy

A dot without its interval says nothing. Where two intervals do not touch, the two
numbers differ. Where they overlap, ask for the interval of the *difference*
(`evaluate.compare`), which is narrower. Notebook 04 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number

LEFT, RIGHT, TOP, ROW = 190, 226, 40, 32  # CSS pixels
REFERENCES = 34  # for the names of the reference lines


class Measured(NamedTuple):
    """A number and its interval, in one unit."""

    mean: float
    low: float
    high: float


@palette.style()
def intervals(
    rows: Mapping[str, Measured | tuple[float, float, float]],
    xlabel: str,
    *,
    references: Mapping[str, float] | None = None,
    title: str = "",
    level: float = 0.95,
    log: bool = False,
) -> Picture:
    """A row for each measured number: a dot, and its interval as a line.

    rows: name to (mean, low, high), from top to bottom. references: name to value of
    vertical lines, such as the entropy, or 0 for a difference. level: of the intervals,
    for the words. log: a logarithmic axis.

    Raises ValueError if there is no row, if a mean lies outside its interval, or if an
    interval reaches down to 0 on a logarithmic axis.
    """
    measured = {name: Measured(*row) for name, row in rows.items()}
    _check(measured, log)
    references = references or {}
    extra = REFERENCES if references else 0
    fig = Picture(WIDTH, TOP + ROW * len(measured) + extra + 52)
    span = WIDTH - LEFT - RIGHT
    ax = fig.axes_at(LEFT, TOP, span, ROW * len(measured) + extra, yticks=[])
    ax.set(xlabel=xlabel, xscale="log" if log else "linear")
    rows_high = len(measured) + extra / ROW
    ax.set(ylim=(rows_high, 0), xlim=_limits(measured, references, log))
    ax.spines["left"].set_visible(False)
    fig.write(
        LEFT, 16, title or f"dots with their {level:.0%} intervals", weight="bold"
    )
    for i, (name, (mean, low, high)) in enumerate(measured.items()):
        y, place = i + 0.5, TOP + ROW * (i + 0.5)
        ax.plot([low, high], [y, y], color=palette.BLUE, lw=3, alpha=0.45)
        ax.plot(mean, y, "o", color=palette.BLUE, ms=7)
        fig.write(LEFT - 12, place, name, ha="right")
        fig.write(WIDTH - RIGHT + 12, place, with_interval(measured[name]))
    for i, (name, x) in enumerate(references.items()):
        ax.axvline(x, color=palette.MUTED, lw=1.2, ls=(0, (4, 3)))
        looks = {"color": palette.MUTED, "ha": _side(ax, x), "va": "bottom"}
        ax.text(x, rows_high - 0.1 - 0.5 * (i % 2), f" {name}", **looks)
    fig.alt = _describe(measured, references, xlabel, level)
    return fig


def with_interval(row: Measured, unit: str = "") -> str:
    """A number and its interval, to two digits of the interval's width.

    >>> with_interval(Measured(0.0171, 0.01432, 0.02))
    '0.0171 [0.0143, 0.0200]'
    >>> with_interval(Measured(12.3456, 11.0, 14.0), "%")
    '12.3% [11.0, 14.0]'
    """
    width = row.high - row.low
    decimals = 4 if width == 0 else int(np.clip(1 - np.floor(np.log10(width)), 0, 5))
    mean, low, high = (f"{x:.{decimals}f}".replace("-", "−") for x in row)
    return f"{mean}{unit} [{low}, {high}]"


def _check(rows: Mapping[str, Measured], log: bool) -> None:
    if not rows:
        raise ValueError("rows is empty; give a name and (mean, low, high)")
    for name, (mean, low, high) in rows.items():
        if not low <= mean <= high:
            raise ValueError(
                f"rows[{name!r}] has mean {mean} outside [{low}, {high}]; give (mean, "
                "low, high)"
            )
        if log and low <= 0:
            raise ValueError(
                f"rows[{name!r}] reaches down to {low}, which no logarithmic axis "
                "shows; give log=False"
            )


def _limits(
    rows: Mapping[str, Measured], references: Mapping[str, float], log: bool
) -> tuple[float, float]:
    ends = [x for row in rows.values() for x in (row.low, row.high)]
    ends = np.array([*ends, *references.values()], dtype=float)
    ends = np.log(ends) if log else ends
    margin = 0.06 * float(np.ptp(ends)) or 0.5
    low, high = float(ends.min()) - margin, float(ends.max()) + margin
    return (np.exp(low), np.exp(high)) if log else (low, high)


def _side(ax: Axes, x: float) -> str:
    """Alignment of a line's name: right of it, or left if it is far on the right."""
    share = ax.transAxes.inverted().transform(ax.transData.transform((x, 0)))[0]
    return "left" if share < 0.7 else "right"


def _describe(
    rows: Mapping[str, Measured],
    references: Mapping[str, float],
    xlabel: str,
    level: float,
) -> str:
    listed = "; ".join(f"{name} {with_interval(row)}" for name, row in rows.items())
    lines = "".join(
        f" A line at {number(x, digits=4)}: {name}." for name, x in references.items()
    )
    return f"{xlabel}, with {level:.0%} intervals: {listed}.{lines}"
