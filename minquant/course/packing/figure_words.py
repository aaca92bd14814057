"""One word of 32 bits, the eight 4-bit codes in it, and the weights that they are.

    │1000│0110│0100│0010│  │0111│0101│0011│0001│     32 bits, the highest first
       8    6    4    2       7    5    3    1        eight codes
      97   65   33    1      96   64   32    0        which weights of the row
    ──┬─────────────────────┬─────────────────────    the block's 128 weights, these
      ●                     ●                         eight marked

`WordPicture` keeps its artists, so that a widget can flip bits quickly. Its numbers
come in a `Seen`, which `Seen.of` takes from a `PackedMatrix` through `words`. What
somebody has changed is vermilion, as errors are everywhere. Notebook 10 shows it.
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

BITS, FIELDS, BLOCK = 4, 4, 128
SIZE = (900, 352)
BOXES = (80, 48, 804, 34)  # left, top, width, height of all bits, in CSS pixels
STEMS = (80, 176, 800, 120)  # the block's weights
PITCH, GAP, MIDDLE = 23.5, 6.0, 18.0  # of a bit, between codes, between halves
ONE, ZERO = palette.FRACTION, "#DCEFF3"


@dataclass(frozen=True, eq=False)
class Seen:
    """One word of a matrix as it stands, and as it was.

    row, word: which. pattern: its bits now, 0 … 2^32 − 1; stored: as they were.
    columns, codes, weights: of its eight fields, from the highest bits to the lowest,
    as they stand in the word. block, before: all weights of its block, now and before;
    first: the column where the block begins.
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
    ) -> Seen:
        """A word of a packed matrix, or what the row would be with another pattern.

        Raises ValueError if the matrix is not of 4 bits with whole blocks.
        """
        if packed.bits != BITS or packed.shape[1] % BLOCK:
            raise ValueError(
                f"packed has {packed.bits} bits and {packed.shape[1]} columns; give 4 "
                f"bits and whole blocks of {BLOCK}"
            )
        stored = int(packed.words[row, word]) & 0xFFFFFFFF
        pattern = stored if pattern is None else pattern
        changed = packed.words.clone()
        changed[row, word] = pattern - (pattern >> 31 << 32)
        now, rows = replace(packed, words=changed), slice(row, row + 1)
        first, j = word // 16 * BLOCK, word % 16
        slices = first + HALVES * np.arange(FIELDS)[::-1] + 2 * j
        columns = np.concatenate([slices + 1, slices])
        W_hat = dequantize(now, rows=rows)[0].numpy()
        before = dequantize(packed, rows=rows)[0].numpy()
        codes = unpack_matrix(now, rows)[0].numpy().astype(int)
        span = slice(first, first + BLOCK)
        fields = columns, codes[columns], W_hat[columns]
        return cls(
            row, word, pattern, stored, *fields, W_hat[span], before[span], first
        )

    @property
    def changed(self) -> Int[np.ndarray, " 8"]:
        """1 for each field that somebody has changed."""
        flipped = self.pattern ^ self.stored
        return np.array([(flipped >> 4 * (7 - i)) & 15 > 0 for i in range(8)], int)


