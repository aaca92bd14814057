"""Controls that have a name: boxes with sliders, menus, switches, rows of buttons.

A slider of ipywidgets has no name that a screen reader could speak (its label belongs
to nothing). So each slider here is the second half of a number box whose label is
native: both hold one value, the box also takes typed numbers, arrow keys move either.

    bits [4 ▲▼] ────●──────

Everything works in ipywidgets 7.7 (Colab) and 8 alike: no `tooltip` on sliders, no
titles for tabs. The two halves are linked in the kernel, so one movement is one
message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as ipw

LABEL_WIDTH = "92px"


class Control:
    """Something the reader sets: a box to show, and a value to read, set and watch.

    label: what is written beside it. box: the ipywidget to display.
    parts: the widgets that hold the value; several of them make it a tuple.
    """

    def __init__(self, label: str, box: ipw.Widget, *parts: ipw.Widget) -> None:
        self.label, self.box, self.parts = label, box, parts

    @property
    def value(self) -> object:
        """The value, or a tuple of values where the control has several parts."""
        values = tuple(part.value for part in self.parts)
        return values if len(values) > 1 else values[0]

    @value.setter
    def value(self, value: object) -> None:
        """Set the value, or all parts of it."""
        values = value if len(self.parts) > 1 else (value,)
        for part, one in zip(self.parts, values, strict=True):
            part.value = one

    @property
    def spoken(self) -> str:
        """The value as the reader sees it: the label of an option, on or off."""
        part = self.parts[0]
        if isinstance(part, ipw.Dropdown):
            return str(part.label)
        if isinstance(part.value, bool):
            return " ".join("on" if one.value else "off" for one in self.parts)
        return str(part.value)

    def watch(self, callback: Callable[[object], None]) -> None:
        """Call back with every change of the value."""
        for part in self.parts:
            part.observe(callback, names="value")

    def enable(self, on: bool) -> None:
        """Grey the control out, or bring it back."""
        for widget in (*getattr(self.box, "children", (self.box,)), *self.parts):
            if hasattr(widget, "disabled") and widget.disabled == on:
                widget.disabled = not on


def integer(
    label: str, value: int, low: int, high: int, *, step: int = 1, lazy: bool = False
) -> Control:
    """A whole number from low to high: a named number box and its slider.

    lazy: wait until the slider is let go, for draws that take longer than a blink.
    """
    return _slider(
        ipw.BoundedIntText, ipw.IntSlider, label, value, low, high, step, lazy
    )


def number(
    label: str,
    value: float,
    low: float,
    high: float,
    *,
    step: float,
    lazy: bool = False,
) -> Control:
    """A number from low to high in steps: a named number box and its slider."""
    return _slider(
        ipw.BoundedFloatText, ipw.FloatSlider, label, value, low, high, step, lazy
    )


def choice(
    label: str, value: object, options: Sequence[object] | Mapping[str, object]
) -> Control:
    """One of several options: a list, or a dict from what is shown to the value.

    None is no value: ipywidgets takes it for nothing chosen.
    """
    pairs = list(options.items()) if isinstance(options, Mapping) else list(options)
    menu = ipw.Dropdown(
        options=pairs, value=value, description=label, **_label(), layout=_wide("292px")
    )
    return Control(label, menu, menu)


def switch(label: str, value: bool) -> Control:
    """On or off, with the label as its name."""
    box = ipw.Checkbox(
        value=value, description=label, indent=False, layout=_wide("292px")
    )
    return Control(label, box, box)


def flags(label: str, values: Sequence[int], names: Sequence[str]) -> Control:
    """A row of buttons, each pressed or not; the value is a tuple of bools.

    names: what is written on each button, for example the place value of a bit.
    """
    buttons = [
        ipw.ToggleButton(value=value, description=name, layout=_wide("auto"))
        for value, name in zip(values, names, strict=True)
    ]
    row = ipw.HBox(
        [ipw.Label(label), *buttons], layout=ipw.Layout(flex_flow="row wrap")
    )
    return Control(label, row, *buttons)


def _slider(text_class, slider_class, label, value, low, high, step, lazy) -> Control:
    limits = {"value": value, "min": low, "max": high, "step": step}
    text = text_class(**limits, description=label, **_label(), layout=_wide("164px"))
    slider = slider_class(
        **limits, readout=False, continuous_update=not lazy, layout=_wide("124px")
    )
    ipw.link((slider, "value"), (text, "value"))
    return Control(label, ipw.HBox([text, slider]), text)


def _label() -> dict[str, object]:
    return {"style": {"description_width": LABEL_WIDTH}}


def _wide(width: str) -> ipw.Layout:
    return ipw.Layout(width=width)
