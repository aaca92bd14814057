"""Which columns matter to a layer, and what AWQ's scales do for each of them.

    inputs    mean |X[:, j]|                large for a few: these are salient
    before    own error of column j, RTN    mean x_j² · mean over rows of (W_hat − W)²
    after     the same under scales s = inputs^ratio
    curve     the error of the whole layer for each ratio

So one sees the trade: salient columns are scaled up and lose error, but where a scaled
weight becomes the largest of its group, all others of the group gain some. A column's
own error is what it would be if the inputs were uncorrelated, so own errors need not
sum to the layer's error, which is measured and drawn beside them. All errors are shares
of RTN's.

Columns stand in the order of their inputs, the largest first: a *place* is a place in
this order. Every number is read from what `awq` returns. Lesson 07.
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
    """A layer under the scales of one ratio; errors are shares of RTN's.

    scales: as stored, by place. after: each column's own error, by place. error: the
    whole layer's.
    """

    ratio: float
    scales: Float[Tensor, " in"]
    after: Float[Tensor, " in"]
    error: float


@dataclass(frozen=True, eq=False)
class Salience:
    """A matrix W (out, in) with its inputs X (n, in), and how it is to be rounded.

    Raises ValueError when it is first asked for a number: as `awq.ratio_errors` does,
    and if RTN makes no error to divide by.
    """

    W: Float[Tensor, "out in"]
    X: Float[Tensor, "n in"]
    grid: Grid
    granularity: Granularity = PER_CHANNEL

    @cached_property
    def order(self) -> Int[Tensor, " in"]:
        """The column of W at each place."""
        return self.X.abs().mean(0).argsort(descending=True, stable=True)

    @cached_property
    def inputs(self) -> Float[Tensor, " in"]:
        """Mean |X| by place, over the geometric mean of the largest and the smallest.

        With this, the scales of a ratio are exactly inputs^ratio.
        """
        return input_scales(self.X.abs().mean(0), 1.0)[self.order]

    @property
    def n_salient(self) -> int:
        """How many columns are salient: one in a hundred, at the first places."""
        return len(salient(self.inputs))

    @cached_property
    def spread(self) -> float:
        """The largest mean |X| over the median one."""
        return (self.inputs.max() / self.inputs.median()).item()

    @cached_property
    def curve(self) -> list[float]:
        """The layer's error for each of `awq.RATIOS`, as a share of RTN's."""
        errors = ratio_errors([self.W], self.X, self.grid, self.granularity)
        return [error / self._rtn_error for error in errors]

    @property
    def best(self) -> float:
        """The ratio with the least error: what AWQ takes."""
        return min(zip(self.curve, RATIOS, strict=True))[1]

    @cached_property
    def before(self) -> Float[Tensor, " in"]:
        """RTN's own error of each column, by place, as a share of all its error."""
        quantized = rtn.quantize_rtn(self.W, self.grid, self.granularity)
        return self._column_errors(quantized.dequantize(self.W.dtype))

    def at(self, ratio: float) -> Protected:
        """The layer under the scales of a ratio, 0 to 1."""
        quantized = quantize_awq(
            self.W, self.X, self.grid, self.granularity, ratios=(ratio,), clip=None
        )
        W_hat = quantized.dequantize(self.W.dtype)
        error = self._error(W_hat) / self._rtn_error
        scales = quantized.input_scales.float()[self.order]
        return Protected(ratio, scales, self._column_errors(W_hat), error)

    def kept(self, sizes: Float[Tensor, " in"], share: float = 0.01) -> float:
        """How much of RTN's error goes if a share of the columns stays in floats.

        sizes: of the columns of W, in their own order; the columns with the largest
        sizes stay. share: of the columns, 0 to 1.
        """
        quantized = rtn.quantize_rtn(self.W, self.grid, self.granularity)
        W_hat, columns = quantized.dequantize(self.W.dtype), salient(sizes, share)
        W_hat = W_hat.index_copy(1, columns, self.W[:, columns])
        return 1 - self._error(W_hat) / self._rtn_error

    def describe(self, now: Protected) -> str:
        """What the picture shows, in words with numbers."""
        k = self.n_salient
        factor = (now.scales.max() / now.scales.min()).item()
        before, after = self.before[:k].sum().item(), now.after[:k].sum().item()
        others = (now.after[k:].sum() / self.before[k:].sum()).item()
        columns = "column" if k == 1 else f"{k} columns"
        return (
            f"Strength {now.ratio:.2f}: scales differ by a factor of "
            f"{number(factor, digits=3)}. The error of the layer is {now.error:.0%} of "
            f"RTN's; the least is {min(self.curve):.0%}, at {self.best:.2f}. The "
            f"{columns} with the largest inputs had {before:.1%} of the error, now "
            f"{after:.1%}; that of all others is {number(others, digits=3)} times what "
            "it was."
        )

    @cached_property
    def _rtn_error(self) -> float:
        """RTN's error: the scales of ratio 0 are all 1."""
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
        """mean((X (W_hat − W)ᵀ)²), from H."""
        D = W_hat - self.W
        return ((D @ self._H) * D).sum().item() / len(D)

    def _column_errors(self, W_hat: Float[Tensor, "out in"]) -> Float[Tensor, " in"]:
        """Each column's own error, by place, as a share of RTN's."""
        parts = (W_hat - self.W).square().mean(0) * self._H.diag()
        return parts[self.order] / self._rtn_error
