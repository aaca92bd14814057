"""The second live picture of lesson 01: a scale slides the weights over a format.

    scale(flat)                  # weights of any shape: the last line of a cell

Short formats have numbers enough; they lie elsewhere than the weights. Dividing by a
scale moves the weights to them. Shares are counted here, over every weight; `scale.js`
draws them.
"""

from __future__ import annotations

from math import log2
from pathlib import Path

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.numerics.floats import FORMATS, Format

NAMES = "int8", "fp4 e2m1", "fp8 e4m3", "fp8 e5m2"
BIN = 0.5  # powers of 2
STEPS = tuple(k / 4 for k in range(-48, 17))  # scales, as powers of 2


class ScalePicture(LivePicture):
    """The sizes of weights, over the numbers of `NAMES`.

    weights: of any shape and float dtype. name: of the format to begin with.
    Raises ValueError if no weight is other than 0, if one is not finite, or for another
    name.
    """

    script = Path(__file__).with_name("scale.js")

    hill = traitlets.List().tag(sync=True)
    bin = traitlets.Float(BIN).tag(sync=True)
    steps = traitlets.List(STEPS).tag(sync=True)
    formats = traitlets.Dict().tag(sync=True)
    format = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int().tag(sync=True)

    def __init__(self, weights: Float[Tensor, ...], name: str = "int8") -> None:
        if name not in NAMES:
            raise ValueError(f"name is {name!r}; choose from {', '.join(NAMES)}")
        sizes = weights.detach().double().abs().flatten().cpu().sort().values
        if not sizes.isfinite().all() or not sizes.any():
            raise ValueError(
                "weights are all 0, or not all finite; give those of a trained layer"
            )
        powers = (sizes[sizes > 0].log2() / BIN).floor()
        places, counts = powers.unique(return_counts=True)
        super().__init__(
            hill=torch.stack([places * BIN, counts / len(sizes)], dim=1).tolist(),
            formats={name: _facts(FORMATS[name], sizes) for name in NAMES},
            format=name,
            step=STEPS.index(0),
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        own = self.formats[self.format]
        return (
            "A hill of weights by their size, which a scale moves over the numbers of "
            f"{self.format}; unscaled, {own['zero'][STEPS.index(0)]:.1%} of them "
            "become 0."
        )


def _facts(form: Format, sizes: Float[Tensor, " n"]) -> dict[str, object]:
    """The numbers above 0, and for each scale what becomes 0 and what lies beyond.

    sizes: |w|, ascending.
    """
    numbers = [x for x in form.values().tolist() if x > 0]
    scales = torch.tensor([2.0**step for step in STEPS], dtype=torch.float64)
    zero = torch.searchsorted(sizes, scales * numbers[0] / 2, right=True)  # a tie is 0
    inside = torch.searchsorted(sizes, scales * numbers[-1], right=True)
    needed = log2(sizes[-1].item() / numbers[-1])
    return {
        "numbers": numbers,
        "largest": numbers[-1],
        "zero": (zero / len(sizes)).tolist(),
        "beyond": (1 - inside / len(sizes)).tolist(),
        "fit": next((i for i, p in enumerate(STEPS) if p >= needed), len(STEPS) - 1),
    }


def scale(weights: Float[Tensor, ...], name: str = "int8") -> ScalePicture:
    """The live picture of these weights; the arguments are those of `ScalePicture`."""
    return ScalePicture(weights, name)
