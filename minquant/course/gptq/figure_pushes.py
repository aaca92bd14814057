"""GPTQ at work: a column is rounded, and its error moves all columns to its right.

    weight  ▬ ▬ ▬ ▬┃●╷ ● ╷●      left: rounded, dashes on the ruler's ticks. Right: not
             ▬  ▬  ┃ ╵●  ╵       yet; a line runs from what a weight was to its dot now
    push    ───────┃▁▔▁ ▁▔▁      what this turn alone moves
    H       ▒▒▒▒▒▒▒▒▒            how much two inputs vary together; pale where columns
    error   ──────╱──            are rounded. The layer's error as it grows, and RTN's

The picture keeps its artists; for another `Pushing` the background is drawn anew.
`pushes` is the picture for a page that stands still. Lesson 06 shows it inside
`widget_pushes`.
"""

from __future__ import annotations

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.numbers import round_numbers, tick_labels
from minquant.course.drawing.ruling import Ruling
from minquant.course.gptq.pushing import Pushing

# Where things stand, in CSS pixels: left, top, width, height.
SIZE = (900, 486)
ROW = (74, 44, 500, 244)
PUSH = (74, 326, 500, 108)
ALIKE = (640, 44, 244, 244)
ERROR = (640, 326, 244, 108)
ALIKE_TOP = 0.5  # from here on all is yellow; 1 is the same input twice
WINDOW = 128  # columns in view
KEY = (
    (76, "▬", palette.INK, "rounded"),
    (168, "●", palette.BLUE, "still to come"),
    (292, "┃", palette.VERMILION, "moved, from where it was"),
)


