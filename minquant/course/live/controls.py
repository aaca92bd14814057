"""Controls that have a name: number boxes with sliders, menus, switches.

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
    parts: the widgets that take the reader's input; the first holds the value.
    """

    def __init__(self, label: str, box: ipw.Widget, *parts: ipw.Widget) -> None:
        self.label, self.box, self.parts = label, box, parts

    @property
    def value(self) -> object:
        """The value."""
        return self.parts[0].value

    @value.setter
    def value(self, value: object) -> None:
        """Move the control to a value, as if by hand."""
        self.parts[0].value = value

    @property
    def spoken(self) -> str:
        """The value as the reader sees it: the label of an option, on or off."""
        part = self.parts[0]
        if isinstance(part, ipw.Dropdown):
            return str(part.label)
        if isinstance(part.value, bool):
            return "on" if part.value else "off"
        return str(part.value)

    def watch(self, callback: Callable[[object], None]) -> None:
        """Call back with every change of the value."""
        self.parts[0].observe(callback, names="value")

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
    limits = {"value": value, "min": low, "max": high, "step": step}
    return _slider(ipw.BoundedIntText, ipw.IntSlider, label, limits, lazy)


def decimal(
    label: str,
    value: float,
    low: float,
    high: float,
    *,
    step: float,
    lazy: bool = False,
) -> Control:
    """A number from low to high in steps: a named number box and its slider."""
    limits = {"value": value, "min": low, "max": high, "step": step}
    return _slider(ipw.BoundedFloatText, ipw.FloatSlider, label, limits, lazy)


def choice(
    label: str, value: object, options: Sequence[object] | Mapping[str, object]
) -> Control:
    """One of several options: a list, or a dict from what is shown to the value.

    None cannot be a value: ipywidgets takes it to mean that nothing is chosen.
    """
    pairs = list(options.items()) if isinstance(options, Mapping) else list(options)
    menu = ipw.Dropdown(
        options=pairs,
        value=value,
        description=label,
        **_label_style(),
        layout=_width("292px"),
    )
    return Control(label, menu, menu)


def switch(label: str, value: bool) -> Control:
    """On or off, with the label as its name."""
    box = ipw.Checkbox(
        value=value, description=label, indent=False, layout=_width("292px")
    )
    return Control(label, box, box)


def _slider(
    box_class: type[ipw.Widget],
    slider_class: type[ipw.Widget],
    label: str,
    limits: Mapping[str, float],
    lazy: bool,
) -> Control:
    box = box_class(
        **limits, description=label, **_label_style(), layout=_width("164px")
    )
    slider = slider_class(
        **limits, readout=False, continuous_update=not lazy, layout=_width("124px")
    )
    ipw.link((slider, "value"), (box, "value"))
    return Control(label, ipw.HBox([box, slider]), box)


def _label_style() -> dict[str, object]:
    return {"style": {"description_width": LABEL_WIDTH}}


def _width(width: str) -> ipw.Layout:
    return ipw.Layout(width=width)
