"""What Adam keeps of a weight's gradients: a mean, and how large they usually are.

    │ ╷  ╷ │ ╷       a bar for each gradient
    ┼─┴──╂─┴─┴───    the mean follows them slowly
    │    ╹           the band is ± their usual size

Lesson 09.
"""

from __future__ import annotations

from collections.abc import Sequence

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot


@palette.style()
def moments(
    gradients: Sequence[float], means: Sequence[float], squares: Sequence[float]
) -> Picture:
    """The gradients of one weight, step by step, and Adam's two moments of them.

    squares: the running mean of g²; drawn is its root, in both directions.
    """
    title = "One weight: its gradient on each page, and what Adam keeps of it"
    fig, ax = plot("page", "gradient", title=title, height=300, left=90, right=190)
    steps = range(1, len(gradients) + 1)
    sizes = [square**0.5 for square in squares]
    lower = [-size for size in sizes]
    ax.fill_between(steps, lower, sizes, color=palette.BAND, lw=0)
    ax.vlines(steps, 0, gradients, color=palette.MUTED, lw=2.5)
    ax.axhline(0, color=palette.MUTED, lw=0.8)
    ax.plot(steps, means, color=palette.VERMILION, lw=2.4)
    reach = 1.1 * max(map(abs, [*gradients, *sizes]))
    ax.set(xlim=(0.2, len(gradients) + 0.8), ylim=(-reach, reach))
    fig.write(720, 60, "grey: the gradients", color=palette.MUTED)
    fig.write(720, 84, "line: their mean, m", color=palette.VERMILION)
    fig.write(720, 108, "band: ± their size, √v", color=palette.BLUE)
    fig.alt = (
        f"The gradient of one weight on {len(gradients)} pages, from "
        f"{min(gradients):.2g} to {max(gradients):.2g}. Its running mean ends at "
        f"{means[-1]:.2g}, and its usual size at {sizes[-1]:.2g}."
    )
    return fig
