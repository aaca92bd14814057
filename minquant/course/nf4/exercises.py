"""Exercises of lesson 08: NF4's values, the nearest one, and what a matrix takes.

    nf4_levels       16 quantiles of the normal, 8 above 0 and 7 below
    nearest_level    the place of each number's nearest level
    nf4_bytes        the bytes of a matrix in NF4 with double quantization

Ties, numbers beyond the outermost levels, and blocks of scales that are not full are
among the cases: that is where mistakes show.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import NormalDist

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.course.exercises import Exercise
from minquant.numerics import double_quant, grids
from minquant.numerics.bits import packed_bytes
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import round_to_codes

# --- nf4_levels ---


def nf4_levels(outermost: float) -> tuple[float, ...]:
    """16 quantiles of the normal, 8 above 0 and 7 below, divided by the largest."""
    return grids.nf4_levels(outermost)


def _quantile(p: float) -> float:
    """The value that a share p of the normal lies below."""
    return NormalDist().inv_cdf(p)


def _levels(
    outermost: float,
    *,
    below: int = 7,
    above: int = 8,
    zero: bool = True,
    divide: bool = True,
    probabilities: bool = False,
) -> tuple[float, ...]:
    """The derivation, in which one part can be made wrong.

    probabilities: give these, from −1 to 1, instead of the values that they lie below.
    """

    def _half(n: int) -> list[float]:
        """The n sizes on one side of 0, the largest first."""
        steps = [outermost + (0.5 - outermost) * i / n for i in range(n)]
        return [2 * p - 1 if probabilities else _quantile(p) for p in steps]

    values = [-v for v in _half(below)]
    if zero:
        values.append(0.0)
    values += reversed(_half(above))
    most = max(abs(v) for v in values) if divide else 1.0
    return tuple(v / most for v in values)


def _even_slices(outermost: float) -> tuple[float, ...]:
    """The middles of 16 equal slices."""
    values = [_quantile((i + 0.5) / 16) for i in range(16)]
    return tuple(v / values[-1] for v in values)


def _from_end_to_end(outermost: float) -> tuple[float, ...]:
    """Sixteen equal steps from one end to the other, without a joint at 0."""
    steps = [1 - outermost + (2 * outermost - 1) * i / 15 for i in range(16)]
    values = [_quantile(p) for p in steps]
    return tuple(v / values[-1] for v in values)


OUTERMOST = 1 - (1 / 30 + 1 / 32) / 2

check_nf4_levels = Exercise(
    name="nf4_levels",
    task="nf4_levels(outermost) gives 16 values, ascending: quantiles of the normal in "
    "equal steps of probability from 0.5 to outermost, 8 above 0 and 7 below",
    answer=nf4_levels,
    cases={
        "outermost = 1 − (1/30 + 1/32) / 2": (OUTERMOST,),
        "outermost = 0.99": (0.99,),
    },
    mistakes={
        "the values are not scaled: divide them by the largest": (
            lambda p: _levels(p, divide=False)
        ),
        "8 values lie above 0 and 7 below, not the other way round": (
            lambda p: _levels(p, below=8, above=7)
        ),
        "there is no 0: 7 + 1 + 8 values": lambda p: _levels(p, below=8, zero=False),
        "these are probabilities; give the values that they lie below": (
            lambda p: _levels(p, probabilities=True)
        ),
        "the steps run from one end to the other, so 0 is not a value: make two "
        "halves and join them at 0": _from_end_to_end,
        "these are the middles of 16 equal slices; outermost is not used": _even_slices,
        "outermost is an argument; it is not always 0.9677": (
            lambda p: _levels(OUTERMOST)
        ),
    },
    outputs=("the levels",),
    solution="""\
def nf4_levels(outermost):
    def quantiles(n):  # from the outermost probability, n steps towards one half
        p = torch.tensor([outermost + (0.5 - outermost) * i / n for i in range(n)])
        return math.sqrt(2) * torch.erfinv(2 * p.double() - 1)

    above, below = quantiles(8).flip(0), -quantiles(7)
    levels = torch.cat([below, torch.zeros(1), above])
    return levels / levels[-1]
""",
    inside="minquant.numerics.grids.nf4_levels",
)


# --- nearest_level ---


def nearest_level(
    x: Float[Tensor, " n"], levels: Sequence[float]
) -> Integer[Tensor, " n"]:
    """The place of each number's nearest level; the lower one in a tie."""
    return round_to_codes(x, grids.Codebook("yours", 8, tuple(levels)))


def _borders_below(
    x: Float[Tensor, " n"], levels: Sequence[float], share: float, right: bool = False
) -> Tensor:
    """How many borders lie below x; a border lies at this share between two levels.

    right: whether a border at x itself counts.
    """
    values = torch.tensor(levels)
    borders = values[:-1] + share * values.diff()
    return torch.bucketize(x, borders, right=right)


def _on_even_steps(x: Float[Tensor, " n"], levels: Sequence[float]) -> Tensor:
    """Rounding, as if all steps were equal."""
    low, high, n = levels[0], levels[-1], len(levels) - 1
    return ((x - low) / (high - low) * n).round().clamp(0, n).long()


