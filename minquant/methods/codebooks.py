"""Which values should a codebook hold? How codes are used, and the best levels.

    places(W, q)        where each weight lies on its ruler: −1 its low end, 1 its high
    usage(q)            how often each code stands in a quantized matrix
    carried(shares)     the bits that such a code carries, its entropy: at most log2 n
    error_by_code(W, q) which codes the squared error comes from
    lloyd(x, levels)    the levels that leave the least squared error of x

Two aims are easily confused. Codes carry most if all are used equally often: then 4
bits carry 4 bits. But the error is least if levels stand where most *squared error*
would be, and that is further out than where most weights are. With many levels, the
best ones lie as densely as the cube root of the data's density (Panter and Dite 1951),
the equally used ones as densely as the data. NF4 was made for the first aim and is
judged by the second; and the absmax of each block changes both.

Nothing here quantizes: `rtn` does, with any grid. Lesson 08.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import pad

from minquant.numerics.groups import split
from minquant.numerics.ruler import Ruler
from minquant.numerics.tensor import QuantizedTensor


def places(
    W: Float[Tensor, "out in"], quantized: QuantizedTensor
) -> Float[Tensor, "out in"]:
    """Where each weight lies on its ruler: −1 is the lowest tick, 1 the highest.

    Weights beyond them were clipped. W: what was quantized. On a grid like NF4 this is
    W over the absmax of its group, except that the scale is rounded.

    >>> import minquant as mq
    >>> W = torch.tensor([[0.1, -0.2, 0.15, 0.05]])
    >>> places(W, mq.quantize_rtn(W, mq.NF4, scale_dtype=torch.float32))
    tensor([[ 0.5000, -1.0000,  0.7500,  0.2500]])
    """
    q = quantized
    ruler = Ruler.of_groups(q.scales, q.zeros, q.grid)
    groups = split(W.detach().float(), q.granularity)  # (rows, n_groups, g)
    ends = groups.new_tensor([q.grid.levels[0], q.grid.levels[-1]])
    low, high = ruler.stretch(ends).split(1, -1)  # each (rows, n_groups, 1)
    return (2 * (groups - low) / (high - low) - 1).reshape(W.shape)


def _numbers(quantized: QuantizedTensor) -> Integer[Tensor, " weights"]:
    """The code of each weight, counted from the grid's lowest."""
    return quantized.codes.flatten().long() - quantized.grid.low


def usage(quantized: QuantizedTensor) -> Float[Tensor, " codes"]:
    """The share of the weights that have each code, from the lowest code up.

    >>> import minquant as mq
    >>> usage(mq.quantize_rtn(torch.tensor([[-1.0, 0.0, 0.1, 1.0]]), mq.absmax(2)))
    tensor([0.2500, 0.5000, 0.2500], dtype=torch.float64)
    """
    codes = _numbers(quantized)
    counts = torch.bincount(codes, minlength=len(quantized.grid.levels))
    return counts.double() / codes.numel()


def carried(shares: Float[Tensor, " codes"]) -> float:
    """The bits that a code carries on average, −Σ p log2 p: its entropy (Shannon 1948).

    shares: how often each code is used; they sum to 1. Equal shares carry most.

    >>> carried(torch.tensor([0.5, 0.25, 0.25]))
    1.5
    """
    return float(torch.special.entr(shares.double()).sum() / log(2))


def error_by_code(
    W: Float[Tensor, "out in"], quantized: QuantizedTensor
) -> Float[Tensor, " codes"]:
    """Each code's share of the squared error; all 0 where there is no error."""
    squares = (quantized.dequantize(torch.float32) - W.detach().double()).square()
    sums = squares.new_zeros(len(quantized.grid.levels))
    sums.index_add_(0, _numbers(quantized), squares.flatten())
    return sums / sums.sum().clamp(min=torch.finfo(torch.float64).tiny)


def lloyd(
    x: Float[Tensor, " n"],
    levels: Sequence[float],
    weights: Float[Tensor, " n"] | None = None,
    *,
    rounds: int = 2000,
) -> tuple[float, ...]:
    """Levels moved until no single one can do better: Lloyd's algorithm (1957, 1982).

        repeat   every x goes to its nearest level
                 every level goes to the mean of its x      until nothing moves

    levels: where to start, ascending. weights: how much each x counts. If x is W over
    the absmax of its group, absmax² makes the error that of W. A level without any x
    stays. Each round lowers the error or ends the search. For normal numbers the end is
    the best there is (Max 1960); otherwise it may be a local minimum.

    Raises ValueError if levels do not ascend, or x is not finite.

    >>> lloyd(torch.tensor([0.0, 1.0, 4.0, 6.0]), [0.0, 1.0])
    (0.5, 5.0)
    """
    old = torch.tensor(levels, dtype=torch.float64, device=x.device)
    if not (old.diff() > 0).all():
        raise ValueError("levels must ascend; give sorted(set(levels))")
    if bad := int((~x.isfinite()).sum()):
        raise ValueError(f"x holds {bad} of {len(x)} numbers that are not finite")
    x, order = x.double().sort()
    w = torch.ones_like(x) if weights is None else weights.double()[order]
    # running sums: a round looks up the midpoints, and never walks through the data
    sums = torch.stack([w, w * x]).cumsum(1)  # (2, n)
    sums = pad(sums, (1, 0))  # (2, n + 1)
    for _ in range(rounds):
        inner = torch.searchsorted(x, (old[1:] + old[:-1]) / 2, right=True)
        ends = pad(pad(inner, (1, 0)), (0, 1), value=len(x))  # (levels + 1,)
        count, total = sums[:, ends].diff(dim=1)  # (2, levels)
        new = torch.where(count > 0, total / count.clamp(min=1e-300), old)
        if (new - old).abs().max() <= 1e-9 * x.abs().max():
            break
        old = new
    return tuple(new.tolist())
