"""What an average hides: for each version of a model, its best and its worst ability.

    still right                   a bar for each version: from what it kept best to what
     100 % ┬   ┬ ┬                it kept worst, a dot at the worst. Left of the line
           │   │ │                perplexity rose by so little that one would call it
           │   ● │ ┬              fine: bars that hang low there are what it hides
           ●   ┆ ● │
        ───────┆──────▶ rise of perplexity, in %

Shares are of what the original answers: 100 % is nothing lost. Who takes the worst of
24 groups has looked 24 times, and one interval of 95 % in twenty misses; so its
interval should be one of 1 − 0.05/24, which all 24 keep together in at least 95 of 100
samples (Bonferroni). Lesson 11 finds the versions of the shaded corner by a search, and
reads this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import Measured
from minquant.course.drawing.figures import Picture, plot

LEAST, MOST = 0.1, 3e4  # per cent, the ends of the axis
LINE = 9  # per cent of the upright axis, between two names


class Kept(NamedTuple):
    """A version of a model: how much perplexity rose, in %, and what it still answers
    of what the original did, in %, at best and at worst. worst: with its interval;
    what: is lost most, in a word or two."""

    name: str
    rise: float
    best: float
    worst: Measured
    what: str


@palette.style()
def hidden(
    versions: Sequence[Kept], fine: float, *, named: int = 2, level: float = 0.95
) -> Picture:
    """The picture. fine: the rise of perplexity, in %, that one would let pass. named:
    how many of the versions to its left are named, the lowest first. level: of the
    intervals, for the words.

    Raises ValueError for no version, or a `fine` that is not positive.
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
    for i, kept in enumerate(sorted(inside[:named], key=lambda k: k.rise)):
        ax.annotate(f"{kept.name}: {kept.what}", (_place(kept), kept.worst.mean),
                    (LEAST, 30 - LINE * i), ha="left", va="center",
                    color=palette.VERMILION, arrowprops={
                        "arrowstyle": "-", "color": palette.VERMILION,
                        "relpos": (1, 0.5), "shrinkB": 6})  # fmt: skip
    fig.alt = _describe(versions, inside, fine, level)
    return fig


def _place(kept: Kept) -> float:
    return float(np.clip(kept.rise, LEAST, MOST / 1.5))


def _draw(ax, kept: Kept, inside: bool) -> None:
    x, color = _place(kept), palette.VERMILION if inside else palette.MUTED
    ax.plot([x, x], [kept.worst.mean, kept.best], color=color, lw=1.4, alpha=0.6)
    ax.plot(x, kept.best, "_", color=color, ms=9)
    ax.plot([x, x], kept.worst[1:], color=color, lw=5, alpha=0.3, clip_on=False)
    ax.plot(x, kept.worst.mean, "o", color=color, ms=6, clip_on=False)


def _describe(
    versions: Sequence[Kept], inside: Sequence[Kept], fine: float, level: float
) -> str:
    told = "; ".join(
        f"{k.name}, {k.rise:.1f} %: {k.what} {k.worst.mean:.0f} %, interval "
        f"{k.worst.low:.0f} to {k.worst.high:.0f}"
        for k in inside
    )
    said = f"Of {len(versions)} versions {len(inside)} raise perplexity by less than "
    said += f"{fine:g} %"
    if not inside:
        return f"{said}."
    sure = f"with {100 * level:.3g} % intervals"
    return (
        f"{said}. What each of them kept worst, of what the original answers, {sure}: "
        f"{told}."
    )
