"""Exercises of lesson 03: many short rulers, their true cost, and where they end.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.course.rounding.checks_rounding import HEAVY, ROUNDINGS, TIES, absmax_with
from minquant.methods import rtn
from minquant.numerics import groups
from minquant.numerics.tensor import QuantizedTensor

KEEPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
HALVES = torch.tensor([7.0, -0.5, -2.5, 1.5, -7.0, 2.5, -1.5, 0.25])
SMALL = torch.stack([TIES, HEAVY, 10 * HEAVY.flip(0), HALVES])

bits_per_weight = Exercise(
    name="bits_per_weight",
    task="bits_per_weight(bits, g, scale_bits=16, zero_bits=0) gives what one weight "
    "takes, with its share of the scale and the zero that g weights have in common",
    answer=answers.bits_per_weight,
    cases={
        "4 bits, fp16 scales per 128": (4, 128),
        "4 bits, scales and zeros per 128": (4, 128, 16, 4),
        "3 bits, 8-bit scales per 32": (3, 32, 8),
    },
    mistakes={
        "the scales and zeros are forgotten": lambda b, g, s=16, z=0: b,
        "the scales are forgotten": lambda b, g, s=16, z=0: b + z / g,
        "the zeros are forgotten": lambda b, g, s=16, z=0: b + s / g,
        "one scale serves g weights: divide its bits by g": (
            lambda b, g, s=16, z=0: b + s + z
        ),
        "only the scale is divided by g; the zero too serves g weights": (
            lambda b, g, s=16, z=0: b + s / g + z
        ),
        "this is a whole group; divide by g": lambda b, g, s=16, z=0: b * g + s + z,
        "scale_bits is an argument; it is not always 16": (
            lambda b, g, s=16, z=0: b + (16 + z) / g
        ),
    },
    outputs=("bits per weight",),
    shows=(answers.bits_per_weight, QuantizedTensor.nbytes, QuantizedTensor._parts),
)


def _in_groups(
    W: Float[Tensor, "out in"],
    bits: int,
    g: int,
    *,
    absmax: Callable | None = None,
    top: int = 0,
    rounding: Callable = torch.round,
) -> tuple[Tensor, Tensor]:
    """absmax in groups with one part to be made wrong.

    absmax: a function of the groups (out, n_groups, g), which gives their largest.
    """
    cut = W.reshape(len(W), -1, g)  # (out, n_groups, g)
    most = cut.abs().amax(-1) if absmax is None else absmax(cut)
    scales = most.expand(cut.shape[:2]) / (top or 2 ** (bits - 1) - 1)
    codes = rounding(cut / scales[..., None]).reshape(W.shape)
    return codes.to(torch.int32), scales


def _of_rows(cut: Tensor) -> Tensor:
    return cut.abs().amax((1, 2))[:, None]


def _strided(W: Tensor, bits: int, g: int) -> tuple[Tensor, Tensor]:
    """Every n-th weight of a row to one group, as reshape(out, g, -1) does."""
    cut = W.reshape(len(W), g, -1)  # (out, g, n_groups)
    scales = cut.abs().amax(1) / (2 ** (bits - 1) - 1)
    codes = (cut / scales[:, None]).round().reshape(W.shape)
    return codes.to(torch.int32), scales


absmax_groups = Exercise(
    name="absmax_groups",
    task="absmax_groups(W, bits, g) gives codes (out, in) and scales (out, in / g): a "
    "ruler for every g neighbours of a row",
    answer=answers.absmax_groups,
    cases={
        "4 rows of 8, groups of 4, 4 bits": (SMALL, 4, 4),
        "4 rows of 8, groups of 2, 3 bits": (SMALL, 3, 2),
    },
    mistakes={
        "there is one scale for the whole tensor; each group has its own": (
            lambda W, b, g: _in_groups(W, b, g, absmax=lambda c: c.abs().amax())
        ),
        "there is one scale for each row; each group has its own": (
            lambda W, b, g: _in_groups(W, b, g, absmax=_of_rows)
        ),
        "all rows share their scales; each row has its own": (
            lambda W, b, g: _in_groups(W, b, g, absmax=lambda c: c.abs().amax((0, 2)))
        ),
        "a group is g neighbours; reshape to (out, in / g, g)": _strided,
        "the largest weight in size may be negative; take .abs() before the maximum": (
            lambda W, b, g: _in_groups(W, b, g, absmax=lambda c: c.amax(-1))
        ),
        "the highest code is 2^(b−1) − 1, one bit being the sign, not 2^b − 1": (
            lambda W, b, g: _in_groups(W, b, g, top=2**b - 1)
        ),
        "the highest code is 2^(b−1) − 1, one less than yours": (
            lambda W, b, g: _in_groups(W, b, g, top=2 ** (b - 1))
        ),
        "the codes are the weights themselves; divide by the scale and round": (
            lambda W, b, g: (W, _in_groups(W, b, g)[1])
        ),
        **{
            words: lambda W, b, g, rule=rule: _in_groups(W, b, g, rounding=rule)
            for words, rule in ROUNDINGS.items()
        },
    },
    outputs=("codes", "scales"),
    shows=(answers.absmax_groups, groups.split, rtn.quantize_rtn),
)


def _cut(w: Tensor, bits: int, keep: float, *, clamp: bool = True) -> Tensor:
    """The row after rounding to an absmax ruler of this share."""
    top, scale = 2 ** (bits - 1) - 1, absmax_with(w, bits)[1] * keep
    codes = (w / scale).round()
    return (codes.clamp(-top, top) if clamp else codes) * scale


def _best(
    w: Tensor, bits: int, keeps: Sequence[float], loss: Callable, **changes: bool
) -> float:
    return min(keeps, key=lambda k: float(loss(_cut(w, bits, k, **changes) - w)))


_GENERATOR = torch.Generator().manual_seed(3)
NORMAL = torch.randn(512, generator=_GENERATOR)
TAILED = NORMAL * (1 + 0.35 * NORMAL.abs())  # a few weights far out

best_clip = Exercise(
    name="best_clip",
    task="best_clip(w, bits, keeps) gives the share of the absmax ruler, one of keeps, "
    "with the least mean squared error",
    answer=answers.best_clip,
    cases={
        "512 weights, a few far out, 3 bits": (TAILED, 3, KEEPS),
        "512 normal weights, 3 bits": (NORMAL, 3, KEEPS),
        "512 weights, a few far out, 2 bits": (TAILED, 2, KEEPS),
        "512 normal weights, 8 bits": (NORMAL, 8, KEEPS),
    },
    mistakes={
        "clipping costs nothing in your error, so the shortest ruler wins: clamp the "
        "codes, and compare with the weights as they were": (
            lambda w, b, k: _best(w, b, k, lambda e: e.square().mean(), clamp=False)
        ),
        "this has the least largest error; take the mean of the squares": (
            lambda w, b, k: _best(w, b, k, lambda e: e.abs().max())
        ),
        "this has the least mean |error|; take the mean of the squares": (
            lambda w, b, k: _best(w, b, k, lambda e: e.abs().mean())
        ),
        "this has the least mean error, where + and − cancel; square it first": (
            lambda w, b, k: _best(w, b, k, lambda e: e.mean().abs())
        ),
        "this has the greatest error; take the least": (
            lambda w, b, k: _best(w, b, k, lambda e: -e.square().mean())
        ),
    },
    outputs=("the share",),
    shows=(answers.best_clip, rtn._least_error),
)

EXERCISES = (bits_per_weight, absmax_groups, best_clip)