def left_edges() -> Float[np.ndarray, " bits"]:
    """Where each of the 32 boxes begins, in CSS pixels from the first."""
    i = np.arange(32)
    return PITCH * i + GAP * (i // 4) + (MIDDLE - GAP) * (i // 16)


class WordPicture:
    """The picture of a word; `update` moves it to another."""

    @palette.style()
    def __init__(self, seen: Seen) -> None:
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
        self.update(seen)

    def _add_artists(self) -> None:
        write, center = self.fig.write, {"ha": "center"}
        self.fills = [artists.boxes(self.bits, ZERO)]
        self.digits = [
            artists.marks(self.bits, "$0$", 9, color=ONE),
            artists.marks(self.bits, "$1$", 9, color=palette.PAPER),
        ]
        middles = BOXES[0] + left_edges().reshape(8, 4).mean(1) + PITCH / 2 - 1
        self.said = [
            [write(x, y, "", **center, **looks) for x in middles]
            for y, looks in (
                (102, {"weight": "bold"}),
                (124, {"color": palette.MUTED}),
                (146, {}),
            )
        ]
        for name, y in (("code", 102), ("column", 124), ("weight", 146)):
            write(BOXES[0] - 12, y, name, ha="right", color=palette.MUTED)
        self.heading = write(BOXES[0], 14, "", weight="bold")
        self.sides = [
            write(BOXES[0] + left_edges()[i] + 8 * PITCH, 36, "", **center,
                  color=palette.MUTED) for i in (0, 16)
        ]  # fmt: skip
        self.others = artists.lines(self.stems, palette.HAIRLINE, 2.4)
        self.moves = artists.lines(self.stems, palette.VERMILION, 2.4)
        self.mine = artists.lines(self.stems, palette.INK, 2.4)
        self.dots = artists.marks(self.stems, "o", 7, color=palette.INK)
        self.wrong = artists.marks(self.stems, "o", 7, color=palette.VERMILION)
        self.fig.move(*self.fills, *self.digits, self.heading, *self.sides)
        self.fig.move(*(text for line in self.said for text in line))
        self.fig.move(self.others, self.mine, self.moves, self.dots, self.wrong)

    @palette.style()
    def update(self, seen: Seen) -> None:
        """Show another word, or other bits of it."""
        ones = np.array([bit == "1" for bit in f"{seen.pattern:032b}"])
        left, top = left_edges(), BOXES[3]
        artists.fill(self.fills[0], left, left + PITCH - 2, 0, top)
        wrong = np.repeat(seen.changed > 0, 4)
        shades = np.where(wrong, palette.VERMILION, ONE)
        pales = np.where(wrong, palette.HIGHLIGHT, ZERO)
        self.fills[0].set_facecolor(np.where(ones, shades, pales))
        for digit, here in zip(self.digits, (~ones, ones), strict=True):
            at = left[here] + PITCH / 2 - 2
            digit.set_data(at, np.full(len(at), top / 2))
        self._write(seen)
        self._draw_stems(seen)
        self.fig.alt = describe(seen)

    def _write(self, seen: Seen) -> None:
        j = seen.word % 16
        self.heading.set_text(
            f"Word {seen.word} of row {seen.row}: 0x{seen.pattern:08X}"
        )
        for text, half in zip(self.sides, (2 * j + 1, 2 * j), strict=True):
            text.set_text(f"half {half} of 32")
        values = [number(weight, digits=2) for weight in seen.weights]
        lines = [f"{c}" for c in seen.codes], [f"[{c}]" for c in seen.columns], values
        for texts, words in zip(self.said, lines, strict=True):
            for text, word, wrong in zip(texts, words, seen.changed, strict=True):
                quiet = palette.MUTED if word.startswith("[") else palette.INK
                text.set(text=word, color=palette.VERMILION if wrong else quiet)

    def _draw_stems(self, seen: Seen) -> None:
        """All weights of the block; the word's eight on top of them."""
        self._scale(seen)
        x, mine = np.arange(BLOCK), seen.columns - seen.first
        self.others.set_segments(artists.segments(x, 0, x, seen.before))
        self.mine.set_segments(artists.segments(mine, 0, mine, seen.weights))
        wrong = seen.changed > 0
        self.dots.set_data(mine[~wrong], seen.weights[~wrong])
        moved, ends = mine[wrong], seen.weights[wrong]
        self.wrong.set_data(moved, ends)
        self.moves.set_segments(
            artists.segments(moved, seen.before[moved], moved, ends)
            if len(moved)
            else []
        )

    def _scale(self, seen: Seen) -> None:
        """Axes stay as they are until the numbers outgrow them, or others come."""
        most = float(max(abs(seen.block).max(), abs(seen.before).max(), 1e-12))
        if not 0.4 * self.limits < most * 1.15 <= self.limits:
            self.limits = 1.15 * most
            self.stems.set_ylim(-self.limits, self.limits)
            marks = round_numbers(most)
            self.stems.set_yticks(marks, tick_labels(marks))
            self.fig.settle()
        if self.ticked != (seen.row, seen.first):
            self.ticked = seen.row, seen.first
            ticks = np.arange(0, BLOCK + 1, HALVES)
            self.stems.set_xticks(ticks, [f"{seen.first + t}" for t in ticks])
            self.stems.set_xlabel(f"column of W, row {seen.row}")
            self.fig.settle()


def describe(seen: Seen) -> str:
    """A word in words."""
    fields = "; ".join(
        f"code {code}{', changed,' * bool(wrong)} at column {column}, weight "
        f"{number(weight, digits=2)}"
        for code, column, weight, wrong in zip(
            seen.codes, seen.columns, seen.weights, seen.changed, strict=True
        )
    )
    return (
        f"The 32 bits of word {seen.word} of row {seen.row}, {seen.pattern:032b}, and "
        f"beneath them the eight weights that they hold: {fields}. They are marked "
        f"among the {BLOCK} weights of their block."
    )
