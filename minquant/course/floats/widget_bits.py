"""The bits widget: type a number or flip a bit, and read what the bits say.

    bits()                       # the last line of a cell
    bits("fp8 e4m3", 0.3)        # another format and number to start with

A menu of formats, a box for a number, and a button for every bit. The three hold one
state: typing rounds the number to the format, flipping a bit makes another number, a
new format rounds again what was asked for. All arithmetic is that of `floats`; this
module wires the controls together. Notebook 01 shows it.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as ipw

from minquant.course.drawing import palette
from minquant.course.floats.figure_bits import (
    COLORS,
    GAP,
    BitsPicture,
    layout,
    plain,
    powers,
)
from minquant.course.live.controls import LABEL_WIDTH, Control
from minquant.course.live.dashboard import Dashboard, Frame
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
    """Format, number and bits, held together; the value is a `State`."""

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
        for part, reaction in (
            (self.menu, self._choose),
            (self.text, self._type),
            *((button, self._flip) for button in self.buttons),
        ):
            part.observe(reaction, names="value")

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
        """The format, and the number that was asked for or flipped together."""
        return f"{plain(FORMATS[self.name].decode(self.pattern))} in {self.name}"

    def watch(self, callback: Callable[[object], None]) -> None:
        """Call back after every change, once the parts agree."""
        self._callbacks.append(callback)

    def _choose(self, change: object) -> None:
        """Another format: round what was asked for, or the number as it stands."""
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
            self._say(
                f"number is {typed!r}; type one such as 0.1, -3, 1e-7, inf or nan"
            )
        else:
            self._round()

    def _round(self) -> None:
        try:
            self.pattern = FORMATS[self.name].encode(self.asked)
        except ValueError as error:  # this format has no NaN
            self._say(str(error))
        else:
            self._say("")

    def _flip(self, change: object) -> None:
        """A bit was flipped: nothing is asked for but what the bits say."""
        if self._busy:
            return
        said = "".join(str(int(b.value)) for b in self.buttons)
        self.pattern = int(said[: FORMATS[self.name].bits], 2)
        self.asked = None
        self._say("")

    def _say(self, trouble: str) -> None:
        self.trouble = trouble
        if not trouble:
            self._show()
        for callback in self._callbacks:
            callback(None)

    def _show(self) -> None:
        """Let every part say the same."""
        form, self._busy = FORMATS[self.name], True
        value = form.decode(self.pattern) if self.asked is None else self.asked
        try:
            self.menu.value, self.text.value = self.name, plain(value)
            self._arrange(form)
        finally:
            self._busy = False

    def _arrange(self, form: Format) -> None:
        """A button for each bit, beneath one another with the boxes of the picture."""
        owner, _, pitch = layout(form)
        worth, said = powers(form), f"{self.pattern:0{form.bits}b}"
        for i, button in enumerate(self.buttons):
            seen = i < form.bits
            button.layout.display = None if seen else "none"
            if seen:
                field = NAMES[owner[i]]
                first = i > 0 and owner[i] != owner[i - 1]
                skipped = int(owner[i] - owner[i - 1]) if first else 0
                button.layout.width = f"{pitch - 2:.1f}px"
                button.layout.margin = f"0 2px 0 {GAP * skipped}px"
                button.value, button.description = said[i] == "1", said[i]
                button.tooltip = f"{field} bit {worth[i]}".strip()
                for other in NAMES:
                    (button.add_class if other == field else button.remove_class)(
                        f"minquant-{other}"
                    )


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
    said = f"<b>{plain(value)}</b> in {form.name}"
    if asked is not None and asked == asked:
        error = value - asked
        if error == 0 or value == asked:
            said += ": exactly what was asked for"
        elif abs(error) == float("inf"):
            said += f": {plain(asked)} is beyond the largest, {plain(form.largest)}"
        else:
            said += f": off by {plain(error)}"
            said += f", {abs(error / asked):.2%} of the number" if asked else ""
    return f'<p style="margin:0 0 6px">{said}.</p>'


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
