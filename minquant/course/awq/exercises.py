"""Exercises of lesson 07: which columns matter, their scales, and the fold.

    salient_columns    the columns of W that AWQ would keep, chosen by their inputs
    awq_scales         mean |x| of each column to the power ratio, scaled around 1
    fold_scales        divide the norm's gain by s and multiply the columns of W by s

The columns of X are large in different ways (always, once, in both signs), so that each
wrong measure of size chooses other columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minquant.course.exercises import Exercise
from minquant.methods import awq
from minquant.models.folds import divide_outputs_


def _layer(seed: int, size: int, n: int) -> tuple[Tensor, Tensor]:
    """A square W, and inputs X whose columns are large in different ways."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(size, size, generator=generator)
    W = W * torch.linspace(0.5, 2.0, size).roll(seed)
    X = torch.randn(n, size, generator=generator).abs() * 0.1 + 0.2
    X[:, 1] = 3.0 * torch.tensor([1.0, -1.0]).repeat(n)[:n]  # of both signs: mean 0
    X[:, 4] = -2.0 - X[:, 4]  # always negative
    X[0, 2] = 1.3 * n  # for one token, and then the largest of all
    X[:, 6] = 1.4 + X[:, 6]  # always positive
    return W, X


# --- salient_columns ---


def salient_columns(
    W: Float[Tensor, "out in"], X: Float[Tensor, "n in"], share: float
) -> Int[Tensor, " k"]:
    """The columns of W whose inputs are largest; W itself does not matter."""
    return awq.salient(X.abs().mean(0), share)


def _largest(
    size: Callable = lambda W, X: X.abs().mean(0),
    *,
    smallest: bool = False,
    ascending: bool = True,
    rounding: Callable = round,
) -> Callable:
    """The columns of the largest size(W, X), in which one part can be made wrong."""

    def _wrong(W: Tensor, X: Tensor, share: float) -> Tensor:
        k = max(1, rounding(share * X.shape[1]))
        places = size(W, X).topk(k, largest=not smallest).indices
        return places.sort().values if ascending else places

    return _wrong


check_salient_columns = Exercise(
    name="salient_columns",
    task="salient_columns(W, X, share) gives the places of the columns that AWQ would "
    "keep, ascending: round(share · in) of them, and at least one",
    answer=salient_columns,
    cases={
        "2 of 8 columns": (*_layer(0, 8, 20), 0.25),
        "share · in is 2.6, so 3 of 10": (*_layer(1, 10, 15), 0.26),
        "1 % of 9 is still one": (*_layer(2, 9, 12), 0.01),
        "half of them": (*_layer(3, 12, 30), 0.5),
    },
    mistakes={
        "they are chosen by the weights; look at the inputs": (
            _largest(lambda W, X: W.abs().mean(0))
        ),
        "these are rows of W that are large; take columns, by their inputs": (
            _largest(lambda W, X: W.abs().mean(1))
        ),
        "inputs of both signs cancel: take |X| before the mean": (
            _largest(lambda W, X: X.mean(0).abs())
        ),
        "the mean of X is not its size: take |X| first": (
            _largest(lambda W, X: X.mean(0))
        ),
        "one token decides: take the mean of |X|, not its maximum": (
            _largest(lambda W, X: X.abs().amax(0))
        ),
        "squares favour rare large inputs; AWQ takes the mean of |X|": (
            _largest(lambda W, X: X.square().mean(0))
        ),
        "these are the smallest": _largest(smallest=True),
        "they are the right ones, ordered by size; give them ascending": (
            _largest(ascending=False)
        ),
        "share · in is rounded, not cut off": _largest(rounding=int),
    },
    outputs=("the columns",),
    solution="""\
def salient_columns(W, X, share):
    sizes = X.abs().mean(0)  # of each input, not of the weights
    k = max(1, round(share * len(sizes)))
    return sizes.topk(k).indices.sort().values
""",
    inside="minquant.methods.awq.salient",
)


# --- awq_scales ---


def awq_scales(X: Float[Tensor, "n in"], ratio: float) -> Float[Tensor, " in"]:
    """AWQ's scales for one ratio, from the inputs X."""
    return awq.input_scales(X.abs().mean(0), ratio)


def _middle(s: Tensor) -> Tensor:
    return (s.max() * s.min()).sqrt()


