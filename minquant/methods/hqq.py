"""HQQ: move each zero-point to where the error is least, without looking at inputs.

Unlike RTN, whose zero-point is a whole number and set by one weight, the smallest, HQQ
searches for the zero-point of each group. Unlike GPTQ and AWQ it needs no inputs: there
is no calibration text to choose, and a matrix takes less than a second. It was made to
be robust: large errors, which a few outliers cause, should count less than by squares:

    minimise over the zero     Σ |W − W_hat|^p                            p = 0.7

That has no formula. So a second unknown E is put in the place of the error, and is
pulled towards it by a square ("half-quadratic" splitting; Badri and Shaji 2023):

    minimise over E and zero   Σ |E|^p + β/2 · (W − W_hat − E)²

Now each of the two is easy, at least nearly, while the other is held. They take turns:

    codes = clamp(round(W / scale + zero))
    E     = shrink(W − W_hat)       takes |e|^(p − 1) / β off each error e, at most e
    zero  = mean over the group of  codes − (W − E) / scale

(`shrink` is the authors' formula; it is near the exact minimum, and β grows by 1 % a
round.) It leaves 0 of every error below β^(−1 / (2 − p)), 0.17 at their β = 10. In a
model whose weights are near 0.02 no error is that large. E stays 0, and each round
moves the zero to the mean of codes − W / scale: least squares, step by step. What wins
then is that the zero is not rounded. It is stored in 16 bits, so that groups of 64 take
4 + 32 / 64 = 4.5 bits.

What is left out: the same search for the scale, and stopping when the error no longer
falls. Lesson 03 compares HQQ with clipping.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.methods.rtn import floats, scale_and_zero
from minquant.numerics.grids import Grid
from minquant.numerics.groups import Granularity, per_group, split
from minquant.numerics.ruler import Ruler, narrowed
from minquant.numerics.tensor import QuantizedTensor


def quantize_hqq(
    W: Float[Tensor, "out in"],
    grid: Grid,
    granularity: Granularity = per_group(64),  # noqa: B008  a constant
    *,
    p: float = 0.7,
    beta: float = 10.0,
    rounds: int = 20,
    scale_dtype: torch.dtype = torch.float16,
) -> QuantizedTensor:
    """W on zero-points that were searched for; the scales are those of RTN.

    grid: `zero_point(bits)`. p, beta, rounds: as in the module; the defaults are those
    of the authors' program. scale_dtype: how scales and zeros are stored.

    Raises ValueError if the grid has no zeros, p is not between 0 and 1, rounds is
    negative, or a zero overflows `scale_dtype`; and as `quantize_rtn` does.

    >>> from minquant.numerics.grids import zero_point
    >>> W = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 2.0]])
    >>> quantize_hqq(W, zero_point(2), per_group(8)).zeros.dtype
    torch.float16
    """
    if not grid.has_zeros:
        raise ValueError(f"grid is {grid.name}, which has no zeros; take zero_point")
    if not 0 < p < 1:
        raise ValueError(f"p is {p}; choose a number between 0 and 1, often 0.7")
    if rounds < 0:
        raise ValueError(f"rounds is {rounds}; choose 0 or more, often 20")
    groups = split(floats(W), granularity)  # (rows, n_groups, g)
    scales, _ = scale_and_zero(groups, grid, scale_dtype=scale_dtype)
    steps = scales.to(groups.dtype)  # the length of a step, (rows, n_groups)
    zeros = narrowed(-groups.amin(-1).clamp(max=0) / steps, scale_dtype, "a zero")
    for _ in range(rounds):
        ruler = Ruler.of_groups(scales, zeros, grid, groups.dtype)
        codes = ruler.codes(groups)
        error = groups - ruler.values(codes)
        size = (error.abs() - error.abs().pow(p - 1) / beta).clamp(min=0)
        beta *= 1.01
        place = codes - (groups - error.sign() * size) / steps[:, :, None]
        zeros = narrowed(place.mean(-1), scale_dtype, "a zero")
    codes = Ruler.of_groups(scales, zeros, grid, groups.dtype).codes(groups)
    return QuantizedTensor(codes.reshape(W.shape), scales, zeros, grid, granularity)
