"""The bits of one number: three fields, the arithmetic they stand for, the neighbours.

    │0│ │0│1│0│1│1│ │1│0│0│1│1│0│0│1│1│0│      fp16
    sign 0   exponent 11      fraction 614
    (−1)⁰ × 2¹¹⁻¹⁵ × (1 + 614/1024) = 0.0999755859375
    ───┼──────────────●┼───────────────┼───    0.1 lies between two numbers of fp16

`BitsPicture` keeps its artists, so that a widget can flip bits quickly. What is drawn
comes from `floats`. The blue dot is the number that was asked for; in other pictures it
is a weight. Notebook 01 reads it.
"""

from __future__ import annotations

from math import isfinite, isinf

import numpy as np
from jaxtyping import Float, Int

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import Picture
from minquant.numerics.floats import FORMATS, FloatFormat, Format

SIZE = (900, 296)
BOXES = (20, 44, 860, 40)  # left, top, width, height of all bits, in CSS pixels
LINE = (90, 214, 720, 30)  # the number line
ROLES = "next below", "this number", "next above"
GAP = 14  # CSS pixels between two fields
COLORS = palette.SIGN, palette.EXPONENT, palette.FRACTION
PALE = "#E9EBED", "#F7EBD3", "#DCEFF3"  # the same three for a bit that is 0
NOTES = {
    "normal": "the leading 1 is not stored",
    "subnormal": "exponent 0, a subnormal: no leading 1",
    "zero": "exponent 0 and fraction 0: zero, with a sign",
    "infinity": "exponent all ones, fraction 0: infinity",
    "NaN": "the highest exponent, and a fraction that says: not a number",
    "integer": "the first bit counts below zero: two's complement",
}


def plain(x: float) -> str:
    """A number as a picture prints it: nine digits at most, a real minus sign.

    >>> plain(-0.0999755859375), plain(65504.0), plain(2.0**-24)
    ('−0.0999755859', '65504', '5.96046448e−08')
    """
    special = {"inf": "∞", "-inf": "−∞", "nan": "NaN"}
    return special.get(str(x), f"{x:.9g}".replace("-", "−"))


def layout(
    form: Format,
) -> tuple[Int[np.ndarray, " bits"], Float[np.ndarray, " bits"], float]:
    """The field of each bit (0, 1, 2), where its box begins, and the width of a box.

    Both in CSS pixels; boxes begin at 0, and there is a gap between two fields.
    """
    field = np.repeat(range(3), (1, form.exponent_bits, form.fraction_bits))
    width = min(46.0, (BOXES[2] - 2 * GAP) / form.bits)
    return field, width * np.arange(form.bits) + GAP * field, width


