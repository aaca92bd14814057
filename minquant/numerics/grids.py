"""Which numbers exist: the grids that weights are rounded to, and how to round.

A quantized weight is a small integer, its *code*. A grid says which codes there are and
what each is worth on a ruler of scale 1 with its zero at 0:

    integer grids   the code is the value, all steps are equal
        absmax(4)           −7 … 7        scale = absmax / 7      symmetric
        symmetric_full(4)   −8 … 7        scale = absmax / 7.5    all 16 codes used
        signed(4)           −8 … 7        scale = extreme / −8    the largest |w| exact
        zero_point(4)        0 … 15       scale = range / 15      and a zero to subtract
        TERNARY             −1, 0, 1      scale = mean |w|
    codebooks       the code is a place in an ascending list, the steps are uneven
        NF4                 16 values in −1 … 1, denser near 0
        FP4                 15 values in −6 … 6 (E2M1; its two zeros are one)
        FP8_E4M3, FP8_E5M2  253 values to ±448, 247 to ±57344

Rounding goes to the nearest value. Ties, halfway between two: integer grids round half
to even, as `torch.round` does; codebooks take the lower code (a cast to float8 would
take the even mantissa).

Codes of a codebook count its values from the lowest, so they ascend with the values.
The bit patterns that hardware has for the same numbers do not: there negative numbers
descend, and zero has two patterns.

Lesson 01 shows the bits of the formats, 02 the integer grids, 08 derives NF4.
"""

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.numerics.floats import FORMATS


@dataclass(frozen=True)
class IntegerGrid:
    """The integers low … high, one step apart: the code is the value.

    bits: what a code takes in storage. fit: what the scale is fitted to in each group:
    its largest |w|, its mean |w|, the range from lowest to highest (with a zero), or
    its extreme: the weight with the largest |w|, with its sign. reach: the scale is
    that number over reach.
    """

    name: str
    bits: int
    low: int
    high: int
    reach: float
    fit: Literal["absmax", "range", "absmean", "extreme"] = "absmax"

    @property
    def levels(self) -> range:
        """Every value at scale 1 and zero 0, ascending, one for each code."""
        return range(self.low, self.high + 1)

    @property
    def has_zeros(self) -> bool:
        """True where each group stores a zero beside its scale."""
        return self.fit == "range"


@dataclass(frozen=True)
class Codebook:
    """Any ascending list of values: code i is worth levels[i] at scale 1.

    The largest level is laid on the group's absmax: scale = absmax / levels[-1].
    Raises ValueError if levels do not ascend to a positive one, or if there are more
    than 2^bits.
    """

    name: str
    bits: int
    levels: tuple[float, ...]
    fit = "absmax"
    has_zeros = False
    low = 0

    def __post_init__(self) -> None:
        ascending = all(
            a < b for a, b in zip(self.levels, self.levels[1:], strict=False)
        )
        if not (ascending and self.levels and self.levels[-1] > 0):
            raise ValueError(
                "levels must ascend to a positive one; give sorted(levels)"
            )
        if (n := len(self.levels)) > (most := 2**self.bits):
            raise ValueError(f"levels has {n} values; {self.bits} bits hold {most}")

    @property
    def high(self) -> int:
        """The last code."""
        return len(self.levels) - 1

    @property
    def reach(self) -> float:
        """The largest level, which is laid on the group's absmax."""
        return self.levels[-1]


Grid: TypeAlias = IntegerGrid | Codebook


def absmax(bits: int) -> IntegerGrid:
    """Symmetric: −(2^(b−1)−1) … 2^(b−1)−1, one code unused; scale absmax/(2^(b−1)−1).

    bits: 2 to 16, else ValueError. LLM.int8() (Dettmers et al. 2022) rounds like this.

    >>> absmax(4)
    IntegerGrid(name='absmax', bits=4, low=-7, high=7, reach=7, fit='absmax')
    """
    top = 2 ** (_width(bits) - 1) - 1
    return IntegerGrid("absmax", bits, -top, top, top)


def symmetric_full(bits: int) -> IntegerGrid:
    """All codes, −2^(b−1) … 2^(b−1)−1, with the scale absmax/(2^(b−1)−½).

    The convention of GPTQ's code and of compressed-tensors: steps are shorter than
    absmax's, and no weight is cut by more than half a step. bits: 2 to 16, else
    ValueError.

    >>> symmetric_full(4).levels, symmetric_full(4).reach
    (range(-8, 8), 7.5)
    """
    half = 2 ** (_width(bits) - 1)
    return IntegerGrid("symmetric_full", bits, -half, half - 1, half - 0.5)


def signed(bits: int) -> IntegerGrid:
    """All codes, −2^(b−1) … 2^(b−1)−1, with the scale extreme/−2^(b−1), of either sign.

    The extreme is the weight with the largest |w|; it gets the lowest code, and no
    error. So a step is absmax/2^(b−1), shorter than that of `symmetric_full`; a weight
    near the extreme's size, but of the other sign, is cut by up to a step. This is the
    ruler of llama.cpp's Q4_0 and Q5_0. bits: 2 to 16, else ValueError.

    >>> import minquant as mq
    >>> q = mq.quantize_rtn(torch.tensor([[4.0, -1.0, -3.6]]), signed(4))
    >>> q.codes.tolist(), q.scales.tolist(), q.dequantize().tolist()
    ([[-8, 2, 7]], [[-0.5]], [[4.0, -1.0, -3.5]])
    """
    half = 2 ** (_width(bits) - 1)
    return IntegerGrid("signed", bits, -half, half - 1, -half, fit="extreme")


