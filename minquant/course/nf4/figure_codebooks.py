"""Uneven rulers under the bell that they were made for.

              ▁▃▆█▆▃▁              the normal, cut at the levels of a codebook; if these
    ──┴──┴─┴─┴┴┴┴┴┴─┴─┴──┴──       are quantiles, all pieces have the same area
    NF4   │  │ │ │││││││ │ │  │
    FP4   │   │  │ │││││ │  │ │    below: rulers of the same length, a tick for each
    int4  │ │ │ │ │ │ │ │ │ │ │    level

Notebook 08 reads it. The levels come from `grids` or from the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number

LEFT, RIGHT = 130, 118  # CSS pixels beside the axes: names, and how many ticks
TOP, TALL = 34, 190  # the bell
ROW = 44  # the strip of each ruler
BELL = NormalDist()


@palette.style()
def rulers_under_the_bell(
    codebooks: Mapping[str, Sequence[float]], sigmas: float, *, title: str = ""
) -> Picture:
    """The normal, cut at the levels of the first codebook, and rulers below it.

    codebooks: name to levels, ascending. sigmas: where the largest |level| of each is
    drawn, in standard deviations.

    Raises ValueError if there is none, or one has no level but 0.
    """
    scaled = _scaled(codebooks, sigmas)
    first = next(iter(scaled.values()))
    fig = Picture(WIDTH, TOP + TALL + ROW * len(scaled) + 52)
    reach = max(3.0, 1.1 * sigmas)
    look = {"xlim": (-reach, reach), "yticks": [], "facecolor": "none"}
    width = WIDTH - LEFT - RIGHT
    top = fig.axes_at(LEFT, TOP, width, TALL, **look, xticks=[], ylim=(0, 0.42))
    below = fig.axes_at(LEFT, TOP + TALL, width, ROW * len(scaled), **look)
    below.set(ylim=(len(scaled), 0), xlabel="standard deviations of the weights")
    for ax in (top, below):
        ax.spines["left"].set_visible(False)
    _draw_bell(top, first, reach)
    fig.write(LEFT, 14, title or "The bell, cut at the levels", weight="bold")
    for i, (name, levels) in enumerate(scaled.items()):
        ticks = artists.lines(below, palette.INK, 1.4)
        ticks.set_segments(artists.segments(levels, i + 0.2, levels, i + 0.8))
        below.plot(levels[[0, -1]], [i + 0.5] * 2, color=palette.INK, lw=0.6)
        middle = TOP + TALL + ROW * (i + 0.5)
        fig.write(LEFT - 12, middle, name, ha="right")
        fig.write(WIDTH - RIGHT + 12, middle, f"{len(levels)} values")
    fig.alt = _describe(scaled)
    return fig


def _scaled(
    codebooks: Mapping[str, Sequence[float]], sigmas: float
) -> dict[str, np.ndarray]:
    """Levels in standard deviations, the largest of each at `sigmas`."""
    if not codebooks:
        raise ValueError("codebooks is empty; give at least one list of levels")
    scaled = {}
    for name, levels in codebooks.items():
        values = np.asarray(levels, dtype=float)
        if not len(values) or not np.abs(values).max() > 0:
            raise ValueError(f"codebooks[{name!r}] has no level but 0; give others")
        scaled[name] = values * sigmas / np.abs(values).max()
    return scaled


def areas(levels: Sequence[float]) -> np.ndarray:
    """The share of the normal below the first level, between each two, and beyond.

    >>> areas([0.0]).tolist()
    [0.5, 0.5]
    """
    return np.diff([0.0, *(BELL.cdf(x) for x in levels), 1.0])


def _draw_bell(ax: Axes, levels: np.ndarray, reach: float) -> None:
    """The curve; slices between neighbours in two shades, the tails left open."""
    x = np.linspace(-reach, reach, 601)
    for i, (a, b) in enumerate(pairwise(levels)):
        inside = np.linspace(a, b, 30)
        shade = palette.BAND if i % 2 else palette.SKY
        ax.fill_between(inside, _heights(inside), color=shade, lw=0)
    cuts = artists.lines(ax, palette.INK, 0.9)
    cuts.set_segments(artists.segments(levels, 0, levels, _heights(levels)))
    ax.plot(x, _heights(x), color=palette.BLUE)


def _heights(x: np.ndarray) -> np.ndarray:
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _describe(scaled: Mapping[str, np.ndarray]) -> str:
    name, levels = next(iter(scaled.items()))
    inner = areas(levels.tolist())[1:-1]
    listed = "; ".join(
        f"{n} has {len(v)} ticks, the closest {number(np.diff(v).min(), digits=2)} and "
        f"the widest apart {number(np.diff(v).max(), digits=2)}"
        for n, v in scaled.items()
    )
    return (
        f"The normal, cut at the {len(levels)} levels of {name}, which reach from "
        f"{number(levels[0], digits=3)} to {number(levels[-1], digits=3)} standard "
        f"deviations; between neighbours lie from {inner.min():.1%} to "
        f"{inner.max():.1%} of it. Beneath, rulers as long: {listed}."
    )
