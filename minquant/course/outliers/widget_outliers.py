"""The outlier threshold on real activations: columns light up, the rest gets a ruler.

    outlier_threshold({"layer": (X, W)})        # the last line of a cell

The reader moves the threshold of LLM.int8() and sees which columns of X are taken out,
how fine the ruler of one token becomes, the error and what share is multiplied in
floats. Every number is that of `llm_int8`; each layer's curves are computed when it is
first chosen, and remembered. Lesson 05 shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.course.live.controls import choice, decimal, integer
from minquant.course.live.dashboard import Dashboard, Frame, Spot
from minquant.course.outliers.figure_outlier_split import COLUMNS, SplitPicture
from minquant.course.outliers.outlier_split import Parted, Sweep

KEPT = {"16 bits, the paper": torch.float16, "int8, bitsandbytes": "int8"}
Layer = tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]


def outlier_threshold(
    layers: Mapping[str, Layer],
    *,
    threshold: float = 6.0,
    token: int = 0,
    kept: str = "16 bits, the paper",
) -> Dashboard:
    """The widget. layers: name to X (n, in), inputs of a layer, and its W (out, in).

    threshold, token: the first values. kept: what the outlier columns of W are held in,
    one of KEPT. Raises ValueError if there is no layer.
    """
    if not layers:
        raise ValueError("layers is empty; give at least one, a name to (X, W)")
    study = Study(layers)
    tokens = min(len(X) for X, _ in study.layers.values())
    highest = ceil(max(X.abs().max().item() for X, _ in study.layers.values())) + 1
    return Dashboard(
        study.draw,
        {
            "threshold": decimal("threshold", threshold, 0, highest, step=0.5),
            "token": integer("token", token, 0, tokens - 1),
            "layer": choice("layer", next(iter(layers)), list(layers)),
            "kept": choice("outliers of W", kept, list(KEPT)),
        },
    )


class Study:
    """Layers and their curves: computes when asked, remembers, draws."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self.layers = {
            name: tuple(A.detach().float().cpu() for A in pair)
            for name, pair in layers.items()
        }
        self.sweep = lru_cache(maxsize=32)(self._sweep)
        self.picture: SplitPicture | None = None

    def _sweep(self, layer: str, kept: str) -> Sweep:
        return Sweep.of(*self.layers[layer], outlier_weights=KEPT[kept])

    def draw(self, *, threshold: float, token: int, layer: str, kept: str) -> Frame:
        """The picture, the words, the texts under the pointer."""
        how = {"outlier_weights": KEPT[kept]}
        parted = Parted.of(*self.layers[layer], threshold, token, **how)
        sweep = self.sweep(layer, kept)
        if self.picture is None:
            self.picture = SplitPicture(sweep, parted)
        else:
            self.picture.update(sweep, parted)
        told = (
            f"{parted.describe()} With nothing taken out the error is "
            f"{sweep.whole:.2%} of Y."
        )
        words = f'<p style="margin:0 0 6px">{told}</p>'
        return Frame(self.picture.fig, words, spots=_spots(parted))


def _spots(parted: Parted) -> list[Spot]:
    """Under the pointer: each column, its largest |x|, and what becomes of it."""
    left, top, wide, tall = COLUMNS
    each = wide / (len(parted.tops) + 1)
    return [
        Spot(
            left + each * (j + 0.5),
            top,
            each,
            tall,
            f"column {j}: largest |x| {number(size, digits=3)}, "
            f"{'taken out' if gone else 'stays'}",
        )
        for j, (size, gone) in enumerate(zip(parted.tops, parted.taken, strict=True))
    ]
