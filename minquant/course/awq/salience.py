"""Which columns of a matrix its outputs hang on, by what they are multiplied with.

    one_percent      how much of RTN's error goes if 1 % of the columns stay in floats
    column_errors    the error that each column makes by itself

A column's own error is what it adds to the outputs' error if inputs have nothing to do
with each other:

    mean over tokens of x_j²  ·  mean over rows of (W_hat − W)²

Where they have, own errors need not sum to the error of the outputs. Lesson 07.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from minquant.methods.awq import salient
from minquant.methods.rtn import floats, inputs, quantize_rtn
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity
from minquant.numerics.scales import seen


class OnePercent(NamedTuple):
    """A matrix of which 1 % of the columns, at least one, stay in floats.

    spread: the largest mean |x| of a column over the median of those that calibration
    saw. by_inputs, by_weights: the share of RTN's error that goes if the columns with
    the largest inputs stay, or those with the largest weights; NaN if RTN makes none.
    """

    spread: float
    by_inputs: float
    by_weights: float


def one_percent(
    W: Float[Tensor, "out in"],
    X: Float[Tensor, "n cols"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
) -> OnePercent:
    """What 1 % of the columns of W carry of the error that RTN makes of its outputs.

    X: inputs, a row per token, in any float dtype. Raises ValueError as `quantize_rtn`
    does, or if X does not fit W.
    """
    W = floats(W)
    X = inputs(X, W)
    quantized = quantize_rtn(W, grid, granularity)
    D = (quantized.dequantize() - W).to(X)
    E = X @ D.T  # (n, out): how far the outputs move
    sizes = X.abs().mean(0)
    shares = []
    for measure in (sizes, W.abs().mean(0)):
        kept = salient(measure)
        left = E - X[:, kept] @ D[:, kept].T
        shares.append((1 - left.square().sum() / E.square().sum()).item())
    of_seen = sizes[seen(sizes)]
    spread = (of_seen.max() / of_seen.median()).item() if len(of_seen) else 1.0
    return OnePercent(spread, *shares)


def column_errors(
    W: Float[Tensor, "out in"],
    W_hat: Float[Tensor, "out in"],
    X: Float[Tensor, "n in"],
) -> Float[Tensor, " in"]:
    """The own error of each column, in squares of the outputs."""
    return (W_hat - W).square().mean(0) * X.square().mean(0)
