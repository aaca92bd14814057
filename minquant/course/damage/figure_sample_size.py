"""How many questions does it take to see a small loss? A line for each way of asking.

    half the interval
       │╲ ╲
       │  ╲ ╲              asked apart        the interval of a difference falls with
    1 ┈┼┈┈┈●┈┈●┈┈┈         asked together     the square root of n; the dots mark the n
       │    ╲   ╲                             at which one sees a loss of 1 point
       └───────────
        questions

If both models answer the same questions, the difference varies less than if each
answers others, as most answers do not change. So that line lies lower, and n is
smaller. Notebook 04 derives the variances.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot

COLORS = palette.VERMILION, palette.BLUE, palette.INK, palette.VIOLET
SPACE = 0.08  # of the axes' height, between the names of two lines
DASHES = "-", (0, (5, 2)), "-", (0, (5, 2))  # one line may lie over another


def questions(variance: float, effect: float = 1.0, *, level: float = 0.95) -> float:
    """The n at which half the interval of a mean difference is `effect` points.

        n = variance (100 z / effect)²          z: 1.96 for a level of 95 %

    variance: of the difference in one question, an answer being 0 or 1. With n
    questions one sees a true loss of that size half of the time; to see it four times
    in five takes twice as many.

    Raises ValueError if variance or effect is not positive.

    >>> round(questions(2 * 0.9 * 0.1)), round(questions(0.05 - 0.01**2))
    (6915, 1917)
    """
    if variance <= 0 or effect <= 0:
        raise ValueError(
            f"variance is {variance} and effect {effect}; give positive numbers"
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    return variance * (100 * z / effect) ** 2


@palette.style()
def sample_size(
    ways: Mapping[str, float],
    *,
    effect: float = 1.0,
    title: str = "",
    level: float = 0.95,
) -> Picture:
    """Half the interval of a difference against n, and where it equals a loss.

    ways: name to the variance of the difference in one question, at most four.
    effect: the loss that one wants to see, in points (1/100).

    Raises ValueError if there is no way, or more than four, or as `questions` does.
    """
    if not 1 <= len(ways) <= len(COLORS):
        raise ValueError(f"ways holds {len(ways)}; give 1 to {len(COLORS)}")
    needed = {name: questions(v, effect, level=level) for name, v in ways.items()}
    n = np.geomspace(min(needed.values()) / 30, max(needed.values()) * 5, 60)
    fig, ax = plot(
        "questions asked",
        "half the interval (points)",
        title=title or f"Where half the interval is {effect:g} of 100",
        right=240,
    )
    ax.set(xscale="log", yscale="log", xlim=(n[0], n[-1]))
    half = {name: effect * np.sqrt(least / n) for name, least in needed.items()}
    ax.set_ylim(0.8 * min(map(min, half.values())), max(map(max, half.values())))
    heights = _apart(ax, [line[-1] for line in half.values()])
    for i, (name, least) in enumerate(needed.items()):
        color = COLORS[i]
        ax.plot(n, half[name], color=color, ls=DASHES[i])
        ax.plot(least, effect, "o", color=color, clip_on=False)
        looks = {"color": color, "va": "center", "transform": ax.transAxes}
        ax.text(1.02, heights[i], name, **looks)
        last = least == max(needed.values())  # no other line above it
        ax.annotate(
            f"{least:,.0f}",
            (least, effect),
            (6, 5) if last else (-6, -14),
            textcoords="offset points",
            color=color,
            weight="bold",
            ha="left" if last else "right",
        )
    ax.axhline(effect, color=palette.MUTED, lw=1.2, ls=(0, (4, 3)), zorder=0)
    ax.grid(color=palette.HAIRLINE)
    _plain_ticks(ax.xaxis, ax.get_xlim(), (1, 3))
    _plain_ticks(ax.yaxis, ax.get_ylim(), (1, 2, 5))
    listed = "; ".join(f"{name}: {least:,.0f}" for name, least in needed.items())
    fig.alt = (
        "Half the interval of a difference falls with the square root of the number of "
        f"questions. It is {effect:g} of 100 at so many questions: {listed}."
    )
    return fig


def _apart(ax: Axes, ends: list[float]) -> list[float]:
    """Where to name lines with these ends, in shares of the axes' height."""
    places = ax.transAxes.inverted().transform(
        ax.transData.transform([(1, end) for end in ends])
    )[:, 1]
    lowest = -np.inf
    for i in np.argsort(places, kind="stable"):
        places[i] = lowest = max(places[i], lowest + SPACE)
    return places.tolist()


def _plain_ticks(axis: Axis, seen: tuple[float, float], steps: tuple[int, ...]) -> None:
    """Ticks at `steps` of each power of ten, written as 1,000 and not as 10³."""
    powers = [10.0**k for k in range(-3, 9)]
    ticks = [step * power for power in powers for step in steps]
    ticks = [tick for tick in ticks if min(seen) <= tick <= max(seen)]
    labels = [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in ticks]
    axis.set_ticks(ticks, labels)
    axis.set_ticks([], minor=True)