class PushesPicture:
    """The picture of one turn of a `Pushing`; `update` shows another turn."""

    @palette.style()
    def __init__(self, pushing: Pushing, row: int = 0, turn: int = 0) -> None:
        self.fig = Picture(*SIZE)
        self.row_ax, self.push_ax, self.alike_ax, self.error_ax = (
            self.fig.axes_at(*place, facecolor="none")
            for place in (ROW, PUSH, ALIKE, ERROR)
        )
        for ax in (self.row_ax, self.push_ax):
            ax.spines[:].set_visible(False)
            ax.set(xticks=[], yticks=[])
        self.alike_ax.set(xticks=[], yticks=[])
        self.alike_ax.spines[:].set_visible(False)
        self.drawn: Pushing | None = None  # in the background
        self._write_key()
        self._add_artists()
        self.update(pushing, row, turn)

    def _write_key(self) -> None:
        write = self.fig.write
        for left, sign, color, meaning in KEY:
            write(left, 16, sign, color=color)
            write(left + 17, 16, meaning)
        upright = {"rotation": 90, "ha": "center"}
        write(14, ROW[1] + ROW[3] / 2, "value of a weight", **upright)
        write(14, PUSH[1] + PUSH[3] / 2, "this push", **upright)
        write(ALIKE[0], 16, "inputs that go together", weight="bold")
        write(ERROR[0], ERROR[1] - 18, "the layer's error so far", weight="bold")
        columns = "columns, in the order of rounding"
        write(PUSH[0] + PUSH[2] / 2, 464, columns, ha="center")
        write(ERROR[0] + ERROR[2] / 2, 464, "turns", ha="center")

    def _add_artists(self) -> None:
        """What moves, in the order of drawing; the map of H lies in the background."""
        row, push, error = self.row_ax, self.push_ax, self.error_ax
        self.image = self.alike_ax.imshow(
            np.zeros((1, 1)), cmap="cividis", vmin=0, vmax=ALIKE_TOP, aspect="auto"
        )
        self.done = artists.boxes(row, palette.WASH)
        self.columns = [artists.boxes(a, palette.HIGHLIGHT) for a in (row, push)]
        self.levels = artists.lines(row, palette.HAIRLINE, 0.9)
        self.joins = artists.lines(row, palette.VERMILION, 1.5)
        self.stored = artists.lines(row, palette.INK, 2.2)
        self.dots = artists.marks(row, "o", 3.4, color=palette.BLUE)
        self.ring = artists.marks(row, "o", 8.5, mfc="none", mec=palette.INK, mew=1.3)
        self.zero_line = artists.lines(push, palette.MUTED, 0.9)
        self.bars = artists.boxes(push, palette.VERMILION)
        self.pale = artists.boxes(self.alike_ax, palette.PAPER)
        self.pale.set_alpha(0.72)
        self.frame = artists.lines(self.alike_ax, palette.VERMILION, 1.6)
        (self.nearest,) = error.plot([], [], color=palette.MUTED, ls=(0, (4, 3)))
        (self.ours,) = error.plot([], [], color=palette.VERMILION)
        self.place = artists.marks(error, "o", 7, color=palette.VERMILION)
        self.fig.move(self.done, *self.columns, self.levels, self.joins, self.stored)
        self.fig.move(self.dots, self.ring, self.zero_line, self.bars, self.pale)
        self.fig.move(self.frame, self.nearest, self.ours, self.place)
        self.values, self.push_values = (
            artists.words(ax, 9, -0.012, ha="right") for ax in (row, push)
        )
        self.positions = [self.fig.write(0, 446, "", ha="center") for _ in range(6)]
        self.names = [
            error.text(0, 0, "RTN", color=palette.MUTED, ha="right", va="bottom"),
            error.text(0, 0, "GPTQ", color=palette.VERMILION, ha="right", va="top"),
        ]
        self.fig.move(*self.values, *self.push_values, *self.positions, *self.names)

    @palette.style()
    def update(self, pushing: Pushing, row: int, turn: int) -> None:
        """Show this row after this turn, and write the alt text anew."""
        out, width = pushing.W.shape
        for name, value, count in (("row", row, out), ("turn", turn, width)):
            if not 0 <= value < count:
                raise ValueError(f"{name} is {value}; choose one from 0 to {count - 1}")
        if self.drawn is not pushing:
            self._draw_background(pushing)
        first = max(0, min(turn - WINDOW // 4, width - WINDOW))
        seen = slice(first, first + WINDOW)
        self._draw_row(pushing, row, turn, seen)
        self._draw_push(pushing.pushed(row, turn).numpy()[seen], turn - first)
        self._draw_alike(turn, width)
        self.place.set_data([turn], [100 * pushing.so_far[turn]])
        places = range(-first % 32, min(WINDOW, width), 32)
        self._name_columns(places, first)
        self.fig.alt = pushing.describe(row, turn)

    def _draw_background(self, pushing: Pushing) -> None:
        """Axes, map and curves for another matrix, or another way to round it."""
        width = pushing.W.shape[1]
        self.drawn = pushing
        self.image.set_data(pushing.likeness.numpy())
        self.image.set_extent((-0.5, width - 0.5, width - 0.5, -0.5))
        turns = np.arange(width)
        ours = 100 * pushing.so_far.numpy()
        nearest = 100 * pushing.nearest_so_far.numpy()
        self.ours.set_data(turns, ours)
        self.nearest.set_data(turns, nearest)
        top = 1.12 * max(ours.max(), nearest.max())
        self.error_ax.set(xlim=(-1, width), ylim=(0, top))
        self.error_ax.set_xticks([0, width - 1])
        marks = round_numbers(top)
        marks = marks[marks >= 0]
        self.error_ax.set_yticks(marks, [f"{label} %" for label in tick_labels(marks)])
        x = int(0.8 * width)
        self.names[0].set_position((x, nearest[x] + 0.02 * top))
        self.names[1].set_position((0.97 * width, ours[x] - 0.04 * top))
        self.fig.forget_background()

    def _draw_row(self, pushing: Pushing, row: int, turn: int, seen: slice) -> None:
        was, now = pushing.W[row].numpy()[seen], pushing.now(row, turn).numpy()[seen]
        ruling = Ruling.of(pushing.W, pushing.quantized, row)
        levels, x, here = ruling.levels[0], np.arange(len(was)), turn - seen.start
        tallest = float(max(pushing.became[row].abs().max(), np.abs(levels).max()))
        reach = 1.08 * max(tallest, ruling.row_max)
        ends = -0.7, len(was) - 0.3
        self.row_ax.set(xlim=ends, ylim=(-reach, reach))
        self.levels.set_segments(artists.segments(ends[0], levels, ends[1], levels))
        artists.fill(self.done, ends[0], here + 0.5, -reach, reach)
        artists.fill(self.columns[0], here - 0.5, here + 0.5, -reach, reach)
        done, later = x[: here + 1], x[here + 1 :]
        self.stored.set_segments(
            artists.segments(done - 0.45, now[done], done + 0.45, now[done])
        )
        became = pushing.became[row, turn].item()  # this weight, before it was rounded
        dots, heights = np.append(later, here), np.append(now[later], became)
        self.joins.set_segments(artists.segments(dots, was[dots], dots, heights))
        self.dots.set_data(dots, heights)
        self.ring.set_data([here], [became])
        marks = round_numbers(reach)
        artists.write(self.values, marks, tick_labels(marks))

    def _draw_push(self, moves: np.ndarray, here: int) -> None:
        limit = 1.1 * float(np.abs(moves).max()) or 1.0
        ends = -0.7, len(moves) - 0.3
        x = np.arange(len(moves))
        self.push_ax.set(xlim=ends, ylim=(-limit, limit))
        artists.fill(self.columns[1], here - 0.5, here + 0.5, -limit, limit)
        artists.fill(self.bars, x - 0.4, x + 0.4, 0, moves)
        self.zero_line.set_segments(artists.segments(ends[0], 0, ends[1], 0))
        marks = round_numbers(limit)[[0, -1]]
        artists.write(self.push_values, [*marks, 0], [*tick_labels(marks), "0"])

    def _draw_alike(self, turn: int, width: int) -> None:
        """Pale: rows and columns of H that are rounded. Framed: this column's row."""
        low, here, end = -0.5, turn - 0.5, width - 0.5
        artists.fill(self.pale, [low, here], [here, end], low, [end, here])
        x0, y0 = [here, here, here, end], [here, here + 1, here, here]
        x1, y1 = [end, end, here, end], [here, here + 1, here + 1, here + 1]
        self.frame.set_segments(artists.segments(x0, y0, x1, y1))

    def _name_columns(self, places: range, first: int) -> None:
        for text in self.positions:
            text.set_visible(False)
        low, high = self.push_ax.get_xlim()
        for text, place in zip(self.positions, places, strict=False):
            x = PUSH[0] + PUSH[2] * (place - low) / (high - low)
            text.set(x=x / SIZE[0], text=str(place + first), visible=True)


def pushes(pushing: Pushing, row: int = 0, turn: int = 0) -> Picture:
    """The picture of one turn; see `PushesPicture` for the arguments."""
    return PushesPicture(pushing, row, turn).fig
