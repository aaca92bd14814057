"""Widgets: controls above, a picture that moves, words below.

    control ──▶ draw(**values) ──▶ Frame(picture, words) ──▶ <img alt="…"> and HTML

A widget is one function `draw` of the values of its controls. `Dashboard` calls it when
a control moves and shows what it returns. Seven decisions make this fast and robust:

1. The picture is a persistent `figures.Picture`; draw moves its artists. Rendered to
   PNG and shown as HTML it needs no Output widget and no front-end code, does not
   flicker, and carries alt text.
2. Sliders never lag: the front end sends no new value while one is being drawn, and the
   kernel skips values it has already drawn.
3. Every control has a name that screen readers speak. A slider of ipywidgets has none,
   so each is paired with a number box whose label is native; the box also takes typed
   values.
4. An error in draw is shown in place, in an element of class `minquant-error`. Test
   runners do not see errors in callbacks: look for that class, or at `dashboard.error`.
5. The same output carries a plain picture of the first state: readers without a kernel
   see it, a live page shows the controls instead.
6. The first draw happens in the constructor, so a broken widget fails its cell.
7. ipywidgets 7.7 (Colab) and 8 alike; only modules named `widget*` import it.
"""

from __future__ import annotations

import html
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import ipywidgets as ipw
from matplotlib.figure import Figure

from minquant.course.drawing import figures, palette
from minquant.course.live.controls import Control

ERROR_CLASS = "minquant-error"
PICTURE_CLASS = "minquant-picture"
WORDS_CLASS = "minquant-words"
DASHBOARD_CLASS = "minquant-dashboard"

_STYLE = (
    "<style>.minquant-spot{fill:transparent}"
    f".minquant-spot:hover{{fill:{palette.BLUE};fill-opacity:.1}}"
    ".minquant-dashboard .widget-html-content{line-height:1.5}</style>"
)
# What ipywidgets does not tell screen readers: the name of each slider (that of its
# box), whether a button is pressed, and new words as they come. The attribute below
# tells them, where the page lets it run; elsewhere only that is lost.
_NAMER = f"""<img alt="" src="data:," style="display:none" onerror="
const me = this; let tries = 0;
const start = () => {{
  const board = me.closest('.{DASHBOARD_CLASS}');
  if (!board) {{ if (++tries < 50) setTimeout(start, 100); return }}
  const say = (element, name, value) => {{
    if (element && element.getAttribute(name) !== value)
      element.setAttribute(name, value) }};
  const all = css => board.querySelectorAll(css);
  const name = () => {{
    all('.widget-slider').forEach(slider => {{
      const label = slider.parentElement.querySelector('label');
      const handle = slider.querySelector('[role=slider],.ui-slider-handle');
      if (label && label.textContent) say(handle, 'aria-label', label.textContent) }});
    all('.widget-toggle-button').forEach(button =>
      say(button, 'aria-pressed', String(button.classList.contains('mod-active'))));
    all('.{WORDS_CLASS}').forEach(words => say(words, 'aria-live', 'polite')) }};
  name();
  new MutationObserver(name).observe(board, {{childList: true, subtree: true,
    attributes: true, attributeFilter: ['class']}}) }};
start()">"""


@dataclass(frozen=True)
class Spot:
    """A place on the picture that shows text under the pointer.

    left, top, width, height: CSS pixels on the picture. text: what the tool tip says.
    """

    left: float
    top: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Frame:
    """What a draw function returns.

    picture: a figure with alt text. words: HTML below it, which screen readers speak
    when it changes, so keep it short. details: more HTML, which they do not speak.
    spots: texts under the pointer. disabled: names of controls that mean nothing in
    this state.
    """

    picture: Figure
    words: str = ""
    details: str = ""
    spots: Sequence[Spot] = ()
    disabled: Collection[str] = field(default=())