UNEVEN = (-1.0, -0.5, -0.25, 0.0, 0.5, 1.0)
NUMBERS = torch.tensor([-3.0, -0.8, -0.75, -0.3, 0.1, 0.25, 0.26, 0.74, 0.75, 1.7])

check_nearest_level = Exercise(
    name="nearest_level",
    task="nearest_level(x, levels) gives for each x the place (0, 1, …) of the nearest "
    "level; levels ascend, and in a tie the lower wins",
    answer=nearest_level,
    cases={
        "6 levels, x between and beyond them": (NUMBERS, UNEVEN),
        "NF4": (torch.linspace(-1.2, 1.2, 41), grids.NF4_PUBLISHED),
    },
    mistakes={
        "in a tie the lower level wins, not the higher": (
            lambda x, s: _borders_below(x, s, 0.5, right=True)
        ),
        "it takes the level below x; take the nearest": (
            lambda x, s: _borders_below(x, s, 1.0, right=True)
        ),
        "it takes the level above x; take the nearest": (
            lambda x, s: _borders_below(x, s, 0.0)
        ),
        "the steps are not equal: compare with the levels": _on_even_steps,
        "these are the levels themselves; give their places": (
            lambda x, s: torch.tensor(s)[_borders_below(x, s, 0.5)]
        ),
        "the places start at 0": lambda x, s: _borders_below(x, s, 0.5) + 1,
        "the smallest difference may be a negative one; take .abs()": (
            lambda x, s: (x[:, None] - torch.tensor(s)).argmin(1)
        ),
    },
    outputs=("the places",),
    solution="""\
def nearest_level(x, levels):
    levels = torch.tensor(levels)
    middles = (levels[1:] + levels[:-1]) / 2  # where the next level begins
    return (x[:, None] > middles).sum(1)  # in a tie, the lower one
""",
    inside="minquant.numerics.grids.round_to_codes",
)


# --- nf4_bytes ---


def nf4_bytes(n_weights: int, g: int) -> float:
    """Bytes of a matrix in NF4 with double quantization."""
    scales = DoubleQuantized.store(torch.ones(1, n_weights // g), grids.NF4)
    return float(packed_bytes(n_weights, grids.NF4.bits) + scales.nbytes)


def _bytes(
    n: int,
    g: int,
    *,
    per_weight: float = 0.5,
    per_scale: float = 1.0,
    blocks: float | None = None,
    per_block: float = 4.0,
    mean: float = 4.0,
) -> float:
    """The bytes, in which one part can be made wrong. blocks: of scales, how many."""
    n_scales = n / g
    if blocks is None:
        blocks = ceil(n_scales / double_quant.BLOCK)
    return per_weight * n + per_scale * n_scales + per_block * blocks + mean


check_nf4_bytes = Exercise(
    name="nf4_bytes",
    task="nf4_bytes(n_weights, g) gives the bytes of a matrix in NF4 with double "
    "quantization, with all that section 5 lists; a block of scales that is not full "
    "has its number too",
    answer=nf4_bytes,
    cases={
        "4096 × 4096 weights, groups of 64": (4096 * 4096, 64),
        "128 × 128 weights, groups of 32": (128 * 128, 32),
        "96 × 160 weights, groups of 64": (96 * 160, 64),
    },
    mistakes={
        "the scales are forgotten": lambda n, g: n / 2,
        "these are the scales alone; the codes of the weights take 4 bits each": (
            lambda n, g: _bytes(n, g, per_weight=0.0)
        ),
        "a scale takes one byte here, not four: that is what is gained": (
            lambda n, g: _bytes(n, g, per_scale=4.0, per_block=0.0, mean=0.0)
        ),
        "the scales of the scales are forgotten": (
            lambda n, g: _bytes(n, g, per_block=0.0, mean=0.0)
        ),
        "the mean is forgotten: four bytes for the matrix": (
            lambda n, g: _bytes(n, g, mean=0.0)
        ),
        "each block of 256 scales has a number in fp32, four bytes; yours has one": (
            lambda n, g: _bytes(n, g, per_block=1.0)
        ),
        "a block of scales that is not full has its number too: round up": (
            lambda n, g: _bytes(n, g, blocks=n / g / double_quant.BLOCK)
        ),
        "// drops a block of scales that is not full; it has its number too": (
            lambda n, g: _bytes(n, g, blocks=n // g // double_quant.BLOCK)
        ),
        "this is in bits; eight bits are a byte": lambda n, g: 8 * _bytes(n, g),
    },
    outputs=("the bytes",),
    solution="""\
def nf4_bytes(n_weights, g):
    scales = n_weights / g  # 8 bits each
    blocks = math.ceil(scales / 256)  # of scales: a number of 32 bits each
    return n_weights / 2 + scales + 4 * blocks + 4  # and the mean of the scales
""",
    inside="minquant.DoubleQuantized",
)
