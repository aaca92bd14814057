"""Rotation: mix the columns with each other, so that no one of them stands out.

Three methods change what is rounded and nothing else. They are one family: for any
invertible T,

    Y = X Wᵀ = (X T)(T⁻¹ Wᵀ)

    SmoothQuant   T = diag(1/s)   s large where X is large: X gets easier, W harder
    AWQ           T = diag(1/s)   s large where X matters: those columns of W gain
    rotation      T = R, Rᵀ = R⁻¹ every new column is a sum of all old ones, ± alike

A diagonal T moves an outlier from X into W. A rotation takes it apart: lengths stay,
so a row (0, 0, 8, 0) becomes (4, 4, −4, −4), and its largest number is half of what it
was. X becomes X R and W becomes W R, so both can get easier. With a matrix of ±1/√n
each new column takes 1/√n of every old one, as evenly as possible. Such matrices exist
for every power of two (Sylvester 1867):

    H₁ = [1]        H₂ₙ = [[Hₙ, Hₙ], [Hₙ, −Hₙ]] / √2            Hₙ Hₙ = 1

R = diag(±1) H, with random signs: H's first column alone would add up a row of numbers
of one sign into one large number. A width that is no power of two is cut into blocks
that are, and each is rotated by itself: 96 = 3 blocks of 32. An outlier then spreads
over its block.

X H costs n log₂ n additions per row and no multiplication (`walsh_hadamard`). Only the
signs of R are stored. In a model, most rotations can be folded into the weights and
cost nothing (`models/rotate_model`).

In papers: QuIP (Chee et al. 2023) rotates W, QuaRot (Ashkboos et al. 2024) whole models
by Hadamard matrices; SpinQuant (Liu et al. 2024) learns R. What is left out: learnt
rotations, and Hadamard matrices of other sizes (12, 20, …), which mix wider. Lesson 11.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.numerics.ruler import narrowed, work_dtype


@dataclass(frozen=True, eq=False)
class Rotation:
    """R = diag(signs) · H in blocks: orthogonal, and every number in a block ±1/√block.

    signs: ±1, one for each column. block: a power of two that divides the width.

    Raises ValueError if the block does not fit, or a sign is neither 1 nor −1.

    >>> rotation = Rotation(torch.tensor([1.0, 1.0, -1.0, 1.0]), 4)
    >>> rotation.apply(torch.tensor([0.0, 0.0, 8.0, 0.0]))
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
        """Random signs, always the same for a seed; by default the largest block.

        >>> Rotation.random(96).block
        32
        """
        if width < 1:
            raise ValueError(f"width is {width}; give the number of columns")
        generator = torch.Generator().manual_seed(seed)
        coins = torch.randint(2, (width,), generator=generator, device="cpu")
        block = largest_block(width) if block is None else block
        return Rotation(2 * coins.float() - 1, block)

    def apply(self, X: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """X R: each row rotated, its length kept. Raises ValueError if the width
        differs, and as `walsh_hadamard` does.
        """
        return walsh_hadamard(X * self._signs(X), self.block)

    def undo(self, X: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """X Rᵀ, the way back from `apply`."""
        return walsh_hadamard(X, self.block) * self._signs(X)

    def matrix(self) -> Float[Tensor, "width width"]:
        """R itself, to look at."""
        return self.apply(torch.diag(torch.ones_like(self.signs)))

    def _signs(self, X: Tensor) -> Tensor:
        if X.shape[-1] != len(self.signs):
            raise ValueError(
                f"X has {X.shape[-1]} columns, but the rotation {len(self.signs)}; "
                f"take Rotation.random({X.shape[-1]})"
            )
        _check_dtype(X)
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
    H = torch.ones(1, 1, dtype=torch.float32, device="cpu")
    while len(H) < n:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H / sqrt(n)


def walsh_hadamard(
    X: Float[Tensor, "*rows width"], block: int
) -> Float[Tensor, "*rows width"]:
    """X H for each block of columns, in X's dtype: log₂ block rounds of sums and
    differences instead of a product, in float32 or float64. Raises ValueError if the
    block does not fit, or the result overflows X's dtype; TypeError if X does not hold
    floats of 16 bits or more.

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0]), 4)
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 2.0000, 0.0000, 2.0000, 0.0000])
    """
    width = X.shape[-1]
    _check_block(block, width)
    _check_dtype(X)
    Y, half = X.to(work_dtype(X.dtype)), 1
    while half < block:
        pairs = Y.reshape(*X.shape[:-1], width // (2 * half), 2, half)
        a, b = pairs.unbind(-2)  # (*rows, pairs, half)
        Y = torch.stack([a + b, a - b], -2).reshape(X.shape)
        half *= 2
    return narrowed(Y / sqrt(block), X.dtype, "the rotated X")


def transform(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], T: Float[Tensor, "in in"]
) -> tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]:
    """(X T, W T⁻ᵀ): other numbers, the same X Wᵀ, whatever T is; the whole family.

    Raises ValueError if T has no inverse, or is not finite, or W T⁻ᵀ overflows W's
    dtype. Lesson 11.

    >>> X, W, T = torch.tensor([[8.0, 1.0]]), torch.ones(1, 2), torch.eye(2)
    >>> transform(X, W, T / torch.tensor([4.0, 1.0]))  # SmoothQuant's s = (4, 1)
    (tensor([[2., 1.]]), tensor([[4., 1.]]))
    """
    if bad := (~T.isfinite()).sum().item():
        raise ValueError(f"T holds {bad} NaN or infinite numbers; give finite ones")
    work = work_dtype(W.dtype)
    W_T, failed = torch.linalg.solve_ex(T.to(W.device, work), W.T.to(work))
    if failed:
        raise ValueError("T has no inverse; take a Rotation's matrix, or a diagonal")
    return X @ T.to(X), narrowed(W_T.T, W.dtype, "W T⁻ᵀ")


def rotate(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], rotation: Rotation
) -> tuple[Float[Tensor, "n in"], Float[Tensor, "out in"]]:
    """(X R, W R): other numbers, the same X Wᵀ, as R Rᵀ = 1. Nothing is inverted."""
    return rotation.apply(X), rotation.apply(W)


def peak(X: Float[Tensor, "n width"]) -> float:
    """How far the largest number of a row stands out: max |x| / √mean(x²), the mean of
    all rows. It runs from 1 to √width, and an absmax ruler's steps grow with it. Rows
    of zeros are left out.

    >>> peak(torch.tensor([[0.0, 0.0, 8.0, 0.0]])), peak(torch.ones(1, 4))
    (2.0, 1.0)
    """
    X = X.double()
    size = X.square().mean(-1).sqrt()
    return (X.abs().amax(-1) / size)[size > 0].mean().item()


def _check_dtype(X: Tensor) -> None:
    if not X.is_floating_point() or X.dtype.itemsize == 1:
        raise TypeError(f"X has dtype {X.dtype}; give wider floats, such as X.float()")


def _check_block(block: int, width: int) -> None:
    if block < 1 or block & (block - 1) or width % block:
        raise ValueError(
            f"block is {block}, no power of two that divides {width} columns; the "
            f"largest is {largest_block(width)}"
        )