class BitsPicture:
    """The picture of one pattern of a format; `update` moves it to another.

    form: one of `floats.FORMATS`. pattern: its bits as a whole number. asked: the
    number that was to be stored, where it differs from the value of the pattern.
    """

    @palette.style()
    def __init__(self, form: Format, pattern: int, asked: float | None = None) -> None:
        self.fig = Picture(*SIZE)
        bare = {"xticks": [], "yticks": [], "facecolor": "none"}
        self.bits = self.fig.axes_at(
            *BOXES, **bare, xlim=(0, BOXES[2]), ylim=(0, BOXES[3])
        )
        self.line = self.fig.axes_at(*LINE, **bare, xlim=(0, 1), ylim=(-1, 1))
        for ax in (self.bits, self.line):
            ax.spines[:].set_visible(False)
        self.line.axhline(0, color=palette.MUTED, lw=0.9)
        self._add_artists()
        self.update(form, pattern, asked)

    def _add_artists(self) -> None:
        write, center = self.fig.write, {"ha": "center"}
        self.fills = [artists.boxes(self.bits, palette.PAPER) for _ in COLORS]
        self.zeros = [artists.marks(self.bits, "$0$", 9, color=c) for c in COLORS]
        self.ones = artists.marks(self.bits, "$1$", 9, color=palette.PAPER)
        quiet = {"color": palette.MUTED, **center}
        self.places = [write(0, 32, "", **quiet) for _ in range(16)]
        self.labels = [write(0, 102, "", color=color, **center) for color in COLORS]
        self.parts = [write(0, 144, "", weight="bold") for _ in range(6)]
        self.note = write(BOXES[0] + BOXES[2], 144, "", color=palette.MUTED, ha="right")
        self.heading = write(BOXES[0], 12, "", weight="bold")
        self.ticks = artists.lines(self.line, palette.INK, 2)
        self.asked = artists.marks(self.line, "o", 7, color=palette.BLUE)
        self.values = [write(0, 262, "", **center) for _ in range(3)]
        self.roles = [write(0, 281, "", **quiet) for _ in range(3)]
        self.asking = write(0, 198, "", color=palette.BLUE, **center)
        self.fig.move(*self.fills, *self.zeros, self.ones, *self.places)
        self.fig.move(*self.labels, *self.parts, self.note, self.heading)
        self.fig.move(self.ticks, self.asked)
        self.fig.move(*self.values, *self.roles, self.asking)

    @palette.style()
    def update(self, form: Format, pattern: int, asked: float | None = None) -> None:
        """Show another pattern; arguments as at the start."""
        widths = 1, form.exponent_bits, form.fraction_bits
        self.heading.set_text(f"{form.name}, {form.bits} bits")
        self._draw_boxes(form, pattern, widths)
        self._draw_labels(form, pattern, widths)
        self._spell(form, pattern)
        self._draw_line(form, pattern, asked)
        self.fig.alt = describe(form, pattern, asked)

    def _draw_boxes(self, form: Format, pattern: int, widths: tuple) -> None:
        """A box for each bit, dark where it is 1, with its place value above it."""
        ones = np.array([bit == "1" for bit in f"{pattern:0{form.bits}b}"])
        field, left, width = layout(form)
        self.centers = left + width / 2
        for kind, boxes in enumerate(self.fills):
            mine = field == kind
            artists.fill(boxes, left[mine], left[mine] + width - 2, 0, BOXES[3])
            boxes.set_facecolor(np.where(ones[mine], COLORS[kind], PALE[kind]))
            x = self.centers[mine & ~ones] - 1
            self.zeros[kind].set_data(x, np.full(len(x), BOXES[3] / 2))
        x = self.centers[ones] - 1
        self.ones.set_data(x, np.full(len(x), BOXES[3] / 2))
        self._name_places(form, width, widths)

    def _name_places(self, form: Format, width: float, widths: tuple) -> None:
        """Place values: of all bits, or of the ends of fields where boxes are small."""
        values = place_values(form)
        named = range(form.bits) if width > 34 else sorted(_ends(widths))
        for text in self.places:
            text.set_visible(False)
        for text, i in zip(self.places, named, strict=False):
            x = (BOXES[0] + self.centers[i]) / SIZE[0]
            text.set(x=x, text=values[i], visible=True)

    def _draw_labels(self, form: Format, pattern: int, widths: tuple) -> None:
        """Each field's name and its bits as a whole number, below its boxes."""
        field, ends = form.fields(pattern), np.cumsum(widths)
        names = "sign", "exponent", "fraction" if form.exponent_bits else "rest"
        numbers = field.sign, field.exponent, field.fraction
        for i, label in enumerate(self.labels):
            label.set_visible(widths[i] > 0)
            if widths[i]:
                inside = self.centers[ends[i] - widths[i] : ends[i]]
                middle = max(BOXES[0] + inside.mean(), 42)
                label.set(x=middle / SIZE[0], text=f"{names[i]} {numbers[i]}")

    def _spell(self, form: Format, pattern: int) -> None:
        """The arithmetic, each factor in the colour of its field."""
        joint = " × " if form.exponent_bits else " + "
        colors = COLORS if form.exponent_bits else (COLORS[0], COLORS[2])
        words: list[tuple[str, str]] = []
        for i, factor in enumerate(form.spell(pattern).split(joint, 2)):
            if i > 0:
                words.append((joint, palette.INK))
            words.append((factor, colors[i]))
        words.append((f" = {plain(form.decode(pattern))}", palette.INK))
        words += [("", palette.INK)] * (len(self.parts) - len(words))
        self.note.set_text(NOTES[form.fields(pattern).kind])
        x, renderer = float(BOXES[0]), self.fig.canvas.get_renderer()
        for part, (text, color) in zip(self.parts, words, strict=True):
            part.set(x=x / SIZE[0], text=text, color=color)
            x += part.get_window_extent(renderer).width * SIZE[0] / self.fig.bbox.width

    def _draw_line(self, form: Format, pattern: int, asked: float | None) -> None:
        """The number between its two neighbours, and the number asked for."""
        value = form.decode(pattern)
        near = form.neighbours(pattern) if isfinite(value) else (None, None)
        places = 0.12, _between(*near, value, value), 0.88
        numbers = near[0], value, near[1]
        shown = [i for i in range(3) if numbers[i] is not None and isfinite(value)]
        at = [places[i] for i in shown]
        self.ticks.set_segments(artists.segments(at, -0.7, at, 0.7) if at else [])
        for i, (text, role) in enumerate(zip(self.values, self.roles, strict=True)):
            text.set_visible(i in shown)
            role.set_visible(i in shown)
            if i in shown:
                x = (LINE[0] + LINE[2] * places[i]) / SIZE[0]
                text.set(x=x, text=plain(numbers[i]))
                role.set(x=x, text=ROLES[i])
        self._draw_asked(near, value, asked)

    def _draw_asked(self, near: tuple, value: float, asked: float | None) -> None:
        """A dot where the number that was asked for lies, if there is one."""
        seen = asked is not None and isfinite(value) and isfinite(asked)
        self.asked.set_visible(seen)
        self.asking.set_visible(seen)
        if seen:
            x = _between(*near, value, asked)
            text = f"asked: {plain(asked)}"
            text = f"← {text}" if x < 0 else f"{text} →" if x > 1 else text
            x = float(np.clip(x, 0, 1))
            self.asked.set_data([x], [0])
            self.asking.set(x=(LINE[0] + LINE[2] * x) / SIZE[0], text=text)


