"""Error against true bits per weight, for each kind of ruler.

    error                each dot is one way to quantize: so many bits a code, a ruler
      │ ○ tensor         for so many weights. Dots of one width are joined. A filled dot
      │  ● 128           is on the frontier: nothing with as few bits has less error. A
      │    ● 32          hollow one is beaten by some other dot on both counts.
      └──────── bits per weight, with scales and zeros

The axis of the error is logarithmic: one more bit, which halves the step, is the same
distance everywhere. Notebook 03 reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number

LINE = 15  # CSS pixels between two lines of text


class Cost(NamedTuple):
    """One way to quantize, its bits and its error.

    bits: of a code. ruler: how many weights share a scale, in a word or two.
    bits_per_weight: with scales and zeros. error: in the unit of the picture's axis.
    """

    bits: int
    ruler: str
    bits_per_weight: float
    error: float


def frontier(costs: Sequence[Cost]) -> list[Cost]:
    """The costs that no other beats, in the order of their bits.

    A cost beats another if one of bits and error is smaller, and the other not larger.

    >>> a, b, c = Cost(4, "a", 4.0, 2.0), Cost(4, "b", 4.5, 1.0), Cost(3, "c", 4.2, 3.0)
    >>> [cost.ruler for cost in frontier([a, b, c])]
    ['a', 'b']
    """
    kept: list[Cost] = []
    for cost in sorted(costs, key=lambda c: (c.bits_per_weight, c.error)):
        if not kept or cost.error < kept[-1].error:
            kept.append(cost)
    return kept


@palette.style()
def error_against_bits(
    costs: Sequence[Cost],
    *,
    ylabel: str = "error of the weights (RMSE)",
    title: str = "Filled dots: nothing with as few bits has less error",
    named: Sequence[int] | None = None,
) -> Picture:
    """The picture of `Cost`s; dots of one width are joined in the order given.

    named: widths whose dots are named by their ruler, all by default.

    Raises ValueError if costs is empty.
    """
    if not costs:
        raise ValueError("costs is empty; give at least one Cost")
    fig, ax = plot(
        "bits per weight, scales and zeros counted",
        ylabel,
        title=title,
        height=460,
        left=86,
        right=70,
    )
    best = frontier(costs)
    bits, errors = [c.bits_per_weight for c in costs], [c.error for c in costs]
    ax.set(yscale="log", xlim=(min(bits) - 0.35, max(bits) + 0.35))
    span = max(errors) / min(errors)
    ax.set_ylim(min(errors) / 1.5, max(errors) * max(1.8, span**0.16))  # room for names
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.4g}")
    ax.minorticks_off()
    ax.grid(color=palette.HAIRLINE)
    widths = list(dict.fromkeys(c.bits for c in costs))
    named = widths if named is None else named
    for i, width in enumerate(widths):
        of_width = [c for c in costs if c.bits == width]
        _draw_width(ax, of_width, best, palette.SERIES[i % len(palette.SERIES)])
        if width in named:
            _name(ax, of_width)
    fig.alt = _describe(costs, best, ylabel)
    return fig


def _draw_width(ax: Axes, costs: list[Cost], best: list[Cost], color: str) -> None:
    """Dots of one width, joined; the first is labelled with the width."""
    x, y = [c.bits_per_weight for c in costs], [c.error for c in costs]
    ax.plot(x, y, color=color, lw=1, alpha=0.5)
    for cost in costs:
        face = color if cost in best else palette.PAPER
        ax.plot(
            cost.bits_per_weight, cost.error, "o", mfc=face, mec=color, mew=1.6, ms=7
        )
    ax.annotate(
        f"{costs[0].bits} bits",
        (x[0], y[0]),
        (0, 18),
        textcoords="offset points",
        color=color,
        weight="bold",
        ha="center",
        va="bottom",
    )


def _name(ax: Axes, costs: list[Cost]) -> None:
    """Each dot's ruler, above it to the right, from the top down, none over another."""
    scale = ax.figure.dpi / 100
    placed: list[tuple[float, float]] = []  # right end and height of each name
    for cost in sorted(costs, key=lambda c: -c.error):
        dot = cost.bits_per_weight, cost.error
        x, y = ax.transData.transform(dot) / scale
        height = y + 9
        while any(x < end and abs(height - other) < LINE for end, other in placed):
            height -= 1
        placed.append((x + 10 * len(cost.ruler), height))
        ax.annotate(
            cost.ruler,
            dot,
            (6, (height - y) * 0.72),
            textcoords="offset points",
            color=palette.MUTED,
            va="center",
        )


def _describe(costs: Sequence[Cost], best: list[Cost], ylabel: str) -> str:
    listed = "; ".join(
        f"{c.bits} bits, {c.ruler}: {c.bits_per_weight:.2f} bits per weight, "
        f"{number(c.error, digits=3)}"
        for c in best
    )
    return (
        f"{ylabel} against bits per weight for {len(costs)} ways to quantize, from "
        f"{min(c.bits for c in costs)} to {max(c.bits for c in costs)} bits a code. "
        f"On the frontier: {listed}."
    )
