"""The live picture of lesson 02: a row of weights snapped to a ruler.

    ruler(W[0])            # the last line of a cell

The reader moves the bits, the kind of ruler and where it ends, and every weight runs
along its thread to another tick. `ruler.js` draws, and does the arithmetic of
`methods/rtn.py` in the browser; a test compares the two code by code.
"""

from __future__ import annotations

from pathlib import Path

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.course.live.picture import LivePicture
from minquant.methods import rtn
from minquant.numerics import grids
from minquant.numerics.groups import PER_CHANNEL
from minquant.numerics.tensor import QuantizedTensor

GRIDS = {
    "absmax": grids.absmax,
    "symmetric_full": grids.symmetric_full,
    "zero_point": grids.zero_point,
}
BITS = range(2, 9)
LEAST = 0.3  # the shortest ruler, as a share of the longest


class RulerPicture(LivePicture):
    """`count` weights of a row, from `first`, on the ruler that fits the whole row.

    row: one row of a matrix, (n,), any float dtype. bits: 2 to 8. grid: "absmax",
    "symmetric_full" or "zero_point". keep: the share of the row's range that the ruler
    spans, 0.3 to 1. weight: the position in the row of the weight that is magnified; by
    default that with the largest error.

    Raises TypeError or ValueError as `quantize_rtn` does if a ruler does not fit the
    row, and ValueError for a setting that the picture does not have.
    """

    script = Path(__file__).with_name("ruler.js")

    row = traitlets.List(traitlets.Float()).tag(sync=True)
    first = traitlets.Int().tag(sync=True)
    count = traitlets.Int().tag(sync=True)
    bits = traitlets.Int().tag(sync=True)
    grid = traitlets.Unicode().tag(sync=True)
    keep = traitlets.Float().tag(sync=True)
    weight = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        row: Float[Tensor, ...],
        bits: int = 4,
        grid: str = "absmax",
        keep: float = 1.0,
        *,
        first: int = 0,
        count: int = 32,
        weight: int | None = None,
    ) -> None:
        if row.ndim != 1:
            raise ValueError(f"row has shape {tuple(row.shape)}; give one row, W[0]")
        w = rtn.floats(row[None], "row")[0].float().cpu()
        if not 0 <= first < len(w):
            raise ValueError(f"first is {first}; choose from 0 to {len(w) - 1}")
        if count < 1:
            raise ValueError(f"count is {count}; show at least one weight")
        for name in GRIDS:  # each has a scale, from the longest ruler to the shortest
            quantized(w, BITS[0], name)
            quantized(w, BITS[-1], name, LEAST)
        super().__init__(
            row=w.tolist(),
            first=first,
            count=min(count, len(w) - first),
            bits=bits,
            grid=grid,
            keep=keep,
            weight=first if weight is None else weight,
        )
        if weight is None:
            values = quantized(w, bits, grid, keep).dequantize()[0]
            self.weight = first + int((values - w)[first:][:count].abs().argmax())

    @property
    def words(self) -> str:
        """What the picture shows."""
        w = torch.tensor(self.row)[self.first : self.first + self.count]
        low, high = (number(end, digits=3) for end in (w.min(), w.max()))
        return (
            f"{len(w)} weights of a row, from {low} to {high}, each joined to the "
            f"nearest tick of a ruler of {self.bits} bits."
        )

    @traitlets.validate("bits", "grid", "keep", "weight")
    def _valid(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        last = self.first + self.count - 1
        weights = f"{self.first} to {last}"
        fits, choice = {
            "bits": (value in BITS, "2 to 8"),
            "grid": (value in GRIDS, ", ".join(GRIDS)),
            "keep": (name != "keep" or LEAST <= value <= 1, "0.3 to 1"),
            "weight": (name != "weight" or self.first <= value <= last, weights),
        }[name]
        if not fits:
            raise ValueError(f"{name} is {value!r}; choose {choice}")
        return value


def quantized(
    row: Float[Tensor, " n"], bits: int, grid: str, keep: float = 1.0
) -> QuantizedTensor:
    """What the picture draws, by the package: the row (1, n) on the ruler that fits
    `keep` of its range.
    """
    scales, zeros = rtn.scale_and_zero(row[None, None] * keep, GRIDS[grid](bits))
    return rtn.quantize_with(row[None], scales, zeros, GRIDS[grid](bits), PER_CHANNEL)


def ruler(row: Float[Tensor, ...], bits: int = 4, **start: object) -> RulerPicture:
    """The live picture of one row; `start` takes what `RulerPicture` does."""
    return RulerPicture(row, bits, **start)
