"""How sure is a measured number? Two intervals, for everything the course measures.

A number measured on 60 documents would be different on 60 other documents. There are
two ways to say by how much. Each gives an interval that contains the true mean in a
share `level` of all such measurements:

    bootstrap   for a mean per token, or a difference: draw the documents again, with
                replacement, thousands of times, and see how much the mean scatters
                (Efron 1979; the percentile interval)
    wilson      for a share of right answers (Wilson 1927): it stays between 0 and 1,
                and has a width at 0 of n and n of n, where a bootstrap has none

Documents are drawn whole, because the tokens of one document are not independent.
What is left out: corrections for skew (BCa), so with fewer than about 20 documents
the bootstrap is too narrow. Lesson 04 derives both. `won_back` is a bootstrap of a
ratio: which share of a damage a better method undoes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist

import torch
from jaxtyping import Shaped
from torch import Tensor

DRAWS = 4000
_CHUNK = 2_000_000  # documents drawn together: 16 MB of indices


def bootstrap(
    sums: Shaped[Tensor, " d"],
    counts: Shaped[Tensor, " d"] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of `sums.sum() / counts.sum()`, over documents drawn again.

    sums: one number per document, such as its nats. counts: how many things each sum
    covers, such as tokens (default: 1 each). Both are drawn together, so a long
    document weighs more than a short one in every draw, as it does in the mean. For a
    paired difference give the differences as `sums`. The same seed gives the same
    interval.

    An infinite sum makes an end infinite where enough draws have it.

    Raises ValueError for fewer than two documents, for counts of another shape or not
    above 0, or for `level` outside (0, 1).

    >>> bootstrap(torch.tensor([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    >>> low, high = bootstrap(torch.tensor([10.0, 90.0]), torch.tensor([10, 30]))
    >>> low, high  # mean 2.5; draws of the first alone, or of the second alone
    (1.0, 3.0)
    """
    _check_level(level)
    d = len(sums)
    if d < 2:
        raise ValueError(
            f"sums holds {d} document(s), and an interval needs at least 2; "
            "measure more, or cut the text into several"
        )
    sums = sums.double().cpu()
    counts = torch.ones_like(sums) if counts is None else counts.double().cpu()
    if counts.shape != sums.shape:
        raise ValueError(
            f"counts has shape {tuple(counts.shape)} but sums {tuple(sums.shape)}; "
            "give one count per document"
        )
    if not (counts > 0).all():
        empty = int((~(counts > 0)).nonzero()[0])
        raise ValueError(
            f"counts[{empty}] is {counts[empty]:g}; leave out documents without tokens"
        )
    means = torch.cat([sums[i].sum(1) / counts[i].sum(1) for i in _draws(d, seed)])
    tail = (1 - level) / 2
    tails = sums.new_tensor([tail, 1 - tail])
    ends = torch.quantile(means, tails)
    if means.isinf().any():  # between two infinite means quantile computes inf - inf
        above = torch.quantile(means, tails, interpolation="higher")
        ends = torch.where(ends.isnan(), above, ends)
    low, high = ends.tolist()
    return low, high


def _draws(d: int, seed: int) -> Iterator[Shaped[Tensor, "draws d"]]:
    """Indices of d documents drawn from d with replacement, DRAWS times, in chunks."""
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, _CHUNK // d)
    for start in range(0, DRAWS, chunk):
        rows = min(chunk, DRAWS - start)
        yield torch.randint(d, (rows, d), generator=generator, device="cpu")


def won_back(
    base: Shaped[Tensor, " d"],
    worse: Shaped[Tensor, " d"],
    better: Shaped[Tensor, " d"],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The share of a damage that a better version undoes, and its interval.

        share = sum(worse - better) / sum(worse - base)

    base, worse, better: one number per document, such as its nats, of the float model
    and of two versions of it. 1 is all of the damage; below 0 the better version is
    worse. A single document may gain by rounding. But where documents can be drawn that
    lose nothing together, there is no damage to take a share of: the interval has no
    ends.

    Raises ValueError for fewer than two documents, or for `level` outside (0, 1).

    >>> base, worse = torch.zeros(3), torch.tensor([1.0, 2.0, 5.0])
    >>> won_back(base, worse, worse / 2)
    (0.5, 0.5, 0.5)
    """
    _check_level(level)
    d = len(base)
    if d < 2:
        raise ValueError(
            f"base, worse and better hold {d} document(s), and an interval needs at "
            "least 2; measure more, or cut the text into several"
        )
    gone = (worse - better).double().cpu()
    damage = (worse - base).double().cpu()
    drawn = [(gone[i].sum(1), damage[i].sum(1)) for i in _draws(d, seed)]
    gones, damages = (torch.cat(part) for part in zip(*drawn, strict=True))
    share = (gone.sum() / damage.sum()).item()
    if damages.min() <= 0:
        return share, -inf, inf
    tail = (1 - level) / 2
    ends = torch.quantile(gones / damages, damages.new_tensor([tail, 1 - tail]))
    low, high = ends.tolist()
    return share, low, high


def wilson(right: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """The interval of the share `right / n`: every p from which the share is at most z
    standard deviations away.

        |right/n - p| <= z sqrt(p (1 - p) / n)      solved for p

    Raises ValueError unless 0 <= right <= n, n >= 1, and `level` is in (0, 1).

    >>> low, high = wilson(10, 10)
    >>> round(low, 4), high
    (0.7225, 1.0)
    """
    _check_level(level)
    if n < 1 or not 0 <= right <= n:
        raise ValueError(
            f"right is {right} of n = {n}; give at least one answer, and no more right "
            "ones than answers"
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, shrink = right / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z / shrink * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if right == 0 else middle - half  # rounding would miss the exact ends
    high = 1.0 if right == n else middle + half
    return low, high


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; choose a share such as 0.95")


@dataclass(frozen=True)
class Difference:
    """The mean of a difference with its interval; `unit` says in which unit.

    >>> Difference(0.0312, 0.0290, 0.0334)
    +0.0312 nats/token [0.0290, 0.0334]
    """

    mean: float
    low: float
    high: float
    unit: str = "nats/token"
    level: float = 0.95

    def __repr__(self) -> str:
        return f"{self.mean:+.4f} {self.unit} [{self.low:.4f}, {self.high:.4f}]"

    @property
    def is_sure(self) -> bool:
        """True if 0 is outside the interval, so that the sign is not chance."""
        return self.low > 0 or self.high < 0
