"""What rank means: matrices that are products of two thin ones.

          ▁▂▅▂▁        A, a row for each rank
        ▂ ▂▄█▄▂
        █ ▆█████       B A: every row is a mixture of the rows of A
        ▄ ▃▅▇▅▃
        B

At rank 1 all rows are multiples of one row. The more ranks, the less order is left to
see. Lesson 09.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture

SIGNED = LinearSegmentedColormap.from_list(
    "signed", [palette.VERMILION, palette.PAPER, palette.BLUE]
)
TOP, HIGH, GAP, STRIP = 74, 180, 50, 7  # CSS pixels; STRIP for each rank


@palette.style()
def ranks(
    A: Float[Tensor, "r in"], B: Float[Tensor, "out r"], shown: Sequence[int]
) -> Picture:
    """B A of the first ranks alone, with these B and A along its sides.

    shown: ranks, from left to right, at most r.
    """
    room = (WIDTH - 2 * 20 - GAP * (len(shown) - 1)) / len(shown)
    fig = Picture(WIDTH, TOP + HIGH + 34)
    for i, r in enumerate(shown):
        left = 20 + i * (room + GAP)
        wide = room - STRIP * r - 6
        here = B[:, :r] @ A[:r]
        places = (
            (here, left + STRIP * r + 6, TOP, wide, HIGH),
            (A[:r], left + STRIP * r + 6, TOP - STRIP * r - 6, wide, STRIP * r),
            (B[:, :r], left, TOP, STRIP * r, HIGH),
        )
        for matrix, x, y, width, height in places:
            ax = fig.axes_at(x, y, width, height)
            ax.axis("off")
            reach = matrix.abs().max().item()
            looks = {"vmin": -reach, "vmax": reach, "aspect": "auto"}
            ax.imshow(matrix.numpy(), cmap=SIGNED, interpolation="nearest", **looks)
        middle = TOP - 6 - STRIP * r / 2
        fig.write(left + STRIP * r, middle, "A", ha="right", weight="bold")
        fig.write(
            left + STRIP * r / 2, TOP + HIGH + 18, "B", ha="center", weight="bold"
        )
        numbers = A[:r].numel() + B[:, :r].numel()
        caption = f"rank {r}: {numbers:,} numbers"
        fig.write(left + room, TOP + HIGH + 18, caption, ha="right", weight="bold")
    sizes = ", ".join(f"{r} with {r * (A.shape[1] + len(B)):,}" for r in shown)
    fig.alt = (
        f"Matrices of {len(B)} × {A.shape[1]} numbers, blue above 0, vermilion below, "
        f"each the product of the thin B on its left and the thin A on top. Ranks "
        f"{sizes} numbers. At rank 1 all rows look alike; the more ranks, the less."
    )
    return fig
