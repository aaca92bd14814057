"""What a number's bits say: the formats that weights are kept in, taken apart.

    sign   exponent e   fraction f            value of a pattern of bits
    ┌───┐  ┌─────────┐  ┌─────────────┐       (−1)^sign × 2^(e − bias) × (1 + f / 2^F)
    │ 0 │  │  01101  │  │ 1001100110  │       and for e = 0, the subnormals,
    └───┘  └─────────┘  └─────────────┘       (−1)^sign × 2^(1 − bias) × f / 2^F

E exponent bits choose a power of two, F fraction bits cut the stretch from it to the
next into 2^F equal steps: so the gap between neighbours doubles with every power of
two, and the *relative* gap stays. The number 1 has e = bias = 2^(E−1) − 1.

Formats differ in what the last exponent means; `top` says it here:

    "inf"      IEEE 754, fp32, fp16, bf16, e5m2: f = 0 is infinity, the rest is NaN
    "nan"      e4m3fn: only the pattern of all ones is NaN, the others are numbers
    "number"   e2m1 (OCP MX, 2023): every pattern is a number

`encode` rounds to the nearest, half to even. A number half a step or more beyond the
largest becomes infinity. In a format without infinity it becomes the largest number
(torch 2.13 does the same for e4m3fn, other converters make it NaN: the paper leaves it
open). The formats of 8 bits: Micikevicius et al. (2022), "FP8 formats for deep
learning", table 1. `IntFormat` is two's complement, for comparison. Lesson 01.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import copysign, frexp, inf, isnan, nan

import numpy as np
from jaxtyping import Float

_RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Fields:
    """A pattern cut into its three fields, and the kind of number that they make.

    kind: 'normal', 'subnormal', 'zero', 'infinity', 'NaN' or 'integer'.
    """

    sign: int
    exponent: int
    fraction: int
    kind: str


class _Format:
    """What float and integer formats share."""

    @cached_property
    def bits(self) -> int:
        """Bits of one number."""
        return 1 + self.exponent_bits + self.fraction_bits

    def fields(self, pattern: int) -> Fields:
        """Sign, exponent and fraction of a pattern, as whole numbers."""
        if not 0 <= pattern < 2**self.bits:
            last = 2**self.bits - 1
            raise ValueError(
                f"pattern is {pattern}; {self.name} has patterns 0 to {last}"
            )
        sign = pattern >> (self.bits - 1)
        exponent = (pattern >> self.fraction_bits) % 2**self.exponent_bits
        fraction = pattern % 2**self.fraction_bits
        return Fields(sign, exponent, fraction, self._kind(exponent, fraction))

    def values(self) -> Float[np.ndarray, " numbers"]:
        """Every number of the format once, ascending.

        Raises ValueError for a format of more than 16 bits.
        """
        if self.bits > 16:
            raise ValueError(f"{self.name} has too many values; list 16 bits or less")
        every = np.array([self.decode(pattern) for pattern in range(2**self.bits)])
        return np.unique(every[np.isfinite(every)]) + 0.0  # −0 and 0 are one number

    def neighbours(self, pattern: int) -> tuple[float | None, float | None]:
        """The numbers next below and above a pattern's; None where there is none."""
        number, every = self.decode(pattern), 2**self.bits
        smallest = 1, every // 2 + 1  # of each sign: the neighbours of zero
        near = [self.decode(p % every) for p in (pattern - 1, pattern + 1, *smallest)]
        below = [x for x in near if x < number]
        above = [x for x in near if x > number]
        return max(below, default=None), min(above, default=None)


