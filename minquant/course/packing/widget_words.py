"""The word widget: choose one int32 of a packed matrix, flip its bits, see its weights.

    word_board(matrices)      # name to PackedMatrix, 4 bits: the last line of a cell

There is a menu of matrices, a box and slider for the row and for the word in it, and a
button for each of the 32 bits, in the order of the picture. A word is first shown as it
is stored; flipping a bit changes one of its eight weights in the picture, and not in
the matrix. Notebook 10 shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ipywidgets as ipw

from minquant.course.drawing import palette
from minquant.course.drawing.numbers import number
from minquant.course.live.controls import Control, choice, integer
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import paragraph
from minquant.course.packing.figure_words import (
    BOXES,
    GAP,
    MIDDLE,
    PITCH,
    WordPicture,
    WordView,
)
from minquant.kernels.packed_words import PackedMatrix

State = tuple[str, int, int, int]  # matrix, row, word, pattern


def word_board(
    matrices: Mapping[str, PackedMatrix], *, row: int = 0, word: int = 0
) -> Dashboard:
    """The widget. matrices: of 4 bits with whole blocks, by name.

    row, word: the first values.

    Raises ValueError if there is no matrix.
    """
    if not matrices:
        raise ValueError("matrices is empty; give at least one, by its name")
    board = WordBoard(matrices, row, word)
    name, row, word, pattern = board.value
    picture = WordPicture(WordView.of(matrices[name], row, word, pattern))

    def _draw(place: State) -> Frame:
        name, row, word, pattern = place
        view = WordView.of(matrices[name], row, word, pattern)
        picture.update(view)
        return Frame(picture.fig, _words(view))

    return Dashboard(_draw, {"place": board})


class WordBoard(Control):
    """Matrix, row, word and bits in one control; its value is a `State`."""

    def __init__(
        self, matrices: Mapping[str, PackedMatrix], row: int, word: int
    ) -> None:
        self.matrices = matrices
        name = next(iter(matrices))
        rows, words = matrices[name].words.shape
        self.matrix = choice("matrix", name, list(matrices))
        self.row = integer("row", row, 0, rows - 1)
        self.word = integer("word", word, 0, words - 1)
        self.places = self.matrix, self.row, self.word
        self.buttons = [_button(i) for i in range(32)]
        self.pattern, self._busy = 0, False
        self._callbacks: list[Callable[[object], None]] = []
        bits = ipw.HBox(self.buttons, layout=ipw.Layout(margin=f"6px 0 0 {BOXES[0]}px"))
        line = ipw.HBox(
            [p.box for p in self.places], layout=ipw.Layout(flex_flow="row wrap")
        )
        parts = [part for place in self.places for part in place.parts]
        box = ipw.VBox([line, bits, ipw.HTML(_css())])
        super().__init__("word", box, *parts, *self.buttons)
        self._show()
        for place in self.places:
            place.watch(self._go)
        for button in self.buttons:
            button.observe(self._flip, names="value")

    @property
    def value(self) -> State:
        """Matrix, row and word, and the 32 bits of the buttons as a number."""
        return (*(place.value for place in self.places), self.pattern)

    @value.setter
    def value(self, value: tuple[str, int, int] | State) -> None:
        """Set from code: matrix, row, word, and the pattern if not as stored."""
        self._busy = True
        try:
            self._limit(value[0])
            for place, chosen in zip(self.places, value, strict=False):
                place.value = chosen
        finally:
            self._busy = False
        self._show(*value[3:])
        self._call_back()

    @property
    def spoken(self) -> str:
        """The place, and the bits as one number."""
        name, row, word, pattern = self.value
        return f"{word} of row {row} of {name}, 0x{pattern:08X}"

    def watch(self, callback: Callable[[object], None]) -> None:
        """Call back after every change, once the parts agree."""
        self._callbacks.append(callback)

    def _limit(self, name: str) -> None:
        """Let the boxes end where this matrix ends."""
        for place, count in zip(
            self.places[1:], self.matrices[name].words.shape, strict=True
        ):
            for part in (place.parts[0], place.box.children[1]):
                part.max = count - 1

    def _go(self, change: object) -> None:
        """Another word was chosen: show it as it is stored."""
        if self._busy:
            return
        self._busy = True
        try:
            self._limit(self.matrix.value)
        finally:
            self._busy = False
        self._show()
        self._call_back()

    def _flip(self, change: object) -> None:
        """A bit was flipped."""
        if self._busy:
            return
        digits = "".join(str(int(button.value)) for button in self.buttons)
        self._show(int(digits, 2))
        self._call_back()

    def _call_back(self) -> None:
        for callback in self._callbacks:
            callback(None)

    def _show(self, pattern: int | None = None) -> None:
        """Set the buttons to this pattern, by default the stored one."""
        words = self.matrices[self.matrix.value].words
        stored = int(words[self.row.value, self.word.value]) & 0xFFFFFFFF
        self.pattern = stored if pattern is None else pattern
        self._busy = True
        try:
            for button, bit in zip(self.buttons, f"{self.pattern:032b}", strict=True):
                button.value, button.description = bit == "1", bit
        finally:
            self._busy = False


def _button(i: int) -> ipw.ToggleButton:
    """The button of bit 31 − i, below its box in the picture."""
    gap = 0  # before this button
    if i == 16:
        gap = MIDDLE
    elif i and i % 4 == 0:
        gap = GAP
    layout = ipw.Layout(
        width=f"{PITCH - 2}px", padding="0", margin=f"0 2px 0 {gap:g}px", flex="none"
    )
    button = ipw.ToggleButton(layout=layout, tooltip=f"bit {31 - i}")
    button.add_class("minquant-code")
    return button


def _css() -> str:
    """A button that is 1 is dark, as in the picture."""
    return (
        f"<style>.minquant-code.mod-active{{background:{palette.FRACTION}!important;"
        f"color:{palette.PAPER}!important}}</style>"
    )


def _words(view: WordView) -> str:
    """The weights that were changed, or how to read the word."""
    changes = [
        f"code {code} at column {column}: the weight was "
        f"{number(view.before[column - view.first], digits=3)}, "
        f"now <b>{number(weight, digits=3)}</b>"
        for code, column, weight, changed in zip(
            view.codes, view.columns, view.weights, view.changed, strict=True
        )
        if changed
    ]
    if not changes:
        changes = ["as it is stored: eight codes, weight = (code − 8) × scale"]
    return paragraph(f"Word {view.word}, {'; '.join(changes)}.")