def describe(form: Format, pattern: int, asked: float | None = None) -> str:
    """The bits of a pattern in words: fields, arithmetic, neighbours."""
    field, value = form.fields(pattern), form.decode(pattern)
    digits = f"{pattern:0{form.bits}b}"
    fraction = 1 + form.exponent_bits  # where it begins
    words = f"The {form.bits} bits of a number in {form.name}: sign {digits[0]}, "
    if form.exponent_bits:
        words += f"exponent {digits[1:fraction]} = {field.exponent}, fraction "
    else:
        words += "rest "
    words += f"{digits[fraction:]} = {field.fraction}. "
    words += f"It is worth {form.spell(pattern)} = {plain(value)}"
    if isfinite(value):
        low, high = (
            "the format's end" if neighbour is None else plain(neighbour)
            for neighbour in form.neighbours(pattern)
        )
        words += ", a subnormal " if field.kind == "subnormal" else ", "
        words += f"between {low} and {high}"
    if asked is not None and asked != value:
        words += f"; asked for was {plain(asked)}"
    return words + "."


def bits(name: str, x: float) -> Picture:
    """The picture of x in a format of `floats.FORMATS`, rounded to it."""
    form = FORMATS[name]
    return BitsPicture(form, form.encode(x), x).fig


def place_values(form: Format) -> list[str]:
    """What each bit is worth, from the left: the sign nothing, others a power of two.

    >>> place_values(FORMATS["fp4 e2m1"])
    ['', '2¹', '2⁰', '2⁻¹']
    """
    exponents = range(form.exponent_bits - 1, -1, -1)
    if isinstance(form, FloatFormat):
        sign, fractions = "", range(-1, -1 - form.fraction_bits, -1)
    else:  # an integer, in two's complement
        sign = f"−{_power(form.fraction_bits)}"
        fractions = range(form.fraction_bits - 1, -1, -1)
    return [sign, *map(_power, exponents), *map(_power, fractions)]


def _power(k: int) -> str:
    return "2" + str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _ends(widths: tuple) -> set[int]:
    """The first and last bit of each field."""
    ends = np.cumsum(widths)
    return {int(e) for e in (*(ends - 1), *ends[:-1])}


def _between(below: float | None, above: float | None, value: float, x: float) -> float:
    """The place of x on a line that has the neighbours at 0.12 and 0.88.

    A neighbour that does not exist is taken to be as far away as the other.
    """
    steps = [abs(n - value) for n in (below, above) if n is not None and not isinf(n)]
    step = max(steps, default=1.0)
    low = value - step if below is None or isinf(below) else below
    high = value + step if above is None or isinf(above) else above
    return 0.12 + 0.76 * (x - low) / (high - low)