@dataclass(frozen=True)
class FloatFormat(_Format):
    """A floating-point format: 1 sign bit, E exponent bits, F fraction bits.

    >>> half = FORMATS["fp16"]
    >>> half.bits, half.bias, half.largest
    (16, 15, 65504.0)
    >>> half.decode(half.encode(0.1))
    0.0999755859375
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    top: str = "inf"

    @cached_property
    def bias(self) -> int:
        """The exponent field of the numbers from 1 to 2."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def largest(self) -> float:
        """The largest number."""
        return self.decode(self._last)

    @property
    def smallest(self) -> float:
        """The smallest number above 0, a subnormal."""
        return self.decode(1)

    @property
    def smallest_normal(self) -> float:
        """The smallest number that has all fraction bits."""
        return self.decode(2**self.fraction_bits)

    def decode(self, pattern: int) -> float:
        """The value of a pattern, exact in a Python float. Equation above."""
        field = self.fields(pattern)
        if field.kind in ("infinity", "NaN"):
            size = inf if field.kind == "infinity" else nan
        else:
            lead = 0 if field.exponent == 0 else 1
            power = max(field.exponent, 1) - self.bias
            size = 2.0**power * (lead + field.fraction / 2**self.fraction_bits)
        return -size if field.sign else size

    def encode(self, x: float) -> int:
        """The pattern of the number nearest to x, half to even.

        n counts steps in |x|; near |x| a step is 2^(power − fraction_bits). The leading
        1 that no pattern stores, and what rounding carries, are added to the exponent.

        Raises ValueError if x is NaN and the format has none.
        """
        sign = int(copysign(1, x) < 0) << (self.bits - 1)
        if isnan(x):
            return sign | self._nan
        if abs(x) == inf:
            return sign | self._beyond
        lowest = 1 - self.bias
        power = max(frexp(x)[1] - 1, lowest) if x else lowest  # floor(log2 |x|)
        n = round(abs(x) / 2.0 ** (power - self.fraction_bits))
        size = ((power - lowest) << self.fraction_bits) + n
        return sign | (size if size <= self._last else self._beyond)

    def spell(self, pattern: int) -> str:
        """The value as arithmetic on the fields.

        >>> print(FORMATS["fp8 e4m3"].spell(0b1_0111_100))
        (−1)¹ × 2⁷⁻⁷ × (1 + 4/8)
        """
        field, steps = self.fields(pattern), 2**self.fraction_bits
        sign = f"(−1){str(field.sign).translate(_RAISED)} × "
        if field.kind == "infinity":
            return sign + "∞"
        if field.kind == "NaN":
            return "not a number"
        lead = "" if field.exponent == 0 else "1 + "
        fraction = f"{lead}{field.fraction}/{steps}"
        power = f"{max(field.exponent, 1)}-{self.bias}".translate(_RAISED)
        return sign + f"2{power} × ({fraction})"

    @cached_property
    def _last(self) -> int:
        """The pattern of the largest number."""
        special = {"inf": 2**self.fraction_bits, "nan": 1, "number": 0}[self.top]
        return 2 ** (self.bits - 1) - 1 - special

    @property
    def _beyond(self) -> int:
        """The pattern of a number that is too large: infinity, or the largest."""
        return self._last + 1 if self.top == "inf" else self._last

    @property
    def _nan(self) -> int:
        if self.top == "number":
            raise ValueError(f"x is NaN, which {self.name} cannot say; give a number")
        return 2 ** (self.bits - 1) - 1  # all ones

    def _kind(self, exponent: int, fraction: int) -> str:
        size = (exponent << self.fraction_bits) + fraction
        if size > self._last:
            at_infinity = self.top == "inf" and fraction == 0
            return "infinity" if at_infinity else "NaN"
        if exponent:
            return "normal"
        return "subnormal" if fraction else "zero"


@dataclass(frozen=True)
class IntFormat(_Format):
    """Whole numbers in two's complement: the first bit is worth −2^(bits − 1).

    >>> FORMATS["int8"].decode(0b1111_1111)
    -1.0
    """

    name: str
    fraction_bits: int  # all but the first: they are worth 2^(bits − 2), …, 2, 1
    exponent_bits: int = 0

    def decode(self, pattern: int) -> float:
        """The value of a pattern."""
        field = self.fields(pattern)
        return float(field.fraction - field.sign * 2**self.fraction_bits)

    def encode(self, x: float) -> int:
        """The pattern of the whole number nearest to x, half to even, clamped."""
        if isnan(x):
            raise ValueError(f"x is NaN, which {self.name} cannot say; give a number")
        end = 2**self.fraction_bits
        return round(min(max(x, -end), end - 1)) % 2**self.bits

    def spell(self, pattern: int) -> str:
        """The value as arithmetic: what the first bit is worth, and the rest."""
        field = self.fields(pattern)
        return f"{field.sign} × (−{2**self.fraction_bits}) + {field.fraction}"

    def _kind(self, exponent: int, fraction: int) -> str:
        return "integer"


Format = FloatFormat | IntFormat

FORMATS: dict[str, Format] = {
    "fp32": FloatFormat("fp32", 8, 23),
    "fp16": FloatFormat("fp16", 5, 10),
    "bf16": FloatFormat("bf16", 8, 7),
    "fp8 e4m3": FloatFormat("fp8 e4m3", 4, 3, top="nan"),
    "fp8 e5m2": FloatFormat("fp8 e5m2", 5, 2),
    "fp4 e2m1": FloatFormat("fp4 e2m1", 2, 1, top="number"),
    "int8": IntFormat("int8", 7),
}
