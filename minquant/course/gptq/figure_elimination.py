"""What is left of H⁻¹ when columns are fixed one by one, and what is taken off.

    H⁻¹        after 8     after 16             the rows taken off: U
    ▓▒▒░▒      ·····       ·····                ▓▒▒░▒
    ▒▓▒▒░  →   ·▓▒▒░   →   ·····        ──▶     ·▓▒▒░
    ▒▒▓▒▒      ·▒▓▒▒       ··▓▒▒                ··▓▒▒

Each elimination subtracts the outer product of a row with itself; all of them together
leave nothing. So H⁻¹ is the sum of these products: H⁻¹ = Uᵀ U, where U holds the rows.
U is the Cholesky factor. Lesson 06.
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
FULL = 0.6  # from here on a colour is full
SIGNED = LinearSegmentedColormap.from_list(
    "signed", [palette.BLUE, palette.PAPER, palette.VERMILION]
)


def remains(
    H_inv: Float[Tensor, "in in"], after: Sequence[int]
) -> list[Float[Tensor, "in in"]]:
    """H⁻¹ after these numbers of eliminations; rows and columns that are gone are 0.

    Raises ValueError unless the numbers ascend, from 0 to `in`.

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
            left[j], left[:, j] = 0, 0  # exactly 0, without rounding errors
        done = count
        kept.append(left.clone())
    return kept


@palette.style()
def elimination(
    H_inv: Float[Tensor, "in in"], after: Sequence[int] = (0, 8, 16)
) -> Picture:
    """H⁻¹ after these numbers of eliminations, and the rows U that are taken off.

    H_inv: (in, in), best with up to about 30 columns. It is scaled to a diagonal of 1
    for the colours, which does not change what elimination does.

    Raises ValueError as `remains` does.
    """
    size = H_inv.diagonal().sqrt()
    scaled = H_inv / torch.outer(size, size)
    panels = [*remains(scaled, after), torch.linalg.cholesky(scaled, upper=True)]
    names = [f"after {n} of {len(scaled)}" if n else "H⁻¹" for n in after]
    names.append("taken off, row by row: U")
    side = (WIDTH - 2 * LEFT - GAP * (len(panels) - 1)) // len(panels)
    fig = Picture(WIDTH, TOP + side + 44)
    for i, (name, panel) in enumerate(zip(names, panels, strict=True)):
        _draw(fig, LEFT + i * (side + GAP), side, panel.double().numpy(), name)
    key = "blue below 0, white 0, red above 0"
    fig.write(LEFT, TOP + side + 22, key, color=palette.MUTED)
    fig.alt = (
        f"A map of H⁻¹, {len(scaled)} columns wide, and what is left of it after "
        f"{', '.join(str(n) for n in after if n)} eliminations: each time a smaller "
        "square at the lower right. Beside them, U: upper triangular, its rows are "
        "what the eliminations took off."
    )
    return fig


def _draw(fig: Picture, left: int, side: int, panel: np.ndarray, name: str) -> None:
    ax = fig.axes_at(left, TOP, side, side, xticks=[], yticks=[])
    ax.imshow(np.where(panel == 0, np.nan, panel), cmap=SIGNED, vmin=-FULL, vmax=FULL)
    ax.set_facecolor(palette.WASH)
    ax.spines[:].set_visible(False)
    fig.write(left, 24, name, weight="bold")
