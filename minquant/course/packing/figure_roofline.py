"""The roofline, and how much faster fewer bits can be, for how many tokens.

    `roofs`       operations per second ┌───────────  arithmetic
                                      ╱│
                            memory  ╱  │ ridge
                                  ╱        operations per byte

    `speedups`    times as fast as 16 bits, by tokens: a product that reads codes and
                  multiplies them as they come, one that writes W_hat first, and one
                  without tensor cores. Points are measurements of others' kernels

All axes are logarithmic, so a factor is the same distance everywhere. Every line is an
upper bound, computed by `roofline`; real kernels lie below. Notebook 10 reads both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture, plot
from minquant.course.drawing.numbers import number
from minquant.planning.roofline import Machine, Product, least_seconds, written_first

MARKS, STYLES = "os^Dv", ("-", "--", "-.", (0, (9, 2)), (0, (1, 1)))
TOKENS = sorted({round(2 ** (i / 8)) for i in range(97)})  # 1 to 4096
LOOKS = {  # what a line of `speedups` stands for: colour, style
    "codes, multiplied as they come": (palette.BLUE, "-"),
    "W_hat written first": (palette.VERMILION, "--"),
    "codes, without tensor cores": (palette.INK, "-."),
}
PANEL, GAP, TOP = 240, 48, 78  # CSS pixels


def _log(ax: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithmic axes with these ticks and no others."""
    ax.set(xscale="log", yscale="log")
    for axis, ticks in ((ax.xaxis, x), (ax.yaxis, y)):
        axis.set_major_locator(FixedLocator(list(ticks)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    ax.grid(color=palette.HAIRLINE)


@palette.style()
def roofs(machines: Sequence[Machine], marks: Mapping[str, float]) -> Picture:
    """The roofs of up to five machines, with marks at their ridges.

    marks: name to operations per byte of products, as dotted lines.

    Raises ValueError if there is no machine, or more than five.
    """
    if not 0 < len(machines) <= len(MARKS):
        raise ValueError(f"machines are {len(machines)}; give 1 to {len(MARKS)}")
    fig, ax = plot(
        "operations per byte that is moved",
        "10⁹ operations per second",
        title="Left of its ridge a machine waits for memory",
        height=440,
        left=112,
        right=130,
    )
    peaks = [m.peak / 1e9 for m in machines]
    low = min(m.bandwidth for m in machines) / 1e9 / 4
    intensities = np.geomspace(0.25, 4096, 400)
    _log(ax, [0.25, 1, 4, 16, 64, 256, 1024, 4096], [10.0**i for i in range(-1, 8)])
    ax.set(xlim=(0.25, 4096), ylim=(low, max(peaks) * 3))
    for i, machine in enumerate(machines):
        color = palette.SERIES[i]
        height = [machine.attainable(x) / 1e9 for x in intensities]
        ax.plot(intensities, height, color=color, ls=STYLES[i])
        ax.plot(machine.ridge, peaks[i], MARKS[i], color=color, ms=8)
        looks = {"color": color, "va": "center", "weight": "bold"}
        end = 4096, peaks[i]
        ax.annotate(machine.name, end, (8, 0), textcoords="offset points", **looks)
    paper = {"fc": palette.PAPER, "ec": "none", "pad": 1}
    looks = {"color": palette.MUTED, "va": "center", "bbox": paper}
    for i, (name, intensity) in enumerate(marks.items()):
        ax.axvline(intensity, color=palette.MUTED, lw=1.2, ls=":")
        place = intensity * 1.08, 0.96 - 0.07 * i
        ax.text(*place, name, transform=ax.get_xaxis_transform(), **looks)
    fig.alt = "Attainable operations per second by operations per byte. " + "; ".join(
        f"{m.name}: rising to {m.peak / 1e9:,.0f} thousand million at "
        f"{number(m.ridge, digits=3)} operations per byte, then level"
        for m in machines
    )
    fig.alt += f". Marked: {', '.join(f'{n} at {x:.3g}' for n, x in marks.items())}."
    return fig


def speedup(
    machine: Machine, name: str, bits_per_weight: float, out: int, width: int
) -> list[float]:
    """How many times as fast as 16 bits at TOKENS, at best. name: of LOOKS.

    Both sides are bounds: `least_seconds` of 16 bits over the bound of the other way.
    """
    limited, bound = machine, least_seconds
    if name == "codes, without tensor cores":
        limited = machine.without_tensor_cores()
    elif name == "W_hat written first":
        bound = written_first
    products = [Product(tokens, out, width) for tokens in TOKENS]
    return [
        least_seconds(machine, p) / bound(limited, p, bits_per_weight) for p in products
    ]


@palette.style()
def speedups(
    cards: Sequence[Machine],
    bits_per_weight: float,
    *,
    out: int = 8192,
    width: int = 8192,
    measured: Mapping[str, Mapping[str, Mapping[int, float]]] | None = None,
) -> Picture:
    """A panel for each of up to three cards.

    The line without tensor cores is drawn for cards before sm_80, on which Triton does
    not use them. measured: by card, kernel and tokens, how many times as fast as 16
    bits.

    Raises ValueError if there is no card, or more than three.
    """
    if not 0 < len(cards) <= 3:
        raise ValueError(f"cards are {len(cards)}; give 1 to 3")
    fig = Picture(WIDTH, 404)
    rows = []
    for i, card in enumerate(cards):
        ax = fig.axes_at(64 + i * (PANEL + GAP), TOP, PANEL, 270)
        _log(ax, [1, 4, 16, 64, 256, 1024], [0.25, 0.5, 1, 2, 4])
        ax.set(xlim=(0.8, TOKENS[-1]), ylim=(0.22, 6), title=card.name)
        ax.axhline(1, color=palette.MUTED, lw=1)
        for name, (color, style) in LOOKS.items():
            has_tensor_cores = (card.capability or (9, 0)) >= (8, 0)
            if name == "codes, without tensor cores" and has_tensor_cores:
                continue
            times = speedup(card, name, bits_per_weight, out, width)
            ax.plot(TOKENS, times, color=color, ls=style)
            rows.append(_ends(card.name, name, times))
        for kernel, points in (measured or {}).get(card.name, {}).items():
            ax.plot(*zip(*points.items(), strict=True), "o", color=palette.GREEN, ms=6)
            looks = {"color": palette.GREEN, "va": "center"}
            last = max(points.items())
            ax.annotate(kernel, last, (3, 10), textcoords="offset points", **looks)
            values = ", ".join(f"{times:g} at M = {n}" for n, times in points.items())
            rows.append(f"{card.name}, measured, {kernel}: {values}")
    fig.axes[0].set_ylabel("times as fast as 16 bits")
    fig.axes[len(cards) // 2].set_xlabel("tokens at a time")
    _legend(fig, bool(measured))
    fig.alt = f"Times as fast as 16 bits, by tokens. {'; '.join(rows)}."
    return fig


def _legend(fig: Picture, measured: bool) -> None:
    """What the lines are, above the panels."""
    signs = {"-": "──", "--": "╌╌", "-.": "─·"}
    keys = [(f"{signs[style]} {name}", color) for name, (color, style) in LOOKS.items()]
    if measured:
        keys.append(("● kernels of others", palette.GREEN))
    for i, (text, color) in enumerate(keys):
        place = 20 + 330 * (i % 2), 14 + 20 * (i // 2)
        fig.write(*place, text, color=color, weight="bold")


def _ends(card: str, name: str, times: list[float]) -> str:
    """Both ends of a line in words."""
    last = TOKENS[-1]
    return f"{card}, {name}: {times[0]:.2f} at 1 token, {times[-1]:.2f} at {last}"
