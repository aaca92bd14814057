"""What a model can still do, width by width, in many small panels.

             8 bits    4 bits    3 bits    2 bits     a column for each width, a row for
    facts    ────────  ───────╮  ──╮                  each kind of question, from easy
                              ╰    ╰─────  ╮_____     to hard. A band is Wilson's
    chains   ────────  ────────  ──╮                  interval. Rings: the original.
                                   ╰─────  ______     ●, ▲: versions of that width,
    recall   ────────  ────────  ────────  ──────     such as rounded and trained

Read along a row: how low can the width be for *this* kind of question?
`figure_verdict` shows one version at a time; here one sees all of them. Lesson 11 shows
the best version of each width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.low_bits.figure_verdict import PROBES, Version, by_key
from minquant.measure.probes import Share

LEFT, RIGHT, TOP, GAP = 62, 20, 112, 16  # CSS pixels
HIGH, ROW, FOOT = 104, 174, 12  # CSS pixels: a panel, a row, the legend
LOOKS = (("o", palette.VERMILION, "●"), ("^", palette.INK, "▲"))
MOST = 7  # columns; the names of more would touch

Shares = Mapping[int, Share]  # right answers by level, from easy to hard


@palette.style()
def abilities(
    versions: Sequence[Version], original: Version, *, title: str = ""
) -> Picture:
    """The picture: a column for each width in `versions`, from the widest down, with
    one or two versions in each. original: the model before.

    Raises ValueError as `by_key` does, for more than two versions of a width, or for
    more than seven widths.
    """
    columns = _columns(list(by_key(versions, original).values()))
    fig = Picture(WIDTH, TOP + ROW * len(PROBES) + FOOT)
    fig.write(LEFT - 46, 16, title or "What each width still knows", weight="bold")
    width = (WIDTH - LEFT - RIGHT - GAP * (MOST - 1)) / MOST
    for i, (bits, of_width) in enumerate(columns.items()):
        left = LEFT + i * (width + GAP)
        _name(fig, left, bits, of_width)
        for row, kind in enumerate(PROBES):
            ax = fig.axes_at(left, TOP + ROW * row, width, HIGH)
            _frame(ax, kind, list(getattr(original, kind)), first=i == 0)
            _fill(ax, getattr(original, kind), [getattr(v, kind) for v in of_width])
    for row, (kind, (label, *_)) in enumerate(PROBES.items()):
        title = f"{kind} right (%), by {label}"
        fig.write(LEFT, TOP + ROW * row + HIGH + 36, title, color=palette.MUTED)
    bottom = fig.size[1] - 14
    fig.write(LEFT, bottom, "○ the original", color=palette.BLUE)
    note = "bands: 95% intervals of ● and ▲"
    fig.write(LEFT + 140, bottom, note, color=palette.MUTED)
    fig.alt = _describe(columns, original)
    return fig


def _name(fig: Picture, left: float, bits: float, versions: Sequence[Version]) -> None:
    """A column's width, and its versions with their marks."""
    fig.write(left, 46, f"{bits:g} bits", weight="bold")
    for i, (version, (_, color, sign)) in enumerate(zip(versions, LOOKS, strict=False)):
        fig.write(left, 68 + 19 * i, f"{sign} {version.method}", color=color)


def _columns(versions: Sequence[Version]) -> dict[float, list[Version]]:
    """The versions of each width, the widest first."""
    widths = sorted({version.bits for version in versions}, reverse=True)
    columns = {bits: [v for v in versions if v.bits == bits] for bits in widths}
    most = max(len(of_width) for of_width in columns.values())
    if len(columns) > MOST or most > len(LOOKS):
        raise ValueError(
            f"versions have {len(columns)} widths, with up to {most} of one; give at "
            f"most {MOST} widths and {len(LOOKS)} versions of each"
        )
    return columns


def _frame(ax: Axes, name: str, levels: list[int], *, first: bool) -> None:
    """Axes from 0 to 100; only the ends of the levels are named."""
    ax.set(xlim=(-0.4, len(levels) - 0.6), ylim=(-3, 103))
    ax.set_yticks((0, 50, 100), ("0", "50", "100") if first else ("", "", ""))
    ends = ("most", "least") if name == "facts" else (levels[0], levels[-1])
    ax.set_xticks((0, len(levels) - 1), ends)
    for text, side in zip(ax.get_xticklabels(), ("left", "right"), strict=True):
        text.set_ha(side)
    ax.tick_params(length=0)
    ax.grid(axis="y", color=palette.HAIRLINE)


def _fill(ax: Axes, before: Shares, now: Sequence[Shares]) -> None:
    """The original as dashed rings, and each version as marks in a band."""
    looks = {"lw": 1.3, "clip_on": False}
    whole = {"ms": 7.5, "mfc": palette.PAPER, "ls": (0, (4, 3)), "color": palette.BLUE}
    x, rows = range(len(before)), [_measured(shares) for shares in (before, *now)]
    ax.plot(x, rows[0][0], marker="o", **looks, **whole)
    for (y, low, high), (mark, color, _) in zip(rows[1:], LOOKS, strict=False):
        ax.fill_between(x, low, high, color=color, alpha=0.18, lw=0)
        ax.plot(x, y, marker=mark, color=color, ms=4.5, **looks)


def _measured(shares: Shares) -> Float[np.ndarray, "3 levels"]:
    """Shares and the ends of their intervals, in per cent, by level."""
    return 100 * np.array([(s.mean, *s.interval()) for s in shares.values()]).T


def _describe(columns: Mapping[float, Sequence[Version]], original: Version) -> str:
    """What each version has right, for the easiest and the hardest questions."""
    rows = [
        f"{bits:g} bits by {version.method}: {_ends(version)}"
        for bits, of_width in columns.items()
        for version in of_width
    ]
    return (
        "Right answers by how hard the question is, with 95% intervals, for each "
        f"width. The original: {_ends(original)}. {'. '.join(rows)}."
    )


def _ends(version: Version) -> str:
    rows = []
    for kind, (_, easy, hard) in PROBES.items():
        ends = _measured(getattr(version, kind)).T[[0, -1]]
        first, last = (f"{y:.0f}% [{low:.0f}, {high:.0f}]" for y, low, high in ends)
        rows.append(f"{kind}, {easy} {first} to {hard} {last}")
    return "; ".join(rows)
