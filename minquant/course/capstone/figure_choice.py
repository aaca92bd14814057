"""Which file to take: every candidate, its lines, and the one that is chosen.

               size          rare facts lost      sums lost
    2 bits     ▇▇▇●    ┊                 ┊    ✕             ┊    ✕
    3 bits     ▇▇▇▇●   ┊             ──○─┼─            ──✕──┼
  [ 4 bits     ▇▇▇▇▇●  ┊         ─●──    ┊          ─●──    ┊         ]
    8 bits     ▇▇▇▇▇▇▇▇┊▇▇✕      ─●─     ┊          ─●─     ┊

The smallest file is at the top. What is allowed is shaded, up to the line. A filled dot
is within the line, a hollow one unsure, a cross beyond it. The first row that has only
filled dots is the one to take, and is framed. Harm beyond the end of an axis is drawn
at the end, and its label says so (≥). `update` moves the lines and chooses anew; the
axes never move. Lesson 12 shows it inside `widget_choice`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, inf, log10
from textwrap import fill

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import UNITS, readable_bytes, round_numbers
from minquant.planning.choice import (
    Candidate,
    Choice,
    Harm,
    Judgement,
    Lines,
    choose,
    format_beside,
    smallest_first,
)

LOOKS = {  # of a judgement: mark, colour, face, words of the legend
    "held": ("o", palette.GREEN, palette.GREEN, "● within its line"),
    "unsure": ("o", palette.INK, palette.PAPER, "○ unsure: ask more"),
    "broken": ("x", palette.VERMILION, palette.VERMILION, "✕ beyond its line"),
}
EDGE, NUMBERS, SIZES, GAP = 16, 78, 110, 40  # CSS pixels across
TOP, ROW, FOOT = 104, 34, 88  # and down
LETTER = 9  # CSS pixels: a bold letter
ROWS, COLUMNS, LETTERS = 12, 4, 22  # at most; LETTERS: of a name

Ends, Units = tuple[float, float], Mapping[str, str]


def reach_of(harms: Sequence[Harm], line: float) -> float:
    """Where a measure's axis ends: at a round number.

    The line has room to move up to three times as far, and every interval that is not
    wholly beyond the line is seen in full.

    >>> reach_of([Harm(2.6, 1.9, 3.3), Harm(70, 60, 80)], 2.0)
    6.0
    """
    near = [3 * line]
    near += [harm.high for harm in harms if harm.low <= line and harm.high < inf]
    far = max(near)
    if far <= 0:  # a line at 0, and nothing near it: show what there is
        ends = [abs(end) for harm in harms for end in harm]
        far = max((end for end in ends if 0 < end < inf), default=1.0)
    power = floor(log10(far))
    rounded = (float(f"{digits}e{power}") for digits in (1, 1.5, 2, 3, 4, 6, 8, 10))
    return next(x for x in rounded if x >= far)


class Panel:
    """A column of bytes or harms: a line, and an interval and a mark for each row.

    What lies beyond an end of the axis is drawn at the end.
    """

    def __init__(
        self, fig: Picture, left: float, width: float, rows: int, ends: Ends
    ) -> None:
        self.fig, self.left, self.width, self.ends = fig, left, width, ends
        pad = 0.05 * (ends[1] - ends[0])
        self.ax = fig.axes_at(left, TOP, width, ROW * rows, facecolor="none")
        self.ax.set(xlim=(ends[0] - pad, ends[1] + pad), ylim=(rows, 0), yticks=[])
        self.ax.spines["left"].set_visible(False)
        self.band = artists.boxes(self.ax, palette.BAND)
        self.bars = artists.lines(self.ax, palette.MUTED, 4, alpha=0.5)
        self.line = artists.lines(self.ax, palette.INK, 1.4)
        self.label = fig.write(0, TOP - 12, "", ha="center")
        self.marks = {
            judgement: artists.marks(self.ax, mark, 6, mec=color, mfc=face, mew=1.6)
            for judgement, (mark, color, face, _) in LOOKS.items()
        }
        fig.move(self.band, self.bars, self.line, self.label, *self.marks.values())

    def title(self, words: str, unit: str, ticks: Mapping[float, str]) -> None:
        """Write what the column shows above it, and its unit and ticks below."""
        lines = fill(words, int((self.width + GAP / 2) / LETTER))
        self.fig.write(self.left, TOP - 26, lines, weight="bold").set_va("bottom")
        self.ax.set_xticks(list(ticks), list(ticks.values()))
        self.ax.set_xlabel(unit)

    def draw(
        self,
        line: float,
        label: str,
        harms: Sequence[Harm],
        judgements: Sequence[Judgement],
    ) -> None:
        """Move the line to another value, and mark every row as it is judged."""
        left, right = self.ax.get_xlim()
        x = float(np.clip(line, *self.ends))
        rows = len(harms)
        artists.fill(self.band, left, x, 0, rows)
        self.line.set_segments(artists.segments(x, -0.1, x, rows))
        self._place_label(label, (x - left) / (right - left))
        y = np.arange(rows) + 0.5
        mean, low, high = np.clip(np.array(harms, float).T, *self.ends)
        self.bars.set_segments(artists.segments(low, y, high, y))
        self.bars.set_color([LOOKS[judgement][1] for judgement in judgements])
        for judgement, mark in self.marks.items():
            here = np.array(judgements) == judgement
            mark.set_data(mean[here], y[here])

    def _place_label(self, label: str, share: float) -> None:
        """Write it at a share of the width, at most half a gap beyond the ends."""
        self.label.set_text(label)
        margin = len(label) * LETTER / 2 - GAP / 2
        farthest = max(margin, self.width - margin)
        x = np.clip(self.width * share, margin, farthest)
        self.label.set_x((self.left + x) / WIDTH)


class ChoicePicture:
    """The picture; `update` moves lines and budget, and `choice` is the result.

    candidates: at most 12. lines: of at most 4 measures, a column for each. units: of
    the measures, by name. Afterwards `unit` is that of the column of bytes, by its name
    and how many bytes it is.

    Raises ValueError if there are more candidates or lines, if a name is too long or a
    measure has no unit, and as `choice.choose` does.
    """

    @palette.style()
    def __init__(
        self,
        candidates: Sequence[Candidate],
        lines: Lines,
        budget: int,
        units: Units,
    ) -> None:
        _check(candidates, lines, units)
        self.choice = choose(candidates, lines, budget)
        self.rows = smallest_first(candidates, lines)
        harms = {m: [c.harms[m] for c in self.rows] for m in lines}
        self.reach = {m: reach_of(harms[m], most) for m, most in lines.items()}
        self.fig = Picture(WIDTH, TOP + ROW * len(self.rows) + FOOT)
        left = self._write_names()
        self.sizes = self._size_panel(left, max(budget, self.rows[-1].nbytes))
        left += SIZES + GAP
        step = (WIDTH - 2 * EDGE - left + GAP) / len(lines)  # a column and a gap
        self.panels = {
            m: self._panel(m, units[m], left + i * step, step - GAP, harms[m])
            for i, m in enumerate(lines)
        }
        self.fig.move(self.frame)
        self._write_legend()
        self.update(lines, budget)

    def _write_names(self) -> float:
        """Write names and bytes of the rows; returns where they end, in CSS pixels."""
        rows, fig = self.rows, self.fig
        ax = fig.axes_at(0, TOP, WIDTH, ROW * len(rows), xlim=(0, WIDTH))
        ax.set(ylim=(len(rows), 0))
        ax.set_axis_off()
        for i, c in enumerate(rows):
            ax.plot([EDGE, WIDTH - EDGE], [i, i], color=palette.HAIRLINE, lw=0.8)
            ax.text(EDGE, i + 0.5, c.name, va="center")
        renderer = fig.canvas.get_renderer()
        widest = max(text.get_window_extent(renderer).width for text in ax.texts)
        end = EDGE + widest / (fig.dpi / 100) + NUMBERS
        for i, c in enumerate(rows):
            ax.text(end - 8, i + 0.5, readable_bytes(c.nbytes), va="center", ha="right")
        self.frame = artists.boxes(ax, "none")
        self.frame.set(edgecolor=palette.INK, linewidth=2)
        return end

    def _size_panel(self, left: float, most: int) -> Panel:
        """The column of bytes."""
        panel = Panel(self.fig, left, SIZES, len(self.rows), (0, 1.05 * most))
        units = [(name, size) for name, size in UNITS.items() if most >= size]
        self.unit = name, size = units[0] if units else ("bytes", 1.0)
        ticks = round_numbers(most / size)
        ticks = ticks[ticks >= 0][:: 2 if len(ticks) > 5 else 1]
        panel.title("size", name, {size * tick: f"{tick:,g}" for tick in ticks})
        panel.bars.set_linewidth(10)
        return panel

    def _panel(
        self, measure: str, unit: str, left: float, width: float, harms: list[Harm]
    ) -> Panel:
        """The column of a measure."""
        reach = self.reach[measure]
        least = max(min(0, *(harm.low for harm in harms)), -reach)
        panel = Panel(self.fig, left, width, len(harms), (least, reach))
        beyond = any(harm.mean > reach for harm in harms)
        end = f"≥ {reach:g}" if beyond else f"{reach:g}"
        ticks = {0: "0", reach / 2: f"{reach / 2:g}", reach: end}
        if len(end + ticks[reach / 2]) * LETTER > width:  # no room for both
            del ticks[reach / 2]
        if any(harm.mean < least for harm in harms):
            ticks[least] = f"≤ −{-least:g}"
        panel.title(measure, unit, ticks)
        return panel

    def _write_legend(self) -> None:
        title = "From the top: take the first row in which every dot is filled"
        self.fig.write(EDGE, 16, title, weight="bold")
        for i, (_, color, _, words) in enumerate(LOOKS.values()):
            self.fig.write(EDGE + 190 * i, self.fig.size[1] - 16, words, color=color)
        self.fig.write(EDGE + 570, self.fig.size[1] - 16, "▭ the one to take")

    @palette.style()
    def update(self, lines: Lines, budget: int) -> None:
        """Move lines and budget, choose, and write the alt text anew.

        Raises ValueError if a line is missing or is of a measure that has no column.
        """
        if lines.keys() != self.panels.keys():
            raise ValueError(f"lines are of {[*lines]}; give one for {[*self.panels]}")
        self.choice = choose(self.rows, lines, budget)
        bars = [Harm(c.nbytes, 0, c.nbytes) for c in self.rows]  # from 0 to the size
        fits = ["held" if c.nbytes <= budget else "broken" for c in self.rows]
        self.sizes.draw(budget, f"≤ {readable_bytes(budget)}", bars, fits)
        for m, most in lines.items():
            judgements = [self.choice.verdicts[c.name][m] for c in self.rows]
            harms = [c.harms[m] for c in self.rows]
            self.panels[m].draw(
                most, f"≤ {format_beside(most, most)}", harms, judgements
            )
        chosen = np.flatnonzero([c is self.choice.chosen for c in self.rows])
        artists.fill(self.frame, EDGE - 8, WIDTH - EDGE + 8, chosen, chosen + 1)
        self.fig.alt = describe(self.rows, lines, self.choice)


def _check(candidates: Sequence[Candidate], lines: Lines, units: Units) -> None:
    if len(candidates) > ROWS or len(lines) > COLUMNS:
        raise ValueError(
            f"candidates are {len(candidates)} and lines {len(lines)}; a picture has "
            f"room for {ROWS} and {COLUMNS}: leave some out"
        )
    for name in [*(c.name for c in candidates), *lines]:
        if len(name) > LETTERS:
            raise ValueError(f"{name!r} is long; find a name of {LETTERS} letters")
    if missing := [measure for measure in lines if measure not in units]:
        raise ValueError(f"units lacks {missing[0]!r}; say what it is counted in")


def describe(rows: Sequence[Candidate], lines: Lines, choice: Choice) -> str:
    """The choice and why; then how each row was judged, in words."""
    sentences = []
    for c in rows:
        measures = [
            f"{m} {format_beside(c.harms[m].low, most)} to "
            f"{format_beside(c.harms[m].high, most)}, {choice.verdicts[c.name][m]}"
            for m, most in lines.items()
        ]
        size = readable_bytes(c.nbytes)
        sentences.append(f"{c.name}, {size}: {'; '.join(measures)}.")
    limits = ", ".join(f"{m} {format_beside(most, most)}" for m, most in lines.items())
    return (
        f"{choice.reason} The lines: {limits}. From the smallest: {' '.join(sentences)}"
    )
