"""Exercises of lesson 06: push an error, take a column off H⁻¹, and both as GPTQ.

    obs_push        fix one weight at a value, and let the others make up for it
    eliminate       H⁻¹ of what is left of H, from H⁻¹ alone
    gptq_columns    round a column, push its error to the right, and go on

Everything is float64, so that nothing is lost in rounding, and the inputs are
correlated, so that every push is large.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course.exercises import Exercise
from minquant.methods import gptq_derivation
from minquant.methods.gptq_derivation import inverse_cholesky
from minquant.numerics.grids import IntegerGrid
from minquant.numerics.ruler import Ruler


def _hessian(seed: int, n: int) -> Float[Tensor, "n n"]:
    """H = XᵀX / 100 of n inputs that share a part, over 40 tokens."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(40, n, generator=generator, dtype=torch.float64)
    X += 1.5 * torch.randn(40, 1, generator=generator, dtype=torch.float64)
    return X.T @ X / 100


WHOLE_NUMBERS = IntegerGrid("whole numbers", 16, -(2**15), 2**15 - 1, 1)
TWO = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
FIVE = _hessian(0, 5)
ROW = torch.tensor([0.4, -1.3, 0.6, 2.2, -0.7], dtype=torch.float64)


# --- obs_push ---


def obs_push(
    w: Float[Tensor, " n"], H: Float[Tensor, "n n"], q: int, v: float
) -> Float[Tensor, " n"]:
    """The row with weight q fixed at v, and the others moved to make up for it."""
    return gptq_derivation.obs_step(w, torch.linalg.inv(H), q, v)[0]


def _pushed(w: Tensor, row: Tensor, amount: Tensor, q: int, v: float) -> Tensor:
    """w moved along a row by this amount, and weight q at v."""
    moved = w - amount * row
    moved[q] = v
    return moved


def _push_by(amount: Callable) -> Callable:
    """A push along q's row of H⁻¹ by amount(w[q] − v, H⁻¹[q, q], w[q])."""

    def _wrong(w: Tensor, H: Tensor, q: int, v: float) -> Tensor:
        row = torch.linalg.inv(H)[q]
        return _pushed(w, row, amount(w[q] - v, row[q], w[q]), q, v)

    return _wrong


check_obs_push = Exercise(
    name="obs_push",
    task="obs_push(w, H, q, v) gives the row w (n,) with weight q fixed at v, and all "
    "others moved so that the error δ H δᵀ is least",
    answer=obs_push,
    cases={
        "two weights, the first goes to 0": (ROW[:2], TWO, 0, 0.0),
        "two weights, the second goes to −1": (ROW[:2], TWO, 1, -1.0),
        "five weights, the middle one goes to 1": (ROW, FIVE, 2, 1.0),
    },
    mistakes={
        "the others move the wrong way, which makes the error larger; subtract": (
            _push_by(lambda e, d, w: -e / d)
        ),
        "the push is not divided by H⁻¹[q, q]": _push_by(lambda e, d, w: e),
        "the push is divided by the root of H⁻¹[q, q], not by itself": (
            _push_by(lambda e, d, w: e / d.sqrt())
        ),
        "e is w[q] − v, not w[q]; they are the same only for v = 0": (
            _push_by(lambda e, d, w: w / d)
        ),
        "only weight q has moved; the others must make up for it": (
            _push_by(lambda e, d, w: 0 * e)
        ),
        "this is a row of H; take it from the inverse": (
            lambda w, H, q, v: _pushed(w, H[q], (w[q] - v) / H[q, q], q, v)
        ),
    },
    outputs=("the row",),
    solution="""\
def obs_push(w, H, q, v):
    H_inv = torch.linalg.inv(H)
    error = w[q] - v
    moved = w - error / H_inv[q, q] * H_inv[q]
    return moved
""",
    inside="minquant.methods.gptq_derivation.obs_step",
)


# --- eliminate ---


def eliminate(H_inv: Float[Tensor, "n n"], q: int) -> Float[Tensor, "left left"]:
    """The inverse of H without its row and column q, from the inverse of H."""
    return gptq_derivation.eliminate(H_inv, q)


def _without(M: Tensor, q: int) -> Tensor:
    left = [i for i in range(len(M)) if i != q]
    return M[left][:, left]


def _outer(H_inv: Tensor, q: int) -> Tensor:
    return torch.outer(H_inv[:, q], H_inv[q])


