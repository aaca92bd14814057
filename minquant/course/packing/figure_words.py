"""One word of 32 bits, the eight 4-bit codes in it, and the weights that they are.

    │1000│0110│0100│0010│  │0111│0101│0011│0001│     32 bits, the highest first
       8    6    4    2       7    5    3    1        eight codes
      97   65   33    1      96   64   32    0        which weights of the row
    ──┬─────────────────────┬─────────────────────    the block's 128 weights, these
      ●                     ●                         eight marked

`WordPicture` keeps its artists, so that a widget can flip bits quickly. Its numbers are
a `WordView`, which is read from a `PackedMatrix`. Changed bits and weights have the
colour of errors. Notebook 10 shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.numbers import number, round_numbers, tick_labels
from minquant.kernels.packed_words import (
    HALVES,
    PackedMatrix,
    dequantize,
    unpack_matrix,
)

BITS, FIELDS, BLOCK = 4, 4, 128  # FIELDS: codes in a half of a word
SIZE = (900, 352)
BOXES = (80, 48, 804, 34)  # left, top, width, height of all bits, in CSS pixels
STEMS = (80, 176, 800, 120)  # the block's weights
PITCH, GAP, MIDDLE = 23.5, 6.0, 18.0  # of a bit, between codes, between halves
ONE, ZERO = palette.FRACTION, "#DCEFF3"


@dataclass(frozen=True, eq=False)
class WordView:
    """One word of a matrix now, and as it is stored.

    row, word: where it is. pattern: its bits now, 0 … 2^32 − 1. stored: its bits as
    they are stored. columns, codes, weights: of its eight fields, from the highest bits
    to the lowest. block, before: all weights of its block, now and as stored. first:
    the column where the block begins.
    """

    row: int
    word: int
    pattern: int
    stored: int
    columns: Int[np.ndarray, " 8"]
    codes: Int[np.ndarray, " 8"]
    weights: Float[np.ndarray, " 8"]
    block: Float[np.ndarray, " block"]
    before: Float[np.ndarray, " block"]
    first: int

    @classmethod
    def of(
        cls, packed: PackedMatrix, row: int, word: int, pattern: int | None = None
    ) -> WordView:
        """A word of a packed matrix, as stored or with another pattern.

        Raises ValueError if the matrix is not of 4 bits with whole blocks.
        """
        if packed.bits != BITS or packed.shape[1] % BLOCK:
            raise ValueError(
                f"packed has {packed.bits} bits and {packed.shape[1]} columns; give 4 "
                f"bits and whole blocks of {BLOCK}"
            )
        stored = int(packed.words[row, word]) & 0xFFFFFFFF
        pattern = stored if pattern is None else pattern
        words = packed.words.clone()
        words[row, word] = pattern - (pattern >> 31 << 32)  # as a signed int32
        now, rows = replace(packed, words=words), slice(row, row + 1)
        first, j = word // 16 * BLOCK, word % 16
        low_half = first + HALVES * np.arange(FIELDS)[::-1] + 2 * j
        columns = np.concatenate([low_half + 1, low_half])
        W_hat = dequantize(now, rows=rows)[0].numpy()
        before = dequantize(packed, rows=rows)[0].numpy()
        codes = unpack_matrix(now, rows)[0].numpy().astype(int)
        return cls(
            row=row,
            word=word,
            pattern=pattern,
            stored=stored,
            columns=columns,
            codes=codes[columns],
            weights=W_hat[columns],
            block=W_hat[first : first + BLOCK],
            before=before[first : first + BLOCK],
            first=first,
        )

    @property
    def changed(self) -> Int[np.ndarray, " 8"]:
        """1 for each field whose bits are not as stored, else 0."""
        flipped = self.pattern ^ self.stored
        return np.array([(flipped >> 4 * (7 - i)) & 15 > 0 for i in range(8)], int)


def left_edges() -> Float[np.ndarray, " bits"]:
    """Where each of the 32 boxes begins, in CSS pixels from the first."""
    i = np.arange(32)
    return PITCH * i + GAP * (i // 4) + (MIDDLE - GAP) * (i // 16)


class WordPicture:
    """The picture of a word; `update` moves it to another."""

    @palette.style()
    def __init__(self, view: WordView) -> None:
        self.fig = Picture(*SIZE)
        bare = {"xticks": [], "yticks": [], "facecolor": "none"}
        self.bits = self.fig.axes_at(
            *BOXES, **bare, xlim=(0, BOXES[2]), ylim=(0, BOXES[3])
        )
        self.bits.spines[:].set_visible(False)
        self.stems = self.fig.axes_at(*STEMS, xlim=(-1, BLOCK))
        self.stems.set_ylabel("weight")
        self.stems.axhline(0, color=palette.MUTED, lw=0.9)
        self._add_artists()
        self.limits, self.ticked = 0.0, (-1, -1)
        self.update(view)

    def _add_artists(self) -> None:
        write, center = self.fig.write, {"ha": "center"}
        self.fills = [artists.boxes(self.bits, ZERO)]
        self.digits = [
            artists.marks(self.bits, "$0$", 9, color=ONE),
            artists.marks(self.bits, "$1$", 9, color=palette.PAPER),
        ]
        middles = BOXES[0] + left_edges().reshape(8, 4).mean(1) + PITCH / 2 - 1
        quiet = {"color": palette.MUTED}
        rows = (
            ("code", 102, {"weight": "bold"}),
            ("column", 124, quiet),
            ("weight", 146, {}),
        )
        self.fields = []  # texts, by row and field
        for name, y, looks in rows:
            self.fields.append([write(x, y, "", **center, **looks) for x in middles])
            write(BOXES[0] - 12, y, name, ha="right", **quiet)
        self.heading = write(BOXES[0], 14, "", weight="bold")
        centers = BOXES[0] + left_edges()[[0, 16]] + 8 * PITCH
        self.halves = [write(x, 36, "", **center, **quiet) for x in centers]
        self.others = artists.lines(self.stems, palette.HAIRLINE, 2.4)
        self.moves = artists.lines(self.stems, palette.VERMILION, 2.4)
        self.chosen = artists.lines(self.stems, palette.INK, 2.4)
        self.dots = artists.marks(self.stems, "o", 7, color=palette.INK)
        self.changed_dots = artists.marks(self.stems, "o", 7, color=palette.VERMILION)
        self.fig.move(*self.fills, *self.digits, self.heading, *self.halves)
        self.fig.move(*(text for row in self.fields for text in row))
        self.fig.move(
            self.others, self.chosen, self.moves, self.dots, self.changed_dots
        )

    @palette.style()
    def update(self, view: WordView) -> None:
        """Show another word, or other bits of it."""
        ones = np.array([bit == "1" for bit in f"{view.pattern:032b}"])
        left, top = left_edges(), BOXES[3]
        artists.fill(self.fills[0], left, left + PITCH - 2, 0, top)
        changed = np.repeat(view.changed > 0, 4)
        shades = np.where(changed, palette.VERMILION, ONE)
        pales = np.where(changed, palette.HIGHLIGHT, ZERO)
        self.fills[0].set_facecolor(np.where(ones, shades, pales))
        for digit, here in zip(self.digits, (~ones, ones), strict=True):
            x = left[here] + PITCH / 2 - 2
            digit.set_data(x, np.full(len(x), top / 2))
        self._write(view)
        self._draw_stems(view)
        self.fig.alt = describe(view)

    def _write(self, view: WordView) -> None:
        j = view.word % 16
        self.heading.set_text(
            f"Word {view.word} of row {view.row}: 0x{view.pattern:08X}"
        )
        for text, half in zip(self.halves, (2 * j + 1, 2 * j), strict=True):
            text.set_text(f"half {half} of 32")
        values = [number(weight, digits=2) for weight in view.weights]
        rows = (
            ([f"{code}" for code in view.codes], palette.INK),
            ([f"[{column}]" for column in view.columns], palette.MUTED),
            (values, palette.INK),
        )
        for texts, (words, color) in zip(self.fields, rows, strict=True):
            for text, word, changed in zip(texts, words, view.changed, strict=True):
                text.set(text=word, color=palette.VERMILION if changed else color)

    def _draw_stems(self, view: WordView) -> None:
        """All weights of the block; the word's eight on top of them."""
        self._scale(view)
        x, chosen = np.arange(BLOCK), view.columns - view.first
        self.others.set_segments(artists.segments(x, 0, x, view.before))
        self.chosen.set_segments(artists.segments(chosen, 0, chosen, view.weights))
        changed = view.changed > 0
        self.dots.set_data(chosen[~changed], view.weights[~changed])
        moved, ends = chosen[changed], view.weights[changed]
        self.changed_dots.set_data(moved, ends)
        moves = artists.segments(moved, view.before[moved], moved, ends)
        self.moves.set_segments(moves if len(moved) else [])

    def _scale(self, view: WordView) -> None:
        """Axes change only if the numbers outgrow them, or for another block."""
        most = float(max(abs(view.block).max(), abs(view.before).max(), 1e-12))
        if not 0.4 * self.limits < most * 1.15 <= self.limits:
            self.limits = 1.15 * most
            self.stems.set_ylim(-self.limits, self.limits)
            marks = round_numbers(most)
            self.stems.set_yticks(marks, tick_labels(marks))
            self.fig.forget_background()
        if self.ticked != (view.row, view.first):
            self.ticked = view.row, view.first
            ticks = np.arange(0, BLOCK + 1, HALVES)
            self.stems.set_xticks(ticks, [f"{view.first + t}" for t in ticks])
            self.stems.set_xlabel(f"column of W, row {view.row}")
            self.fig.forget_background()


def describe(view: WordView) -> str:
    """The word, its bits and its eight weights, as a sentence."""
    fields = "; ".join(
        f"code {code}{', changed,' if changed else ''} at column {column}, weight "
        f"{number(weight, digits=2)}"
        for code, column, weight, changed in zip(
            view.codes, view.columns, view.weights, view.changed, strict=True
        )
    )
    return (
        f"The 32 bits of word {view.word} of row {view.row}, {view.pattern:032b}, and "
        f"beneath them the eight weights that they hold: {fields}. They are marked "
        f"among the {BLOCK} weights of their block."
    )
