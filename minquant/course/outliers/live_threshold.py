"""The live picture of LLM.int8(): the columns that a threshold takes out of X.

    threshold({"SmolLM2": (X, W)})             # the last line of a cell

The reader moves the threshold: columns light up, the error falls, and the work that is
done in floats grows. The errors are measured here, by the package; `threshold.js` finds
the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.course.outliers.errors import layer_error
from minquant.methods import llm_int8
from minquant.methods.rtn import floats

THRESHOLDS = (
    *(0.25, 0.35, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80),
    *(100, 150, 200, 300, 500, 1000, 2000, torch.inf),
)
Layer = tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]


class ThresholdPicture(LivePicture):
    """Which columns of X a threshold takes out, and the error that is left.

    layers: name to X (n, in), inputs of a layer, and its W (out, in). threshold: one of
    THRESHOLDS. layer: the one that is shown first.

    Raises ValueError if there is no layer, or if the picture has no such threshold or
    layer; and as `llm_int8.llm_int8` does.
    """

    script = Path(__file__).with_name("threshold.js")

    thresholds = traitlets.List().tag(sync=True)
    layers = traitlets.Dict().tag(sync=True)
    layer = traitlets.Unicode().tag(sync=True)
    place = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        layers: Mapping[str, Layer],
        threshold: float = torch.inf,
        layer: str | None = None,
    ) -> None:
        if not layers:
            raise ValueError("layers is empty; give at least one, a name to (X, W)")
        if threshold not in THRESHOLDS:
            known = ", ".join(map(str, THRESHOLDS))
            raise ValueError(f"threshold is {threshold}; choose from {known}")
        layer = next(iter(layers)) if layer is None else layer
        if layer not in layers:
            raise ValueError(f"layer is {layer!r}; choose from {', '.join(layers)}")
        super().__init__(
            thresholds=[t if t < torch.inf else None for t in THRESHOLDS],
            layers={name: _facts(*pair) for name, pair in layers.items()},
            layer=layer,
            place=THRESHOLDS.index(threshold),
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        return (
            f"The largest |x| of each column of X in {self.layer}, the columns that a "
            "threshold takes out, and the error that is left."
        )


def _facts(X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]) -> dict[str, object]:
    """The largest |x| of each column, and the layer error at each threshold."""
    X, W = floats(X).float(), floats(W).float()
    Y = X @ W.T
    W_q, kept = llm_int8.quantize_rows(W), llm_int8.kept_weights(W, torch.float16)
    errors = [
        layer_error(llm_int8.mixed_product(X, W_q, kept, t), Y) for t in THRESHOLDS
    ]
    return {"tops": X.abs().amax(0).tolist(), "errors": errors}


def threshold(layers: Mapping[str, Layer], **start: object) -> ThresholdPicture:
    """The live picture; the arguments are those of `ThresholdPicture`."""
    return ThresholdPicture(layers, **start)
