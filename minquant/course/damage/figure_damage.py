"""Four answers to one question: what did quantizing cost?

    layer error        KL divergence        from the weights to the user. Each panel has
    ┌──────────┐       ┌──────────┐         bits per weight to the right, and one mark
    │ ●        │       │ ●        │         for every way that has been tried; the way
    │   ●  ●   │       │   ●  ●   │         chosen now has a ring and its interval.
    └──────────┘       └──────────┘
    loss               right answers        The axes never move.
    ┌──────────┐       ┌──────────┐

The first three fall by the same factor for every bit; what a reader of the answers
notices does not. Notebook 04 shows it inside `widget_damage`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figure_intervals import Measured, with_interval
from minquant.course.drawing.figures import Picture
from minquant.measure.probes import Share

SIZE = (900, 584)
PANELS = ((78, 40), (520, 40), (78, 316), (520, 316))  # left and top, in CSS pixels
PANEL = (356, 176)
BITS = (1.6, 9.6)
MARKS, SIGNS = "os^vD<", "●■▲▼◆◀"  # the same shapes, as marks and as characters
LIMITS = {"layer": (1e-6, 3.0), "kl": (1e-6, 20.0), "loss": (1e-5, 20.0)}
NAMES = {
    "layer": "layer error (share)",
    "kl": "KL (nats per token)",
    "loss": "loss, change (nats/token)",
}


@dataclass(frozen=True)
class Damage:
    """What one way to quantize costs.

    bits_per_weight: with scales and zeros. layer_error: relative, of one layer. kl,
    loss: in nats per token; loss is the change from full precision. probes: name to the
    share of right answers; may be empty.
    """

    bits_per_weight: float
    layer_error: float
    kl: Measured
    loss: Measured
    probes: Mapping[str, Share]


Key = tuple[int, str]  # bits of a code, and what shares a ruler, such as "a row"


class DamagePicture:
    """The four panels; `update` marks one way among all that were tried.

    rulers: their names, each drawn with another mark. whole: the shares of right
    answers in full precision, by the names of the probes.

    Raises ValueError for more rulers or probes than there are marks and colours.
    """

    @palette.style()
    def __init__(self, rulers: Sequence[str], whole: Mapping[str, Share]) -> None:
        if len(rulers) > len(MARKS) or len(whole) > len(palette.SERIES):
            raise ValueError(
                f"rulers are {len(rulers)} and whole {len(whole)}; give at most "
                f"{len(MARKS)} rulers and {len(palette.SERIES)} kinds of probes"
            )
        self.fig = Picture(*SIZE)
        self.rulers, self.whole = list(rulers), dict(whole)
        self.panels = dict(
            zip((*NAMES, "probes"), map(self._panel, PANELS), strict=True)
        )
        for name, ax in self.panels.items():
            if name in LIMITS:
                ax.set(yscale="log", ylim=LIMITS[name])
                ax.minorticks_off()
        self.panels["probes"].set_ylim(-3, 103)
        self._add_artists()

    def _panel(self, place: tuple[int, int]) -> Axes:
        ax = self.fig.axes_at(*place, *PANEL, xlim=BITS, facecolor="none")
        ax.set_xlabel("bits per weight")
        ax.grid(color=palette.HAIRLINE)
        return ax

    def _add_artists(self) -> None:
        """A mark for each ruler that was tried; a ring and a bar for the chosen one."""
        write = self.fig.write
        titles = [*NAMES.values(), "right answers (%)"]
        self.numbers = []
        for title, (left, top) in zip(titles, PANELS, strict=True):
            write(left - 40, top - 24, title, weight="bold")
            self.numbers.append(write(left + PANEL[0], top - 24, "", ha="right"))
        looks = {"color": palette.VERMILION, "alpha": 0.55}
        self.past = {
            name: [
                artists.marks(self.panels[name], MARKS[i], 6, **looks)
                for i in range(len(self.rulers))
            ]
            for name in NAMES
        }
        self.shares = [
            artists.marks(self.panels["probes"], MARKS[i], 6, color=palette.SERIES[i])
            for i in range(len(self.whole))
        ]
        self._name_probes()
        self.bars, self.rings = {}, {}
        ring = {"mfc": "none", "mec": palette.INK, "mew": 1.4}
        for name, ax in self.panels.items():
            self.bars[name] = artists.lines(ax, palette.INK, 2)
            self.rings[name] = artists.marks(ax, "o", 12, **ring)
        for i, name in enumerate(self.rulers):
            write(38 + 140 * i, SIZE[1] - 14, f"{SIGNS[i]} {name}", color=palette.MUTED)
        for marks in (*self.past.values(), self.shares):
            self.fig.move(*marks)
        self.fig.move(*self.bars.values(), *self.rings.values(), *self.numbers)

    def _name_probes(self) -> None:
        """Lines for the shares in full precision, and their names above the panel."""
        ax, left, top = self.panels["probes"], *PANELS[3]
        for i, (name, share) in enumerate(self.whole.items()):
            color = palette.SERIES[i]
            ax.axhline(100 * share.mean, color=color, lw=1, ls=(0, (4, 3)))
            x = left - 40 + 190 + 82 * i
            self.fig.write(x, top - 24, f"{SIGNS[i]} {name}", color=color)

    @palette.style()
    def update(self, key: Key, tried: Mapping[Key, Damage]) -> None:
        """Ring one way among those tried, and write the alt text anew."""
        now = tried[key]
        for name, limits in LIMITS.items():
            for i, ruler in enumerate(self.rulers):
                on_ruler = [d for (_, other), d in tried.items() if other == ruler]
                x = [d.bits_per_weight for d in on_ruler]
                y = [np.clip(_measured(d, name).mean, *limits) for d in on_ruler]
                self.past[name][i].set_data(x, y)
            y, low, high = np.clip(_measured(now, name), *limits)
            self._ring(name, now.bits_per_weight, [y], [low], [high])
        self.numbers[0].set_text(f"{now.layer_error:.3g}")
        for text, row in zip(self.numbers[1:3], (now.kl, now.loss), strict=True):
            text.set_text(with_interval(row))
        self._draw_shares(now, tried)
        self.fig.alt = describe(key, now, self.whole)

    def _ring(self, name: str, x: float, y: list, low: list, high: list) -> None:
        self.rings[name].set_data([x] * len(y), y)
        self.bars[name].set_segments(artists.segments(x, low, x, high) if y else [])

    def _draw_shares(self, now: Damage, tried: Mapping[Key, Damage]) -> None:
        for marks, name in zip(self.shares, self.whole, strict=False):
            known = [d for d in tried.values() if name in d.probes]
            marks.set_data(
                [d.bits_per_weight for d in known],
                [100 * d.probes[name].mean for d in known],
            )
        shares = list(now.probes.values())
        ends = [[100 * end for end in share.interval()] for share in shares]
        self._ring(
            "probes",
            now.bits_per_weight,
            [100 * share.mean for share in shares],
            [low for low, _ in ends],
            [high for _, high in ends],
        )


def _measured(damage: Damage, name: str) -> Measured:
    """What a panel shows of a way to quantize; a layer's error has no interval."""
    if name == "layer":
        return Measured(*[damage.layer_error] * 3)
    return damage.kl if name == "kl" else damage.loss


def describe(key: Key, damage: Damage, whole: Mapping[str, Share]) -> str:
    """One way to quantize in words, from the layer's error to the answers."""
    bits, ruler = key
    words = (
        f"{bits} bits, one ruler for {ruler}: {damage.bits_per_weight:.2f} bits per "
        f"weight. Layer error {damage.layer_error:.3g} of the output's power; KL "
        f"{with_interval(damage.kl)} nats per token; loss changed by "
        f"{with_interval(damage.loss)}."
    )
    for name, share in damage.probes.items():
        before = f", {whole[name].mean:.0%} before" if name in whole else ""
        words += f" {name}: {share.mean:.0%} right{before}."
    return words
