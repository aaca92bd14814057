"""How a matrix is cut into groups that share one ruler.

    W (out, in)        PER_TENSOR             PER_CHANNEL            per_group(4)
    ┌────────────┐     ┌────────────┐         ┌────────────┐         ┌───┬───┬───┐
    │            │     │            │         ├────────────┤         ├───┼───┼───┤
    │            │     │  one scale │         ├────────────┤         ├───┼───┼───┤
    └────────────┘     └────────────┘         └────────────┘         └───┴───┴───┘
    groups             (1, 1, out · in)       (out, 1, in)           (out, in / g, g)
    scales             (1, 1)                 (out, 1)               (out, in / g)

`split` is the matrix seen as groups (a view where torch can make one), `join` the way
back, `spread` gives each weight its group's number. A channel is an output: a row of W,
all weights that make one number of Y. Groups run along the row, as the sum does, so a
kernel can use a group's scale once and go on. Short rulers fit better and cost more:
notebook 03 weighs the two.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class Granularity:
    """For how many weights one scale serves: make it with the names below.

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
    """Up to three divisors of the width that are nearest to g, in words."""
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


def join(
    groups: Shaped[Tensor, "rows n_groups g"], shape: tuple[int, int]
) -> Shaped[Tensor, "out in"]:
    """The matrix that `split` took apart; shape is its (out, in).

    >>> import torch
    >>> W = torch.arange(12).reshape(3, 4)
    >>> bool((join(split(W, per_group(2)), (3, 4)) == W).all())
    True
    """
    return groups.reshape(shape)


def spread(
    values: Shaped[Tensor, "rows n_groups"],
    shape: tuple[int, int],
    granularity: Granularity,
) -> Shaped[Tensor, "out in"]:
    """One number per group (scales, say) spread to one per weight.

    Raises ValueError if `values` is not one number per group of such a matrix.

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
    return join(values[:, :, None].expand(rows, n_groups, g), shape)
