"""An adapter beside a frozen layer: what flows forward, and what flows back.

              ┌────────────┐
    X ──┬────▶│ W, frozen  │────▶(+)──▶ Y
        │     └────────────┘      ▲
        └────▶ A ╲____╱ B ────────┘
                   r

`forward` draws this; `backward` the same with the gradients, which flow from right to
left: through W and A and B to X, and into A and B, which learn. Lesson 09.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Polygon, Rectangle

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture

HEIGHT = 320
UPPER, LOWER = 90, 228  # the middles of the two ways
TALL, THIN = 104, 22  # a side of W; the waist r
W_BOX = (370, 530)
A_BOX, B_BOX = (310, 440), (460, 590)
LEFT, RIGHT, SUM = 110, 790, 700


@palette.style()
def forward() -> Picture:
    """The way of X: through the frozen W, and through the thin A and B."""
    fig, ax = _layer()
    _arrow(ax, (LEFT + 26, UPPER), (W_BOX[0] - 6, UPPER), palette.BLUE)
    _arrow(ax, (W_BOX[1] + 6, UPPER), (SUM - 17, UPPER), palette.BLUE)
    _arrow(ax, (LEFT + 26, UPPER + 30), (A_BOX[0] - 6, LOWER), palette.BLUE)
    _arrow(ax, (B_BOX[1] + 6, LOWER), (SUM - 8, UPPER + 18), palette.BLUE)
    _arrow(ax, (SUM + 17, UPPER), (RIGHT - 26, UPPER), palette.BLUE)
    ax.text(608, UPPER - 12, "X Wᵀ", ha="center")
    ax.text(660, LOWER - 22, "s · (X Aᵀ) Bᵀ", ha="left")
    _name(ax, "A layer with an adapter: Y = X Wᵀ + s · (X Aᵀ) Bᵀ")
    fig.alt = (
        "X goes two ways. Above through the large matrix W, which is frozen. Below "
        "through A, which narrows it to r numbers, and B, which widens it again; A and "
        "B are trained. The two results are added and give Y."
    )
    return fig


@palette.style()
def backward() -> Picture:
    """The way of the gradients, from Y to X, and into A and B."""
    fig, ax = _layer()
    hue = palette.VERMILION
    _arrow(ax, (RIGHT - 26, UPPER), (SUM + 17, UPPER), hue)
    _arrow(ax, (SUM - 17, UPPER), (W_BOX[1] + 6, UPPER), hue)
    _arrow(ax, (SUM - 8, UPPER + 18), (B_BOX[1] + 6, LOWER), hue)
    _arrow(ax, (W_BOX[0] - 6, UPPER), (LEFT + 26, UPPER), hue)
    _arrow(ax, (A_BOX[0] - 6, LOWER), (LEFT + 26, UPPER + 30), hue)
    for box, side in ((A_BOX, "right"), (B_BOX, "left")):
        middle = sum(box) / 2
        _arrow(ax, (middle, LOWER + 42), (middle, LOWER + 66), hue)
        name, gap = ("dA", -12) if side == "right" else ("dB", 12)
        told = f"{name}, for the optimizer"
        ax.text(middle + gap, LOWER + 60, told, ha=side, color=hue)
    ax.text(RIGHT - 18, UPPER - 26, "G = dL/dY", ha="right", color=hue)
    ax.text(236, UPPER - 12, "G W", ha="center", color=hue)
    ax.text(150, LOWER - 20, "s · (G B) A", ha="left", color=hue)
    _name(ax, "The way back: the gradient passes W, and stays in A and B")
    fig.alt = (
        "The gradient G comes from Y and goes two ways back to X: above through the "
        "frozen W, which gets none of it, below through B and A. B and A each keep a "
        "gradient, dB and dA, for the optimizer."
    )
    return fig


@palette.style()
def _layer() -> tuple[Picture, Axes]:
    """The boxes, without arrows."""
    fig = Picture(WIDTH, HEIGHT)
    ax = fig.axes_at(0, 0, WIDTH, HEIGHT)
    ax.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    ax.axis("off")
    top, bottom = UPPER - TALL / 2, UPPER + TALL / 2
    frozen = {"fc": palette.WASH, "ec": palette.MUTED, "hatch": "..", "lw": 1.2}
    box = Rectangle((W_BOX[0], top), W_BOX[1] - W_BOX[0], bottom - top, **frozen)
    ax.add_patch(box)
    middle = sum(W_BOX) / 2
    plain = {"fc": palette.WASH, "ec": "none", "pad": 3}
    ax.text(middle, UPPER - 8, "W", ha="center", weight="bold", bbox=plain)
    ax.text(middle, UPPER + 14, "frozen, in 4 bits", ha="center", bbox=plain)
    half, waist = 38, THIN / 2
    for (left, right), name, sides in (
        (A_BOX, "A", (half, waist)),
        (B_BOX, "B", (waist, half)),
    ):
        corners = [
            (left, LOWER - sides[0]),
            (right, LOWER - sides[1]),
            (right, LOWER + sides[1]),
            (left, LOWER + sides[0]),
        ]
        trained = {"fc": palette.HIGHLIGHT, "ec": palette.INK, "lw": 1.2}
        ax.add_patch(Polygon(corners, **trained))
        ax.text((left + right) / 2, LOWER + 5, name, ha="center", weight="bold")
    ax.text(sum((A_BOX[1], B_BOX[0])) / 2, LOWER + 5, "r", ha="center")
    ax.text(middle, LOWER - 44, "trained", ha="center", va="bottom")
    for at, name in ((LEFT, "X"), (RIGHT, "Y")):
        bar = Rectangle((at - 10, UPPER - 40), 20, 80, fc=palette.BAND, ec=palette.BLUE)
        ax.add_patch(bar)
        ax.text(at, UPPER + 5, name, ha="center", weight="bold")
    ax.add_patch(Circle((SUM, UPPER), 15, fc=palette.PAPER, ec=palette.INK))
    ax.text(SUM, UPPER + 5, "+", ha="center", weight="bold")
    return fig, ax


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str
) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 14, "lw": 2, "color": color}
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **look))


@palette.style()
def _name(ax: Axes, title: str) -> None:
    ax.text(20, 20, title, weight="bold")
