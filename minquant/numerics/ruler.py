"""The ruler: from weights to codes and back, written once.

    codes = clamp(round(w / scale) + zero, low, high)      integer grids
    w_hat = (codes − zero) · scale

A ruler is a grid, stretched to the weights: `scale` is the length of its steps, `zero`
the code that stands for 0 (none on symmetric grids and codebooks). Every method of the
package rounds with `codes` and reads with `values`; methods differ in the ruler they
take, and in what they do to the weights before they round them.

One `Ruler` serves one group, or many at the same time: scale and zero broadcast against
the weights. So it fits a single row, a column with a ruler for each of its weights, or
a whole matrix cut into groups.

    weights (g,)                  scale ()                  one group
    weights (rows, n_groups, g)   scale (rows, n_groups, 1) a matrix: `of_groups`
    weights (rows,)               scale (rows,)             a column: `column`

The scale is the one that is *stored*: rounded to fp16, unless another dtype or format
was chosen. Codes are computed against it, so both directions use the same ruler.

Lesson 02 lays one on a row, lesson 03 cuts a matrix into many.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Integer, Num
from torch import Tensor

from minquant.numerics.grids import Grid, round_to_codes, value
from minquant.numerics.scales import Scales, largest, scale_values

# A zero for each group, as stored: whole numbers in the grid's range, or floats.
Zeros: TypeAlias = Num[Tensor, "rows n_groups"] | None


def work_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the package calculates in: float32, and float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def narrowed(
    x: Float[Tensor, "*shape"], dtype: torch.dtype, name: str
) -> Float[Tensor, "*shape"]:
    """What was calculated, in `dtype`. Raises ValueError if that is narrow and a number
    overflows it. name: what the message calls x.
    """
    end = torch.finfo(dtype).max
    if end < 1e30 and x.numel() and x.abs().max() > largest(dtype):
        raise ValueError(
            f"dtype {dtype} ends at {end:g}, but {name} reaches {x.abs().max():g}; "
            "take torch.float32"
        )
    return x.to(dtype)


@dataclass(frozen=True, eq=False)
class Ruler:
    """A grid with its scale as stored, and its zero where the grid has one.

    scale: in the dtype to calculate in. zero: whole numbers, or None; or floats, where
    a method (HQQ) lays 0 between two codes. Both broadcast against weights and codes.

    >>> import minquant as mq
    >>> ruler = Ruler(torch.tensor(0.5), torch.tensor(3), mq.zero_point(3))
    >>> codes = ruler.codes(torch.tensor([-1.5, 0.2, 0.3, 9.0]))
    >>> codes.tolist(), ruler.values(codes).tolist()
    ([0, 3, 4, 7], [-1.5, 0.0, 0.5, 2.0])
    """

    scale: Float[Tensor, "*scales"]
    zero: Num[Tensor, "*zeros"] | float | None
    grid: Grid

    @classmethod
    def of_groups(
        cls,
        scales: Scales,
        zeros: Zeros,
        grid: Grid,
        dtype: torch.dtype = torch.float32,
    ) -> "Ruler":
        """The rulers of a matrix, for weights (rows, n_groups, g), as `split` cuts it.

        scales: as stored, (rows, n_groups). dtype: to calculate in.
        """
        scale = scale_values(scales).to(dtype)[:, :, None]
        return cls(scale, None if zeros is None else zeros[:, :, None], grid)

    def column(self, group: int) -> "Ruler":
        """From the rulers of a matrix, those for one column (rows,) of this group.

        >>> import minquant as mq
        >>> Ruler.of_groups(torch.tensor([[1.0, 2.0]]), None, mq.NF4).column(1).scale
        tensor([2.])
        """
        zero = None if self.zero is None else self.zero[:, group, 0].contiguous()
        return Ruler(self.scale[:, group, 0].contiguous(), zero, self.grid)

    def codes(self, w: Float[Tensor, "*shape"]) -> Integer[Tensor, "*shape"]:
        """The code of the nearest value to each weight; ties as in `round_to_codes`."""
        steps = w / self.scale
        if isinstance(self.zero, Tensor) and self.zero.is_floating_point():
            return round_to_codes(steps + self.zero, self.grid)
        return round_to_codes(steps, self.grid, self.zero)

    def values(self, codes: Integer[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What codes stand for, in the units of the weights."""
        return self.stretch(value(codes, self.grid, self.scale.dtype))

    def stretch(self, levels: Float[Tensor, "*levels"]) -> Float[Tensor, "*weights"]:
        """Where levels of the grid, or any points between them, lie on this ruler."""
        steps = levels if self.zero is None else levels - self.zero
        return steps * self.scale

    def round(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Each weight moved to the nearest value of the ruler."""
        return self.values(self.codes(w))
