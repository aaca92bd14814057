"""One version of a model, and all that was measured of it: what perplexity hides.

    perplexity, rise (%)     facts right (%)        on the left what a loss measures,
    ┌──────────┐             ┌──────────┐           on logarithmic axes: every version
    │ ◉        │             │○○○○○○○○○○│           is a grey mark, those of the chosen
    │    ●     │             │●●●       │           method are joined, the chosen one
    │       ● ●│             │   ●●●●●●●│           has a ring and its interval
    └──────────┘             └──────────┘
    bits per weight          famous → obscure       on the right what a reader notices:
    KL                       chains                 right answers from easy to hard,
    first choice flips       recall                 before (hollow) and now (filled)

There can be a small rise on the left and many lost answers on the right: a loss counts
all tokens alike, and few of them are names. The axes never move. Lesson 11 shows it
inside `widget_verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.text import Text

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figure_intervals import Measured, with_interval
from minquant.course.drawing.figures import Picture
from minquant.measure.probes import Share

SIZE = (900, 640)
LEFTS, TOPS = (92, 536), (34, 238, 442)  # of the six panels, in CSS pixels
PANEL = (342, 122)
BITS = (1.7, 9.0)
LIMITS = {"rise": (0.01, 1e5), "kl": (1e-5, 10.0), "flips": (1.0, 100.0)}
MEASURES = {
    "rise": "perplexity, rise (%)",
    "kl": "KL (nats per token)",
    "flips": "first choice flips (% of tokens)",
}
PROBES = {  # name to the label of its axis, and what its first and last level are
    "facts": ("how famous the person asked about is", "most famous", "least famous"),
    "chains": ("steps of the sum", "shortest", "longest"),
    "recall": ("how far back the answer lies (tokens)", "nearest", "farthest"),
}
GAP = 0.16  # from a level to each of its two marks, before and now

Key = tuple[float, str]  # bits of a code, and the method


@dataclass(frozen=True)
class Version:
    """A model in some bits by some method, and what was measured of it.

    bits_per_weight: with scales and zeros. perplexity: of test text. rise: of the
    perplexity over the original's, in percent, paired by document. kl: nats per token.
    flips: percent of the tokens whose likeliest word has changed. facts, chains,
    recall: right answers by level, from easy to hard. text: how it continues a prompt.
    """

    bits: float
    method: str
    bits_per_weight: float
    perplexity: float
    rise: Measured
    kl: Measured
    flips: Measured
    facts: Mapping[int, Share]
    chains: Mapping[int, Share]
    recall: Mapping[int, Share]
    text: str


def by_key(versions: Sequence[Version], original: Version) -> dict[Key, Version]:
    """The versions by bits and method, in their order.

    Raises ValueError if there is none, if two have the same bits and method, or if one
    was asked other levels than the original.
    """
    if not versions:
        raise ValueError("versions is empty; give at least one Version")
    table: dict[Key, Version] = {}
    for version in versions:
        key = version.bits, version.method
        if key in table:
            raise ValueError(
                f"versions holds {version.bits:g} bits by {version.method!r} twice; "
                "give each pair of bits and method once"
            )
        for name in PROBES:
            levels = list(getattr(version, name))
            expected = list(getattr(original, name))
            if levels != expected:
                raise ValueError(
                    f"versions has {name} of levels {levels} for {version.bits:g} bits "
                    f"by {version.method!r}, and original {expected}; ask both the same"
                )
        table[key] = version
    return table


class VerdictPicture:
    """The six panels; `update` chooses one version of the table.

    A number beyond LIMITS is drawn at the end of its axis, and the label of the lower
    end says so (≤); in words it is exact.

    Raises ValueError as `by_key` does.
    """

    @palette.style()
    def __init__(self, versions: Sequence[Version], original: Version) -> None:
        self.versions, self.original = by_key(versions, original), original
        self.fig = Picture(*SIZE)
        self.numbers: dict[str, Text] = {}
        self.bars, self.marks, self.lines, self.rings = {}, {}, {}, {}
        for name, top in zip(MEASURES, TOPS, strict=True):
            self._add_title(name, MEASURES[name], LEFTS[0], top)
            self._add_measure(name, top)
        for name, top in zip(PROBES, TOPS, strict=True):
            self._add_title(name, f"{name} right (%)", LEFTS[1], top)
            self._add_probe(name, top)
        for x, color, words in (
            (52, palette.INK, "◯ chosen, 95% interval"),
            (246, palette.VERMILION, "● its method"),
            (362, palette.MUTED, "● all others"),
            (496, palette.BLUE, "○ the original"),
            (622, palette.VERMILION, "● chosen, with 95% interval"),
        ):
            self.fig.write(x, SIZE[1] - 13, words, color=color)
        moving = self.lines, self.marks, self.bars, self.rings, self.numbers
        self.fig.move(*(artist for some in moving for artist in some.values()))

    def _add_title(self, name: str, title: str, left: int, top: int) -> None:
        """What a panel shows, and at its right the number of the chosen version."""
        self.fig.write(left - 40, top - 19, title, weight="bold")
        self.numbers[name] = self.fig.write(left + PANEL[0], top - 19, "", ha="right")

    def _add_measure(self, name: str, top: int) -> None:
        """A panel on the left: every version, and artists for the chosen method."""
        ax = self.fig.axes_at(LEFTS[0], top, *PANEL, xlim=BITS, facecolor="none")
        ax.set(yscale="log", ylim=LIMITS[name])
        ax.set_xlabel("bits per weight", labelpad=1)
        ax.set_yticks(*_decades(*LIMITS[name]))
        ax.minorticks_off()
        ax.grid(color=palette.HAIRLINE)
        grey = artists.marks(ax, "o", 5, color=palette.MUTED, alpha=0.4)
        grey.set_data(*_points(self.versions.values(), name))
        self.lines[name] = ax.plot([], [], color=palette.VERMILION, lw=1.2)[0]
        self.marks[name] = artists.marks(ax, "o", 5.5, color=palette.VERMILION)
        self.bars[name] = artists.lines(ax, palette.INK, 2)
        ring = {"mfc": "none", "mec": palette.INK, "mew": 1.6}
        self.rings[name] = artists.marks(ax, "o", 12, **ring)

    def _add_probe(self, name: str, top: int) -> None:
        """A panel on the right: the original, and artists for the chosen version."""
        before = getattr(self.original, name)
        ax = self.fig.axes_at(LEFTS[1], top, *PANEL, facecolor="none")
        ax.set(xlim=(-0.5, max(len(before), 1) - 0.5), ylim=(-4, 104))
        ax.set_xlabel(PROBES[name][0], labelpad=1)
        levels = [str(level) for level in before]
        if name == "facts" and len(before) > 1:  # the rank of a level tells nothing
            levels = ["most", *[""] * (len(before) - 2), "least"]
        ax.set_xticks(range(len(before)), levels)
        ax.set_yticks((0, 50, 100))
        ax.grid(axis="y", color=palette.HAIRLINE)
        look = {"color": palette.BLUE, "mfc": palette.PAPER, "mew": 1.4, "ms": 6.5}
        look |= {"marker": "o", "ls": (0, (4, 3)), "lw": 1.2, "clip_on": False}
        ax.plot(np.arange(len(before)) - GAP, _percents(before), **look)
        self.marks[name] = artists.marks(ax, "o", 6.5, color=palette.VERMILION)
        self.bars[name] = artists.lines(ax, palette.VERMILION, 2)

    @palette.style()
    def update(self, key: Key) -> None:
        """Choose bits and method and write the alt text anew.

        key: of the table, or any other: then nothing is ringed.
        """
        now = self.versions.get(key)
        for name in MEASURES:
            self._draw_measure(name, key[1], now)
        for name in PROBES:
            self._draw_probe(name, now)
        self.fig.alt = describe(key, self.versions, self.original)

    def _draw_measure(self, name: str, method: str, now: Version | None) -> None:
        same_method = [v for v in self.versions.values() if v.method == method]
        same_method.sort(key=lambda version: version.bits_per_weight)
        self.lines[name].set_data(*_points(same_method, name))
        self.marks[name].set_data(*_points(same_method, name))
        chosen = [] if now is None else [now]
        x, y = _points(chosen, name)
        self.rings[name].set_data(x, y)
        ends = [np.clip(getattr(v, name)[1:], *LIMITS[name]) for v in chosen]
        self._draw_bars(name, x, ends)
        number = (
            "not in the table" if now is None else with_interval(getattr(now, name))
        )
        self.numbers[name].set_text(number)

    def _draw_probe(self, name: str, now: Version | None) -> None:
        before = getattr(self.original, name)
        shares = {} if now is None else getattr(now, name)
        x = np.arange(len(shares)) + GAP
        self.marks[name].set_data(x, _percents(shares))
        ends = [100 * np.array(share.interval()) for share in shares.values()]
        self._draw_bars(name, x, ends)
        totals = [f"{100 * _total(s).mean:.1f}" for s in (before, shares) if s]
        self.numbers[name].set_text(" → ".join(totals))

    def _draw_bars(self, name: str, x: artists.Numbers, ends: list[np.ndarray]) -> None:
        low, high = np.array(ends).reshape(-1, 2).T
        self.bars[name].set_segments(artists.segments(x, low, x, high))


def describe(key: Key, versions: Mapping[Key, Version], original: Version) -> str:
    """A version in numbers; if the table lacks it, the widths that its method has."""
    bits, method = key
    if key not in versions:
        widths = ", ".join(f"{b:g}" for b, m in versions if m == method) or "no"
        return (
            f"The table has no version of {bits:g} bits by {method}. By {method} it "
            f"has: {widths} bits. Nothing is ringed, and all answers shown are the "
            "original's."
        )
    now = versions[key]
    words = (
        f"{bits:g} bits by {method}, {now.bits_per_weight:.2f} bits per weight: "
        f"perplexity {now.perplexity:.3f}, {original.perplexity:.3f} before, a change "
        f"of {with_interval(now.rise, '%')}; KL {with_interval(now.kl)} nats per "
        f"token; the first choice flips for {with_interval(now.flips, '%')} of the "
        "tokens."
    )
    for name, (_, easiest, hardest) in PROBES.items():
        before, after = getattr(original, name), getattr(now, name)
        if after:
            shares = list(after.values())
            words += (
                f" {name.capitalize()} right: {_total(after).mean:.0%}, "
                f"{_total(before).mean:.0%} before ({easiest} {shares[0].mean:.0%}, "
                f"{hardest} {shares[-1].mean:.0%})."
            )
    return words


def _total(shares: Mapping[int, Share]) -> Share:
    """All levels together."""
    rows = shares.values()
    return Share(sum(share.right for share in rows), sum(share.n for share in rows))


def _percents(shares: Mapping[int, Share]) -> list[float]:
    return [100 * share.mean for share in shares.values()]


def _points(versions: Iterable[Version], name: str) -> tuple[list, list]:
    """Where the marks of versions stand in a panel on the left."""
    shown = list(versions)
    heights = [np.clip(getattr(v, name).mean, *LIMITS[name]) for v in shown]
    return [v.bits_per_weight for v in shown], heights


def _decades(low: float, high: float) -> tuple[np.ndarray, list[str]]:
    """Powers of ten from low to high as ticks; of many, every second is named."""
    powers = np.arange(round(np.log10(low)), round(np.log10(high)) + 1)
    names = [f"{10.0**power:,.{max(0, -power)}f}" for power in powers]
    if len(powers) > 4:
        names[1::2] = [""] * len(names[1::2])
    return 10.0**powers, [f"≤ {names[0]}", *names[1:]]
