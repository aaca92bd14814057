"""The uneven ruler at work: where weights lie, and what each of its codes does.

          ▂▅█▇▅▂            the weights of a matrix, each on its own ruler: −1 is the
    ──────────────────      lowest tick of its group, 1 the highest
    │  │ │ │││││ │ │  │     the ruler
    ▁  ▃ ▅ ▆▇█▇▆ ▅ ▃  ▁     how often each code is used; the line is equal use
    ▂  ▇ ▆ ▅▃▂▃▅ ▆ ▇  ▂     which codes the squared error comes from

One code is marked through all of them. The numbers are a `Usage`, read from a
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
from minquant.course.drawing.numbers import number
from minquant.methods import codebooks
from minquant.numerics.tensor import QuantizedTensor

SIZE = (900, 520)
LEFT, WIDE = 150, 730
PANELS = {"weights": (34, 132), "ruler": (174, 40), "used": (226, 118),
          "error": (362, 108)}  # fmt: skip
TOPS = {"used": 24.0, "error": 30.0}  # per cent
BINS = 121
BAR = 0.022  # half a bar, in shares of the ruler's half


@dataclass(frozen=True, eq=False)
class Usage:
    """A matrix on its rulers. levels: places of the codes, −1 … 1. counts: weights in
    BINS bins from −1.06 to 1.06. used, error: shares by code. low: the first code.
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
        """What W's codes do; `quantized` is made of W. name: by default the grid's.

        Raises ValueError if there are more than 16 codes.
        """
        values = np.asarray(quantized.grid.levels, dtype=float)
        if len(values) > 16:
            raise ValueError(
                f"quantized has {len(values)} codes; 16 fit into the picture, so "
                "quantize to 4 bits or fewer"
            )
        levels = 2 * (values - values[0]) / (values[-1] - values[0]) - 1
        at = codebooks.places(W, quantized).cpu().numpy().clip(-1.06, 1.06)
        counts, _ = np.histogram(at, BINS, (-1.06, 1.06))
        used = codebooks.usage(quantized)
        return cls(
            levels, counts.astype(float), used.numpy(),
            codebooks.error_by_code(W, quantized).numpy(),
            quantized.grid.low, name or quantized.grid.name, codebooks.carried(used),
        )  # fmt: skip

    @cached_property
    def borders(self) -> Float[np.ndarray, " codes_1"]:
        """Where one code's weights end and the next code's begin."""
        inner = (self.levels[1:] + self.levels[:-1]) / 2
        return np.concatenate([[-1.06], inner, [1.06]])

    def describe(self, i: int) -> str:
        """The matrix in words, and code i."""
        most, least = self.used.argmax(), self.used.argmin()
        return (
            f"{len(self.used)} codes of {self.name}. The code used most has "
            f"{self.used[most]:.1%} of the weights, the one used least "
            f"{self.used[least]:.1%}; equal use would be {1 / len(self.used):.1%}. "
            f"They carry {self.carried:.2f} bits. Code {i + self.low}, at "
            f"{number(self.levels[i], digits=3)} of the ruler, has "
            f"{self.used[i]:.1%} of the weights and {self.error[i]:.1%} of the "
            "squared error."
        ).replace("Code -", "Code −")


class UsagePicture:
    """The picture of a `Usage`, with artists that move when `update` is called."""

    @palette.style()
    def __init__(self, usage: Usage, code: int = 0) -> None:
        self.fig = Picture(*SIZE)
        self.axes = {
            name: self.fig.axes_at(LEFT, top, WIDE, tall, xlim=(-1.06, 1.06),
                                   facecolor="none", xticks=[], yticks=[])
            for name, (top, tall) in PANELS.items()
        }  # fmt: skip
        for name, ax in self.axes.items():
            ax.spines["left"].set_visible(False)
            ax.spines["bottom"].set_visible(name != "ruler")
            ax.set_ylim(0, TOPS.get(name, 1.0))
        self._write_names()
        self._add_artists()
        self.update(usage, code)

    def _write_names(self) -> None:
        said = {
            "weights": ("weights", "each on its ruler"),
            "ruler": ("ruler", ""),
            "used": ("used by", "% of the weights,\nline: equal use"),
            "error": ("squared error", "% from each code"),
        }
        for name, (first, second) in said.items():
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
        self.numbers = {
            name: [axes[name].text(0, 0, "", ha="center", va="bottom")
                   for _ in range(16)]
            for name in TOPS
        }  # fmt: skip
        self.title = self.fig.write(LEFT, 14, "", weight="bold")
        self.fig.move(*self.marked, self.hills, self.ticks, self.even)
        self.fig.move(*self.bars.values(), self.title)
        for texts in self.numbers.values():
            self.fig.move(*texts)

    @palette.style()
    def update(self, usage: Usage, code: int = 0) -> None:
        """Move every artist to new numbers, mark a code (its place), write the alt."""
        if not 0 <= code < len(usage.levels):
            raise ValueError(
                f"code is {code}; choose a place from 0 to {len(usage.levels) - 1}"
            )
        left, right = usage.borders[code : code + 2]
        for box, ax in zip(self.marked, self.axes.values(), strict=True):
            artists.fill(box, left, right, 0, ax.get_ylim()[1])
        edges = np.linspace(-1.06, 1.06, BINS + 1)
        heights = usage.counts / max(usage.counts.max(), 1)
        artists.fill(self.hills, edges[:-1], edges[1:], 0, heights)
        levels = usage.levels
        self.ticks.set_segments(artists.segments(levels, 0.1, levels, 0.9))
        even = 100 / len(levels)
        self.even.set_segments(artists.segments(-1.06, even, 1.06, even))
        for name, shares in (("used", usage.used), ("error", usage.error)):
            self._draw_bars(self.axes[name], name, levels, 100 * shares)
        self.title.set_text(
            f"{usage.name}: {len(levels)} codes, which carry {usage.carried:.2f} bits"
        )
        self.fig.alt = usage.describe(code)

    def _draw_bars(
        self, ax: Axes, name: str, levels: np.ndarray, shares: np.ndarray
    ) -> None:
        """Bars with their numbers; one taller than the panel is cut, its number not."""
        tops = np.minimum(shares, TOPS[name] * 0.86)
        artists.fill(self.bars[name], levels - BAR, levels + BAR, 0, tops)
        for text in self.numbers[name]:
            text.set_visible(False)
        for text, x, y, share in zip(
            self.numbers[name], levels, tops, shares, strict=False
        ):
            text.set(x=x, y=y + 0.2, text=f"{share:.1f}", visible=True)
