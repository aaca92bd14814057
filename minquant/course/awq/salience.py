"""Which columns matter to a layer, and what AWQ's scales do for each of them.

    inputs    mean |X[:, j]|                large for a few: these are salient
    before    own error of column j, RTN    mean x_j² · mean over rows of (W_hat − W)²
    after     the same under scales s = inputs^ratio
    curve     the error of the whole layer for each ratio

So one sees the trade: scaled up, the salient columns lose error, and where a scaled
weight becomes the largest of its group, all others gain some. Own errors are as if the
inputs had nothing to do with each other. Their sum need not be the layer's error, which
is measured and drawn beside them. All errors are shares of RTN's.

Columns stand in the order of their inputs, the largest first: a *place* is a place in
it. Every number is read from what `awq` returns. Lesson 07.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.methods import rtn
from minquant.methods.awq import (
    RATIOS,
    input_scales,
    quantize_awq,
    ratio_errors,
    salient,
)
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity


@dataclass(frozen=True, eq=False)
class Protected:
    """A layer under the scales of one ratio. scales: as stored. after: own errors; both
    by place. error: the whole layer's. Errors are shares of RTN's."""

    ratio: float
    scales: Float[Tensor, " in"]
    after: Float[Tensor, " in"]
    error: float


@dataclass(frozen=True, eq=False)
class Salience:
    """A matrix W (out, in) with its inputs X (n, in), and how it is to be rounded.

    Raises ValueError as `awq.ratio_errors` does, when first asked for a number, and if
    RTN makes no error that a share could be of.
    """

    W: Float[Tensor, "out in"]
    X: Float[Tensor, "n in"]
    grid: Grid
    granularity: Granularity = PER_CHANNEL

    @cached_property
    def order(self) -> Int[Tensor, " in"]:
        """Which column of W stands at each place."""
        return self.X.abs().mean(0).argsort(descending=True, stable=True)

    @cached_property
    def inputs(self) -> Float[Tensor, " in"]:
        """Mean |X| by place, over the middle of the largest and the smallest (the root
        of their product): then the scales of a ratio are exactly inputs^ratio."""
        return input_scales(self.X.abs().mean(0), 1.0)[self.order]

    @property
    def chosen(self) -> int:
        """How many columns one in a hundred is: the first places."""
        return len(salient(self.inputs))

    @cached_property
    def spread(self) -> float:
        """The largest mean |X| over the median one."""
        return (self.inputs.max() / self.inputs.median()).item()

    @cached_property
    def curve(self) -> list[float]:
        """The layer's error for each of `awq.RATIOS`, as a share of RTN's."""
        errors = ratio_errors([self.W], self.X, self.grid, self.granularity)
        return [error / self._rtn for error in errors]

    @property
    def best(self) -> float:
        """The ratio with the least error: what AWQ takes."""
        return min(zip(self.curve, RATIOS, strict=True))[1]

    @cached_property
    def before(self) -> Float[Tensor, " in"]:
        """RTN's own error of each column, by place, as a share of all its error."""
        made = rtn.quantize_rtn(self.W, self.grid, self.granularity)
        return self._own(made.dequantize(self.W.dtype))

    def at(self, ratio: float) -> Protected:
        """The layer under the scales of a ratio, 0 to 1."""
        made = quantize_awq(
            self.W, self.X, self.grid, self.granularity, ratios=(ratio,), clip=None
        )
        W_hat = made.dequantize(self.W.dtype)
        error = self._error(W_hat) / self._rtn
        scales = made.input_scales.float()[self.order]
        return Protected(ratio, scales, self._own(W_hat), error)

    def kept(self, sizes: Float[Tensor, " in"], share: float = 0.01) -> float:
        """The share of RTN's error that goes when the share of columns with the largest
        sizes stays in floats. By columns of W, not by places."""
        made = rtn.quantize_rtn(self.W, self.grid, self.granularity)
        W_hat, columns = made.dequantize(self.W.dtype), salient(sizes, share)
        kept = W_hat.index_copy(1, columns, self.W[:, columns])
        return 1 - self._error(kept) / self._rtn

    def describe(self, now: Protected) -> str:
        """What the picture shows, in words with numbers."""
        k, steps = self.chosen, (now.scales.max() / now.scales.min()).item()
        was, is_ = self.before[:k].sum().item(), now.after[:k].sum().item()
        rest = (now.after[k:].sum() / self.before[k:].sum()).item()
        columns = "column" if k == 1 else f"{k} columns"
        return (
            f"Strength {now.ratio:.2f}: scales differ by a factor of "
            f"{number(steps, digits=3)}. The error of the layer is {now.error:.0%} of "
            f"RTN's; the least is {min(self.curve):.0%}, at {self.best:.2f}. The "
            f"{columns} with the largest inputs had {was:.1%} of the error, now "
            f"{is_:.1%}; that of all others is {number(rest, digits=3)} times what it "
            "was."
        )

    @cached_property
    def _rtn(self) -> float:
        """RTN's error; the scales of ratio 0 are all 1."""
        errors = ratio_errors(
            [self.W], self.X, self.grid, self.granularity, ratios=(0.0,)
        )
        if not errors[0] > 0:
            raise ValueError(
                f"W {tuple(self.W.shape)} is rounded without any error for these X; "
                "give a matrix whose weights lie between the ticks, or fewer bits"
            )
        return errors[0]

    @cached_property
    def _H(self) -> Float[Tensor, "in in"]:
        return self.X.T @ self.X / len(self.X)

    def _error(self, W_hat: Float[Tensor, "out in"]) -> float:
        """mean((X (W_hat − W)ᵀ)²), by H."""
        D = W_hat - self.W
        return ((D @ self._H) * D).sum().item() / len(D)

    def _own(self, W_hat: Float[Tensor, "out in"]) -> Float[Tensor, " in"]:
        """Each column's own error, by place, as a share of RTN's."""
        parts = (W_hat - self.W).square().mean(0) * self._H.diag()
        return parts[self.order] / self._rtn