check_eliminate = Exercise(
    name="eliminate",
    task="eliminate(H_inv, q) gives the inverse of H without its row and column q "
    "(n − 1, n − 1), from H_inv alone",
    answer=eliminate,
    cases={
        "2 columns, the first goes": (torch.linalg.inv(TWO), 0),
        "5 columns, the middle one goes": (torch.linalg.inv(FIVE), 2),
        "5 columns, the last goes": (torch.linalg.inv(FIVE), 4),
    },
    mistakes={
        "row and column q are left out of H⁻¹, but what stays has to change too": (
            _without
        ),
        "the outer product is not divided by H⁻¹[q, q]": (
            lambda H_inv, q: _without(H_inv - _outer(H_inv, q), q)
        ),
        "the outer product is added; subtract it": (
            lambda H_inv, q: _without(H_inv + _outer(H_inv, q) / H_inv[q, q], q)
        ),
        "row and column q are 0 now; leave them out": (
            lambda H_inv, q: H_inv - _outer(H_inv, q) / H_inv[q, q]
        ),
        "this takes off column 0 whatever q is": (
            lambda H_inv, q: _without(H_inv - _outer(H_inv, 0) / H_inv[0, 0], 0)
        ),
    },
    outputs=("the inverse",),
    solution="""\
def eliminate(H_inv, q):
    reduced = H_inv - torch.outer(H_inv[:, q], H_inv[q]) / H_inv[q, q]
    left = [i for i in range(len(H_inv)) if i != q]
    return reduced[left][:, left]
""",
    inside="minquant.methods.gptq_derivation.eliminate",
)


# --- gptq_columns ---


def gptq_columns(
    W: Float[Tensor, "out n"], H: Float[Tensor, "n n"]
) -> Float[Tensor, "out n"]:
    """W in whole numbers by GPTQ, from the first column to the last."""
    whole = Ruler(torch.ones((), dtype=W.dtype), None, WHOLE_NUMBERS)
    rows = gptq_derivation.rows_by_cholesky(H)
    *_, end = gptq_derivation.steps(W, rows, [whole] * W.shape[1])
    return end.W


def _columns(rows: Callable, *, original_error: bool = False) -> Callable:
    """GPTQ in whole numbers, in which one part can be made wrong.

    rows: from H, a matrix whose row j says what each column to the right of j takes of
    an error of 1. original_error: take the error of the weights as they were at first.
    """

    def _wrong(W: Tensor, H: Tensor) -> Tensor:
        now, push = W.clone(), rows(H)
        for j in range(W.shape[1]):
            rounded = now[:, j].round()
            error = (W if original_error else now)[:, j] - rounded
            now[:, j] = rounded
            now[:, j + 1 :] -= torch.outer(error, push[j, j + 1 :])
        return now

    return _wrong


def _over_diagonal(M: Tensor, power: float = 1) -> Tensor:
    """Each row over its diagonal entry to this power."""
    return M / M.diagonal()[:, None] ** power


check_gptq_columns = Exercise(
    name="gptq_columns",
    task="gptq_columns(W, H) gives W (out, n) in whole numbers: round column 0, push "
    "its error on the columns to its right, round column 1, and so on",
    answer=gptq_columns,
    cases={
        "3 rows of 5": (
            2 * torch.stack([ROW, ROW.flip(0) + 0.21, ROW.roll(2) - 0.37]),
            FIVE,
        ),
        "4 rows of 8": (
            torch.linspace(-3.1, 2.9, 32, dtype=torch.float64).sin().reshape(4, 8) * 3,
            _hessian(1, 8),
        ),
    },
    mistakes={
        "nothing is pushed: this is round to nearest": _columns(lambda H: 0 * H),
        "errors are pushed the wrong way; subtract": (
            _columns(lambda H: -_over_diagonal(inverse_cholesky(H)))
        ),
        "the pushes are rows of H⁻¹ as it was at first; each column needs the H⁻¹ of "
        "what is left, which is the row of U": (
            _columns(lambda H: _over_diagonal(torch.linalg.inv(H)))
        ),
        "U is the factor of H; take that of its inverse": (
            _columns(lambda H: _over_diagonal(torch.linalg.cholesky(H, upper=True)))
        ),
        "the push is not divided by U[j, j]": _columns(inverse_cholesky),
        "the push is divided by U[j, j] twice": (
            _columns(lambda H: _over_diagonal(inverse_cholesky(H), 2))
        ),
        "the error is that of the weights as they were at first; take them as they "
        "have become": (
            _columns(lambda H: _over_diagonal(inverse_cholesky(H)), original_error=True)
        ),
    },
    outputs=("W_hat",),
    solution="""\
def gptq_columns(W, H):
    W = W.clone()
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    for j in range(W.shape[1]):
        error = W[:, j] - W[:, j].round()
        W[:, j] = W[:, j].round()
        W[:, j + 1 :] -= torch.outer(error / U[j, j], U[j, j + 1 :])
    return W
""",
    inside="minquant.quantize_gptq",
)
