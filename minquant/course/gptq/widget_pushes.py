"""The widget of GPTQ: step from column to column, and see errors move to the right.

    pushes(W, H)            # a weight matrix (out, in) and its H: the last line

The reader moves the turn, the row, the bits, the damping and the order of the columns.
What each weight becomes, what it pushes, and the layer's error are read from the
result of `quantize_gptq` (`pushing`). Each way to quantize is computed when it is first
asked for, and remembered. Lesson 06 shows it.
"""

from __future__ import annotations

from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.course.gptq.figure_pushes import PUSH, ROW, WINDOW, PushesPicture
from minquant.course.gptq.pushing import Pushing
from minquant.course.live.controls import choice, integer, switch
from minquant.course.live.dashboard import Dashboard, Frame, Spot
from minquant.course.live.markup import paragraph, steps_table
from minquant.numerics.grids import zero_point

DAMPINGS = {"0.1 %": 0.001, "1 %": 0.01, "10 %": 0.1, "100 %": 1.0}


def pushes(
    W: Float[Tensor, "out in"],
    H: Float[Tensor, "rows cols"],
    *,
    bits: int = 3,
    damping: float = 0.01,
    act_order: bool = False,
    row: int = 0,
    turn: int = 0,
) -> Dashboard:
    """The widget on one matrix, given H = XᵀX (in, in) of its inputs.

    Zero-point rulers, one for each row. The other arguments are first values.

    Raises ValueError if damping is not one of DAMPINGS, or H does not fit W.
    """
    if damping not in DAMPINGS.values():
        raise ValueError(
            f"damping is {damping}; choose from "
            f"{', '.join(map(str, DAMPINGS.values()))}"
        )
    W, H = W.detach().float().cpu(), H.detach().cpu()
    out, width = W.shape

    @lru_cache(maxsize=16)
    def _pushing(bits: int, damping: float, act_order: bool) -> Pushing:
        grid = zero_point(bits)
        return Pushing.of(W, H, grid, damping=damping, act_order=act_order)

    picture = PushesPicture(_pushing(bits, damping, act_order), row, turn)

    def _draw(turn: int, row: int, bits: int, damping: float, act_order: bool) -> Frame:
        pushing = _pushing(bits, damping, act_order)
        picture.update(pushing, row, turn)
        words = paragraph(pushing.describe(row, turn))
        details = steps_table(pushing.arithmetic(row, turn), gap=10)
        return Frame(picture.fig, words, details, _spots(pushing, row, turn))

    return Dashboard(
        _draw,
        {
            "turn": integer("turn", turn, 0, width - 1),
            "row": integer("row", row, 0, out - 1),
            "bits": integer("bits", bits, 2, 8),
            "damping": choice("damping", damping, DAMPINGS),
            "act_order": switch("largest inputs first", act_order),
        },
    )


def _spots(pushing: Pushing, row: int, turn: int) -> list[Spot]:
    """Texts under the pointer: what each column was and is, and its last move."""
    width = pushing.W.shape[1]
    first = max(0, min(turn - WINDOW // 4, width - WINDOW))
    count = min(WINDOW, width)
    left, top, wide, _ = ROW
    each, tall = wide / count, PUSH[1] + PUSH[3] - top
    was, now = pushing.W[row].tolist(), pushing.now(row, turn).tolist()
    moves, columns = pushing.pushed(row, turn).tolist(), pushing.order.tolist()
    return [
        Spot(
            left + each * (j - first),
            top,
            each,
            tall,
            f"column {columns[j]}: was {number(was[j])}, is {number(now[j])}; moved by "
            f"{number(moves[j], digits=3, sign=True)} now",
        )
        for j in range(first, first + count)
    ]
