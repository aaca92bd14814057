"""A row of weights on its ruler: the picture of rounding.

    code  7 ┤────────────────    each dot is a weight, the dash it is joined to is the
          6 ┤──●─────────────    nearest tick of the ruler: the value that is stored.
          5 ┤──│──▬──────────    The line between them is the rounding error, drawn
          4 ┤──▬──●──────────    again below on a larger scale, inside the band
                                 of half a step that rounding cannot leave.
    error ── ▁ ── ▔ ────────     A weight beyond the ruler's end is clipped.

`RulerPicture` keeps its artists, so that a widget can move them many times a second;
`ruler(ruling)` is the picture for a page that stands still. The numbers are a `Ruling`.
Notebook 02 reads it for one ruler, notebook 03 for many short ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.text import Text

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.numbers import integer, number, round_numbers, tick_labels
from minquant.course.drawing.ruling import Ruling
from minquant.course.rounding.figure_magnifier import LINE, Magnifier

# Where things stand, in CSS pixels: left, top, width, height.
SIZE = (900, 466)
RULER = (84, 44, 58, 262)
MAIN = (142, 44, 512, 262)
ERROR = (142, 336, 512, 82)
BAR = 0.6  # width of an error bar, in positions
STRIDES = [2**k for k in range(17)]  # from a named code to the next
KEY = (
    (146, "●", palette.BLUE, "weight"),
    (236, "▬", palette.INK, "nearest tick: what is stored"),
    (462, "┃", palette.VERMILION, "error"),
    (536, "◆", palette.VIOLET, "clipped"),
)


class RulerPicture:
    """The picture of a `Ruling`, with artists that move when `update` is called.

    selected: index into `ruling.weights` of the weight that is magnified on the right.
    magnify: stretch the error axis to one step instead of the scale of the weights.
    """

    @palette.style()
    def __init__(
        self, ruling: Ruling, selected: int = 0, *, magnify: bool = False
    ) -> None:
        self.fig = Picture(*SIZE)
        self.ruler, self.main, self.error = (
            self.fig.axes_at(*place, xticks=[], yticks=[], facecolor="none")
            for place in (RULER, MAIN, ERROR)
        )
        for ax in (self.ruler, self.main, self.error):
            ax.spines[:].set_visible(False)
        self.ruler.set_xlim(0, 1)
        self._write_key()
        self._add_lines()
        self._add_words()
        self.magnifier = Magnifier(self.fig)
        self.update(ruling, selected, magnify=magnify)

    @palette.style()
    def update(
        self, ruling: Ruling, selected: int = 0, *, magnify: bool = False
    ) -> None:
        """Move every artist to new numbers and write the alt text anew."""
        if not 0 <= selected < len(ruling.weights):
            raise ValueError(
                f"selected is {selected}; choose a weight from 0 to "
                f"{len(ruling.weights) - 1}"
            )
        tallest = max(ruling.row_max, float(np.abs(ruling.weights).max()))
        self.reach = 1.14 * tallest or 1.0
        for ax in (self.main, self.error):
            ax.set_xlim(-0.7, len(ruling.weights) - 0.3)
        for ax in (self.main, self.ruler):
            ax.set_ylim(-self.reach, self.reach)
        self._draw_scales(ruling, selected)
        self._draw_ruler(ruling, selected)
        self._draw_levels(ruling)
        self._draw_weights(ruling, selected)
        self._draw_errors(ruling, selected, magnify)
        self.magnifier.update(ruling, selected, self.reach)
        self.fig.alt = ruling.describe(selected)

    def _write_key(self) -> None:
        """What never changes: axis titles, and the meaning of each sign."""
        write = self.fig.write
        for left, sign, color, meaning in KEY:
            write(left, 14, sign, color=color)
            write(left + 17, 14, meaning)
        write(RULER[0] + RULER[2] / 2, 34, "code", ha="center")
        upright = {"rotation": 90, "ha": "center"}
        write(12, MAIN[1] + MAIN[3] / 2, "value of a weight", **upright)
        write(12, ERROR[1] + ERROR[3] / 2, "error", **upright)
        write(ERROR[0] + ERROR[2] / 2, 454, "position in the row", ha="center")

    def _add_lines(self) -> None:
        """Every artist that is not text, in the order of drawing."""
        main, error = self.main, self.error
        self.body = artists.boxes(self.ruler, palette.WASH)
        self.ticks = artists.lines(self.ruler, palette.INK, 0.9)
        self.band = artists.boxes(error, palette.BAND)
        self.columns = [artists.boxes(ax, palette.HIGHLIGHT) for ax in (main, error)]
        self.levels = artists.lines(main, palette.HAIRLINE, 0.9)
        self.fences = artists.lines(main, palette.MUTED, 0.9, linestyles=(0, (1, 2)))
        self.joins = artists.lines(main, palette.VERMILION, 1.7)
        self.stored = artists.lines(main, palette.INK, 2.0)
        self.dots = artists.marks(main, "o", 3.8, color=palette.BLUE)
        self.outside = artists.marks(main, "D", 4.6, color=palette.VIOLET)
        self.ring = artists.marks(main, "o", 8.5, mfc="none", mec=palette.INK, mew=1.3)
        self.bars = artists.boxes(error, palette.VERMILION)
        self.zero_line = artists.lines(error, palette.MUTED, 0.9)
        self.beyond = artists.marks(error, "D", 4, color=palette.VIOLET)
        self.fig.move(self.body, self.ticks, self.band, *self.columns, self.levels)
        self.fig.move(self.fences, self.joins, self.stored, self.dots, self.outside)
        self.fig.move(self.ring, self.bars, self.zero_line, self.beyond)

    def _add_words(self) -> None:
        self.values = artists.words(self.ruler, 9, -0.12, ha="right")
        self.codes = artists.words(self.ruler, 18, 0.62, ha="right")
        self.error_values = artists.words(self.error, 3, -0.012, ha="right")
        self.halves = artists.words(self.error, 2, 1.012)
        self.scales = [self.fig.write(0, 34, "", ha="center") for _ in range(4)]
        self.positions = [self.fig.write(0, 430, "", ha="center") for _ in range(5)]
        self.fig.move(*self.values, *self.codes, *self.error_values)
        self.fig.move(*self.halves, *self.scales, *self.positions)

    def _draw_scales(self, ruling: Ruling, selected: int) -> None:
        """Along the row: positions below, and above each ruler its scale."""
        count = len(ruling.weights)
        places = range(-ruling.first % 16, count, 16)
        self._along(self.positions, places, [str(p + ruling.first) for p in places])
        owners, index = np.unique(ruling.owner, return_inverse=True)
        middles = [np.flatnonzero(index == i).mean() for i in range(len(owners))]
        names = [f"scale {number(s, digits=3)}" for s in ruling.scales[owners]]
        if len(names) > len(self.scales):  # no room: name only the selected weight's
            i = index[selected]
            middles, names = [np.clip(middles[i], 6, count - 7)], [names[i]]
        self._along(self.scales, middles, names)

    def _along(
        self, texts: list[Text], places: Iterable[float], words: Iterable[str]
    ) -> None:
        """Put words at positions in the row; texts that are left over are hidden."""
        for text in texts:
            text.set_visible(False)
        for text, place, word in zip(texts, places, words, strict=False):
            text.set(x=self.column(place) / SIZE[0], text=word, visible=True)

    def column(self, place: float) -> float:
        """CSS pixels from the left of the picture to a position in the row."""
        low, high = self.main.get_xlim()
        return MAIN[0] + MAIN[2] * (place - low) / (high - low)

    def _draw_ruler(self, ruling: Ruling, selected: int) -> None:
        """On the left, the ruler of the selected weight, from first to last tick."""
        levels = ruling.levels[ruling.owner[selected]]
        pixel = 2 * self.reach / MAIN[3]  # in units of the weights
        stride = next(s for s in STRIDES if _least_gap(levels, s) >= LINE * pixel)
        shown = np.abs(levels) <= self.reach
        named = (ruling.level_codes % stride == 0) & shown
        ticks = artists.segments(np.where(named, 0.7, 0.84), levels, 1, levels)
        self.ticks.set_segments(ticks[shown])
        self.ticks.set_linewidth(np.clip(_least_gap(levels, 1) / pixel / 5, 0.3, 1.0))
        bottom = levels[0] - (levels[1] - levels[0]) / 2  # half a step beyond the ends
        top = levels[-1] + (levels[-1] - levels[-2]) / 2
        ends = np.clip([bottom, top], -self.reach, self.reach)
        artists.fill(self.body, 0, 1, *ends)
        artists.write(
            self.codes, levels[named], map(integer, ruling.level_codes[named])
        )
        marks = round_numbers(self.reach)
        artists.write(self.values, marks, tick_labels(marks))

    def _draw_levels(self, ruling: Ruling) -> None:
        """Across the row, the ticks of every ruler; a fence between two rulers."""
        starts = np.flatnonzero(np.diff(ruling.owner, prepend=-1))
        ends = np.append(starts[1:], len(ruling.owner))
        levels = ruling.levels[ruling.owner[starts]]  # (rulers here, codes)
        left, right, y = np.broadcast_arrays(
            starts[:, None] - 0.4, ends[:, None] - 0.6, levels
        )
        shown = np.abs(levels) <= self.reach
        left, right, y = left[shown], right[shown], y[shown]
        self.levels.set_segments(artists.segments(left, y, right, y))
        gap = np.diff(levels, axis=1).min() * MAIN[3] / (2 * self.reach)  # CSS pixels
        self.levels.set_alpha(float(np.clip(gap / 6, 0.1, 1)))
        fences = starts[1:] - 0.5
        self.fences.set_segments(
            artists.segments(fences, -self.reach, fences, self.reach)
        )

    def _draw_weights(self, ruling: Ruling, selected: int) -> None:
        w, v, out = ruling.weights, ruling.values, ruling.clipped
        x = np.arange(len(w))
        self.joins.set_segments(artists.segments(x, w, x, v))
        self.joins.set_color(np.where(out, palette.VIOLET, palette.VERMILION))
        self.stored.set_segments(artists.segments(x - 0.4, v, x + 0.4, v))
        self.dots.set_data(x[~out], w[~out])
        self.outside.set_data(x[out], w[out])
        self.ring.set_data(x[[selected]], w[[selected]])

    def _draw_errors(self, ruling: Ruling, selected: int, magnify: bool) -> None:
        e, out, (low, high) = ruling.errors, ruling.clipped, ruling.half_steps
        half = float(max(high.max(), -low.min()))
        limit = max(1.1 * half, 1.1 * float(np.abs(e).max()), self.reach / 8)
        limit = 1.2 * half if magnify else limit
        self.error.set_ylim(-limit, limit)
        x = np.arange(len(e))
        sides = selected - 0.5, selected + 0.5
        artists.fill(self.columns[0], *sides, -self.reach, self.reach)
        artists.fill(self.columns[1], *sides, -limit, limit)
        artists.fill(self.band, x - 0.5, x + 0.5, low, high)
        artists.fill(self.bars, x - BAR / 2, x + BAR / 2, 0, e)
        self.bars.set_facecolor(np.where(out, palette.VIOLET, palette.VERMILION))
        self.zero_line.set_segments(artists.segments(-0.7, 0, len(e) - 0.3, 0))
        self.beyond.set_data(x[out], np.clip(e[out], -0.92 * limit, 0.92 * limit))
        marks = round_numbers(limit)[[0, -1]]
        artists.write(self.error_values, [*marks, 0], [*tick_labels(marks), "0"])
        last = ruling.owner == ruling.owner[-1]  # the ruler beside the words
        top, bottom = high[last].max(), low[last].min()
        if (top - bottom) / limit * ERROR[3] / 2 > LINE:
            artists.write(self.halves, [top, bottom], ["+½ step", "−½ step"])
        else:
            artists.write(self.halves, [0], ["±½ step"])


def ruler(ruling: Ruling, selected: int = 0, *, magnify: bool = False) -> Picture:
    """The picture of a row on its ruler; see `RulerPicture` for the arguments."""
    return RulerPicture(ruling, selected, magnify=magnify).fig


def _least_gap(levels: np.ndarray, stride: int) -> float:
    kept = levels[::stride]
    return float(np.diff(kept).min()) if len(kept) > 1 else np.inf
