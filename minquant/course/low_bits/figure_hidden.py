"""What an average hides: for each version of a model, its best and its worst ability.

    still right                   a bar for each version, from what it kept best down to
     100 % ┬   ┬ ┬                what it kept worst, with a dot there. Left of the line
           │   │ │                perplexity rose so little that one would call it fine:
           │   ● │ ┬              long bars there are what it hides
           ●   ┆ ● │
        ───────┆──────▶ rise of perplexity, in %

Shares are of what the original answers: at 100 % nothing is lost. If one takes the
worst of 24 groups, one has looked 24 times, and one in twenty intervals of 95 % misses.
So the interval should have a level of 1 − 0.05/24; then all 24 hold together in at
least 95 of 100 samples (Bonferroni). Lesson 11 finds the versions of the shaded corner
by a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import Measured
from minquant.course.drawing.figures import Picture, plot

LEAST, MOST = 0.1, 3e4  # per cent, the ends of the axis
GAP = 9  # per cent of the upright axis, between two names


class Kept(NamedTuple):
    """What a version of a model kept, in per cent of what the original answers.

    rise: of perplexity, in per cent. best, worst: of the ability that it kept best and
    of the one that it kept worst. what: that worst ability, in a word or two.
    """

    name: str
    rise: float
    best: float
    worst: Measured
    what: str


@palette.style()
def hidden(
    versions: Sequence[Kept], fine: float, *, named: int = 2, level: float = 0.95
) -> Picture:
    """The picture. fine: the rise of perplexity, in per cent, that one would accept.

    named: how many of the versions to its left are named, the lowest first. level: of
    the intervals, for the alt text.

    Raises ValueError if there is no version, or fine is not positive.
    """
    if not versions or fine <= 0:
        raise ValueError(
            f"versions are {len(versions)} and fine is {fine}; give at least one "
            "version, and a rise above 0 %"
        )
    fig, ax = plot(
        "perplexity rises by (%)",
        "still right, of what was (%)",
        title=f"Left of {fine:g} % perplexity says: fine",
        height=400,
    )
    ax.set(xscale="log", xlim=(LEAST / 1.3, MOST), ylim=(-3, 108))
    ax.set_xticks([10.0**i for i in range(-1, 5)])
    ax.xaxis.set_major_formatter(lambda x, _: "≤ 0.1" if x <= LEAST else f"{x:,.0f}")
    ax.minorticks_off()
    ax.grid(axis="y", color=palette.HAIRLINE)
    ax.axvspan(LEAST / 1.3, fine, color=palette.BAND, zorder=0)
    for kept in versions:
        _draw(ax, kept, kept.rise < fine)
    inside = sorted((k for k in versions if k.rise < fine), key=lambda k: k.worst.mean)
    line = {"arrowstyle": "-", "color": palette.VERMILION}
    line |= {"relpos": (1, 0.5), "shrinkB": 6}
    for i, kept in enumerate(sorted(inside[:named], key=lambda k: k.rise)):
        ax.annotate(
            f"{kept.name}: {kept.what}",
            (_place(kept), kept.worst.mean),
            (LEAST, 30 - GAP * i),
            ha="left",
            va="center",
            color=palette.VERMILION,
            arrowprops=line,
        )
    fig.alt = _describe(versions, inside, fine, level)
    return fig


def _place(kept: Kept) -> float:
    return float(np.clip(kept.rise, LEAST, MOST / 1.5))


def _draw(ax: Axes, kept: Kept, inside: bool) -> None:
    x, color = _place(kept), palette.VERMILION if inside else palette.MUTED
    ax.plot([x, x], [kept.worst.mean, kept.best], color=color, lw=1.4, alpha=0.6)
    ax.plot(x, kept.best, "_", color=color, ms=9)
    ax.plot([x, x], kept.worst[1:], color=color, lw=5, alpha=0.3, clip_on=False)
    ax.plot(x, kept.worst.mean, "o", color=color, ms=6, clip_on=False)


def _describe(
    versions: Sequence[Kept], inside: Sequence[Kept], fine: float, level: float
) -> str:
    words = (
        f"Of {len(versions)} versions {len(inside)} raise perplexity by less than "
        f"{fine:g} %."
    )
    if not inside:
        return words
    rows = "; ".join(
        f"{k.name}, {k.rise:.1f} %: {k.what} {k.worst.mean:.0f} %, interval "
        f"{k.worst.low:.0f} to {k.worst.high:.0f}"
        for k in inside
    )
    return (
        f"{words} What each of them kept worst, of what the original answers, with "
        f"{100 * level:.3g} % intervals: {rows}."
    )
