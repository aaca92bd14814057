"""How a scale is itself stored: the length of a step is a number, and costs bits too.

    plain       a torch dtype: fp16 (the default), bf16, fp32, ...     16 or 32 bits
    E8M0        a byte e, worth 2^(e − 127): MX formats, groups of 32         8 bits
    E4M3        an 8-bit float, times one fp32 for the tensor: NVFP4, of 16   8 bits

At groups of 128 an fp16 scale adds 16 / 128 = 1/8 bit per weight; at groups of 16 it
would add a whole bit, so formats with short groups shorten the scale. `double_quant`
is one more of these formats: they are the subclasses of `StoredScales`, and can stand
wherever a tensor of scales does.

`store` turns ideal scales into stored ones. A scale that would round to 0 becomes the
smallest that the format holds, so weights that are almost 0 come back as 0, and one
that is too large is refused. Codes are always computed against what is stored, so a
coarse scale makes a ruler a little too long or too short, and both directions still
agree.

Lesson 03 counts these bits, lesson 08 compares the formats at equal total bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import frexp
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from minquant.numerics.grids import Grid

# A group of zeros needs no ruler. It gets the shortest that fp16 holds in full
# precision: nothing is divided by 0, and no statistic of the scales is disturbed.
EMPTY = 2.0**-14


class ScaleOverflow(ValueError):
    """A scale is too large for the format that it is to be stored in."""


class StoredScales:
    """Scales in a short format: a dataclass of tensors, the first (rows, n_groups)."""

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """The scales as numbers, float32."""
        raise NotImplementedError

    @property
    def shape(self) -> torch.Size:
        """(rows, n_groups)."""
        return next(iter(vars(self).values())).shape

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored."""
        return sum(part.nbytes for part in vars(self).values())

    def to(self, device: torch.device | str) -> "StoredScales":
        """The same scales on another device."""
        return type(self)(*(part.to(device) for part in vars(self).values()))


Scales: TypeAlias = Float[Tensor, "rows n_groups"] | StoredScales
ScaleType: TypeAlias = torch.dtype | Callable[[Tensor, Grid], StoredScales]


@dataclass(frozen=True, eq=False)
class E8M0(StoredScales):
    """Powers of two, one byte each: an exponent and nothing else.

    OCP Microscaling Formats (MX) v1.0, section 5.4.1; `store` is its section 6.3.
    """

    exponents: UInt8[Tensor, "rows n_groups"]

    @classmethod
    def store(cls, scales: Float[Tensor, "rows n_groups"], grid: Grid) -> "E8M0":
        """2^(floor(log2 absmax) − exponent of the grid's largest value), per group.

        The largest weights may be cut: absmax / scale can come near 8 where FP4 ends
        at 6. Pass it as `scale_dtype=E8M0.store`.

        >>> import minquant as mq
        >>> ideal = torch.tensor([[4 / 6, 7.9 / 6, 8 / 6]])
        >>> mq.E8M0.store(ideal, mq.FP4).dequantize()
        tensor([[1., 1., 2.]])
        """
        # scale · reach is absmax up to a rounding, which must not halve a scale
        top = scales.double() * grid.reach * (1 + 2.0**-22)
        exponents = torch.frexp(top).exponent - frexp(grid.reach)[1]
        return cls((exponents.clamp(-127, 128) + 127).to(torch.uint8))

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """2^(e − 127), float32; infinite for e = 255, which stands for no number."""
        return torch.exp2(self.exponents.double() - 127).float()


@dataclass(frozen=True, eq=False)
class E4M3(StoredScales):
    """An 8-bit float (torch.float8_e4m3fn) per group times one fp32 per tensor."""

    numbers: Float[Tensor, "rows n_groups"]
    tensor_scale: Float[Tensor, ""]

    @classmethod
    def of(
        cls, W: Float[Tensor, "out in"], grid: Grid
    ) -> Callable[[Tensor, Grid], "E4M3"]:
        """The function that stores the scales of W, for `scale_dtype=E4M3.of(W, grid)`.

        The tensor scale is absmax / (reach · 448), or range / (reach · 448) on a grid
        with zeros: no group of W needs more than 448, the largest E4M3 number. A
        group's scale below 2^-9 of the tensor scale is stored as 2^-9, the smallest.
        """
        W = W.detach().float()
        low, high = W.amin().clamp(max=0), W.amax().clamp(min=0)
        longest = high - low if grid.has_zeros else torch.maximum(-low, high)
        top = longest / (grid.reach * 448)
        # 2^-9 of the tensor scale should be a normal number, too
        of_W = torch.where(top > 0, top.clamp(min=2.0**-117), EMPTY)

        def store(scales: Tensor, grid: Grid) -> E4M3:
            """Scales of W, or of some of its groups, under W's tensor scale. Longer
            ones, such as those of AWQ's W · s, get a tensor scale of their own.
            """
            longest = scales.amax().float()
            fits = longest <= 464 * of_W  # 464 still rounds to 448
            tensor_scale = torch.where(fits, of_W, longest / 448)
            numbers = (scales / tensor_scale).clamp(2.0**-9, 448)
            return cls(numbers.to(torch.float8_e4m3fn), tensor_scale)

        return store

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """number · tensor_scale, float32."""
        return self.numbers.float() * self.tensor_scale


