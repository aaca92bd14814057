"""The uneven ruler at work: where weights lie, and what each of its codes does.

          ▂▅█▇▅▂            the weights of a matrix, each on its own ruler: −1 is the
    ──────────────────      lowest tick of its group, 1 the highest
    │  │ │ │││││ │ │  │     the ruler
    ▁  ▃ ▅ ▆▇█▇▆ ▅ ▃  ▁     how often each code is used; the line is equal use
    ▂  ▇ ▆ ▅▃▂▃▅ ▆ ▇  ▂     how much of the squared error each code has

One code is marked in all of them. The numbers are a `Usage`, read from a
`QuantizedTensor` of any method. Notebook 08; `widget_codebooks` moves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.numbers import integer, number
from minquant.methods import codebooks
from minquant.numerics.tensor import QuantizedTensor

SIZE = (900, 520)
LEFT, WIDE = 150, 730
PANELS = {  # top and height
    "weights": (34, 132),
    "ruler": (174, 40),
    "used": (226, 118),
    "error": (362, 108),
}
TOPS = {"used": 24.0, "error": 30.0}  # per cent
END = 1.06  # of the axis; the ruler ends at 1
BINS = 121
BAR = 0.022  # half a bar, in shares of the ruler's half


@dataclass(frozen=True, eq=False)
class Usage:
    """A matrix on its rulers.

    levels: places of the codes, −1 … 1. counts: weights in BINS bins from −END to END.
    used: share of the weights by code. error: share of the squared error by code. low:
    the first code. carried: bits of information in a code.
    """

    levels: Float[np.ndarray, " codes"]
    counts: Float[np.ndarray, " bins"]
    used: Float[np.ndarray, " codes"]
    error: Float[np.ndarray, " codes"]
    low: int
    name: str
    carried: float

    @classmethod
    def of(
        cls, W: Float[Tensor, "out in"], quantized: QuantizedTensor, name: str = ""
    ) -> Usage:
        """How the codes of `quantized`, made of W, are used.

        name: what to call it, by default as the grid is called.

        Raises ValueError if there are more than 16 codes.
        """
        values = np.asarray(quantized.grid.levels, dtype=float)
        if len(values) > 16:
            raise ValueError(
                f"quantized has {len(values)} codes; 16 fit into the picture, so "
                "quantize to 4 bits or fewer"
            )
        levels = 2 * (values - values[0]) / (values[-1] - values[0]) - 1
        places = codebooks.places(W, quantized).cpu().numpy().clip(-END, END)
        counts, _ = np.histogram(places, BINS, (-END, END))
        used = codebooks.usage(quantized)
        return cls(
            levels=levels,
            counts=counts.astype(float),
            used=used.numpy(),
            error=codebooks.error_by_code(W, quantized).numpy(),
            low=quantized.grid.low,
            name=name or quantized.grid.name,
            carried=codebooks.carried(used),
        )

    @cached_property
    def borders(self) -> Float[np.ndarray, " codes_1"]:
        """Where one code's weights end and the next code's begin."""
        inner = (self.levels[1:] + self.levels[:-1]) / 2
        return np.concatenate([[-END], inner, [END]])

    def describe(self, i: int) -> str:
        """The matrix in words, and code i."""
        most, least = self.used.argmax(), self.used.argmin()
        return (
            f"{len(self.used)} codes of {self.name}. The code used most has "
            f"{self.used[most]:.1%} of the weights, the one used least "
            f"{self.used[least]:.1%}; equal use would be {1 / len(self.used):.1%}. "
            f"They carry {self.carried:.2f} bits. Code {integer(i + self.low)}, at "
            f"{number(self.levels[i], digits=3)} of the ruler, has "
            f"{self.used[i]:.1%} of the weights and {self.error[i]:.1%} of the "
            "squared error."
        )


class UsagePicture:
    """The picture of a `Usage`, with artists that move when `update` is called."""

    @palette.style()
    def __init__(self, usage: Usage, code: int = 0) -> None:
        self.fig = Picture(*SIZE)
        self.axes = {}
        for name, (top, tall) in PANELS.items():
            ax = self.fig.axes_at(LEFT, top, WIDE, tall, facecolor="none")
            ax.set(xlim=(-END, END), xticks=[], yticks=[])
            self.axes[name] = ax
            ax.spines["left"].set_visible(False)
            ax.spines["bottom"].set_visible(name != "ruler")
            ax.set_ylim(0, TOPS.get(name, 1.0))
        self._write_names()
        self._add_artists()
        self.update(usage, code)

    def _write_names(self) -> None:
        names = {
            "weights": ("weights", "each on its ruler"),
            "ruler": ("ruler", ""),
            "used": ("used by", "% of the weights,\nline: equal use"),
            "error": ("squared error", "% from each code"),
        }
        for name, (first, second) in names.items():
            top, tall = PANELS[name]
            y = top + tall / 2 - (9 if second else 0)
            self.fig.write(LEFT - 14, y, first, ha="right", weight="bold")
            y += 18 + 9 * second.count("\n")
            self.fig.write(LEFT - 14, y, second, ha="right", color=palette.MUTED)
        last = self.axes["error"]
        last.set_xticks(
            [-1, -0.5, 0, 0.5, 1], ["lowest tick", "", "middle", "", "highest"]
        )

    def _add_artists(self) -> None:
        axes = self.axes
        self.marked = [artists.boxes(ax, palette.HIGHLIGHT) for ax in axes.values()]
        self.hills = artists.boxes(axes["weights"], palette.BLUE)
        self.ticks = artists.lines(axes["ruler"], palette.INK, 1.6)
        self.even = artists.lines(axes["used"], palette.HAIRLINE, 2)
        self.bars = {
            "used": artists.boxes(axes["used"], palette.INK),
            "error": artists.boxes(axes["error"], palette.VERMILION),
        }
        looks = {"ha": "center", "va": "bottom"}
        self.numbers = {
            name: [axes[name].text(0, 0, "", **looks) for _ in range(16)]
            for name in TOPS
        }
        self.title = self.fig.write(LEFT, 14, "", weight="bold")
        self.fig.move(*self.marked, self.hills, self.ticks, self.even)
        self.fig.move(*self.bars.values(), self.title)
        for texts in self.numbers.values():
            self.fig.move(*texts)

    @palette.style()
    def update(self, usage: Usage, code: int = 0) -> None:
        """Move every artist to new numbers, mark the code at a place, write the alt."""
        if not 0 <= code < len(usage.levels):
            raise ValueError(
                f"code is {code}; choose a place from 0 to {len(usage.levels) - 1}"
            )
        left, right = usage.borders[code : code + 2]
        for box, ax in zip(self.marked, self.axes.values(), strict=True):
            artists.fill(box, left, right, 0, ax.get_ylim()[1])
        edges = np.linspace(-END, END, BINS + 1)
        heights = usage.counts / max(usage.counts.max(), 1)
        artists.fill(self.hills, edges[:-1], edges[1:], 0, heights)
        levels = usage.levels
        self.ticks.set_segments(artists.segments(levels, 0.1, levels, 0.9))
        even = 100 / len(levels)
        self.even.set_segments(artists.segments(-END, even, END, even))
        for name, shares in (("used", usage.used), ("error", usage.error)):
            self._draw_bars(self.axes[name], name, levels, 100 * shares)
        self.title.set_text(
            f"{usage.name}: {len(levels)} codes, which carry {usage.carried:.2f} bits"
        )
        self.fig.alt = usage.describe(code)

    def _draw_bars(
        self, ax: Axes, name: str, levels: np.ndarray, shares: np.ndarray
    ) -> None:
        """Bars and their numbers; a bar taller than the panel is cut."""
        tops = np.minimum(shares, TOPS[name] * 0.86)
        artists.fill(self.bars[name], levels - BAR, levels + BAR, 0, tops)
        for text in self.numbers[name]:
            text.set_visible(False)
        for text, x, y, share in zip(
            self.numbers[name], levels, tops, shares, strict=False
        ):
            text.set(x=x, y=y + 0.2, text=f"{share:.1f}", visible=True)
