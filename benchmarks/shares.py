"""Which share of a damage a better method wins back, with an interval.

No script: `real.py` and `recovered.py` use it.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from minquant.measure.intervals import DRAWS


def won_back(
    base: Tensor, lost: Tensor, kept: Tensor, *, seed: int = 0
) -> tuple[float, float, float]:
    """The share of the damage that is gone, and its 95 % interval.

    One number per document or fact: of the float model, of the worse and of the better
    version. 1 is all of the damage; below 0 the better version is worse. A single
    document may gain by rounding. But where the documents can be drawn so that all of
    them together lose nothing, there is no damage to take a share of, and the interval
    has no ends.
    """
    gone, damage = (lost - kept).double(), (lost - base).double()
    share = (gone.sum() / damage.sum()).item()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(gone), (DRAWS, len(gone)), generator=generator)
    damages = damage[drawn].sum(1)
    if damages.min() <= 0:
        return share, -inf, inf
    shares = gone[drawn].sum(1) / damages
    low, high = torch.quantile(shares, shares.new_tensor([0.025, 0.975])).tolist()
    return share, low, high
