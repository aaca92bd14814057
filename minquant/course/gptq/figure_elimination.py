"""What is left of H⁻¹ when columns are fixed one by one, and what was taken off it.

    H⁻¹        after 8     after 16             the rows taken off: U
    ▓▒▒░▒      ·····       ·····                ▓▒▒░▒
    ▒▓▒▒░  →   ·▓▒▒░   →   ·····        ──▶     ·▓▒▒░
    ▒▒▓▒▒      ·▒▓▒▒       ··▓▒▒                ··▓▒▒

Each elimination subtracts the outer product of a row with itself; all of them together
take everything. So H⁻¹ is the sum of those products, H⁻¹ = Uᵀ U with U the rows, and
that is what a Cholesky factor is. Lesson 06.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture

TOP, GAP, LEFT = 44, 26, 16  # CSS pixels
MOST = 0.6  # from here on a colour is full
SIGNED = LinearSegmentedColormap.from_list(
    "signed", [palette.BLUE, palette.PAPER, palette.VERMILION]
)


def remains(
    H_inv: Float[Tensor, "in in"], after: Sequence[int]
) -> list[Float[Tensor, "in in"]]:
    """H⁻¹ after so many eliminations, in its full size; what is gone is 0.

    Raises ValueError unless they ascend, from 0 to `in`.

    >>> H_inv = torch.tensor([[4.0, 2.0], [2.0, 3.0]])
    >>> remains(H_inv, [1])[0]
    tensor([[0., 0.],
            [0., 2.]])
    """
    if list(after) != sorted(after) or not 0 <= after[0] <= after[-1] <= len(H_inv):
        raise ValueError(f"after is {list(after)}; count up, from 0 to {len(H_inv)}")
    left, done, kept = H_inv.clone(), 0, []
    for count in after:
        for j in range(done, count):
            left -= torch.outer(left[j], left[j]) / left[j, j]
            left[j], left[:, j] = 0, 0  # exactly, not but for rounding
        done = count
        kept.append(left.clone())
    return kept


@palette.style()
def elimination(
    H_inv: Float[Tensor, "in in"], after: Sequence[int] = (0, 8, 16)
) -> Picture:
    """H⁻¹ after so many eliminations, side by side, and the rows U taken off.

    H_inv: (in, in), best not more than about 30 columns. Colours are of H⁻¹ scaled to
    a diagonal of 1, which elimination does not mind.
    """
    size = H_inv.diagonal().sqrt()
    alike = H_inv / torch.outer(size, size)
    panels = remains(alike, after)
    names = [f"after {n} of {len(alike)}" if n else "H⁻¹" for n in after]
    U = torch.linalg.cholesky(alike, upper=True)
    count = len(panels) + 1
    side = (WIDTH - 2 * LEFT - GAP * (count - 1)) // count
    fig = Picture(WIDTH, TOP + side + 44)
    names, panels = [*names, "taken off, row by row: U"], [*panels, U]
    for i, (name, panel) in enumerate(zip(names, panels, strict=True)):
        _draw(fig, LEFT + i * (side + GAP), side, panel.double().numpy(), name)
    fig.write(LEFT, TOP + side + 22, "blue below 0, white 0, red above 0",
              color=palette.MUTED)  # fmt: skip
    fig.alt = (
        f"A map of H⁻¹, {len(alike)} columns wide, and what is left of it after "
        f"{', '.join(str(n) for n in after if n)} eliminations: each time a smaller "
        "square at the lower right. Beside them, U: upper triangular, its rows are "
        "what the eliminations took off."
    )
    return fig


def _draw(fig: Picture, left: int, side: int, panel: np.ndarray, name: str) -> None:
    ax = fig.axes_at(left, TOP, side, side, xticks=[], yticks=[])
    ax.imshow(np.where(panel == 0, np.nan, panel), cmap=SIGNED, vmin=-MOST, vmax=MOST)
    ax.set_facecolor(palette.WASH)
    ax.spines[:].set_visible(False)
    fig.write(left, 24, name, weight="bold")
