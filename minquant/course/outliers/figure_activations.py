"""The inputs of a layer as a map: a row for each token, a column for each channel.

    token 0   ▒▒░▒█▒▒░▒▒█▒      dark: near 0. Yellow: the threshold and above. A value
    token 1   ░▒▒▒█░▒▒▒▒█▒      that is large in one token only is a dot; an outlier
    token 2   ▒░▒▒█▒▒▒░▒█░      channel is a line from top to bottom

All maps of a picture share one logarithmic scale of colours. Lesson 05 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number

TOKENS = 60  # how many are drawn, from the first on
LEFT, TOP, TALL, GAP, BAR = 66, 44, 216, 34, 118  # CSS pixels
LOWEST = 1 / 60  # of the threshold: the darkest colour, for all below as well


@palette.style()
def maps_of_inputs(
    inputs: Mapping[str, Float[Tensor, "_ _"]], threshold: float = 6.0
) -> Picture:
    """A map of |x| for each of a few inputs X (n, in), side by side.

    inputs: title to X. threshold: all from here on is yellow.

    Raises ValueError if there are none, or more than three.
    """
    if not 1 <= len(inputs) <= 3:
        raise ValueError(f"inputs has {len(inputs)} entries; give one to three")
    fig = Picture(WIDTH, TOP + TALL + 66)
    room = WIDTH - LEFT - BAR - GAP * (len(inputs) - 1)
    wide, described = room / len(inputs), []
    for i, (name, X) in enumerate(inputs.items()):
        size = X.detach().abs().float().cpu()
        left = LEFT + i * (wide + GAP)
        ax = fig.axes_at(left, TOP, wide, TALL)
        image = _map(ax, size[:TOKENS].numpy(), threshold)
        fig.write(left, 22, name, weight="bold")
        if i == 0:
            ax.set_ylabel("token")
        else:
            ax.set_yticks([])
        share = (size >= threshold).float().mean(0)
        described.append(_describe(name, share.numpy(), number(size.max(), digits=3)))
    _scale(fig, image, threshold)
    limit = f"columns that reach {number(threshold, digits=2)}"
    fig.alt = f"Maps of the inputs of a layer, {limit}. " + " ".join(described)
    return fig


def _map(ax: Axes, size: np.ndarray, threshold: float) -> AxesImage:
    """One map; pixels are not blended, so that a column stays as wide as it is."""
    low = threshold * LOWEST
    image = ax.imshow(
        size.clip(low, threshold),
        norm=LogNorm(low, threshold),
        aspect="auto",
        interpolation="nearest",
    )
    ax.set_xlabel("column (channel)")
    ax.spines[:].set_visible(False)
    return image


def _scale(fig: Picture, image: AxesImage, threshold: float) -> None:
    """The scale of colours, with three sizes written beside it."""
    ax = fig.axes_at(WIDTH - BAR + 24, TOP, 16, TALL)
    bar = fig.colorbar(image, cax=ax)
    marks = [threshold * LOWEST, threshold / 6, threshold]
    bar.set_ticks(marks)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    ax.set_title("|x|", fontweight="normal")
    low, middle, high = (f"{mark:.2g}" for mark in marks)
    bar.ax.set_yticklabels([f"{low}\nor less", middle, f"{high}\nor more"])


def _describe(name: str, share: np.ndarray, largest: str) -> str:
    """One map in words."""
    reached = np.flatnonzero(share)
    if not len(reached):
        return f"{name}: none; the largest |x| is {largest}."
    columns = ", ".join(map(str, reached[:8]))
    columns += " …" if len(reached) > 8 else ""
    return (
        f"{name}: {len(reached)} of {len(share)} ({columns}), each in "
        f"{share[reached].min():.0%} to {share[reached].max():.0%} of the tokens; the "
        f"largest |x| is {largest}."
    )
