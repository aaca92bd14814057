"""The live picture of lesson 06: GPTQ on a small matrix, one column at a time.

    StepperPicture(W, H)                  # the last line of a cell

W and H are of a real layer; in view are a few rows, and the inputs that go together
most. `stepper.js` rounds, pushes and eliminates: its codes are those of
`quantize_gptq` on what is in view.
"""

from __future__ import annotations

from pathlib import Path

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.methods import rtn

BITS = 2, 3, 4
DAMPINGS = 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 100.0
ROWS, COLUMNS = 3, 12


def together(H: Float[Tensor, "in in"], count: int) -> list[int]:
    """The inputs that go together most, in order: two first, and then always the one
    that has most in common with those chosen. An input that was always 0 comes last."""
    size = H.diagonal().sqrt().clamp(min=1e-30)
    alike = (H / torch.outer(size, size)).abs().fill_diagonal_(0)
    chosen = [int(alike.max(dim=1).values.argmax())]
    while len(chosen) < min(count, len(H)):
        common = alike[chosen].sum(0)
        common[chosen] = -1
        chosen.append(int(common.argmax()))
    return sorted(chosen)


class StepperPicture(LivePicture):
    """Three rows and twelve columns of W (out, in), given H = XᵀX (in, in).

    Zero-point rulers of 2 to 4 bits. damping: one of DAMPINGS. turn: how many columns
    are rounded already.

    Raises ValueError for a setting that the picture does not have, or if H does not fit
    W.
    """

    script = Path(__file__).with_name("stepper.js")

    weights = traitlets.List().tag(sync=True)
    H = traitlets.List().tag(sync=True)
    columns = traitlets.List(traitlets.Int()).tag(sync=True)
    dampings = traitlets.List(traitlets.Float()).tag(sync=True)
    damping = traitlets.Int().tag(sync=True)  # a place in dampings
    bits = traitlets.Int().tag(sync=True)
    turn = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        W: Float[Tensor, "out in"],
        H: Float[Tensor, "rows cols"],
        *,
        bits: int = 3,
        damping: float = 0.01,
        turn: int = 0,
    ) -> None:
        width = W.shape[1]
        if tuple(H.shape) != (width, width):
            raise ValueError(
                f"H has shape {tuple(H.shape)}, but W {tuple(W.shape)} needs "
                f"{(width, width)}"
            )
        columns = together(H.double(), COLUMNS)
        for name, value, choices in (
            ("bits", bits, BITS),
            ("damping", damping, DAMPINGS),
            ("turn", turn, range(len(columns) + 1)),
        ):
            if value not in choices:
                seen = ", ".join(map(str, choices))
                raise ValueError(f"{name} is {value}; choose one of {seen}")
        super().__init__(
            weights=rtn.floats(W)[:ROWS, columns].float().tolist(),
            H=H.double()[columns][:, columns].tolist(),
            columns=columns,
            dampings=list(DAMPINGS),
            damping=DAMPINGS.index(damping),
            bits=bits,
            turn=turn,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        return (
            f"{len(self.weights)} rows of {len(self.columns)} weights, rounded column "
            "by column: what a column loses moves those to its right. Beside it what "
            "is left of the inverse of H, and the error of the outputs so far."
        )
