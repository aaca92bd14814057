"""Many formats at one price: the error against the true bits, a line for each.

    error                 each line is one kind of codes with one kind of scale, from
      │●╲                 long groups (left, cheap) to short ones (right, dear). Read
      │ ●╲ ●              upwards from a price: the lowest line is the best buy there.
      │   ╲ ╲●  ◆         A diamond alone is a format whose groups are fixed.
      └─┊───┊───── bits per weight

In `figure_pareto` a line joins codes of one width; here all codes have 4 bits, and
differ in what these mean. Notebook 08 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.labels import spread_apart
from minquant.course.drawing.numbers import number

MARKS, SIGNS = "os^vP", "●■▲▼✚"  # the same shapes, on lines and before names
STYLES = "-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))
GAP = 19  # CSS pixels between two names
RIGHT = 196

Price = tuple[float, float]  # bits per weight, error


@palette.style()
def error_by_price(
    formats: Mapping[str, Sequence[Price]],
    *,
    prices: Sequence[float] = (),
    ylabel: str = "error (share of the weights' power)",
    title: str = "Read upwards from a price: the lowest is the best buy",
) -> Picture:
    """The picture. formats: name to (bits per weight, error), one for each group size;
    a name with a single one is drawn as a diamond. prices: drawn as dotted lines.

    Raises ValueError if there is no format, if an error is not positive, or if there
    are more than five lines.
    """
    joined = {name: p for name, p in formats.items() if len(p) > 1}
    alone = {name: p[0] for name, p in formats.items() if len(p) == 1}
    everything = [p for points in formats.values() for p in points]
    if not everything or min(error for _, error in everything) <= 0:
        raise ValueError("formats need at least one error, and all above 0")
    if len(joined) > len(MARKS):
        raise ValueError(
            f"formats holds {len(joined)} lines; give {len(MARKS)} or fewer"
        )
    fig, ax = plot(
        "bits per weight, scales and zeros counted",
        ylabel,
        title=title,
        height=430,
        left=86,
        right=RIGHT,
    )
    _lay_axes(ax, everything)
    quiet = {"color": palette.MUTED, "transform": ax.get_xaxis_transform()}
    for price in prices:
        ax.axvline(price, color=palette.MUTED, lw=1, ls=(0, (1, 3)))
        ax.text(price, 0.02, f" {price:g}", **quiet)
    ends = []
    for i, (name, points) in enumerate(joined.items()):
        color = palette.SERIES[i]
        bits, errors = zip(*sorted(points), strict=True)
        ax.plot(bits, errors, MARKS[i], ls=STYLES[i], color=color, ms=6)
        ends.append((errors[-1], f"{SIGNS[i]} {name}", color))
    for name, (bits, error) in alone.items():
        ax.plot(bits, error, "D", color=palette.GREEN, ms=8, clip_on=False)
        looks = {"color": palette.GREEN, "weight": "bold"}
        ax.annotate(name, (bits, error), (8, 6), textcoords="offset points", **looks)
    _name_ends(ax, ends)
    fig.alt = _describe(joined, alone)
    return fig


def _lay_axes(ax: Axes, everything: Sequence[Price]) -> None:
    bits, errors = np.array(everything).T
    pad = 0.04 * (bits.max() - bits.min() + 0.1)
    ax.set(yscale="log", xlim=(bits.min() - pad, bits.max() + pad))
    low, high = errors.min() / 1.1, errors.max() * 1.1
    ax.set_ylim(low, high)
    steps = [m * 10.0**e for e in range(-9, 3) for m in (1, 1.5, 2, 3, 5, 7)]
    ax.yaxis.set_major_locator(FixedLocator([s for s in steps if low <= s <= high]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.3g}")
    ax.grid(color=palette.HAIRLINE)


def _name_ends(ax: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Names right of the axes at the heights where their lines end, moved apart."""
    ends = sorted(ends)
    places = ax.transData.transform([(0, error) for error, _, _ in ends])
    shares = ax.transAxes.inverted().transform(places)[:, 1]
    tall = ax.get_window_extent().height * 100 / ax.figure.dpi  # in CSS pixels
    heights = spread_apart(tall * shares, GAP) / tall
    looks = {"transform": ax.transAxes, "va": "center", "weight": "bold"}
    for height, (_, name, color) in zip(heights, ends, strict=True):
        ax.text(1.015, height, name, color=color, **looks)


def _describe(joined: Mapping[str, Sequence[Price]], alone: Mapping[str, Price]) -> str:
    lines = []
    for name, points in joined.items():
        (few, error_few), (many, error_many) = min(points), max(points)
        lines.append(
            f"{name} from {number(error_many, digits=3)} at {many:.3g} bits to "
            f"{number(error_few, digits=3)} at {few:.3g}"
        )
    for name, (bits, error) in alone.items():
        lines.append(f"{name} {number(error, digits=3)} at {bits:.3g} bits")
    return f"Error against bits per weight. {'; '.join(lines)}."
