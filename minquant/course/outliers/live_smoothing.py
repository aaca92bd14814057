"""The live picture of SmoothQuant: α moves the difficulty from X into W.

    smoothing(X, W)                            # the last line of a cell

Pairs of bars show the largest |x| and the largest |w| of a few columns. The reader
moves α, one side becomes flat and the other uneven. `smoothing.js` computes s and the
bars; the errors are measured here, by the package.
"""

from __future__ import annotations

from pathlib import Path

import torch
import traitlets
from jaxtyping import Float, Int
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.course.outliers.errors import layer_error
from minquant.methods import llm_int8, smoothquant
from minquant.methods.rtn import floats

STEPS = 20  # of α, from 0 to 1
COLUMNS = 36  # in view, a third of them the largest of X


class SmoothingPicture(LivePicture):
    """Columns of X and W before and after they are smoothed, and the errors.

    X: inputs (n, in) of a layer. W: its weights (out, in). Both are rounded to 8 bits
    with a ruler for each row. step: α is step / STEPS.

    Raises ValueError if the picture has no such step, or X and W do not fit or have no
    column in which both are not 0; and as `quantize_rtn` does.
    """

    script = Path(__file__).with_name("smoothing.js")

    columns = traitlets.List(traitlets.Int()).tag(sync=True)
    tops = traitlets.Dict().tag(sync=True)
    errors = traitlets.Dict().tag(sync=True)
    without = traitlets.Float().tag(sync=True)
    steps = traitlets.Int(STEPS).tag(sync=True)
    step = traitlets.Int().tag(sync=True)

    def __init__(
        self, X: Float[Tensor, "n in"], W: Float[Tensor, "out cols"], step: int = 10
    ) -> None:
        if step not in range(STEPS + 1):
            raise ValueError(f"step is {step}; choose 0 to {STEPS}")
        X, W = floats(X, "X").float(), floats(W).float()
        if X.shape[1] != W.shape[1]:
            raise ValueError(
                f"X has {X.shape[1]} columns and W {W.shape[1]}; give a layer's own"
            )
        X_top, W_top = X.abs().amax(0), W.abs().amax(0)
        shown = in_view(X_top, W_top)
        if not len(shown):
            raise ValueError("X or W is 0 in every column; there is nothing to smooth")
        rounded = {"both": [], "X": [], "W": []}
        Y = X @ W.T
        for k in range(STEPS + 1):
            s = smoothquant.smoothing_scales(X_top, W_top, k / STEPS)
            X_s, W_s = smoothquant.smooth(X, W, s)
            X_hat, W_hat = (llm_int8.quantize_rows(A).dequantize() for A in (X_s, W_s))
            rounded["both"].append(layer_error(X_hat @ W_hat.T, Y))
            rounded["X"].append(layer_error(X_hat @ W_s.T, Y))
            rounded["W"].append(layer_error(X_s @ W_hat.T, Y))
        super().__init__(
            columns=shown.tolist(),
            tops={"X": X_top[shown].tolist(), "W": W_top[shown].tolist()},
            errors=rounded,
            without=layer_error(llm_int8.llm_int8(X, W, torch.inf), Y),
            step=step,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        return (
            f"The largest |x| and |w| of {len(self.columns)} columns in pairs of bars, "
            "and the error of the layer for each α."
        )


def in_view(
    X_top: Float[Tensor, " in"], W_top: Float[Tensor, " in"]
) -> Int[Tensor, " k"]:
    """Columns to show, from the largest of X down; dead columns are left out."""
    alive = ((X_top > 0) & (W_top > 0)).nonzero()[:, 0]
    order = alive[X_top[alive].argsort(descending=True)]
    if len(order) <= COLUMNS:
        return order
    many = COLUMNS // 3
    rest = torch.linspace(many, len(order) - 1, COLUMNS - many).round().long()
    return torch.cat([order[:many], order[rest]])


def smoothing(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out cols"]
) -> SmoothingPicture:
    """The live picture of one layer."""
    return SmoothingPicture(X, W)
