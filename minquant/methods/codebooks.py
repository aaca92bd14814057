"""Which values should a codebook hold? What its codes are used for, and the best ones.

    places(W, q)        where each weight lies on its ruler: −1 its low end, 1 its high
    usage(q)            how often each code stands in a quantized matrix
    carried(shares)     the bits that such a code carries, its entropy: at most log2 n
    error_by_code(W, q) which codes the squared error comes from
    lloyd(x, levels)    the levels that leave the least squared error of x

Two aims are easily taken for one. A code says most if all its values are used equally
often: then 4 bits carry 4 bits. But a weight is best kept if levels stand where most
*squared error* would be, and that is further out than where most weights are. For many
levels the best have a density in proportion to the cube root of the data's (Panter and
Dite 1951), the equally used ones to the density itself. NF4 was made for the first aim
and is judged by the second; blocks with an absmax of their own change both.

Nothing here quantizes: `rtn` does, with any grid. Lesson 08.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.numerics.groups import join, split
from minquant.numerics.scales import scale_values
from minquant.numerics.tensor import QuantizedTensor


def places(
    W: Float[Tensor, "out in"], quantized: QuantizedTensor
) -> Float[Tensor, "out in"]:
    """Where each weight lies on its own ruler, −1 being the lowest tick and 1 the
    highest; beyond them it is clipped. W: what was quantized.

    With a grid like NF4 that is W over the absmax of its group, but for the rounding of
    the scale.

    >>> import minquant as mq
    >>> W = torch.tensor([[0.1, -0.2, 0.15, 0.05]])
    >>> places(W, mq.quantize_rtn(W, mq.NF4, scale_dtype=torch.float32))
    tensor([[ 0.5000, -1.0000,  0.7500,  0.2500]])
    """
    scales = scale_values(quantized.scales)[:, :, None]
    steps = split(W.detach().float(), quantized.granularity) / scales
    if quantized.zeros is not None:
        steps = steps + quantized.zeros[:, :, None]
    low, high = quantized.grid.levels[0], quantized.grid.levels[-1]
    return join(2 * (steps - low) / (high - low) - 1, tuple(W.shape))


def _numbers(quantized: QuantizedTensor) -> Integer[Tensor, " weights"]:
    """Each weight's code, counted from the lowest."""
    return quantized.codes.flatten().long() - quantized.grid.low


def usage(quantized: QuantizedTensor) -> Float[Tensor, " codes"]:
    """The share of the weights that have each code, from the lowest code up.

    >>> import minquant as mq
    >>> q = mq.quantize_rtn(torch.tensor([[-1.0, 0.0, 0.1, 1.0]]), mq.absmax(2))
    >>> usage(q)
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
    squares = (quantized.dequantize(torch.float32) - W.detach()).double().square()
    sums = torch.zeros(len(quantized.grid.levels), dtype=torch.float64)
    sums.index_add_(0, _numbers(quantized), squares.flatten())
    return sums / sums.sum().clamp(min=torch.finfo(torch.float64).tiny)


def lloyd(
    x: Float[Tensor, " n"],
    levels: Sequence[float],
    weights: Float[Tensor, " n"] | None = None,
    *,
    rounds: int = 2000,
) -> tuple[float, ...]:
    """Levels moved until none can be better alone: Lloyd's algorithm (1957, 1982).

        repeat   every x goes to its nearest level
                 every level goes to the mean of its x      until nothing moves

    levels: where to start, ascending. weights: how much each x counts: (absmax of its
    group)² makes it the squared error of the weights, x being W over that absmax. A
    level that has no x stays. Each round lowers the error or ends the search; for the
    normal the end is the best there is (Max 1960), else it may be a local one.

    Raises ValueError if levels do not ascend.

    >>> lloyd(torch.tensor([0.0, 1.0, 4.0, 6.0]), [0.0, 1.0])
    (0.5, 5.0)
    """
    now = torch.tensor(levels, dtype=torch.float64)
    if not (now.diff() > 0).all():
        raise ValueError("levels must ascend; give sorted(set(levels))")
    x, order = x.double().sort()
    w = torch.ones_like(x) if weights is None else weights.double()[order]
    # sums over all x below: so one round is 15 searches and no walk through the data
    sums = torch.stack([w, w * x]).cumsum(1)  # (2, n)
    sums = torch.nn.functional.pad(sums, (1, 0))  # (2, n + 1)
    for _ in range(rounds):
        inner = torch.searchsorted(x, (now[1:] + now[:-1]) / 2, right=True)
        ends = torch.nn.functional.pad(inner, (1, 0))
        ends = torch.nn.functional.pad(ends, (0, 1), value=len(x))
        count, total = sums[:, ends].diff(dim=1)  # (2, levels)
        then = torch.where(count > 0, total / count.clamp(min=1e-300), now)
        if (then - now).abs().max() <= 1e-9 * x.abs().max():
            break
        now = then
    return tuple(then.tolist())
