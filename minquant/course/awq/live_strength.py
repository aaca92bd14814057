"""The live picture of lesson 07: AWQ's strength, and the error of each column.

    StrengthPicture({"uneven": (W, X), "even": (V, Y)})      # the last line of a cell

`strength.js` rounds the scaled weights and measures the errors, column by column and of
all outputs, at each of the 20 strengths that AWQ tries. What it needs is measured here:
the weights, H = XᵀX / n, and the scales as AWQ stores them. Columns stand in the order
of their inputs, the largest first.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.methods.awq import RATIOS, input_scales
from minquant.methods.rtn import floats, inputs
from minquant.numerics.grids import zero_point
from minquant.numerics.scales import store_input_scales

BITS = range(2, 6)


class StrengthPicture(LivePicture):
    """Matrices under AWQ's input scales, with a zero-point ruler per row.

    layers: by name, W (out, in) and its inputs X (n, in). name: the one shown. bits:
    of a code, 2 to 5. step: which of the 20 strengths 0, 0.05, … 0.95.

    Raises ValueError if there is no layer, if X does not fit W, or for a setting that
    the picture does not have.
    """

    script = Path(__file__).with_name("strength.js")

    layers = traitlets.Dict().tag(sync=True)
    strengths = traitlets.List(traitlets.Float()).tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)
    bits = traitlets.Int().tag(sync=True)
    step = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        layers: Mapping[str, tuple[Float[Tensor, ...], Float[Tensor, ...]]],
        name: str | None = None,
        *,
        bits: int = 3,
        step: int = 0,
    ) -> None:
        if not layers:
            raise ValueError("layers is empty; give at least one name with (W, X)")
        super().__init__(
            layers={key: _facts(*layer) for key, layer in layers.items()},
            strengths=list(RATIOS),
            name=next(iter(layers)) if name is None else name,
            bits=bits,
            step=step,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        return (
            "The error of each column of a matrix, those with the largest inputs "
            "first, before and after scaling; below it the error of all outputs for "
            f"{len(self.strengths)} strengths."
        )

    @traitlets.validate("name", "bits", "step")
    def _valid(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {
            "name": list(self.layers),
            "bits": BITS,
            "step": range(len(self.strengths)),
        }[name]
        if value not in allowed:
            choices = ", ".join(map(str, allowed))
            raise ValueError(f"{name} is {value}; choose one of {choices}")
        return value


def order(X: Float[Tensor, "n in"]) -> Tensor:
    """The columns, those with the largest inputs first."""
    return X.abs().mean(0).argsort(descending=True, stable=True)


def _facts(W: Float[Tensor, ...], X: Float[Tensor, ...]) -> dict[str, object]:
    """One layer as the picture reads it, its columns sorted."""
    W = floats(W).cpu().float()
    X = inputs(X.cpu(), W).float()
    sizes = X.abs().mean(0)
    scales = [
        store_input_scales(input_scales(sizes, ratio), torch.float16, zero_point(4))
        for ratio in RATIOS
    ]
    place = order(X)
    return {
        "rows": len(W),
        "inputs": sizes[place].tolist(),
        "weights": _encoded(W[:, place]),
        "H": _encoded((X.T @ X / len(X))[place][:, place]),
        "scales": _encoded(torch.stack(scales).float()[:, place]),
    }


def _encoded(numbers: Float[Tensor, ...]) -> str:
    """float32 numbers, row by row, in base64."""
    return base64.b64encode(numbers.contiguous().numpy().tobytes()).decode()
