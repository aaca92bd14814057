"""Where the numbers of a format lie, and what a model weighs in it.

    number_line    every number of some formats as a tick: dense near 0, sparse far out
    spacing        how far apart neighbours are, by size: a staircase
    reach          which powers of two weights need, and which a format has
    weighs         how many bytes models have, by parameters and bits

A floating-point format spends its patterns evenly over the *powers of two*: between 1
and 2 lie as many numbers as between 1000 and 2000. An integer spends them evenly over
the line. Which is better depends on how weights are spread (notebooks 02 and 08).
Notebook 01 shows all four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture, plot
from minquant.course.drawing.numbers import readable_bytes
from minquant.course.floats.figure_bits import plain
from minquant.numerics.floats import FORMATS

ROW = 46  # CSS pixels: the strip of a format
TALL = 76  # and the strip of a model
NAMES = "int8", "fp4 e2m1", "fp8 e5m2", "fp8 e4m3", "bf16", "fp16"
COLORS = palette.BLUE, palette.VERMILION, palette.INK, palette.VIOLET


@palette.style()
def number_line(
    names: Sequence[str] = NAMES, low: float = -8.0, high: float = 8.0
) -> Picture:
    """The numbers of each format between low and high, a tick each.

    names: of `floats.FORMATS`, at most 16 bits wide; the strips stand in this order.
    """
    height = 34 + ROW * len(names) + 40
    fig = Picture(WIDTH, height)
    ax = fig.axes_at(110, 30, WIDTH - 218, ROW * len(names), yticks=[])
    edge = (high - low) / 500
    ax.set(xlim=(low - edge, high + edge), ylim=(len(names), 0))
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("value")
    fig.write(110, 13, "every tick is a number that exists", weight="bold")
    counts = []
    for i, name in enumerate(names):
        values = FORMATS[name].values()
        inside = values[(values >= low) & (values <= high)]
        counts.append(len(inside))
        seen = np.unique(inside.round(int(np.log10(2000 / (high - low))) + 2))
        width = float(np.clip(2 * 690 / max(len(seen), 1) / 5, 0.3, 1.4))
        ticks = artists.lines(ax, palette.INK, width)
        ticks.set_segments(artists.segments(seen, i + 0.2, seen, i + 0.8))
        middle = 30 + ROW * (i + 0.5)
        fig.write(100, middle, name, ha="right")
        fig.write(WIDTH - 98, middle, f"{len(inside)} here")
    listed = ", ".join(f"{n} {c}" for n, c in zip(names, counts, strict=True))
    fig.alt = (
        f"Number lines from {plain(low)} to {plain(high)}, a tick for every number of "
        f"a format: {listed}. The ticks of floating-point formats crowd "
        "towards 0 and double their distance at every power of two; those of integers "
        "are evenly spaced."
    )
    return fig


@palette.style()
def spacing(names: Sequence[str] = ("fp4 e2m1", "fp8 e4m3", "bf16", "fp16")) -> Picture:
    """The distance to the next number above x, for x from 2^-16 to 2^17.

    Both axes are in powers of two. A piece is flat where the format has subnormals, or
    is an integer.
    """
    fig, ax = plot(
        "size of a number",
        "distance to the next number",
        title="Steps double at each power of two, and halve with each fraction bit",
        height=380,
        right=110,
        left=86,
    )
    ends = [-16, 17]
    ax.set(xlim=ends, ylim=(-26, 12))
    for axis, low, high in ((ax.xaxis, *ends), (ax.yaxis, -24, 12)):
        powers = range(low + low % 4, high + 1, 4)
        axis.set_ticks(list(powers), [f"$2^{{{k}}}$" for k in powers])
    ax.grid(color=palette.HAIRLINE)
    stairs = {name: _gaps(name, *ends) for name in names}
    at_one = []
    for (name, (x, gap)), color in zip(stairs.items(), palette.SERIES, strict=False):
        ax.step(x, gap, where="post", color=color, lw=2)
        if x[-1] < ends[1]:
            ax.plot(x[-1], gap[-1], "o", color=color, ms=6)
        _name_end(ax, name, stairs, color)
        at_one.append(f"{name} 2^{int(_at(stairs[name], 0))}")
    fig.alt = (
        "Distance between neighbouring numbers against their size, both in powers of "
        f"two: staircases. Just above 1 it is {', '.join(at_one)}. A staircase ends at "
        "the largest number and is flat among the subnormals."
    )
    return fig


def _gaps(name: str, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Stairs: log2 of numbers, and log2 of the distance to the next one above each."""
    form = FORMATS[name]
    powers = [p for p in range(low, high) if 2.0**p <= form.largest]
    pairs = []
    for p in powers:
        pattern = form.encode(2.0**p)
        value, above = form.decode(pattern), form.neighbours(pattern)[1]
        if value <= 2.0**p and above is not None and np.isfinite(above):
            pairs.append((p, np.log2(above - value)))
    pairs.append((np.log2(min(form.largest, 2.0**high)), pairs[-1][1]))
    x, gap = np.array(pairs).T
    return x, gap


def _at(stair: tuple[np.ndarray, np.ndarray], x: float) -> float:
    """The height of a staircase at x."""
    return float(stair[1][np.searchsorted(stair[0], x, side="right") - 1])


def _name_end(ax: Axes, name: str, stairs: dict, color: str) -> None:
    """The name at the end of its stairs: above them if they are highest, else below."""
    x, y = (numbers[-1] for numbers in stairs[name])
    others = [_at(s, x) for n, s in stairs.items() if n != name and s[0][-1] >= x]
    looks = {"color": color, "weight": "bold", "clip_on": False}
    if max(others, default=-99) < y:
        ax.text(x, y + 0.8, name, ha="right", va="bottom", **looks)
    else:
        ax.text(x + 0.3, y - 0.4, name, va="top", **looks)


