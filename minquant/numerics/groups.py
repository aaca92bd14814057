"""How a matrix is cut into groups that share one ruler.

    W (out, in)        PER_TENSOR             PER_CHANNEL            per_group(4)
    ┌────────────┐     ┌────────────┐         ┌────────────┐         ┌───┬───┬───┐
    │            │     │            │         ├────────────┤         ├───┼───┼───┤
    │            │     │  one scale │         ├────────────┤         ├───┼───┼───┤
    └────────────┘     └────────────┘         └────────────┘         └───┴───┴───┘
    groups             (1, 1, out · in)       (out, 1, in)           (out, in / g, g)
    scales             (1, 1)                 (out, 1)               (out, in / g)

`split` shows the matrix as groups (a view where torch can make one); a reshape goes
back. `spread` gives each weight its group's number. A channel is an output: a row of W,
with all weights that make one number of Y. Groups run along the row, as the sum does,
so a kernel can use a group's scale once and go on. Short rulers fit better and cost
more: lesson 03 weighs the two.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class Granularity:
    """How many weights share a scale: use the names below.

    kind: "tensor", "channel" or "group"; group_size: weights per group, for "group".
    """

    kind: Literal["tensor", "channel", "group"]
    group_size: int | None = None

    def __str__(self) -> str:
        size = f" of {self.group_size}" if self.group_size else ""
        return f"per {self.kind}{size}"


PER_TENSOR = Granularity("tensor")
PER_CHANNEL = Granularity("channel")


def per_group(g: int) -> Granularity:
    """One scale for every g neighbouring weights of a row. ValueError if g < 1.

    >>> print(per_group(128))
    per group of 128
    """
    if not isinstance(g, int) or g < 1:
        raise ValueError(f"group_size is {g}; choose a whole number, often 128")
    return Granularity("group", g)


def group_shape(
    shape: tuple[int, int], granularity: Granularity
) -> tuple[int, int, int]:
    """The groups of an (out, in) matrix as (rows, n_groups, g); scales are (rows,
    n_groups).

    Raises ValueError if the group size does not divide `in`.

    >>> group_shape((512, 1024), per_group(128))
    (512, 8, 128)
    >>> group_shape((512, 1000), per_group(128))
    Traceback (most recent call last):
    ValueError: group_size 128 does not divide in_features 1000; choose 100, 125 or 200
    """
    out, width = shape
    if granularity.kind == "tensor":
        return 1, 1, out * width
    if granularity.kind == "channel":
        return out, 1, width
    g = granularity.group_size
    if width % g:
        raise ValueError(
            f"group_size {g} does not divide in_features {width}; "
            f"choose {_near(g, width)}"
        )
    return out, width // g, g


def _near(g: int, width: int) -> str:
    """The divisors of the width that are nearest to g, up to three, in words."""
    divisors = [d for d in range(2, width + 1) if width % d == 0] or [width]
    *rest, last = sorted(sorted(divisors, key=lambda d: abs(d - g))[:3])
    return f"{', '.join(map(str, rest))} or {last}" if rest else f"{last}"


def split(
    W: Shaped[Tensor, "out in"], granularity: Granularity
) -> Shaped[Tensor, "rows n_groups g"]:
    """The matrix as groups. Raises ValueError as `group_shape` does.

    >>> import torch
    >>> split(torch.zeros(512, 1024), per_group(128)).shape
    torch.Size([512, 8, 128])
    """
    return W.reshape(group_shape(tuple(W.shape), granularity))  # (rows, n_groups, g)


def spread(
    values: Shaped[Tensor, "rows n_groups"],
    shape: tuple[int, int],
    granularity: Granularity,
) -> Shaped[Tensor, "out in"]:
    """One number per group (scales, say) spread to one per weight.

    Raises ValueError unless `values` has one number per group of such a matrix.

    >>> import torch
    >>> spread(torch.tensor([[1, 2]]), (1, 6), per_group(3))
    tensor([[1, 1, 1, 2, 2, 2]])
    """
    rows, n_groups, g = group_shape(tuple(shape), granularity)
    if tuple(values.shape) != (rows, n_groups):
        raise ValueError(
            f"values has shape {tuple(values.shape)}; a matrix {tuple(shape)} "
            f"{granularity} has {(rows, n_groups)} groups, give one number for each"
        )
    return values[:, :, None].expand(rows, n_groups, g).reshape(shape)
