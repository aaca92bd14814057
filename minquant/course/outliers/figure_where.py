"""Where the outliers are: a dot for each large number of X, by token and column.

    token 0   ●    ● ●  ●     a row of dots: one token is large, in many columns
    token 1     ·  ●          a column of dots: one channel is large, in all tokens
    token 2        ●   ·

What is not large leaves the sheet empty. Lesson 05 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number

LEFT, TOP, TALL, GAP = 60, 66, 230, 56  # CSS pixels


@palette.style()
def large_numbers(
    inputs: Mapping[str, Float[Tensor, "_ _"]], threshold: float = 6.0
) -> Picture:
    """A panel for each X (n, in): a dot where |x| reaches the threshold.

    inputs: title to X. Dots grow with |x|, by its logarithm.

    Raises ValueError if there are none, or more than three.
    """
    if not 1 <= len(inputs) <= 3:
        raise ValueError(f"inputs has {len(inputs)} entries; give one to three")
    fig = Picture(WIDTH, TOP + TALL + 60)
    wide = (WIDTH - LEFT - 14 - GAP * (len(inputs) - 1)) / len(inputs)
    limit = f"{threshold:g}"
    described = []
    for i, (name, X) in enumerate(inputs.items()):
        size = X.detach().abs().float().cpu().numpy()
        tokens, columns = np.nonzero(size >= threshold)
        left = LEFT + i * (wide + GAP)
        ax = fig.axes_at(left, TOP, wide, TALL, xlabel="column")
        ax.set_xlim(-0.01 * size.shape[1], 1.01 * size.shape[1])
        ax.set_ylim(len(size) - 0.2, -1.2)
        areas = 6 + 14 * np.log2(size[tokens, columns] / threshold)
        looks = {"color": palette.VERMILION, "alpha": 0.75, "lw": 0, "clip_on": False}
        ax.scatter(columns, tokens, s=areas, **looks)
        if i == 0:
            ax.set_ylabel("token")
        top = float(size.max())
        largest = f"{top:,.0f}" if top >= 100 else number(top, digits=3)
        told = f"{len(tokens):,} of {size.size:,} numbers reach {limit}"
        fig.write(left, 20, name, weight="bold")
        fig.write(left, 44, f"{told}; the largest is {largest}", color=palette.MUTED)
        described.append(f"{name}: {told}, {_where(tokens, columns, size.shape)}.")
    fig.alt = f"A dot for each number of X from {limit} on. " + " ".join(described)
    return fig


def _where(tokens: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> str:
    """In words: how many tokens and columns have a large number."""
    most = np.bincount(columns, minlength=1).max() if len(columns) else 0
    return (
        f"in {len(set(tokens))} of {shape[0]} tokens and {len(set(columns))} of "
        f"{shape[1]} columns; one column has {most}"
    )
