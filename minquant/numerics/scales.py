"""How a scale is itself stored: the ruler's length is a number, and costs bits too.

    plain       a torch dtype: fp16 (the default), bf16, fp32, ...     16 or 32 bits
    E8M0        a byte e, worth 2^(e − 127): MX formats, groups of 32         8 bits
    E4M3        an 8-bit float, times one fp32 for the tensor: NVFP4, of 16   8 bits

At groups of 128 an fp16 scale adds 16 / 128 = 1/8 bit per weight; at groups of 16 it
would add a whole bit, so formats with short groups shorten the scale. Whatever has
`shape`, `nbytes`, `dequantize()` and `to(device)` can stand where a tensor of scales
does (`StoredScales`): double quantization brings one of its own.

`store` turns ideal scales into stored ones and refuses what would come out as 0 or
infinite. Codes are always computed against what is stored, so a coarse scale costs a
ruler that is a little too long or short, never a disagreement between both ways.

Notebook 03 counts these bits, notebook 08 compares the formats at equal total bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import frexp
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from minquant.numerics.grids import Grid

# A group of zeros needs no ruler. It gets the shortest that fp16 holds in full
# precision: nothing is divided by 0, and no statistic of the scales is disturbed.
EMPTY = 2.0**-14


@runtime_checkable
class StoredScales(Protocol):
    """Scales in a format of their own; (rows, n_groups) when they are read."""

    @property
    def shape(self) -> torch.Size:
        """(rows, n_groups)."""

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """The scales as numbers, float32."""

    def to(self, device: torch.device | str) -> "StoredScales":
        """The same on another device."""


Scales: TypeAlias = Float[Tensor, "rows n_groups"] | StoredScales
ScaleType: TypeAlias = torch.dtype | Callable[[Tensor, Grid], StoredScales]


@dataclass(frozen=True, eq=False)
class E8M0:
    """Powers of two, one byte each: an exponent and nothing else.

    OCP Microscaling Formats (MX) v1.0, section 5.4.1; `store` is its section 6.3.
    """

    exponents: UInt8[Tensor, "rows n_groups"]

    @classmethod
    def store(cls, scales: Float[Tensor, "rows n_groups"], grid: Grid) -> "E8M0":
        """2^(floor(log2 absmax) − exponent of the grid's largest value), per group.

        The largest weights may be cut: absmax / scale can come near 8 where FP4 ends
        at 6. Give it as `scale_dtype=E8M0.store`.

        >>> from minquant.numerics.grids import FP4
        >>> E8M0.store(torch.tensor([[4 / 6, 7.9 / 6, 8 / 6]]), FP4).dequantize()
        tensor([[1., 1., 2.]])
        """
        # scale · reach is absmax up to a rounding, which must not halve a scale
        top = scales.double() * grid.reach * (1 + 2.0**-22)
        exponents = torch.frexp(top).exponent - frexp(grid.reach)[1]
        return cls((exponents.clamp(-127, 127) + 127).to(torch.uint8))

    @property
    def shape(self) -> torch.Size:
        """(rows, n_groups)."""
        return self.exponents.shape

    @property
    def nbytes(self) -> int:
        """One byte per scale."""
        return self.exponents.nbytes

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """2^(e − 127), float32."""
        return torch.exp2(self.exponents.double() - 127).float()

    def to(self, device: torch.device | str) -> "E8M0":
        """The same on another device."""
        return E8M0(self.exponents.to(device))


@dataclass(frozen=True, eq=False)
class E4M3:
    """An 8-bit float (torch.float8_e4m3fn) per group times one fp32 per tensor."""

    numbers: Float[Tensor, "rows n_groups"]
    tensor_scale: Float[Tensor, ""]

    @classmethod
    def of(
        cls, W: Float[Tensor, "out in"], grid: Grid
    ) -> Callable[[Tensor, Grid], "E4M3"]:
        """The way to store the scales of W, for `scale_dtype=E4M3.of(W, grid)`.

        The tensor scale is absmax / (reach · 448): the group with the largest weight
        gets 448, the largest E4M3 number. A group's scale below 2^-9 of the tensor
        scale, the smallest E4M3 number, is stored as that.
        """
        top = W.detach().abs().amax().float() / (grid.reach * 448)
        tensor_scale = torch.where(top > 0, top, EMPTY)

        def store(scales: Tensor, grid: Grid) -> E4M3:
            """Scales of W, or of some of its groups, under W's tensor scale."""
            numbers = (scales / tensor_scale).clamp(2.0**-9, 448)
            return cls(numbers.to(torch.float8_e4m3fn), tensor_scale)

        return store

    @property
    def shape(self) -> torch.Size:
        """(rows, n_groups)."""
        return self.numbers.shape

    @property
    def nbytes(self) -> int:
        """One byte per scale, and four for the tensor's."""
        return self.numbers.nbytes + self.tensor_scale.nbytes

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """number · tensor_scale, float32."""
        return self.numbers.float() * self.tensor_scale

    def to(self, device: torch.device | str) -> "E4M3":
        """The same on another device."""
        return E4M3(self.numbers.to(device), self.tensor_scale.to(device))


def scale_values(scales: Scales) -> Float[Tensor, "rows n_groups"]:
    """Stored scales as numbers to calculate with: float32 (float64 stays float64)."""
    if not isinstance(scales, Tensor):
        return scales.dequantize()
    return scales if scales.dtype == torch.float64 else scales.float()


def scale_name(scales: Scales) -> str:
    """What scales are stored as, in a word.

    >>> scale_name(torch.ones(2, 1).half())
    'float16'
    """
    if not isinstance(scales, Tensor):
        return type(scales).__name__
    return str(scales.dtype).removeprefix("torch.")


def put(ideal: Float[Tensor, "rows n_groups"], how: ScaleType, grid: Grid) -> Scales:
    """Ideal scales as they are stored, unchecked; 0 (no ruler needed) becomes EMPTY."""
    ideal = ideal.masked_fill(ideal == 0, EMPTY)
    return ideal.to(how) if isinstance(how, torch.dtype) else how(ideal, grid)


def store(ideal: Float[Tensor, "rows n_groups"], how: ScaleType, grid: Grid) -> Scales:
    """Ideal scales as they are stored: in a dtype, or by a function such as E8M0.store.

    Raises ValueError where a scale overflows or rounds to 0, TypeError if `how` is no
    floating dtype. A scale that fp16 holds as a subnormal number (below 6.1e-5) is
    stored, a little less exactly.

    >>> from minquant.numerics.grids import NF4
    >>> store(torch.tensor([[0.1, 0.0]]), torch.float16, NF4)
    tensor([[9.9976e-02, 6.1035e-05]], dtype=torch.float16)
    """
    if isinstance(how, torch.dtype) and not how.is_floating_point:
        raise TypeError(f"scale_dtype is {how}; choose a float, such as torch.float16")
    stored = put(ideal, how, grid)
    values, name = scale_values(stored), scale_name(stored)
    if n := int((~values.isfinite()).sum()):
        raise ValueError(
            f"scale: {n} of {values.numel()}, up to {ideal.max():.3g}, is not finite "
            f"in torch.{name}; check the scale of W, or take scale_dtype=torch.float32"
        )
    if n := int((values == 0).sum()):
        low = ideal[values == 0].min()
        raise ValueError(
            f"scale: {n} of {values.numel()}, down to {low:.3g}, rounds to 0 in "
            f"torch.{name}; take scale_dtype=torch.float32, or multiply W"
        )
    return stored
