"""Exercises of lesson 07: which columns are salient, their scales, and the fold.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.methods import awq
from minquant.models import folds


def _layer(seed: int, size: int, n: int) -> tuple[Tensor, Tensor]:
    """A square W, and X of several temperaments: columns that are always on, some that
    are seldom on but then very, and some whose signs cancel, or do not."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(size, size, generator=generator)
    W = W * torch.linspace(0.5, 2.0, size).roll(seed)
    X = torch.randn(n, size, generator=generator).abs() * 0.1 + 0.2
    X[:, 1] = 3.0 * torch.tensor([1.0, -1.0]).repeat(n)[:n]  # large, and cancels
    X[:, 4] = -2.0 - X[:, 4]  # large, and always negative
    X[0, 2] = 1.3 * n  # once, and then more than all others
    X[:, 6] = 1.4 + X[:, 6]  # the third
    return W, X


def _by(size: Callable, smallest: bool = False, ordered: bool = False) -> Callable:
    """The columns chosen by another measure, or otherwise sorted."""

    def _wrong(W: Tensor, X: Tensor, share: float) -> Tensor:
        k = max(1, round(share * X.shape[1]))
        places = size(W, X).topk(k, largest=not smallest).indices
        return places if ordered else places.sort().values

    return _wrong


def _too_few(W: Tensor, X: Tensor, share: float) -> Tensor:
    """Rounded down, though never to none."""
    k = max(1, int(share * X.shape[1]))
    return X.abs().mean(0).topk(k).indices.sort().values


def _means(W: Tensor, X: Tensor) -> Tensor:
    return X.abs().mean(0)


salient_columns = Exercise(
    name="salient_columns",
    task="salient_columns(W, X, share) gives the places of the columns that AWQ would "
    "keep, ascending: round(share · in) of them, and at least one",
    answer=answers.salient_columns,
    cases={
        "2 of 8 columns": (*_layer(0, 8, 20), 0.25),
        "share · in is 2.6, so 3 of 10": (*_layer(1, 10, 15), 0.26),
        "1 % of 9 is still one": (*_layer(2, 9, 12), 0.01),
        "half of them": (*_layer(3, 12, 30), 0.5),
    },
    mistakes={
        "they are chosen by the weights; look at the inputs": (
            _by(lambda W, X: W.abs().mean(0))
        ),
        "these are rows of W that are large; salient are columns, by their inputs": (
            _by(lambda W, X: W.abs().mean(1))
        ),
        "inputs of both signs cancel: take |X| before the mean": (
            _by(lambda W, X: X.mean(0).abs())
        ),
        "the mean of X is not its size: take |X| first": _by(lambda W, X: X.mean(0)),
        "one token decides: take the mean of |X|, not its maximum": (
            _by(lambda W, X: X.abs().amax(0))
        ),
        "squares favour rare large inputs; AWQ takes the mean of |X|": (
            _by(lambda W, X: X.square().mean(0))
        ),
        "these are the smallest": _by(_means, smallest=True),
        "they are the right ones, ordered by size; give them ascending": (
            _by(_means, ordered=True)
        ),
        "share · in is rounded, not cut off": _too_few,
    },
    outputs=("the columns",),
    shows=(answers.salient_columns, awq.salient),
)


def _scaled(
    size: Callable = lambda X: X.abs().mean(0),
    over: Callable = lambda s: (s.max() * s.min()).sqrt(),
    sign: float = 1.0,
) -> Callable:
    """The scales with one part to be made wrong."""

    def _wrong(X: Float[Tensor, "n in"], ratio: float) -> Tensor:
        s = size(X) ** (sign * ratio)
        return s / over(s)

    return _wrong


def _powers_first(X: Float[Tensor, "n in"], ratio: float) -> Tensor:
    """The mean of the powers."""
    s = (X.abs() ** ratio).mean(0)
    return s / (s.max() * s.min()).sqrt()


awq_scales = Exercise(
    name="awq_scales",
    task="awq_scales(X, ratio) gives s (in,): mean |X| of each column to the power "
    "ratio, over the root of the largest s times the smallest",
    answer=answers.awq_scales,
    cases={
        "8 columns, ratio 0.5": (_layer(0, 8, 20)[1], 0.5),
        "10 columns, ratio 1": (_layer(1, 10, 15)[1], 1.0),
        "7 columns, ratio 0.3": (_layer(2, 7, 12)[1], 0.3),
    },
    mistakes={
        "they are not divided by the root of the largest times the smallest": (
            _scaled(over=lambda s: 1.0)
        ),
        "the root is missing: divide by √(max s · min s)": (
            _scaled(over=lambda s: s.max() * s.min())
        ),
        "they are divided by their mean": _scaled(over=lambda s: s.mean()),
        "they are divided by the largest": _scaled(over=lambda s: s.max()),
        "large inputs get small scales; that is their inverse": _scaled(sign=-1.0),
        "inputs of both signs cancel: take |X| before the mean": (
            _scaled(lambda X: X.mean(0).abs().clamp(min=1e-6))
        ),
        "the mean comes first, then the power": _powers_first,
        "one token decides: take the mean of |X|, not its maximum": (
            _scaled(lambda X: X.abs().amax(0))
        ),
        "these are roots of mean squares; AWQ takes the mean of |X|": (
            _scaled(lambda X: X.square().mean(0).sqrt())
        ),
    },
    outputs=("the scales",),
    shows=(answers.awq_scales, awq.input_scales),
)


def _norm_and_matrix(seed: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A norm's gain (in,), a square W, and scales (in,)."""
    generator = torch.Generator().manual_seed(seed)
    gain = torch.rand(size, generator=generator) + 0.5
    W = torch.randn(size, size, generator=generator)
    return gain, W, torch.rand(size, generator=generator) * 3 + 0.25


fold_scales = Exercise(
    name="fold_scales",
    task="fold_scales(gain, W, s) gives the norm's gain (in,) and the matrix to be "
    "rounded (out, in): its columns are s times those of W, and outputs stay as they "
    "were",
    answer=answers.fold_scales,
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
    shows=(answers.fold_scales, folds.divide_outputs_, folds.fold_),
)

EXERCISES = (salient_columns, awq_scales, fold_scales)
