"""Move the lines and the budget, and see which file they leave.

    chooser(candidates, lines, budget, units)     # the last line of a cell

There is a slider for each line and one for the budget. With every move
`choice.choose` chooses anew, and the words say why. The sliders start at the lines that
were written down before anybody looked. Moving one shows what it costs in bytes, and
how near another choice was; a line that is moved until a favourite holds it is not a
line any more. Lesson 12 shows it.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from math import floor, log10

from minquant.course.capstone.figure_choice import ChoicePicture
from minquant.course.live.controls import Control, decimal
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import paragraph
from minquant.planning.choice import Candidate, Choice, Lines

BUDGET = "budget"
LETTER, BOX = 8, 84  # CSS pixels: a letter of a label, and the box beside it


def chooser(
    candidates: Sequence[Candidate],
    lines: Lines,
    budget: int,
    units: Mapping[str, str],
) -> Dashboard:
    """The widget. candidates, lines, budget: as `choice.choose` takes them; lines and
    budget are first values. units: of the measures, for the axes.

    Its controls have the names of the measures; "budget" is in the unit of its label.

    Raises ValueError if a measure is called "budget", and as `ChoicePicture` does.
    """
    if BUDGET in lines:
        raise ValueError("lines has 'budget', which is the bytes; rename the measure")
    picture = ChoicePicture(candidates, lines, budget, units)
    unit, size = picture.unit

    def _draw(**values: float) -> Frame:
        moved = {measure: values[measure] for measure in lines}
        picture.update(moved, round(size * values[BUDGET]))
        return Frame(picture.fig, _words(picture.choice))

    controls = {m: _slider(m, most, picture.reach[m]) for m, most in lines.items()}
    most = picture.sizes.ends[1] / size
    controls[BUDGET] = _slider(f"{BUDGET}, {unit}", budget / size, most)
    _widen(controls.values())
    return Dashboard(_draw, controls)


def _slider(label: str, start: float, end: float) -> Control:
    """From 0 to the end of an axis, in 20 to 100 round steps."""
    size = 10.0 ** floor(log10(end))
    step = size / 10 if end >= 3 * size else size / 20
    return decimal(label, start, min(0.0, start), max(end, start), step=step)


def _widen(controls: Collection[Control]) -> None:
    """Make room for the longest label, the same beside every slider."""
    room = LETTER * max(len(control.label) for control in controls)
    for control in controls:
        box = control.parts[0]
        box.style.description_width = f"{room}px"
        box.layout.width = f"{room + BOX}px"


def _words(choice: Choice) -> str:
    """The choice in bold, and why."""
    advice = f"Take {choice.chosen.name}." if choice.chosen else "Take none of these."
    return paragraph(f"<b>{html.escape(advice)}</b> {html.escape(choice.reason)}")
