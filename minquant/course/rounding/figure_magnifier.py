"""One weight between its ticks, magnified, to show what half a step is.

Beside a row on its ruler (`figure_ruler`) this panel enlarges the neighbourhood of one
weight: the tick below, the tick it goes to, the tick above. Everything in the tinted
basin is stored as the same code. The basin ends half a step away, halfway to the next
tick; beyond the last tick it has no end.
"""

from __future__ import annotations

from typing import SupportsFloat

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.numbers import integer, number
from minquant.course.drawing.ruling import Ruling

# Where things stand, in CSS pixels: left, top, width, height.
WEDGE = (656, 44, 36, 262)
RULER = (692, 44, 64, 262)
FIELD = (756, 44, 48, 262)
NOTES = 738, (336, 355, 382, 401)
BASINS = 1.4  # steps shown above and below the stored value
LINE = 15  # CSS pixels between two lines of text


class Magnifier:
    """The panel on the right of `fig`; its artists move when `update` is called."""

    @palette.style()
    def __init__(self, fig: Picture) -> None:
        self.fig = fig
        self.wedge, self.ruler, self.field = (
            fig.axes_at(*place, xticks=[], yticks=[], xlim=(0, 1), facecolor="none")
            for place in (WEDGE, RULER, FIELD)
        )
        for ax in (self.wedge, self.ruler, self.field):
            ax.spines[:].set_visible(False)
        self.wedge.set_ylim(0, 1)
        self.ruler.set_facecolor(palette.WASH)
        self._add_lines()
        self._add_words()

    def _add_lines(self) -> None:
        field = self.field
        self.slice = artists.boxes(self.wedge, palette.WASH)
        self.basin = artists.boxes(field, palette.HIGHLIGHT)
        self.ticks = artists.lines(self.ruler, palette.INK, 1.4)
        self.levels = artists.lines(field, palette.HAIRLINE, 1.4)
        self.join = artists.lines(field, palette.VERMILION, 3)
        self.stored = artists.lines(field, palette.INK, 3)
        self.dot = artists.marks(field, "o", 8)
        self.fig.move(self.slice, self.basin, self.ticks, self.levels)
        self.fig.move(self.join, self.stored, self.dot)

    def _add_words(self) -> None:
        self.codes = artists.words(self.ruler, 3, 0.72, ha="right")
        self.values = artists.words(self.field, 3, 1.15)
        (self.weight,) = artists.words(self.field, 1, 1.15)
        self.heading = self.fig.write(RULER[0], 14, "", weight="bold")
        self.notes = [self.fig.write(NOTES[0], y, "") for y in NOTES[1]]
        self.fig.move(*self.codes, *self.values, self.weight, self.heading, *self.notes)

    def update(self, ruling: Ruling, i: int, reach: float) -> None:
        """Show weight i; the main panel beside it spans -reach to reach."""
        step, w, v = ruling.steps[i], ruling.weights[i], ruling.values[i]
        margin = max(step / 4, abs(w - v) / 20)
        bottom = min(v - BASINS * step, w - margin)
        top = max(v + BASINS * step, w + margin)
        for ax in (self.ruler, self.field):
            ax.set_ylim(bottom, top)
        cut = (np.clip([bottom, top], -reach, reach) / reach + 1) / 2
        self.slice.set_verts([[(0, cut[0]), (1, 0), (1, 1), (0, cut[1])]])
        self.join.set_segments(artists.segments(0.5, w, 0.5, v))
        self.stored.set_segments(artists.segments(0.2, v, 0.8, v))
        self.dot.set_data([0.5], [w])
        pixel = (top - bottom) / FIELD[3]
        self._draw_basin(ruling, i, (bottom, top), room=bool(step > 1.5 * LINE * pixel))
        apart = max(abs(w - v), 1.1 * LINE * pixel)  # the name of w from that of v
        name = v + np.copysign(apart, w - v)
        artists.write([self.weight], [name], [_fixed(w, step)])
        self._color(bool(ruling.clipped[i]))
        self._take_notes(ruling, i)

    def _draw_basin(
        self,
        ruling: Ruling,
        i: int,
        ends: tuple[SupportsFloat, SupportsFloat],
        room: bool,
    ) -> None:
        """The basin, the weight's tick, and the ticks next to it if there is room."""
        levels, place = ruling.levels[ruling.owner[i]], int(ruling.places[i])
        last, v = len(levels) - 1, ruling.values[i]
        near = np.arange(max(place - room, 0), min(place + room, last) + 1)
        low, high = (half[i] for half in ruling.half_steps)
        bottom = ends[0] if place == 0 else v - high
        top = ends[1] if place == last else v - low
        artists.fill(self.basin, 0, 1, bottom, top)
        heights = levels[near]
        self.ticks.set_segments(artists.segments(0.8, heights, 1, heights))
        self.levels.set_segments(artists.segments(0, heights, 1, heights))
        artists.write(self.codes, heights, map(integer, ruling.level_codes[near]))
        artists.write(
            self.values, heights, [_fixed(y, ruling.steps[i]) for y in heights]
        )

    def _color(self, clipped: bool) -> None:
        """A clipped weight has another colour, and another shape."""
        self.dot.set_marker("D" if clipped else "o")
        for artist in (self.dot, self.weight):
            artist.set_color(palette.VIOLET if clipped else palette.BLUE)
        for artist in (self.join, *self.notes[2:]):
            artist.set_color(palette.VIOLET if clipped else palette.VERMILION)

    def _take_notes(self, ruling: Ruling, i: int) -> None:
        self.heading.set_text(f"weight {ruling.first + i}, magnified")
        notes = (
            "tinted: all that is",
            f"stored as code {integer(ruling.codes[i])}",
            f"error {number(ruling.errors[i], sign=True, digits=3)}",
            f"= {ruling.in_steps(i)}",
        )
        for text, note in zip(self.notes, notes, strict=True):
            text.set_text(note)


def _fixed(x: SupportsFloat, step: SupportsFloat) -> str:
    """A number with at least four decimals, and enough to tell two ticks apart."""
    decimals = max(4, 1 - int(np.floor(np.log10(step))))
    return f"{x:.{decimals}f}".replace("-", "−") if x else "0"