def _scales(
    size: Callable = lambda X: X.abs().mean(0),
    *,
    over: Callable = _middle,
    sign: float = 1.0,
) -> Callable:
    """The scales, in which one part can be made wrong."""

    def _wrong(X: Float[Tensor, "n in"], ratio: float) -> Tensor:
        s = size(X) ** (sign * ratio)
        return s / over(s)

    return _wrong


def _mean_of_powers(X: Float[Tensor, "n in"], ratio: float) -> Tensor:
    s = (X.abs() ** ratio).mean(0)
    return s / _middle(s)


check_awq_scales = Exercise(
    name="awq_scales",
    task="awq_scales(X, ratio) gives s (in,): mean |X| of each column to the power "
    "ratio, over the root of the largest s times the smallest",
    answer=awq_scales,
    cases={
        "8 columns, ratio 0.5": (_layer(0, 8, 20)[1], 0.5),
        "10 columns, ratio 1": (_layer(1, 10, 15)[1], 1.0),
        "7 columns, ratio 0.3": (_layer(2, 7, 12)[1], 0.3),
    },
    mistakes={
        "they are not divided by the root of the largest times the smallest": (
            _scales(over=lambda s: 1.0)
        ),
        "the root is missing: divide by √(max s · min s)": (
            _scales(over=lambda s: s.max() * s.min())
        ),
        "they are divided by their mean": _scales(over=lambda s: s.mean()),
        "they are divided by the largest": _scales(over=lambda s: s.max()),
        "large inputs get small scales; that is their inverse": _scales(sign=-1.0),
        "inputs of both signs cancel: take |X| before the mean": (
            _scales(lambda X: X.mean(0).abs().clamp(min=1e-6))
        ),
        "the mean comes first, then the power": _mean_of_powers,
        "one token decides: take the mean of |X|, not its maximum": (
            _scales(lambda X: X.abs().amax(0))
        ),
        "these are roots of mean squares; AWQ takes the mean of |X|": (
            _scales(lambda X: X.square().mean(0).sqrt())
        ),
    },
    outputs=("the scales",),
    solution="""\
def awq_scales(X, ratio):
    sizes = X.abs().mean(0)
    sizes = sizes.clamp(min=sizes[sizes > 0].min())  # never seen: as the smallest
    s = sizes**ratio
    return s / (s.max() * s.min()).sqrt()
""",
    inside="minquant.methods.awq.input_scales",
)


# --- fold_scales ---


@torch.no_grad()
def fold_scales(
    gain: Float[Tensor, " in"], W: Float[Tensor, "out in"], s: Float[Tensor, " in"]
) -> tuple[Float[Tensor, " in"], Float[Tensor, "out in"]]:
    """A norm's gain divided by s, and the matrix after it with its columns times s."""
    norm = torch.nn.RMSNorm(len(gain))
    norm.weight.copy_(gain)
    divide_outputs_(norm, s)
    return norm.weight.detach(), W * s


def _norm_and_matrix(seed: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A norm's gain (in,), a square W, and scales (in,)."""
    generator = torch.Generator().manual_seed(seed)
    gain = torch.rand(size, generator=generator) + 0.5
    W = torch.randn(size, size, generator=generator)
    return gain, W, torch.rand(size, generator=generator) * 3 + 0.25


check_fold_scales = Exercise(
    name="fold_scales",
    task="fold_scales(gain, W, s) gives the norm's gain (in,) and the matrix to be "
    "rounded (out, in): its columns are s times those of W, and outputs stay as they "
    "were",
    answer=fold_scales,
    cases={
        "4 inputs": _norm_and_matrix(0, 4),
        "6 inputs": _norm_and_matrix(1, 6),
    },
    mistakes={
        "it is the other way round: the columns grow, so the gain must shrink": (
            lambda gain, W, s: (gain * s, W / s)
        ),
        "the gain is as it was: divide it, or outputs are s times too large": (
            lambda gain, W, s: (gain, W * s)
        ),
        "the columns are as they were: nothing is protected, and outputs are wrong": (
            lambda gain, W, s: (gain / s, W)
        ),
        "both are divided: that is s² off": lambda gain, W, s: (gain / s, W / s),
        "both are multiplied: that is s² off": lambda gain, W, s: (gain * s, W * s),
        "rows are scaled; s belongs to the inputs, the columns of W": (
            lambda gain, W, s: (gain / s, W * s[:, None])
        ),
    },
    outputs=("the gain", "the matrix"),
    solution="""\
def fold_scales(gain, W, s):
    return gain / s, W * s  # s stretches the columns of W, one for each input
""",
    inside="minquant.fold",
)
