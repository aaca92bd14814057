"""Rotation: mix the columns with each other, so that no one of them stands out.

Three methods change what is rounded and nothing else. They are one family: for any T
that can be inverted,

    Y = X Wᵀ = (X T)(T⁻¹ Wᵀ)

    SmoothQuant   T = diag(1/s)   s large where X is large: X gets easier, W harder
    AWQ           T = diag(1/s)   s large where X matters: those columns of W gain
    rotation      T = R, Rᵀ = R⁻¹ every new column is a sum of all the old, ± alike

A diagonal T moves an outlier from X into W. A rotation takes it apart: lengths stay,
so a row (0, 0, 8, 0) becomes (4, 4, −4, −4), and its largest number is half of what it
was. W becomes W R as X becomes X R, so both can get easier at once. With a matrix of
±1/√n each new column takes 1/√n of every old one, as evenly as can be. Such matrices
exist for every power of two (Sylvester 1867):

    H₁ = [1]        H₂ₙ = [[Hₙ, Hₙ], [Hₙ, −Hₙ]] / √2            Hₙ Hₙ = 1

R = diag(±1) H, its signs drawn at random: H's first column alone would add up all that
has one sign. A width that is no power of two is cut into blocks that are, each rotated
by itself: 96 = 3 blocks of 32. An outlier then spreads over its block.

X H costs n log₂ n additions per row and no multiplication (`walsh_hadamard`). R is not
stored: its signs are. In a model most of it costs nothing at all (`rotate_model`).

In papers: QuIP (Chee et al. 2023) rotates W, QuaRot (Ashkboos et al. 2024) whole models
by Hadamard matrices; SpinQuant (Liu et al. 2024) learns R. What is left out: R that are
learnt, and Hadamard matrices of other sizes (12, 20, …), which mix wider. Lesson 11.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.methods.rtn import fake_quantize, floats
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity


@dataclass(frozen=True, eq=False)
class Rotation:
    """R = diag(signs) · H in blocks: orthogonal, and every number in a block ±1/√block.

    signs: ±1, one for each column. block: a power of two that divides their number.

    Raises ValueError if the block does not fit, or a sign is neither 1 nor −1.

    >>> turn = Rotation(torch.tensor([1.0, 1.0, -1.0, 1.0]), 4)
    >>> turn.apply(torch.tensor([0.0, 0.0, 8.0, 0.0]))
    tensor([-4., -4.,  4.,  4.])
    """

    signs: Float[Tensor, " width"]
    block: int

    def __post_init__(self) -> None:
        _check_block(self.block, len(self.signs))
        if not (self.signs.abs() == 1).all():
            raise ValueError("signs are not all 1 or -1; take Rotation.random(width)")

    @staticmethod
    def random(width: int, *, seed: int = 0, block: int | None = None) -> "Rotation":
        """Random signs, always the same for a seed; the largest block unless given.

        >>> Rotation.random(96).block
        32
        """
        if width < 1:
            raise ValueError(f"width is {width}; give the number of columns")
        generator = torch.Generator().manual_seed(seed)
        coins = torch.randint(2, (width,), generator=generator)
        block = largest_block(width) if block is None else block
        return Rotation(2.0 * coins - 1, block)

    def apply(self, X: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """X R: each row turned; its length stays. ValueError if the width differs."""
        return walsh_hadamard(X * self._signs(X), self.block)

    def undo(self, X: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """X Rᵀ, the way back from `apply`."""
        return walsh_hadamard(X, self.block) * self._signs(X)

    def matrix(self) -> Float[Tensor, "width width"]:
        """R itself, to look at."""
        return self.apply(torch.eye(len(self.signs)))

    def _signs(self, X: Tensor) -> Tensor:
        if X.shape[-1] != len(self.signs):
            raise ValueError(
                f"X has {X.shape[-1]} columns, but the rotation {len(self.signs)}; "
                f"take Rotation.random({X.shape[-1]})"
            )
        return self.signs.to(X)


def largest_block(width: int) -> int:
    """The largest power of two that divides a width.

    >>> largest_block(128), largest_block(96), largest_block(7)
    (128, 32, 1)
    """
    return width & -width


def hadamard(n: int) -> Float[Tensor, "n n"]:
    """Sylvester's matrix over √n: symmetric, and its own inverse. Lesson 11.

    Raises ValueError if n is no power of two.

    >>> hadamard(4) * 2
    tensor([[ 1.,  1.,  1.,  1.],
            [ 1., -1.,  1., -1.],
            [ 1.,  1., -1., -1.],
            [ 1., -1., -1.,  1.]])
    """
    if n < 1 or n & (n - 1):
        raise ValueError(f"n is {n}; choose a power of two, such as 64")
    H = torch.ones(1, 1)
    while len(H) < n:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H / sqrt(n)


def walsh_hadamard(
    X: Float[Tensor, "*rows width"], block: int
) -> Float[Tensor, "*rows width"]:
    """X H for each block of columns, by sums and differences: log₂ block rounds of
    them instead of a product. In X's dtype. ValueError if the block does not fit.

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0]), 4)
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 2.0000, 0.0000, 2.0000, 0.0000])
    """
    width = X.shape[-1]
    _check_block(block, width)
    made, half = X, 1
    while half < block:
        pairs = made.reshape(*X.shape[:-1], width // (2 * half), 2, half)
        a, b = pairs.unbind(-2)  # (*rows, pairs, half)
        made = torch.stack([a + b, a - b], -2).reshape(X.shape)
        half *= 2
    return made / sqrt(block)


def transform(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], T: Float[Tensor, "in in"]
) -> tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]:
    """(X T, W T⁻ᵀ): other numbers, the same X Wᵀ, whatever T is; the whole family.

    Raises ValueError if T cannot be inverted, or is not finite. Lesson 11.

    >>> X, W, T = torch.tensor([[8.0, 1.0]]), torch.ones(1, 2), torch.eye(2)
    >>> transform(X, W, T / torch.tensor([4.0, 1.0]))  # SmoothQuant's s = (4, 1)
    (tensor([[2., 1.]]), tensor([[4., 1.]]))
    """
    if wrong := (~T.isfinite()).sum().item():
        raise ValueError(f"T holds {wrong} NaN or infinite numbers; give finite ones")
    turned, failed = torch.linalg.solve_ex(T.to(W), W.T)
    if failed:
        raise ValueError("T has no inverse; take a Rotation's matrix, or a diagonal")
    return X @ T.to(X), turned.T


def rotate(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], rotation: Rotation
) -> tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]:
    """(X R, W R): other numbers, the same X Wᵀ, as R Rᵀ = 1. Nothing is inverted."""
    return rotation.apply(X), rotation.apply(W)


def rotated_product(
    X: Float[Tensor, "n in"],
    W: Float[Tensor, "out in"],
    rotation: Rotation,
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    X_grid: Grid | None = None,
    X_granularity: Granularity = PER_CHANNEL,
) -> Float[Tensor, "n out"]:
    """X Wᵀ from what is left of X R and W R when both are rounded.

    X_grid: for X R, None to round W R alone. X_granularity: PER_CHANNEL is a scale for
    each token. Compare `smoothquant.smooth_product`. Raises ValueError as
    `quantize_rtn` does, or if the rotation is of another width. QuaRot, section 4.
    """
    X_R, W_R = rotate(floats(X), floats(W), rotation)
    W_hat = fake_quantize(W_R, grid, granularity)
    if X_grid is not None:
        X_R = fake_quantize(X_R, X_grid, X_granularity, scale_dtype=torch.float32)
    return X_R @ W_hat.to(X_R).T


def kurtosis(X: Float[Tensor, "n width"]) -> float:
    """How uneven the numbers of a row are: mean(x⁴) / mean(x²)², the mean of all rows.

    1 if all are of one size, 3 for normal numbers, `width` if all but one are 0. About
    0 and not about the mean, as a ruler is laid. Rows of zeros are left out.

    >>> kurtosis(torch.tensor([[0.0, 0.0, 8.0, 0.0]])), kurtosis(torch.ones(1, 4))
    (4.0, 1.0)
    """
    X = X.double()
    squares = X.square().mean(-1)
    ratio = X.pow(4).mean(-1) / squares.square()
    return ratio[squares > 0].mean().item()


def peak(X: Float[Tensor, "n width"]) -> float:
    """How far the largest number of a row stands out: max |x| / √mean(x²), the mean of
    all rows. 1 to √width; an absmax ruler's steps are as long as this. As `kurtosis`.
    """
    X = X.double()
    size = X.square().mean(-1).sqrt()
    return (X.abs().amax(-1) / size)[size > 0].mean().item()


def _check_block(block: int, width: int) -> None:
    if block < 1 or block & (block - 1) or width % block:
        raise ValueError(
            f"block is {block}, no power of two that divides {width} columns; the "
            f"largest is {largest_block(width)}"
        )