class Dashboard:
    """Controls, the picture that `draw(**values)` returns, and words below it.

    draw: takes the value of each control by its name and returns a `Frame`.
    controls: name to `Control`; they are laid out in this order.
    As the last line of a cell it shows itself. `set` moves controls from code.
    """

    def __init__(
        self, draw: Callable[..., Frame], controls: Mapping[str, Control]
    ) -> None:
        self.draw, self.controls = draw, dict(controls)
        self.error: Exception | None = None
        self.redraw_ms = 0.0  # kernel time of the last redraw, PNG included
        self._drawn: dict[str, object] | None = None  # values of the last redraw
        self._paused = False  # True while several controls are set together
        self._trouble, self._picture, self._words, self._details = (
            ipw.HTML(layout=ipw.Layout(width="100%", margin="0")) for _ in range(4)
        )
        self.frame = self._redraw()  # an error here stops the cell, as it should
        for control in self.controls.values():
            control.watch(self._changed)
        self.box = self._assemble()

    @property
    def values(self) -> dict[str, object]:
        """The value of every control by name: what draw is called with."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def alt(self) -> str:
        """The alt text of the present picture."""
        return self.frame.picture.alt

    def set(self, **values: object) -> None:
        """Move controls from code, and draw once."""
        if unknown := sorted(values.keys() - self.controls.keys()):
            raise ValueError(
                f"{unknown[0]} is no control of this widget; "
                f"choose from {', '.join(self.controls)}"
            )
        self._paused = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._paused = False
        self._changed()

    def _changed(self, change: object = None) -> None:
        """Called when a control moves: draw if a value is new, and show any error."""
        if self._paused or self.values == self._drawn:
            return
        try:
            self.frame = self._redraw()
            self.error = None
        except Exception as error:  # of any kind: the reader must see it
            self.error, self._drawn = error, None
        trouble = "" if self.error is None else _report(self.error)
        if self._trouble.value != trouble:
            self._trouble.value = trouble

    def _redraw(self) -> Frame:
        start = time.perf_counter()
        values = self.values
        frame = self.draw(**values)
        self._picture.value = _with_spots(frame)
        self._words.value = frame.words
        self._details.value = frame.details
        for name, control in self.controls.items():
            control.enable(name not in frame.disabled)
        self._drawn = values
        self.redraw_ms = 1000 * (time.perf_counter() - start)
        return frame

    def _assemble(self) -> ipw.VBox:
        row = ipw.HBox(
            [control.box for control in self.controls.values()],
            layout=ipw.Layout(flex_flow="row wrap", max_width=f"{figures.WIDTH}px"),
        )
        self._picture.add_class(PICTURE_CLASS)
        self._words.add_class(WORDS_CLASS)
        hidden = ipw.HTML(_STYLE + _NAMER, layout=ipw.Layout(height="0px"))
        shown = self._trouble, self._picture, self._words, self._details
        box = ipw.VBox([row, *shown, hidden])
        box.add_class(DASHBOARD_CLASS)
        return box

    def still(self) -> str:
        """The present state as HTML that needs no kernel: picture, settings, words."""
        settings = " · ".join(
            f"{control.label}: {control.spoken}"
            for name, control in self.controls.items()
            if name not in self.frame.disabled
        )
        return (
            f"{figures.to_img(self.frame.picture)}"
            f"<div>{self.frame.words}{self.frame.details}</div>"
            f"<p><small>{html.escape(settings)}. "
            "Run this cell to move the controls.</small></p>"
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        """One output, two forms: with a kernel the widget, without it the still."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": self.still(),
            "text/plain": self.alt,
        }


def _with_spots(frame: Frame) -> str:
    """The picture with a transparent sheet of hover texts over it."""
    image = figures.to_img(frame.picture, small=False)
    if not frame.spots:
        return image
    width, height = (round(100 * inches) for inches in frame.picture.get_size_inches())
    spots = "".join(
        f'<rect class="minquant-spot" x="{s.left:.1f}" y="{s.top:.1f}" '
        f'width="{s.width:.1f}" height="{s.height:.1f}">'
        f"<title>{html.escape(s.text)}</title></rect>"
        for s in frame.spots
    )
    return (
        f'<div style="position:relative;display:inline-block;max-width:100%">{image}'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true" '
        'style="position:absolute;left:0;top:0;width:100%;height:100%">'
        f"{spots}</svg></div>"
    )


def _report(error: Exception) -> str:
    """An error for the reader: its message, and the traceback folded away."""
    message = html.escape("".join(traceback.format_exception_only(error)).strip())
    trace = html.escape("".join(traceback.format_exception(error)))
    return (
        f'<div class="{ERROR_CLASS}" role="alert" style="border-left:4px solid '
        f'{palette.VERMILION};padding:4px 12px"><b>{message}</b><br>'
        "The picture shows the last settings that worked."
        "<details><summary>where it happened</summary>"
        f"<pre>{trace}</pre></details></div>"
    )
