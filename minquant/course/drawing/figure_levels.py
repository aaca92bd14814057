"""What is lost first? Accuracy by level, before and after, with its intervals.

    100 %  ──●───●───●──╲      full precision
             ╲    ╲   ╲  ●
              ●    ╲   ●────   4 bits
                    ●──────    3 bits
     chance ┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈
            famous    obscure

One line for each model; the level is how famous the person is that a question asks
about, how many steps a sum has, or how far back an answer lies. The band is Wilson's
interval. A dot on the line of the majority shows no knowledge: a model that always
gives the most common answer does as well. Notebook 04 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.labels import spread_apart

COLORS = palette.INK, palette.BLUE, palette.VERMILION, palette.VIOLET, palette.SKY
MARKS = "osD^v"
GAP = 6.0  # points of accuracy between the names of two lines


@runtime_checkable
class Share(Protocol):
    """A share with its interval, 0 to 1, such as `probes.Share`."""

    @property
    def mean(self) -> float:
        """The share."""

    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""


@palette.style()
def accuracy_by_level(
    models: Mapping[str, Mapping[int, Share]],
    xlabel: str,
    *,
    levels: Sequence[str] | None = None,
    chance: float | None = None,
    majority: float | None = None,
    title: str = "",
) -> Picture:
    """A line with its band for each model, by level.

    models: name to `Accuracy.by_level()`, all with the same levels; the first is full
    precision, at most five. levels: what to write below each, by default its number.
    chance, majority: shares, 0 to 1, drawn as lines.

    Raises ValueError if the levels differ, or there are none, or more than five models.
    """
    asked = _same_levels(models)
    if levels is not None and len(levels) != len(asked):
        raise ValueError(
            f"levels holds {len(levels)} names, but models have {len(asked)} levels"
        )
    fig, ax = plot(xlabel, "right answers (%)", title=title, height=360, right=150)
    ax.set(xlim=(-0.3, len(asked) - 0.7), ylim=(-2, 102))
    ax.set_xticks(range(len(asked)), levels or [str(level) for level in asked])
    ax.grid(axis="y", color=palette.HAIRLINE)
    ends = []
    for i, (name, shares) in enumerate(models.items()):
        _draw_model(ax, list(shares.values()), i)
        ends.append((100 * list(shares.values())[-1].mean, name, COLORS[i]))
    for name, share in (("chance", chance), ("majority", majority)):
        if share is not None:
            ax.axhline(100 * share, color=palette.MUTED, lw=1.2, ls=(0, (4, 3)))
            ends.append((100 * share, f"{name} {share:.0%}", palette.MUTED))
    _name_ends(ax, ends, len(asked) - 0.66)
    fig.alt = _describe(models, levels or asked, xlabel, chance, majority)
    return fig


def _same_levels(models: Mapping[str, Mapping[int, Share]]) -> list[int]:
    if not 1 <= len(models) <= len(COLORS):
        raise ValueError(f"models holds {len(models)}; give 1 to {len(COLORS)}")
    first, *others = (list(shares) for shares in models.values())
    if not first or any(levels != first for levels in others):
        raise ValueError("models have different levels, or none; ask all the same")
    return first


def _draw_model(ax: Axes, shares: Sequence[Share], i: int) -> None:
    x = np.arange(len(shares))
    low, high = 100 * np.array([share.interval() for share in shares]).T
    means = [100 * share.mean for share in shares]
    ax.fill_between(x, low, high, color=COLORS[i], alpha=0.13, lw=0)
    ax.plot(x, means, MARKS[i], ls="-", color=COLORS[i], ms=6, clip_on=False)


def _name_ends(ax: Axes, ends: list[tuple[float, str, str]], x: float) -> None:
    """Names right of the axes at the heights of their lines, moved apart."""
    ends = sorted(ends)
    y = spread_apart([height for height, _, _ in ends], GAP)
    y += max(0.0, -y[0])  # none below the axis
    for height, (_, name, color) in zip(y, ends, strict=True):
        ax.text(x, height, name, color=color, va="center", weight="bold")


def _describe(
    models: Mapping[str, Mapping[int, Share]],
    levels: Sequence[object],
    xlabel: str,
    chance: float | None,
    majority: float | None,
) -> str:
    rows = []
    for name, shares in models.items():
        by_level = ", ".join(
            f"{level}: {share.mean:.0%}"
            for level, share in zip(levels, shares.values(), strict=True)
        )
        rows.append(f"{name} {by_level}")
    lines = [
        f" {name} is {share:.0%}."
        for name, share in (("Chance", chance), ("The majority", majority))
        if share is not None
    ]
    return f"Right answers by {xlabel}. {'; '.join(rows)}.{''.join(lines)}"