def zero_point(bits: int) -> IntegerGrid:
    """Asymmetric: 0 … 2^b−1, scale (max − min)/(2^b−1), and an integer zero in range.

    The range always contains 0. bits: 2 to 16, else ValueError.

    >>> zero_point(3)
    IntegerGrid(name='zero_point', bits=3, low=0, high=7, reach=7, fit='range')
    """
    top = 2 ** _width(bits) - 1
    return IntegerGrid("zero_point", bits, 0, top, top, fit="range")


def _width(bits: int) -> int:
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits is {bits}; choose a width from 2 to 16")
    return bits


def nf4_levels(outermost: float = 1 - (1 / 30 + 1 / 32) / 2) -> tuple[float, ...]:
    """NF4's sixteen values, derived: quantiles of the normal, scaled to ±1.

    Weights look normal, so go through the bell curve in equal steps of probability:
    eight above the middle, seven below, joined at an exact 0. Probability 1 lies at
    infinity, so the outermost value stands half a slice before the end (the mean for 15
    and 16 slices). QLoRA's equation 4 gives other values. Lesson 08.
    """

    def quantiles(n: int) -> list[float]:
        """From the outermost probability, in n equal steps towards one half."""
        steps = [outermost + (0.5 - outermost) * i / n for i in range(n)]
        return [NormalDist().inv_cdf(p) for p in steps]

    values = [-v for v in quantiles(7)] + [0.0] + quantiles(8)[::-1]
    return tuple(v / values[-1] for v in values)


def _values(name: str) -> tuple[float, ...]:
    """Every finite value of a small float format, ascending, with one zero."""
    return tuple(FORMATS[name].values().tolist())


# The table published with QLoRA (Dettmers et al. 2023), float32. The grid uses it, not
# `nf4_levels()`, so that its values are those of other programs, bit for bit.
NF4_PUBLISHED = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634),
    *(0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)
NF4 = Codebook("NF4", 4, NF4_PUBLISHED)
FP4 = Codebook("FP4", 4, _values("fp4 e2m1"))
FP8_E4M3 = Codebook("FP8_E4M3", 8, _values("fp8 e4m3"))
FP8_E5M2 = Codebook("FP8_E5M2", 8, _values("fp8 e5m2"))
# Three values carry log2(3) = 1.58 bits, but a code takes two. The scale is the mean
# |w|, as in BitNet b1.58 (Ma et al. 2024); large weights are cut to ±scale.
TERNARY = IntegerGrid("ternary", 2, -1, 1, 1, fit="absmean")


@lru_cache(maxsize=64)
def _nodes(grid: Codebook, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """The levels, and the midpoints between them, where codes change."""
    levels = torch.tensor(grid.levels, dtype=torch.float64, device="cpu")
    middle = (levels[1:] + levels[:-1]) / 2
    return [levels.to(device, dtype), middle.to(device, dtype)]


def code_dtype(grid: Grid) -> torch.dtype:
    """The first of uint8, int8, int16, int32 that holds every code."""
    for dtype in (torch.uint8, torch.int8, torch.int16):
        info = torch.iinfo(dtype)
        if info.min <= grid.low and grid.high <= info.max:
            return dtype
    return torch.int32


def round_to_codes(
    x: Float[Tensor, "*shape"],
    grid: Grid,
    zeros: Integer[Tensor, "*#shape"] | int | None = None,
) -> Integer[Tensor, "*shape"]:
    """The rounding function: codes of the values nearest to x.

    x: weights over their scale. zeros: added after rounding, on a grid that has them;
    they broadcast. (Added before, an odd zero would send ties the other way.) Lesson
    02.

        integers     clamp(round(x) + zero, low, high)
        codebook     how many midpoints between levels lie below x

    >>> round_to_codes(torch.tensor([0.5, 1.5, 2.6, 99.0]), absmax(4))
    tensor([0, 2, 3, 7], dtype=torch.int8)
    >>> round_to_codes(torch.tensor([-9.0, 0.0, 0.25]), FP4)
    tensor([0, 7, 7], dtype=torch.uint8)
    """
    if isinstance(grid, Codebook):
        _, middle = _nodes(grid, x.dtype, x.device)
        return torch.bucketize(x.contiguous(), middle).to(code_dtype(grid))
    codes = x.round() if zeros is None else x.round() + zeros
    return codes.clamp(grid.low, grid.high).to(code_dtype(grid))


def value(
    codes: Integer[Tensor, "*shape"], grid: Grid, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*shape"]:
    """What codes are worth at scale 1 and zero 0: the inverse of `round_to_codes`.

    >>> value(torch.tensor([0, 7, 15]), NF4)
    tensor([-1.,  0.,  1.])
    """
    if isinstance(grid, IntegerGrid):
        return codes.to(dtype)
    levels, _ = _nodes(grid, dtype, codes.device)
    return levels[codes.long()]
