"""A few inputs are large: what happens to each column's error if they are scaled up.

    size     ●                     mean |X| of each column, the largest first, and as a
              ● ● ▬ ▬ ● ● ●        line the scales: the same numbers to a power below 1
    error    ╷                     each column's own error: a dash before, a dot after,
             ● ╷ ▴ ▴ ▴ ▴           both as shares of RTN's error, on a logarithmic axis
    curve    ╲__●╱                 the layer's error for all strengths, and this one

The picture keeps its artists; for another layer, or another way to round it, the
background is drawn anew. The numbers are a `Salience`. Lesson 07 shows it in
`widget_salience`.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from minquant.course.awq.salience import Protected, Salience
from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.methods.awq import RATIOS

# Where things stand, in CSS pixels: left, top, width, height.
SIZE = (900, 500)
INPUTS = (98, 44, 484, 178)
ERRORS = (98, 266, 484, 178)
CURVE = (662, 44, 222, 400)
SEEN = 128  # columns in view: those with the largest inputs
CEILING = 2.0  # of RTN's error: where the curve's axis ends


class SaliencePicture:
    """The picture of a layer at one strength; `update` shows another."""

    @palette.style()
    def __init__(self, layer: Salience, now: Protected) -> None:
        self.fig = Picture(*SIZE)
        self.inputs_ax, self.errors_ax, self.curve_ax = (
            self.fig.axes_at(*place, facecolor="none")
            for place in (INPUTS, ERRORS, CURVE)
        )
        self.drawn: Salience | None = None  # in the background
        self._write_titles()
        self._add_artists()
        self.update(layer, now)

    def _write_titles(self) -> None:
        """Titles and the key, and what never changes of the axes."""
        left, write = INPUTS[0], self.fig.write
        write(left, 18, "●", color=palette.SKY)
        write(left + 16, 18, "mean |x| of an input")
        write(left + 196, 18, "━", color=palette.INK)
        write(left + 216, 18, "scale of its column")
        write(left, 246, "▬", color=palette.INK)
        write(left + 18, 246, "a column's own error, RTN")
        write(left + 234, 246, "●", color=palette.VERMILION)
        write(left + 250, 246, "with these scales")
        write(CURVE[0], 18, "error of the layer", weight="bold")
        upright = {"rotation": 90, "ha": "center"}
        write(12, INPUTS[1] + INPUTS[3] / 2, "times the middle", **upright)
        write(12, ERRORS[1] + ERRORS[3] / 2, "share of RTN's error", **upright)
        columns = "columns, those with the largest inputs first"
        write(left + INPUTS[2] / 2, 480, columns, ha="center")
        write(CURVE[0] + CURVE[2] / 2, 480, "strength α", ha="center")
        self.inputs_ax.set(yscale="log", xticks=[])
        self.errors_ax.set(yscale="log")
        self.curve_ax.set(xlim=(-0.03, 0.98), xticks=[0, 0.25, 0.5, 0.75])
        self.curve_ax.set_xticklabels(["0", "0.25", "0.5", "0.75"])

    def _add_artists(self) -> None:
        """What moves, in the order of drawing."""
        inputs, errors, curve = self.inputs_ax, self.errors_ax, self.curve_ax
        self.salient = [artists.boxes(ax, palette.HIGHLIGHT) for ax in (inputs, errors)]
        self.dots = artists.marks(inputs, "o", 4, color=palette.SKY)
        (self.scales,) = inputs.plot([], [], color=palette.INK, lw=1.6)
        self.joins = artists.lines(errors, palette.VERMILION, 1.1)
        self.dashes = artists.marks(errors, "_", 5, color=palette.INK, mew=1.4)
        self.after = artists.marks(errors, "o", 4, color=palette.VERMILION)
        self.level = curve.axhline(1, color=palette.MUTED, ls=(0, (4, 3)))
        (self.line,) = curve.plot([], [], color=palette.VERMILION)
        self.least = artists.marks(curve, "D", 8, color=palette.GREEN)
        self.place = artists.marks(curve, "o", 10, mfc="none", mec=palette.INK, mew=2)
        self.percent = curve.text(0, 0, "", ha="center", weight="bold")
        curve.text(0.97, 1.02, "RTN", color=palette.MUTED, ha="right", va="bottom")
        self.fig.move(*self.salient, self.dots, self.scales, self.joins, self.dashes)
        self.fig.move(self.after, self.level, self.line, self.least, self.place)
        self.fig.move(self.percent)

    @palette.style()
    def update(self, layer: Salience, now: Protected) -> None:
        """Show this layer at this strength, and write the alt text anew."""
        if self.drawn is not layer:
            self._draw_background(layer)
        places = np.arange(min(SEEN, len(layer.inputs)))
        self.scales.set_data(places, now.scales.numpy()[places])
        low, high = self.errors_ax.get_ylim()
        before = layer.before.numpy()[places].clip(low, high)
        after = now.after.numpy()[places].clip(low, high)
        self.joins.set_segments(artists.segments(places, before, places, after))
        self.after.set_data(places, after)
        height = min(now.error, 0.985 * CEILING)
        self.place.set_data([now.ratio], [height])
        below = height > 0.9 * CEILING
        gap = 0.07 * self.curve_ax.get_ylim()[1]
        self.percent.set(
            x=min(max(now.ratio, 0.1), 0.85),
            y=height - gap if below else height + gap,
            va="top" if below else "bottom",
            text=f"{now.error:.0%}",
        )
        self.fig.alt = layer.describe(now)

    def _draw_background(self, layer: Salience) -> None:
        """Axes and curve for another layer, or another way to round it."""
        self.drawn = layer
        count = min(SEEN, len(layer.inputs))
        places, ends = np.arange(count), (-1, count)
        inputs, before = layer.inputs.numpy(), layer.before.numpy()
        self.inputs_ax.set(xlim=ends, ylim=(inputs.min() / 1.3, 1.3 * inputs.max()))
        seen = before[before > 0]
        self.errors_ax.set(xlim=ends, ylim=(seen.min() / 6, 4 * seen.max()))
        _label(self.inputs_ax, percent=False)
        _label(self.errors_ax, percent=True)
        self.errors_ax.set_xticks(range(0, count, max(1, count // 4)))
        for box, ax in zip(self.salient, (self.inputs_ax, self.errors_ax), strict=True):
            artists.fill(box, -0.5, layer.n_salient - 0.5, *ax.get_ylim())
        self.dots.set_data(places, inputs[:count])
        low, high = self.errors_ax.get_ylim()
        self.dashes.set_data(places, before[:count].clip(low, high))
        curve = np.minimum(layer.curve, CEILING)
        top = min(CEILING, 1.12 * max(1.0, curve.max()))
        self.curve_ax.set_ylim(0, top)
        marks = [m for m in (0, 0.25, 0.5, 0.75, 1, 1.5, 2) if m <= top]
        self.curve_ax.set_yticks(marks, [f"{m:.0%}" for m in marks])
        self.line.set_data(RATIOS, curve)
        self.least.set_data([layer.best], [min(layer.curve)])
        self.fig.forget_background()


def _label(ax: Axes, *, percent: bool) -> None:
    """Few ticks on a logarithmic axis: 1, 2, 5 or 1, 3 of each decade, or only 1."""
    low, high = ax.get_ylim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))))
    steps = (1, 2, 5) if high / low < 100 else (1, 3) if high / low < 1000 else (1,)
    ticks = [s * 10.0**k for k in decades for s in steps if low <= s * 10.0**k <= high]
    labels = [_percent(tick) if percent else f"{tick:g}" for tick in ticks]
    ax.set_yticks(ticks, labels)
    ax.minorticks_off()


def _percent(share: float) -> str:
    return f"{100 * share:.4f}".rstrip("0").rstrip(".") + " %"


def salience(layer: Salience, ratio: float | None = None) -> Picture:
    """The picture of a layer at a strength, by default the one that AWQ takes."""
    now = layer.at(layer.best if ratio is None else ratio)
    return SaliencePicture(layer, now).fig
