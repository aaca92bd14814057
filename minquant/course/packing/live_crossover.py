"""The live picture of lesson 10: time against tokens, and where 4 bits stop paying.

    crossover(machines)            # the last line of a cell

Both lines are the roofline's bounds for one matrix: weights of 16 bits, and codes that
become 16 bits again before they are multiplied. `reach` is the share of the peak that
the second kernel still reaches: turning codes into numbers takes instructions, too.
`crossover.js` computes what `planning/roofline.py` does; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import traitlets

from minquant.course.drawing.numbers import number
from minquant.course.live.picture import LivePicture
from minquant.course.packing.figure_roofline import BITS_IN
from minquant.planning.roofline import Machine, Product, least_seconds

MOST = 2**20  # tokens


class CrossoverPicture(LivePicture):
    """Time for X Wᵀ by the number of tokens.

    machines: by name, the first is shown. bits: of a weight, its scale included. side:
    of a square W. reach: 0.05 to 1. tokens: at which the times are read off.

    Raises ValueError if there is no machine, or reach is not in 0.05 … 1.
    """

    script = Path(__file__).with_name("crossover.js")

    machines = traitlets.Dict().tag(sync=True)  # name → bandwidth, peak, narrow
    machine = traitlets.Unicode().tag(sync=True)  # "" once a slider is moved
    bandwidth = traitlets.Float().tag(sync=True)
    peak = traitlets.Float().tag(sync=True)
    bits = traitlets.Float().tag(sync=True)
    side = traitlets.Int().tag(sync=True)
    reach = traitlets.Float().tag(sync=True)
    tokens = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        machines: Mapping[str, Machine],
        *,
        bits: float = 4.125,
        side: int = 8192,
        reach: float = 1.0,
        tokens: int = 1,
    ) -> None:
        if not machines:
            raise ValueError("machines is empty; give at least one, by its name")
        if not 0.05 <= reach <= 1:
            raise ValueError(f"reach is {reach}; give a share from 0.05 to 1")
        name, first = next(iter(machines.items()))
        super().__init__(
            machines={
                key: {
                    "bandwidth": m.bandwidth,
                    "peak": m.peak,
                    "narrow": [[f, BITS_IN[f], p] for f, p in m.narrow.items()],
                }
                for key, m in machines.items()
            },
            machine=name,
            bandwidth=first.bandwidth,
            peak=first.peak,
            bits=bits,
            side=side,
            reach=reach,
            tokens=tokens,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        now = Machine(self.machine or "a machine", self.bandwidth, self.peak)
        one = Product(1, self.side, self.side)
        whole, few = (1000 * least_seconds(now, one, b) for b in (16, self.bits))
        at = crossing(now, self.side, self.bits, self.reach)
        return (
            f"The shortest time for a matrix of {self.side} × {self.side} on "
            f"{now.name}, by tokens: at one token {number(whole, digits=3)} ms with 16 "
            f"bits and {number(few, digits=3)} ms with {self.bits:g}; from "
            f"{at:,} tokens on {self.bits:g} bits gain nothing."
        )


def crossing(machine: Machine, side: int, bits: float, reach: float = 1.0) -> int:
    """The first number of tokens at which fewer bits are not faster than 16.

    reach: the share of the peak that the kernel with fewer bits reaches.

    >>> from minquant.planning.roofline import CARDS
    >>> crossing(CARDS["A10"], 8192, 4.125), crossing(CARDS["A10"], 8192, 4.125, 0.5)
    (220, 107)
    """
    slower = replace(machine, peak=reach * machine.peak)

    def gains(tokens: int) -> bool:
        product = Product(tokens, side, side)
        few = least_seconds(slower, product, bits)
        return few < least_seconds(machine, product) * (1 - 1e-9)

    low, high = 0, MOST  # gains(low), not gains(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if gains(middle) else (low, middle)
    return high


def crossover(machines: Mapping[str, Machine], **start: float) -> CrossoverPicture:
    """The live picture; `start` takes what `CrossoverPicture` does."""
    return CrossoverPicture(machines, **start)