def scale_values(scales: Scales) -> Float[Tensor, "rows n_groups"]:
    """Stored scales as numbers to calculate with: float32 (float64 stays float64)."""
    if not isinstance(scales, Tensor):
        return scales.dequantize()
    return scales if scales.dtype == torch.float64 else scales.float()


def scale_name(scales: Scales | Float[Tensor, " in"]) -> str:
    """The name of the format that scales are stored in.

    >>> scale_name(torch.ones(2, 1).half())
    'float16'
    """
    if not isinstance(scales, Tensor):
        return type(scales).__name__
    return str(scales.dtype).removeprefix("torch.")


def largest(dtype: torch.dtype) -> float:
    """A number above this is larger than all of a dtype, even after rounding. A cast
    may not say so: to float8_e4m3fn, torch casts 10^6 as 448.
    """
    info = torch.finfo(dtype)
    return info.max * (1 + info.eps / 4)


def store_unchecked(
    ideal: Float[Tensor, "rows n_groups"], scale_dtype: ScaleType, grid: Grid
) -> Scales:
    """Ideal scales as they are stored; 0 (no ruler needed) becomes EMPTY, and a scale
    that is too large infinite or NaN.
    """
    ideal = ideal.masked_fill(ideal == 0, EMPTY)
    if not isinstance(scale_dtype, torch.dtype):
        if grid.fit == "extreme":
            raise ValueError(
                f"scale_dtype is a format of positive scales, and those of grid "
                f"{grid.name} have both signs; take a dtype, such as torch.float16"
            )
        return scale_dtype(ideal.clamp(min=torch.finfo(torch.float32).tiny), grid)
    info = torch.finfo(scale_dtype)
    sizes = ideal.abs()
    sizes = sizes.masked_fill(sizes > largest(scale_dtype), torch.nan)
    sizes = sizes.clamp(min=info.tiny * info.eps)  # subnormal
    return sizes.copysign(ideal).to(scale_dtype)


def store(
    ideal: Float[Tensor, "rows n_groups"], scale_dtype: ScaleType, grid: Grid
) -> Scales:
    """Ideal scales as they are stored: in a dtype, or by a function such as E8M0.store.

    Raises ScaleOverflow, a ValueError, if a scale overflows; TypeError if `scale_dtype`
    is a dtype but no float. A scale that fp16 holds as a subnormal number (below
    6.1e-5) is stored, a little less exactly, and one below the smallest (6e-8) as the
    smallest.

    >>> import minquant as mq
    >>> store(torch.tensor([[0.1, 0.0, 1e-9]]), torch.float16, mq.NF4)
    tensor([[9.9976e-02, 6.1035e-05, 5.9605e-08]], dtype=torch.float16)
    """
    if isinstance(scale_dtype, torch.dtype) and not scale_dtype.is_floating_point:
        raise TypeError(
            f"scale_dtype is {scale_dtype}; choose a float, such as torch.float16"
        )
    stored = store_unchecked(ideal, scale_dtype, grid)
    values = scale_values(stored)
    if n := int((~values.isfinite()).sum()):
        name = scale_name(stored) if isinstance(stored, StoredScales) else scale_dtype
        raise ScaleOverflow(
            f"scale: {n} of {values.numel()}, up to {ideal.abs().max():.3g}, is not "
            f"finite in {name}; check the scale of W, or take scale_dtype={ideal.dtype}"
        )
    return stored


def seen(sizes: Float[Tensor, " in"]) -> Bool[Tensor, " in"]:
    """Which columns count, by their largest or mean |x|. Beside the largest column, one
    that is 2^23 times smaller is lost in float32, and is taken for 0.

    >>> seen(torch.tensor([1.0, 1e-3, 1e-12, 0.0]))
    tensor([ True,  True, False, False])
    """
    return sizes > torch.finfo(torch.float32).eps * sizes.max()


def over_tied(
    sizes: Float[Tensor, " in"],
    tied: Int[Tensor, " n"] | None,
    how: Literal["mean", "amax"],
) -> Float[Tensor, " in"]:
    """The sizes of inputs, and for inputs that must have one scale their mean or their
    largest instead.

    tied: for each input a number from 0 on; inputs with the same number are tied. None
    ties nothing. Raises ValueError unless there is one such number for each input.

    >>> over_tied(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 1, 0]), "mean")
    tensor([3., 2., 3.])
    """
    if tied is None:
        return sizes
    if tied.shape != sizes.shape or tied.min() < 0:
        raise ValueError(
            f"tied has shape {tuple(tied.shape)} and numbers from {tied.min()} on; "
            f"give one number, 0 or more, for each of {len(sizes)} inputs"
        )
    tied = tied.to(sizes.device)
    together = sizes.new_zeros(int(tied.max()) + 1)
    return together.scatter_reduce(0, tied, sizes, how, include_self=False)[tied]


def store_input_scales(
    s: Float[Tensor, " in"], scale_dtype: ScaleType, grid: Grid
) -> Float[Tensor, " in"]:
    """The input scales of AWQ and SmoothQuant as they are stored: in `scale_dtype`, or
    in fp16 where that has fewer than 16 bits or is a format for groups. Only their
    proportions matter, so where they leave the dtype's range they are moved around 1.
    """
    wide = isinstance(scale_dtype, torch.dtype) and scale_dtype.itemsize > 1
    dtype = scale_dtype if wide else torch.float16
    info = torch.finfo(dtype)
    if s.min() < info.tiny or s.max() > info.max:
        s = s / s.max().sqrt() / s.min().sqrt()
    return store(s[None], dtype, grid)[0]