@palette.style()
def reach(weights: Float[np.ndarray, " n"], names: Sequence[str] = NAMES) -> Picture:
    """How large weights are, in powers of two, and which sizes each format has.

    Below the weights a bar for each format, from its smallest to its largest number,
    pale where it is subnormal; beside it the share of weights that it makes 0.
    """
    sizes = np.abs(weights[weights != 0])
    ends, left, wide = (-26, 18), 110, WIDTH - 110 - 170
    fig = Picture(WIDTH, 190 + 32 * len(names) + 52)
    top = fig.axes_at(left, 30, wide, 130, xlim=ends, xticks=[])
    percent = np.full(len(sizes), 100 / len(weights))  # that each weight is of all
    bins = range(ends[0], ends[1] + 1)
    top.hist(np.log2(sizes), bins, weights=percent, color=palette.BLUE, rwidth=0.9)
    top.set_ylabel("weights (%)")
    fig.write(left, 12, "the sizes of the weights", weight="bold")
    fig.write(left, 180, "the sizes that a format has; light: subnormal", weight="bold")
    fig.write(WIDTH - 160, 180, "rounded to 0", weight="bold")
    ax = fig.axes_at(left, 194, wide, 32 * len(names), xlim=ends, yticks=[])
    ax.set(ylim=(len(names), 0), xlabel="size of a number")
    ax.set_xticks(range(-24, 17, 4), [f"$2^{{{k}}}$" for k in range(-24, 17, 4)])
    ax.spines["left"].set_visible(False)
    zeros = []
    for i, name in enumerate(names):
        lost = _draw_reach(ax, i + 0.5, name, weights)
        fig.write(left - 10, 194 + 32 * (i + 0.5), name, ha="right")
        fig.write(WIDTH - 160, 194 + 32 * (i + 0.5), f"{lost:.1%} of the weights")
        zeros.append(f"{name} {lost:.1%}")
    middle = [f"2^{np.log2(q):.0f}" for q in np.quantile(sizes, [0.05, 0.95])]
    fig.alt = (
        f"The sizes of weights, nine in ten of them from {' to '.join(middle)}, above "
        "the sizes that each format has. With no scale, so many weights become 0: "
        f"{', '.join(zeros)}."
    )
    return fig


def _draw_reach(ax: Axes, y: float, name: str, weights: np.ndarray) -> float:
    """Draw the bar of a format; returns the share of weights that it rounds to 0."""
    above = FORMATS[name].values()
    above = above[above > 0]
    normal = getattr(FORMATS[name], "smallest_normal", above[0])
    parts = (above[0], normal, palette.SKY), (normal, above[-1], palette.INK)
    for low, high, color in parts:
        ax.plot(np.log2([low, high]), [y, y], color=color, lw=9, solid_capstyle="butt")
    return float((np.abs(weights) <= above[0] / 2).mean())


@palette.style()
def weighs(
    models: Mapping[str, float],
    bits: Mapping[str, float],
    limits: Mapping[str, float] | None = None,
) -> Picture:
    """What models weigh: bytes = parameters × bits / 8, on a scale of powers.

    models: name to number of parameters. bits: name of a format to its bits per weight.
    limits: name of a card to its bytes of memory, drawn as vertical lines.
    """
    limits = limits or {}
    weights = {
        model: {name: n * width / 8 for name, width in bits.items()}
        for model, n in models.items()
    }
    every = [w for row in weights.values() for w in row.values()] + [*limits.values()]
    fig = Picture(WIDTH, 34 + TALL * len(models) + 50)
    ax = fig.axes_at(150, 30, WIDTH - 180, TALL * len(models), yticks=[], xscale="log")
    ax.set(xlim=(min(every) / 2.4, max(every) * 2.2), ylim=(len(models), 0))
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(lambda x, _: readable_bytes(x, zeros=False))
    ax.minorticks_off()
    ax.set_xlabel("size of the weights")
    for name, limit in limits.items():
        ax.axvline(limit, color=palette.MUTED, lw=1, ls=(0, (4, 3)))
        ax.text(limit, -0.06, name, color=palette.MUTED, ha="center", va="bottom")
    for i, (model, row) in enumerate(weights.items()):
        fig.write(140, 30 + TALL * (i + 0.55), model, ha="right")
        ends = [min(row.values()), max(row.values())]
        ax.plot(ends, [i + 0.55] * 2, color=palette.HAIRLINE, lw=3)
        _draw_weights(ax, i + 0.55, row)
    fig.alt = _weights_in_words(weights, limits)
    return fig


def _draw_weights(ax: Axes, y: float, row: Mapping[str, float]) -> None:
    """A dot for each format; its name and size alternate above and below the dots."""
    box = {"facecolor": palette.PAPER, "edgecolor": "none", "pad": 1}
    for i, (name, weight) in enumerate(row.items()):
        color = COLORS[i % len(COLORS)]
        ax.plot(weight, y, "o", color=color, ms=8)
        side, va = ((-0.14, "bottom"), (0.14, "top"))[i % 2]
        text = f"{name}: {readable_bytes(weight, zeros=False)}"
        ax.text(weight, y + side, text, color=color, ha="center", va=va, bbox=box)


def _weights_in_words(weights: Mapping, limits: Mapping[str, float]) -> str:
    rows = []
    for model, row in weights.items():
        sizes = [f"{name} {readable_bytes(w, zeros=False)}" for name, w in row.items()]
        rows.append(f"{model}: {', '.join(sizes)}")
    cards = "".join(
        f" A line at {readable_bytes(limit, zeros=False)}: {name}."
        for name, limit in limits.items()
    )
    return f"What models weigh by format. {'; '.join(rows)}.{cards}"
