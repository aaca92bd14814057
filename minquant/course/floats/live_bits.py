"""The live picture of lesson 01: a number as its bits, each of them a button.

    bits()                       # the last line of a cell
    bits("fp8 e4m3", 0.3)        # another format and number to start with

Typing rounds a number to the format, flipping a bit makes another number, a new format
rounds again what was asked for. `bits.js` does the arithmetic of `numerics/floats.py`
in the browser; a test compares every pattern of 16 bits and fewer.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path

import traitlets

from minquant.course.live.picture import LivePicture
from minquant.numerics.floats import FORMATS


class BitsPicture(LivePicture):
    """One number in one format of `floats.FORMATS`.

    name: of the format. x: the number asked for; the nearest that exists is shown.
    Raises ValueError for another name, or if x is NaN and the format has none.
    """

    script = Path(__file__).with_name("bits.js")

    format = traitlets.Unicode().tag(sync=True)
    pattern = traitlets.Int().tag(sync=True)
    asked = traitlets.Unicode().tag(sync=True)  # as JavaScript writes a number

    def __init__(self, name: str = "fp16", x: float = 0.1) -> None:
        if name not in FORMATS:
            raise ValueError(f"name is {name!r}; choose from {', '.join(FORMATS)}")
        x = float(x)
        asked = (
            str(x)
            if isfinite(x)
            else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(x), "NaN")
        )
        super().__init__(format=name, pattern=FORMATS[name].encode(x), asked=asked)

    @property
    def words(self) -> str:
        """What the picture shows."""
        form = FORMATS[self.format]
        return (
            f"The bits of a number in {self.format}, {self.pattern:0{form.bits}b}: "
            f"{form.spell(self.pattern)} = {form.decode(self.pattern):g}."
        )


def bits(name: str = "fp16", x: float = 0.1) -> BitsPicture:
    """The live picture of one number; the arguments are those of `BitsPicture`."""
    return BitsPicture(name, x)
