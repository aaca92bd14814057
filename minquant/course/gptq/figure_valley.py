"""Two weights and their error: a valley, its ticks, and two ways to round into it.

    w1 │ ·   ·╱╱·          each dot is a pair of ticks, each line a height of the error
       │ ·  ╱×╱ ·          over both weights. Inputs that vary together make a long
       │ · ╱╱· ■·          valley: one weight can make up for the error of the other.
       └────────── w0      RTN (■) goes to the nearest dot. GPTQ rounds w0, moves w1 to
                           the lowest point that is left (the arrow), then rounds it (★)

Lesson 06 reads it: `obs_step` rounds one weight and moves the other along the line.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.numbers import number
from minquant.methods.gptq_derivation import obs_step

SIZE = (900, 430)
PLACE = (70, 44, 470, 330)
SHARES = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)  # heights of the lines; RTN's error is 1


class Walk(NamedTuple):
    """Two weights before rounding and after it, in two ways. Errors are ‖X δᵀ‖²."""

    was: tuple[float, float]
    nearest: tuple[float, float]  # RTN
    moved: tuple[float, float]  # weight 0 rounded, weight 1 moved
    ours: tuple[float, float]  # and then rounded
    nearest_error: float
    moved_error: float
    error: float

    @staticmethod
    def of(w: Float[Tensor, " two"], H: Float[Tensor, "two two"], step: float) -> Walk:
        """Round weights w (2,) to ticks every `step` in both ways; H is (2, 2)."""
        w, H = w.double(), H.double()
        nearest = (w / step).round() * step
        moved, _ = obs_step(w, H.inverse(), 0, nearest[0].item())
        ours = (moved / step).round() * step
        points = [tuple(x.tolist()) for x in (w, nearest, moved, ours)]
        ends = (x - w for x in (nearest, moved, ours))
        return Walk(*points, *((end @ H @ end).item() for end in ends))


@palette.style()
def valley(
    w: Float[Tensor, " two"], H: Float[Tensor, "two two"], step: float
) -> Picture:
    """The picture for weights w (2,), with ticks every `step`; H is (2, 2).

    Raises ValueError if RTN has no error to compare with.
    """
    walk = Walk.of(w, H, step)
    if not walk.nearest_error:
        raise ValueError(f"w is {w.tolist()}, on the ticks; choose other weights")
    fig = Picture(*SIZE)
    ax = fig.axes_at(*PLACE, facecolor="none")
    points = np.array(walk[:4])
    middle = (points.min(0) + points.max(0)) / 2
    tall = 1.4 * step  # half the height that is seen
    wide = tall * PLACE[2] / PLACE[3]
    ax.set(xlim=(middle[0] - wide, middle[0] + wide), xlabel="weight 0")
    ax.set(ylim=(middle[1] - tall, middle[1] + tall), ylabel="weight 1")
    _draw_heights(ax, walk, H.double().numpy())
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        ticks = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)
        axis.set_ticks(ticks, [number(tick, digits=2) for tick in ticks])
    lattice = np.array(np.meshgrid(ax.get_xticks(), ax.get_yticks())).reshape(2, -1)
    ax.plot(*lattice, "o", ms=5, color=palette.MUTED)
    _draw_walk(ax, walk)
    _write_key(fig, walk)
    fig.alt = _describe(walk)
    return fig


def _draw_heights(ax: Axes, walk: Walk, H: np.ndarray) -> None:
    x = np.linspace(*ax.get_xlim(), 200)
    y = np.linspace(*ax.get_ylim(), 200)
    dx, dy = np.meshgrid(x - walk.was[0], y - walk.was[1])
    error = H[0, 0] * dx**2 + 2 * H[0, 1] * dx * dy + H[1, 1] * dy**2
    heights = [share * walk.nearest_error for share in SHARES]
    ax.contourf(x, y, error, [0, *heights], colors=[palette.BAND], alpha=0.28)
    ax.contour(x, y, error, heights, colors=palette.SKY, linewidths=1)


def _draw_walk(ax: Axes, walk: Walk) -> None:
    line = {"color": palette.VERMILION, "lw": 1.6}
    ax.axvline(walk.moved[0], color=palette.VERMILION, lw=1, ls=(0, (4, 3)))
    turn = walk.moved[0], walk.was[1]
    ax.plot(*zip(walk.was, turn, strict=True), **line)
    arrow = {"arrowstyle": "->", **line}
    ax.annotate("", walk.moved, turn, arrowprops=arrow)
    looks = {"ls": "", "clip_on": False, "zorder": 5}
    ax.plot(*walk.was, "o", ms=9, color=palette.BLUE, **looks)
    ax.plot(*walk.moved, "D", ms=7, color=palette.VERMILION, **looks)
    ax.plot(*walk.nearest, "s", ms=11, mfc="none", mec=palette.INK, mew=2, **looks)
    ax.plot(*walk.ours, "*", ms=16, color=palette.GREEN, **looks)


def _write_key(fig: Picture, walk: Walk) -> None:
    fig.write(PLACE[0], 18, "The layer's error over two of its weights", weight="bold")
    rows = (
        ("●", palette.BLUE, "the weights as they were", 0.0),
        ("□", palette.INK, "RTN: each to its nearest tick", walk.nearest_error),
        ("◆", palette.VERMILION, "weight 0 rounded, weight 1 moved", walk.moved_error),
        ("★", palette.GREEN, "then weight 1 rounded as well", walk.error),
    )
    left = PLACE[0] + PLACE[2] + 36
    for i, (sign, color, words, error) in enumerate(rows):
        y = 92 + 66 * i
        fig.write(left, y, sign, color=color)
        fig.write(left + 22, y, words)
        note = f"error {error / walk.nearest_error:.0%} of RTN's" if i else "no error"
        fig.write(left + 22, y + 21, note, color=palette.MUTED)


def _describe(walk: Walk) -> str:
    was, nearest, moved, ours = (
        f"({number(x, digits=3)}, {number(y, digits=3)})" for x, y in walk[:4]
    )
    return (
        f"Two weights were {was}. Rounding each to nearest goes to {nearest}. If "
        f"weight 0 is rounded and weight 1 moved to where the error is least, they are "
        f"{moved} with {walk.moved_error / walk.nearest_error:.0%} of that error; "
        f"weight 1 then rounded: {ours}, with "
        f"{walk.error / walk.nearest_error:.0%}."
    )
