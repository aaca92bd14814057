"""The outlier threshold on real activations: columns light up, the rest gets a ruler.

    outlier_threshold({"layer": (X, W)})        # the last line of a cell

The reader moves the threshold of LLM.int8() and sees which columns of X are taken out,
how fine the ruler of one token becomes, the error, and the share of columns that is
multiplied in floats. Every number comes from `llm_int8`; the curves of a layer are
computed when it is first chosen, and remembered. Lesson 05 shows it.
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
from minquant.course.live.markup import paragraph
from minquant.course.outliers.figure_outlier_split import COLUMNS, SplitPicture
from minquant.course.outliers.outlier_split import OutlierSplit, Sweep

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

    threshold, token: the first values. kept: how the outlier columns of W are stored,
    one of KEPT.

    Raises ValueError if there is no layer.
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
    """Layers and their curves: computes them when asked, remembers and draws them."""

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
        X, W = self.layers[layer]
        split = OutlierSplit.of(X, W, threshold, token, outlier_weights=KEPT[kept])
        sweep = self.sweep(layer, kept)
        if self.picture is None:
            self.picture = SplitPicture(sweep, split)
        else:
            self.picture.update(sweep, split)
        words = paragraph(
            f"{split.describe()} With nothing taken out the error is "
            f"{sweep.without:.2%} of Y."
        )
        return Frame(self.picture.fig, words, spots=_spots(split))


def _spots(split: OutlierSplit) -> list[Spot]:
    """Texts under the pointer: each column, its largest |x|, whether it stays."""
    left, top, wide, tall = COLUMNS
    each = wide / (len(split.largest) + 1)
    return [
        Spot(
            left + each * (j + 0.5),
            top,
            each,
            tall,
            f"column {j}: largest |x| {number(size, digits=3)}, "
            f"{'taken out' if outlier else 'stays'}",
        )
        for j, (size, outlier) in enumerate(
            zip(split.largest, split.outliers, strict=True)
        )
    ]
