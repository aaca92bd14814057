"""Where should a ruler end? Two errors, one of which falls as the other grows.

    MSE │╲                 ╱    total = rounding + clipping
        │ ╲   clipping    ╱
        │  ╲_          _╱       a shorter ruler has finer ticks, so rounding errs less;
        │    ╲__●___──╱         but more weights lie beyond its end, and are clipped
        │   ──── rounding
        └────────────────
         0.2            1   share of the whole ruler that is kept

`ClipCurve.of` measures it on a matrix that the package rounds to nearest, with one
share for all rulers. `quantize_rtn(..., clip="mse")` finds the minimum for each ruler
by itself. Notebook 03 reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.methods import rtn
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity, split, spread
from minquant.numerics.scales import scale_values

KEEPS = tuple(1 - i / 50 for i in range(41))  # 1.00, 0.98, … 0.20


@dataclass(frozen=True, eq=False)
class ClipCurve:
    """Mean squared error by the share of the ruler that is kept, in two parts.

    keeps: shares, ascending. rounding: what weights within the ruler's ends add to the
    mean squared error. clipping: what weights more than half a step beyond them add.
    """

    keeps: Float[np.ndarray, " n"]
    rounding: Float[np.ndarray, " n"]
    clipping: Float[np.ndarray, " n"]

    @classmethod
    def of(
        cls,
        W: Float[Tensor, "out in"],
        grid: Grid,
        granularity: Granularity = PER_CHANNEL,
        keeps: Sequence[float] = KEEPS,
    ) -> ClipCurve:
        """Quantize W with all its rulers shrunk to each share in turn."""
        whole, zeros = rtn.scale_and_zero(
            split(W, granularity), grid, scale_dtype=torch.float32
        )
        parts = []
        for keep in sorted(keeps):
            quantized = rtn.quantize_with(W, whole * keep, zeros, grid, granularity)
            error = (quantized.dequantize() - W).double()  # (out, in)
            steps = spread(scale_values(quantized.scales), tuple(W.shape), granularity)
            clipped = error.abs() > _half(grid) * steps * (1 + 1e-4)
            squared = error.square() / error.numel()
            parts.append(
                (squared[~clipped].sum().item(), squared[clipped].sum().item())
            )
        rounding, clipping = np.array(parts).T
        return cls(np.array(sorted(keeps)), rounding, clipping)

    @property
    def total(self) -> Float[np.ndarray, " n"]:
        """Both parts together: the mean squared error."""
        return self.rounding + self.clipping

    @property
    def best(self) -> float:
        """The share that is kept where the error is least."""
        return float(self.keeps[self.total.argmin()])


def _half(grid: Grid) -> float:
    """The largest error, in scales, that rounding within the ends can make."""
    levels = np.asarray(grid.levels, dtype=float)
    return float(np.diff(levels).max()) / 2


@palette.style()
def clip_curve(curve: ClipCurve, *, title: str = "") -> Picture:
    """The picture of a `ClipCurve`: both parts as areas, the minimum marked."""
    x, best = curve.keeps, int(curve.total.argmin())
    top = 1.05 * min(curve.total.max(), 2.6 * curve.total[-1])
    power = int(np.floor(np.log10(top)))
    low, total = curve.rounding / 10.0**power, curve.total / 10.0**power
    top /= 10.0**power
    fig, ax = plot(
        "share of the whole ruler that is kept",
        f"mean squared error (×$10^{{{power}}}$)",
        title=title or "A shorter ruler: finer steps, and more weights beyond its end",
        height=380,
    )
    ax.set(xlim=(x[0], x[-1]), ylim=(0, top))
    ax.fill_between(x, 0, low, color=palette.VERMILION, alpha=0.22, lw=0)
    ax.fill_between(x, low, total, color=palette.VIOLET, alpha=0.18, lw=0)
    ax.plot(x, low, color=palette.VERMILION, lw=1.4)
    ax.plot(x, total, color=palette.INK)
    ax.plot([x[best]] * 2, [total[best], 0.88 * top], color=palette.GREEN, lw=1)
    ax.plot(x[best], total[best], "o", color=palette.GREEN, ms=9, clip_on=False)
    if best == len(x) - 1:
        note = "least error: the whole ruler"
    else:
        share = total[best] / total[-1]
        note = f"least error at {x[best]:.2f}: {share:.0%} of the whole ruler's"
    looks = {"weight": "bold", "va": "center"}
    middle = np.clip(x[best], x[0] + 0.35 * np.ptp(x), x[-1] - 0.26 * np.ptp(x))
    ax.text(middle, 0.93 * top, note, color=palette.GREEN, ha="center", **looks)
    right, height = x[-1] - 0.02, low[-1] / 2
    ax.text(right, height, "rounding", color=palette.VERMILION, ha="right", **looks)
    left, height = x[0] + 0.02, (low[0] + min(total[0], top)) / 2
    ax.text(left, height, "clipping", color=palette.VIOLET, **looks)
    fig.alt = _describe(curve, best)
    return fig


def _describe(curve: ClipCurve, best: int) -> str:
    """The errors of the whole ruler, the best and the shortest, by their parts."""

    def _errors(i: int) -> str:
        total = number(curve.total[i], digits=3)
        return f"{total}, of it {number(curve.clipping[i], digits=3)} by clipping"

    x = curve.keeps
    return (
        "Mean squared error against the share of the ruler that is kept, from "
        f"{x[0]:.2f} to {x[-1]:.2f}. The whole ruler: {_errors(-1)}. "
        f"Least at {x[best]:.2f}: {_errors(best)}. At {x[0]:.2f}: {_errors(0)}."
    )
