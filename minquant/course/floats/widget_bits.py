"""The bits widget: type a number or flip a bit, and read what the bits say.

    bits()                       # the last line of a cell
    bits("fp8 e4m3", 0.3)        # another format and number to start with

A menu of formats, a box for a number, and a button for every bit share one state:
typing rounds the number to the format, flipping a bit makes another number, a new
format rounds again what was asked for. All arithmetic is that of `floats`; this module
connects the controls. Notebook 01 shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isinf, isnan

import ipywidgets as ipw

from minquant.course.drawing import palette
from minquant.course.floats.figure_bits import (
    COLORS,
    GAP,
    BitsPicture,
    layout,
    place_values,
    plain,
)
from minquant.course.live.controls import LABEL_WIDTH, Control
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import paragraph
from minquant.numerics.floats import FORMATS, FloatFormat, Format

NAMES = "sign", "exponent", "fraction"
State = tuple[str, int, float | None, str]  # format, pattern, number asked for, trouble


def bits(name: str = "fp16", x: float = 0.1) -> Dashboard:
    """The widget, starting with the number x in a format of `floats.FORMATS`."""
    if name not in FORMATS:
        raise ValueError(f"name is {name!r}; choose from {', '.join(FORMATS)}")
    form = FORMATS[name]
    picture = BitsPicture(form, form.encode(x), x)

    def _draw(number: State) -> Frame:
        name, pattern, asked, trouble = number
        if trouble:
            raise ValueError(trouble)
        picture.update(FORMATS[name], pattern, asked)
        return Frame(picture.fig, _words(FORMATS[name], pattern, asked), _facts(name))

    return Dashboard(_draw, {"number": BitBoard(name, x)})


class BitBoard(Control):
    """Format, number and bits in one control; its value is a `State`."""

    def __init__(self, name: str, x: float) -> None:
        self.trouble, self.asked = "", x
        self.name, self.pattern = name, FORMATS[name].encode(x)
        self._callbacks: list[Callable[[object], None]] = []
        self._busy = False
        look = {"style": {"description_width": LABEL_WIDTH}}
        self.menu = ipw.Dropdown(
            options=list(FORMATS), value=name, description="format", **look
        )
        self.text = ipw.Text(
            value=plain(x), description="number", continuous_update=False, **look
        )
        self.buttons = [
            ipw.ToggleButton(layout=ipw.Layout(padding="0")) for _ in range(32)
        ]
        row = ipw.HBox(self.buttons, layout=ipw.Layout(margin="6px 0 0 20px"))
        box = ipw.VBox([ipw.HBox([self.menu, self.text]), row, ipw.HTML(_css())])
        super().__init__("number", box, self.menu, self.text, *self.buttons)
        self._show()
        self.menu.observe(self._choose, names="value")
        self.text.observe(self._type, names="value")
        for button in self.buttons:
            button.observe(self._flip, names="value")

    @property
    def value(self) -> State:
        """Format, pattern, the number asked for (or None), what is wrong (or '')."""
        return self.name, self.pattern, self.asked, self.trouble

    @value.setter
    def value(self, value: tuple[str, float]) -> None:
        """Set from code: a format and a number."""
        self.name, self.asked = value
        self._round()

    @property
    def spoken(self) -> str:
        """The number that the bits stand for, and the format."""
        return f"{plain(FORMATS[self.name].decode(self.pattern))} in {self.name}"

    def watch(self, callback: Callable[[object], None]) -> None:
        """Call back after every change, once the parts agree."""
        self._callbacks.append(callback)

    def _choose(self, change: object) -> None:
        """Another format: round what was asked for, or the present number."""
        if self._busy:
            return
        if self.asked is None:
            self.asked = FORMATS[self.name].decode(self.pattern)
        self.name = self.menu.value
        self._round()

    def _type(self, change: object) -> None:
        """A number was typed."""
        if self._busy:
            return
        typed = self.text.value.replace("−", "-").replace("∞", "inf").strip()
        try:
            self.asked = float(typed)
        except ValueError:
            self._report(
                f"number is {typed!r}; type one such as 0.1, -3, 1e-7, inf or nan"
            )
        else:
            self._round()

    def _round(self) -> None:
        try:
            self.pattern = FORMATS[self.name].encode(self.asked)
        except ValueError as error:  # this format has no NaN
            self._report(str(error))
        else:
            self._report("")

    def _flip(self, change: object) -> None:
        """A bit was flipped: the bits are the number, and no other is asked for."""
        if self._busy:
            return
        digits = "".join(str(int(button.value)) for button in self.buttons)
        self.pattern = int(digits[: FORMATS[self.name].bits], 2)
        self.asked = None
        self._report("")

    def _report(self, trouble: str) -> None:
        self.trouble = trouble
        if not trouble:
            self._show()
        for callback in self._callbacks:
            callback(None)

    def _show(self) -> None:
        """Make every part show the present state."""
        form, self._busy = FORMATS[self.name], True
        value = form.decode(self.pattern) if self.asked is None else self.asked
        try:
            self.menu.value, self.text.value = self.name, plain(value)
            self._arrange(form)
        finally:
            self._busy = False

    def _arrange(self, form: Format) -> None:
        """A button for each bit, below the boxes of the picture."""
        fields, _, width = layout(form)
        values, digits = place_values(form), f"{self.pattern:0{form.bits}b}"
        for i, button in enumerate(self.buttons):
            if i >= form.bits:
                button.layout.display = "none"
                continue
            skipped = 0 if i == 0 else int(fields[i] - fields[i - 1])  # gaps before it
            button.layout.display = None
            button.layout.width = f"{width - 2:.1f}px"
            button.layout.margin = f"0 2px 0 {GAP * skipped}px"
            button.value, button.description = digits[i] == "1", digits[i]
            name = NAMES[fields[i]]
            button.tooltip = f"{name} bit {values[i]}".strip()
            for other in NAMES:
                if other == name:
                    button.add_class(f"minquant-{other}")
                else:
                    button.remove_class(f"minquant-{other}")


def _css() -> str:
    """A button that is 1 has the colour of its field."""
    rules = "".join(
        f".minquant-{name}.mod-active{{background:{color}!important;"
        f"color:{palette.PAPER}!important}}"
        f".minquant-{name}{{color:{color};border-bottom:3px solid {color}!important}}"
        for name, color in zip(NAMES, COLORS, strict=True)
    )
    return f"<style>{rules}</style>"


def _words(form: Format, pattern: int, asked: float | None) -> str:
    """What became of the number, in a sentence."""
    value = form.decode(pattern)
    words = f"<b>{plain(value)}</b> in {form.name}"
    if asked is not None and not isnan(asked):
        error = value - asked
        if error == 0 or value == asked:
            words += ": exactly what was asked for"
        elif isinf(error):
            words += f": {plain(asked)} is beyond the largest, {plain(form.largest)}"
        else:
            words += f": off by {plain(error)}"
            words += f", {abs(error / asked):.2%} of the number" if asked else ""
    return paragraph(f"{words}.")


def _facts(name: str) -> str:
    """The limits of a format, in one line."""
    form = FORMATS[name]
    if not isinstance(form, FloatFormat):
        return f"<small>{name}: whole numbers from −128 to 127, all one apart.</small>"
    tops = {
        "inf": "infinity and NaN at the highest exponent",
        "nan": "no infinity; NaN is the pattern of all ones",
        "number": "neither infinity nor NaN",
    }
    return (
        f"<small>{name}: largest {plain(form.largest)}, smallest above 0 "
        f"{plain(form.smallest)}, of full precision from "
        f"{plain(form.smallest_normal)}; bias {form.bias}; {tops[form.top]}.</small>"
    )
