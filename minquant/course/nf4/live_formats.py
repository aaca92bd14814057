"""The live picture of lesson 08: formats as dots at their true bits.

    formats(costs)           # the last line of a cell; costs: what is measured, by name

One kind of damage at a time: the error of weights from a bell, that of the model's own
weights, or what the model itself loses. All numbers arrive as data; `formats.js` finds
the formats that none beats.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import traitlets

from minquant.course.live.picture import LivePicture


class Measure(NamedTuple):
    """A kind of damage, by format. value: above 0. interval: its 95 % interval, or
    None."""

    value: float
    interval: tuple[float, float] | None = None


class FormatsPicture(LivePicture):
    """A dot for each format, at its bits per weight and its damage.

    bits: bits per weight by format. measures: for each kind of damage, a `Measure` by
    format. measure: the kind to begin with, the first by default. format: the place of
    the one that is marked, in the order of bits.

    Raises ValueError if there is no format, if a measure does not have the formats of
    `bits`, if a value or an end is not positive, or for a setting that there is not.
    """

    script = Path(__file__).with_name("formats.js")

    dots = traitlets.List().tag(sync=True)
    measures = traitlets.List().tag(sync=True)
    measure = traitlets.Unicode().tag(sync=True)
    format = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        bits: Mapping[str, float],
        measures: Mapping[str, Mapping[str, Measure]],
        measure: str | None = None,
        format: int = 0,
    ) -> None:
        if not bits or not measures:
            raise ValueError("bits and measures need at least one format and one kind")
        for kind, found in measures.items():
            if set(found) != set(bits):
                raise ValueError(f"measures[{kind!r}] is not of the formats of bits")
            ends = [x for m in found.values() for x in m.interval or ()]
            values = [*ends, *(m.value for m in found.values())]
            if not all(0 < x < float("inf") for x in values):
                raise ValueError(f"measures[{kind!r}] holds a number that is not > 0")
        names = sorted(bits, key=bits.get)
        super().__init__(
            dots=[{"name": name, "bits": bits[name]} for name in names],
            measures=[
                {
                    "name": kind,
                    "values": [found[name].value for name in names],
                    "intervals": [found[name].interval for name in names],
                }
                for kind, found in measures.items()
            ],
            measure=next(iter(measures)) if measure is None else measure,
            format=format,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        own = next(m for m in self.measures if m["name"] == self.measure)
        told = "; ".join(
            f"{dot['name']} {value:.4f} at {dot['bits']:.2f} bits"
            for dot, value in zip(self.dots, own["values"], strict=True)
        )
        return f"Formats by their bits per weight. {own['name']}: {told}."

    @traitlets.validate("measure", "format")
    def _valid(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {
            "measure": [m["name"] for m in self.measures],
            "format": range(len(self.dots)),
        }[name]
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; choose from {list(allowed)}")
        return value


def formats(
    bits: Mapping[str, float],
    measures: Mapping[str, Mapping[str, Measure]],
    **start: object,
) -> FormatsPicture:
    """The live picture; the arguments are those of `FormatsPicture`."""
    return FormatsPicture(bits, measures, **start)
