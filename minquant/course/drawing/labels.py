"""Names at the ends of lines, none over another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def spread_apart(
    heights: Sequence[float] | Float[np.ndarray, " names"], gap: float
) -> Float[np.ndarray, " names"]:
    """Heights in ascending order, moved up and down until neighbours are `gap` apart.

    >>> spread_apart([1.0, 2.0, 9.0], 3.0).tolist()
    [0.0, 3.0, 9.0]
    """
    y = np.array(heights, dtype=float)
    for _ in range(200):
        for i in range(len(y) - 1):
            lack = gap - (y[i + 1] - y[i])
            if lack > 0:
                y[i] -= lack / 2
                y[i + 1] += lack / 2
    return y
