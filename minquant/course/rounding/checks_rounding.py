"""Exercise of lesson 02: one row on a symmetric ruler.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
The rows hold ties, values halfway between two ticks, because that is where rules of
rounding differ; and their largest weight in size is a negative one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Num
from torch import Tensor

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.methods import rtn
from minquant.numerics import grids

TIES = torch.tensor([-7.0, 0.5, 1.5, 2.5, -0.5, -3.5, 4.2, 0.0])
HEAVY = torch.tensor([0.013, -0.094, 0.041, 0.002, -0.027, 0.0585, -0.0113, 0.03])


def half_up(x: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Ties up: what adding ½ and cutting off does."""
    return (x + 0.5).floor()


def half_away(x: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Ties away from 0: what is taught at school."""
    return x.sign() * (x.abs() + 0.5).floor()


ROUNDINGS: dict[str, Callable] = {
    "it rounds down (floor); take the nearest": torch.floor,
    "it cuts towards 0, as .int() does; round first": torch.trunc,
    "ties go up; torch.round takes the even one (0.5 becomes 0)": half_up,
    "ties go away from 0; torch.round takes the even one": half_away,
}


def absmax_with(
    w: Float[Tensor, " n"],
    bits: int,
    *,
    top: int = 0,
    rounding: Callable = torch.round,
    signed: bool = False,
) -> tuple[Tensor, Tensor]:
    """absmax with one part to be made wrong."""
    top = top or 2 ** (bits - 1) - 1
    scale = (w if signed else w.abs()).max() / top
    return rounding(w / scale).to(torch.int32), scale


def _fake(w: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    codes, scale = absmax_with(w, bits)
    return codes * scale, scale


def _inverse(w: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    codes, scale = absmax_with(w, bits)
    return codes, 1 / scale


absmax_row = Exercise(
    name="absmax_row",
    task="absmax_row(w, bits) gives codes and scale of a row of weights on the "
    "symmetric grid −(2^(b−1)−1) … 2^(b−1)−1",
    answer=answers.absmax_row,
    cases={
        "a row with ties, 4 bits": (TIES, 4),
        "8 small weights, 8 bits": (HEAVY, 8),
        "8 small weights, 3 bits": (HEAVY, 3),
    },
    mistakes={
        "the codes are the weights themselves; divide by the scale and round": (
            lambda w, bits: (w, absmax_with(w, bits)[1])
        ),
        "these are values again (codes × scale); return the codes": _fake,
        "the scale is its own inverse; a step is absmax / (2^(b−1) − 1)": _inverse,
        "the largest weight in size is negative; take .abs() before .max()": (
            lambda w, bits: absmax_with(w, bits, signed=True)
        ),
        "the highest code is 2^(b−1) − 1, one bit being the sign, not 2^b − 1": (
            lambda w, bits: absmax_with(w, bits, top=2**bits - 1)
        ),
        "the highest code is 2^(b−1) − 1, one less than yours": (
            lambda w, bits: absmax_with(w, bits, top=2 ** (bits - 1))
        ),
        **{
            words: lambda w, bits, rule=rule: absmax_with(w, bits, rounding=rule)
            for words, rule in ROUNDINGS.items()
        },
    },
    outputs=("codes", "scale"),
    shows=(answers.absmax_row, grids.absmax, rtn._step, grids.round_to_codes),
)

EXERCISES = (absmax_row,)
