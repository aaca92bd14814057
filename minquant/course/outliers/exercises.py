"""Exercises of lesson 05: find outlier columns, multiply in int8, smooth them away.

    outlier_columns     the columns of X that LLM.int8() splits off
    vector_wise         X Wᵀ of 8-bit codes, a scale for each row of X and of W
    smoothing_scales    what SmoothQuant divides X by, and multiplies W by

In the larger cases one column of X is 40 times as large as the others, so that mistakes
about outliers show.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minquant.course.exercises import Exercise, normal
from minquant.methods import llm_int8, smoothquant


def _inputs(n: int, width: int, large: int) -> Float[Tensor, "n width"]:
    """Inputs about 1 in size, except for one column, which is 40 times as large."""
    X = normal(n, width, seed=width)
    X[:, large] *= 40
    return X


def _weights(out: int, width: int) -> Float[Tensor, "out width"]:
    """Weights whose rows and columns differ in size."""
    W = normal(out, width, seed=out) * 0.05
    return W * torch.linspace(1, 4, out)[:, None] * torch.linspace(3, 1, width)


# --- outlier_columns ---


def outlier_columns(X: Float[Tensor, "n in"], threshold: float) -> Bool[Tensor, " in"]:
    """The columns of X in which any token's |x| reaches the threshold."""
    return llm_int8.outlier_columns(X, threshold)


TWO_TOKENS = torch.tensor([[1.0, 30.0, 0.0, 2.0], [6.0, 0.0, -9.0, 5.9]])
ONE_TOKEN = torch.tensor([[0.5, -7.0, 7.0, -6.0, 5.0]])

check_outlier_columns = Exercise(
    name="outlier_columns",
    task="outlier_columns(X, threshold) gives True for each column of X (n, in) in "
    "which any token's |x| is the threshold or more, else False: (in,)",
    answer=outlier_columns,
    cases={
        "two tokens, one value exactly 6": (TWO_TOKENS, 6.0),
        "one token": (ONE_TOKEN, 6.0),
        "nine tokens, a threshold of 2": (_inputs(9, 12, 4), 2.0),
    },
    mistakes={
        "a value that equals the threshold counts too: take >=": (
            lambda X, t: (X.abs() > t).any(0)
        ),
        "large negative values are outliers too; take the size |x|": (
            lambda X, t: X.ge(t).any(0)
        ),
        "it asks all tokens to reach the threshold; one is enough": (
            lambda X, t: (X.abs() >= t).all(0)
        ),
        "it asks the mean |x| of a column; one large value is enough": (
            lambda X, t: X.abs().mean(0) >= t
        ),
        "this finds tokens (rows); look for columns, over all tokens": (
            lambda X, t: (X.abs() >= t).any(1)
        ),
        "this marks single values; a column goes as a whole": lambda X, t: X.abs() >= t,
        "True and False are swapped": lambda X, t: (X.abs() < t).all(0),
        "these are the places of the columns; give True or False for each": (
            lambda X, t: (X.abs() >= t).any(0).nonzero()[:, 0]
        ),
        "the threshold is an argument; this always takes 6": (
            lambda X, t: (X.abs() >= 6).any(0)
        ),
    },
    outputs=("the columns",),
    solution="""\
def outlier_columns(X, threshold):
    return (X.abs() >= threshold).any(dim=0)
""",
    inside="minquant.methods.llm_int8.outlier_columns",
)


# --- vector_wise ---


def vector_wise(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "n out"]:
    """X Wᵀ of 8-bit codes, with a scale for each row of X and each row of W."""
    X_q, W_q = llm_int8.quantize_rows(X), llm_int8.quantize_rows(W)
    return llm_int8.vector_wise(X_q, W_q)


def _scale(A: Tensor, dim: int | None = 1, top: float = 127) -> Tensor:
    """absmax / top of each row (dim 1), of each column (0), or of all of A (None)."""
    size = A.abs().amax() if dim is None else A.abs().amax(dim, keepdim=True)
    return size / top


def _codes(A: Tensor) -> Tensor:
    return (A / _scale(A)).round()


def _rounded(A: Tensor, scale: Tensor) -> Tensor:
    return (A / scale).round() * scale


def _product(X_dim: int | None, W_dim: int | None, top: float = 127) -> Callable:
    """The product of a rounded X and W, whose scales lie along these dimensions."""

    def _multiply(X: Tensor, W: Tensor) -> Tensor:
        X_hat = _rounded(X, _scale(X, X_dim, top))
        W_hat = _rounded(W, _scale(W, W_dim, top))
        return X_hat @ W_hat.T

    return _multiply


