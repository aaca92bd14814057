"""The roofline: of cards, of a CPU with measured points, and as a gain over 16 bits.

    `roofs`       operations per second ┌───────────  arithmetic
                                      ╱│
                            memory  ╱  │ ridge
                                  ╱        operations per byte

    `speedups`    times as fast as 16 bits, by tokens: weight-only codes multiplied as
                  they come; W_hat written first; weights and inputs both in few bits.
                  Points are measurements of others' kernels
    `engine_points`   SmolLM2 on a CPU: what an answer and a prompt reach under its roof

All axes are logarithmic, so a factor is the same distance everywhere. Every line is an
upper bound, computed by `roofline`; real kernels lie below. Lesson 10 reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.packing.engine_table import Engine
from minquant.planning.roofline import Machine, Product, least_seconds, written_first

BITS_IN = {"bf16": 16.0, "int8": 8.25, "FP8": 8.25, "FP4": 4.5}  # with a scale

TOKENS = sorted({round(2 ** (i / 8)) for i in range(97)})  # 1 to 4096
CODES, WRITTEN = "codes, weight-only", "codes, but W_hat is written first"
NARROW = "weights and inputs in"
LOOKS = {  # colour and style of a line, by what it starts with
    CODES: (palette.BLUE, "-"),
    WRITTEN: (palette.VERMILION, "--"),
    f"{NARROW} int8": (palette.GREEN, "-."),
    f"{NARROW} FP8": (palette.GREEN, "-."),
    f"{NARROW} FP4": (palette.VIOLET, (0, (1, 1))),
}
COLORS = (palette.BLUE, palette.SKY, palette.VIOLET, palette.GREEN, palette.INK)
COLORS = (*COLORS, palette.VERMILION)  # of the ways of `engine_points`
PANEL, GAP, TOP = 236, 50, 78  # CSS pixels


def _log(ax: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithmic axes with these ticks and no others."""
    ax.set(xscale="log", yscale="log")
    for axis, ticks in ((ax.xaxis, x), (ax.yaxis, y)):
        axis.set_major_locator(FixedLocator(list(ticks)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    ax.grid(color=palette.HAIRLINE)


@palette.style()
def roofs(cards: Sequence[Machine], marks: Mapping[str, float]) -> Picture:
    """A panel for each of up to three cards: the roof of 16 bits, and narrower ones.

    marks: name to operations per byte of weight-only products, as points on the roof of
    16 bits.

    Raises ValueError if there is no card, or more than three.
    """
    _check(cards)
    fig = Picture(WIDTH, 400)
    words = []
    intensities = np.geomspace(0.5, 4096, 300)
    for i, card in enumerate(cards):
        ax = fig.axes_at(64 + i * 284, 62, 208, 282)
        _log(ax, [1, 16, 256, 4096], [0.1, 1, 10, 100, 1000, 10_000])
        ax.set(xlim=(0.5, 4096), ylim=(0.1, 20_000), title=card.name)
        if i:
            ax.tick_params(labelleft=False)
        for form, rate in {**_narrow(card), "16 bits": card.peak}.items():
            machine = card if form == "16 bits" else card.computing_in(form)
            height = [machine.attainable(x) / 1e12 for x in intensities]
            color, style = palette.INK, "-"
            if machine is not card:
                color, style = LOOKS[f"{NARROW} {form}"]
            ax.plot(intensities, height, color=color, ls=style)
            looks = {"color": color, "va": "center", "textcoords": "offset points"}
            ax.annotate(form, (4096, rate / 1e12), (5, 0), **looks)
            words.append(f"{card.name} in {form}: at most {rate / 1e12:,.0f} TFLOP/s")
        for (_, at), sign in zip(marks.items(), "osD", strict=False):
            top = card.attainable(at) / 1e12
            ax.plot(at, top, sign, color=palette.BLUE, ms=8, mec=palette.PAPER)
    fig.axes[0].set_ylabel("TFLOP/s")
    fig.axes[len(cards) // 2].set_xlabel("operations for each byte that is read")
    for i, (name, sign) in enumerate(zip(marks, "●■◆", strict=False)):
        look = {"color": palette.BLUE, "weight": "bold"}
        fig.write(64 + 284 * i, 16, f"{sign} {name}", **look)
    fig.alt = f"Operations per second against operations per byte. {'; '.join(words)}."
    fig.alt += f" Marked: {', '.join(f'{n} at {x:.3g}' for n, x in marks.items())}."
    return fig


def speedup(
    machine: Machine, name: str, bits_per_weight: float, side: int
) -> list[float]:
    """How many times as fast as 16 bits at TOKENS, at best. name: of LOOKS.

    Both sides are bounds: `least_seconds` of 16 bits over the bound of the other way.
    """
    limited, bound, bits = machine, least_seconds, bits_per_weight
    if name == WRITTEN:
        bound = written_first
    elif name != CODES:
        form = name.removeprefix(f"{NARROW} ")
        limited, bits = machine.computing_in(form), BITS_IN[form]
    products = [Product(tokens, side, side) for tokens in TOKENS]
    return [least_seconds(machine, p) / bound(limited, p, bits) for p in products]


@palette.style()
def speedups(
    cards: Sequence[Machine],
    bits_per_weight: float,
    *,
    side: int = 8192,
    measured: Mapping[str, Mapping[str, Mapping[int, float]]] | None = None,
) -> Picture:
    """A panel for each of up to three cards.

    measured: by card, kernel and tokens, how many times as fast as 16 bits.

    Raises ValueError if there is no card, or more than three.
    """
    _check(cards)
    fig = Picture(WIDTH, 404)
    rows, seen = [], {}
    for i, card in enumerate(cards):
        ax = fig.axes_at(64 + i * (PANEL + GAP), TOP, PANEL, 270)
        _log(ax, [1, 4, 16, 64, 256, 1024], [0.25, 0.5, 1, 2, 4])
        ax.set(xlim=(0.8, TOKENS[-1]), ylim=(0.22, 6), title=card.name)
        ax.axhline(1, color=palette.MUTED, lw=1)
        for name in (CODES, WRITTEN, *(f"{NARROW} {form}" for form in _narrow(card))):
            color, style = LOOKS[name]
            times = speedup(card, name, bits_per_weight, side)
            ax.plot(TOKENS, times, color=color, ls=style)
            rows.append(
                f"{card.name}, {name}: {times[0]:.2f} at 1 token, {times[-1]:.2f} at "
                f"{TOKENS[-1]}"
            )
            seen[name.replace("int8", "8 bits").replace("FP8", "8 bits")] = color, style
        for kernel, points in (measured or {}).get(card.name, {}).items():
            ax.plot(*zip(*points.items(), strict=True), "o", color=palette.INK, ms=5)
            last = max(points.items())
            looks = {"color": palette.INK, "va": "center"}
            ax.annotate(kernel, last, (5, 0), textcoords="offset points", **looks)
            values = ", ".join(f"{times:g} at M = {n}" for n, times in points.items())
            rows.append(f"{card.name}, measured by others, {kernel}: {values}")
    fig.axes[0].set_ylabel("times as fast as 16 bits")
    fig.axes[len(cards) // 2].set_xlabel("tokens at a time")
    signs = {"-": "──", "--": "╌╌", "-.": "─·"}
    keys = [(f"{signs.get(s, '···')} {n}", c) for n, (c, s) in seen.items()]
    keys += [("● others' kernels, measured", palette.INK)] if measured else []
    for i, (text, color) in enumerate(keys):
        place = 20 + 300 * (i % 3), 14 + 20 * (i // 3)
        fig.write(*place, text, color=color, weight="bold")
    fig.alt = f"Times as fast as 16 bits, by tokens. {'; '.join(rows)}."
    return fig


@palette.style()
def engine_points(engine: Engine, ways: Mapping[str, str]) -> Picture:
    """Answers (one token at a time) and prompts (all at once) under the CPU's roofs.

    ways: the row of the table to what it is called in the picture, at most six.

    Raises ValueError if there are more.
    """
    if len(ways) > len(COLORS):
        raise ValueError(f"ways are {len(ways)}; give at most {len(COLORS)}")
    fig, ax = plot(
        "operations for each byte that is read",
        "10⁹ operations per second",
        title="SmolLM2 on two cores: ● an answer, ■ a prompt",
        height=430,
        left=90,
        right=130,
    )
    machine, words = engine.machine, []
    intensities = np.geomspace(0.25, 2048, 400)
    _log(ax, [0.25, 1, 4, 16, 64, 256, 1024], [1, 3, 10, 30, 100, 300, 1000])
    rates = {"fp32": machine.peak, **machine.narrow}
    ax.set(xlim=(0.25, 2048), ylim=(0.9, 1.6 * max(rates.values()) / 1e9))
    for (form, rate), style in zip(rates.items(), ("-", "--", "-."), strict=False):
        height = [min(rate, x * machine.bandwidth) / 1e9 for x in intensities]
        ax.plot(intensities, height, color=palette.MUTED, ls=style, lw=1.4)
        end = {"color": palette.MUTED, "va": "center", "textcoords": "offset points"}
        ax.annotate(f"in {form}", (2048, rate / 1e9), (8, 0), **end)
    for (key, name), color in zip(ways.items(), COLORS, strict=False):
        row = engine.rows[key]
        one = 2 * (engine.layers + engine.output)  # operations of a token of an answer
        many = 2 * engine.layers  # of a prompt: the output matrix is used once
        answer = one / row.nbytes, one * row.answer / 1e9
        prompt = many * engine.tokens / row.nbytes, many * row.prompt / 1e9
        ax.plot(*zip(answer, prompt, strict=True), color=color, lw=1, ls=":")
        ax.plot(*answer, "o", color=color, ms=9, label=name)
        ax.plot(*prompt, "s", color=color, ms=8)
        words.append(
            f"{name}: {number(row.answer, digits=3)} tokens a second of an answer, "
            f"{number(row.prompt, digits=3)} of a prompt"
        )
    ax.legend(loc="lower right")
    fig.alt = (
        f"Operations per second against operations per byte. {'; '.join(words)}. "
        f"Memory is read at {machine.bandwidth / 1e9:.1f} GB/s."
    )
    return fig


def _narrow(card: Machine) -> dict[str, float]:
    """The narrow peaks of a card, without int8 where FP8 has the same."""
    return {
        k: v for k, v in card.narrow.items() if k != "int8" or "FP8" not in card.narrow
    }


def _check(cards: Sequence[Machine]) -> None:
    if not 0 < len(cards) <= 3:
        raise ValueError(f"cards are {len(cards)}; give 1 to 3")