check_vector_wise = Exercise(
    name="vector_wise",
    task="vector_wise(X, W) gives X Wᵀ (n, out) with X (n, in) and W (out, in) rounded "
    "to whole numbers −127 … 127, with a scale for each row of X and each row of W",
    answer=vector_wise,
    cases={
        "2 tokens, 2 outputs": (
            torch.tensor([[1.27, 0.503], [0.0, 2.54]]),
            torch.tensor([[12.7, 1.02], [0.3, -0.6]]),
        ),
        "5 tokens of 16, an outlier column": (_inputs(5, 16, 3), _weights(7, 16)),
    },
    mistakes={
        "there is one scale for all of X; each row (token) has its own": (
            _product(None, 1)
        ),
        "there is one scale for all of W; each row (output) has its own": (
            _product(1, None)
        ),
        "there is one scale for X and one for W; each row has its own": (
            _product(None, None)
        ),
        "X has a scale for each column; those do not leave the sum, take rows": (
            _product(0, 1)
        ),
        "X is not rounded": lambda X, W: X @ _rounded(W, _scale(W)).T,
        "W is not rounded": lambda X, W: _rounded(X, _scale(X)) @ W.T,
        "nothing is rounded": lambda X, W: X @ W.T,
        "absmax is divided by 128; symmetric codes of 8 bits end at 127": (
            _product(1, 1, top=128)
        ),
        "the product of the codes is not multiplied by the scales": (
            lambda X, W: _codes(X) @ _codes(W).T
        ),
        "the scales of W are missing": lambda X, W: (
            (_codes(X) @ _codes(W).T) * _scale(X)
        ),
        "the scales of X are missing": lambda X, W: (
            (_codes(X) @ _codes(W).T) * _scale(W).T
        ),
        "W is not transposed back: this is (out, n)": lambda X, W: _product(1, 1)(W, X),
    },
    outputs=("Y",),
    solution="""\
def vector_wise(X, W):
    X_scales = X.abs().amax(dim=1, keepdim=True) / 127  # (n, 1)
    W_scales = W.abs().amax(dim=1, keepdim=True) / 127  # (out, 1)
    X_codes, W_codes = (X / X_scales).round(), (W / W_scales).round()
    return X_codes @ W_codes.T * X_scales * W_scales.T
""",
    inside="minquant.methods.llm_int8.vector_wise",
)


# --- smoothing_scales ---


def smoothing_scales(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], alpha: float
) -> Float[Tensor, " in"]:
    """What SmoothQuant divides each column of X by, and multiplies W's by."""
    return smoothquant.scales_of([W], X, alpha)


def _of_sizes(formula: Callable) -> Callable:
    """s by another formula of the largest |x| and |w| of each column, and alpha."""
    return lambda X, W, alpha: formula(X.abs().amax(0), W.abs().amax(0), alpha)


check_smoothing_scales = Exercise(
    name="smoothing_scales",
    task="smoothing_scales(X, W, alpha) gives s (in,): the largest |x| of each column "
    "of X to the power alpha, over the largest |w| of that column of W to the power "
    "1 − alpha",
    answer=smoothing_scales,
    cases={
        "3 columns, alpha 0.5": (
            torch.tensor([[8.0, 1.0, -2.0], [-64.0, 0.5, 1.0]]),
            torch.tensor([[1.0, -0.25, 0.5], [0.5, 0.125, 2.0]]),
            0.5,
        ),
        "16 columns, alpha 0.75": (_inputs(9, 16, 3), _weights(12, 16), 0.75),
        "16 columns, alpha 0.2": (_inputs(9, 16, 3), _weights(12, 16), 0.2),
    },
    mistakes={
        "alpha and 1 − alpha are swapped": _of_sizes(
            lambda x, w, a: x ** (1 - a) / w**a
        ),
        "this is 1 / s: X is divided by s, W multiplied": _of_sizes(
            lambda x, w, a: w ** (1 - a) / x**a
        ),
        "the two are multiplied; divide by W's": _of_sizes(
            lambda x, w, a: x**a * w ** (1 - a)
        ),
        "W is forgotten": _of_sizes(lambda x, w, a: x**a),
        "the power of W is alpha; it is 1 − alpha": _of_sizes(
            lambda x, w, a: x**a / w**a
        ),
        "alpha is an argument; this always takes 0.5": _of_sizes(
            lambda x, w, a: (x / w) ** 0.5
        ),
        "it takes the mean |x|; take the largest": lambda X, W, a: (
            X.abs().mean(0) ** a / W.abs().amax(0) ** (1 - a)
        ),
        "large negative values count too; take sizes before the largest": (
            lambda X, W, a: X.amax(0) ** a / W.amax(0) ** (1 - a)
        ),
        "the largest |w| is that of all of W; take each column's": lambda X, W, a: (
            X.abs().amax(0) ** a / W.abs().amax() ** (1 - a)
        ),
    },
    outputs=("s",),
    solution="""\
def smoothing_scales(X, W, alpha):
    X_top, W_top = X.abs().amax(0), W.abs().amax(0)  # of each input
    return X_top**alpha / W_top ** (1 - alpha)
""",
    inside="minquant.methods.smoothquant.smoothing_scales",
)
