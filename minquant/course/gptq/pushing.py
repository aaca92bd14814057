"""GPTQ column by column, read from its result: what each became, what it pushed.

    W ──▶ became ──round──▶ W_hat          became[:, j] = W[:, j] − Σ_{k<j} e_k P[k, j]
              └── e = became − W_hat ──▶ pushed on all columns to the right

`gptq.quantize_gptq` never rewrites W, so the path that leads to its codes is not seen.
Here it is found again. With H⁻¹ = Uᵀ U and R = U⁻¹, both upper triangular, and the
error that is left at the end, E = W − W_hat:

    e = E R / diag(R)          P[j, k] = U[j, k] / U[j, j]       cost_j = Σ e_j² R_jj²

So every number is that of the package's own result, and no second loop is run.
Columns stand in the order in which they are rounded: a *turn* is a place in it. Lesson
06 shows it inside `widget_pushes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.course.drawing.ruling import Ruling
from minquant.methods import gptq_derivation, rtn
from minquant.methods.gptq import quantize_gptq
from minquant.numerics.grids import Grid
from minquant.numerics.tensor import QuantizedTensor


@dataclass(frozen=True, eq=False)
class Pushing:
    """One matrix on its way through GPTQ. All but `made` is float64, in turns.

    W, W_hat: weights before and after. H: with its damping. U: the Cholesky factor of
    H⁻¹. order: which column of the matrix has which turn. made, nearest: what GPTQ and
    RTN give, on the same rulers, one for each row; columns as in the matrix.
    """

    W: Float[Tensor, "out in"]
    W_hat: Float[Tensor, "out in"]
    H: Float[Tensor, "in in"]
    U: Float[Tensor, "in in"]
    order: Int[Tensor, " in"]
    made: QuantizedTensor
    nearest: QuantizedTensor

    @classmethod
    def of(
        cls,
        W: Float[Tensor, "out in"],
        H: Float[Tensor, "in in"],
        grid: Grid,
        *,
        damping: float = 0.01,
        act_order: bool = False,
    ) -> Pushing:
        """What `quantize_gptq` makes of W, given H = XᵀX; one ruler for each row.

        damping, act_order: as there; `H` holds the damping, as the method minds it.
        """
        made = quantize_gptq(W, H, grid, damping=damping, act_order=act_order)
        H = H.double()
        order = torch.arange(len(H))
        if act_order:
            order = H.diagonal().argsort(descending=True, stable=True)
        H = H[order][:, order].clone()
        dead = H.diagonal() == 0
        H.diagonal().add_(damping * H.diagonal().mean() + dead)
        return cls(
            W=W.double()[:, order],
            W_hat=made.dequantize(torch.float64)[:, order],
            H=H,
            U=gptq_derivation.inverse_cholesky(H),
            order=order,
            made=made,
            nearest=rtn.quantize_rtn(W, grid),
        )

    @cached_property
    def pushes(self) -> Float[Tensor, "in in"]:
        """P: an error of 1 in the column of turn j moves that of turn k by −P[j, k]."""
        return self.U / self.U.diagonal()[:, None]

    @cached_property
    def errors(self) -> Float[Tensor, "out in"]:
        """e: by how much each weight, as it had become, differs from what is stored."""
        eye = torch.eye(len(self.U), dtype=self.U.dtype)
        R = torch.linalg.solve_triangular(self.U, eye, upper=True)
        return (self.W - self.W_hat) @ R / R.diagonal()

    @cached_property
    def became(self) -> Float[Tensor, "out in"]:
        """Each weight when its turn came: moved by all columns before it."""
        return self.W_hat + self.errors

    @cached_property
    def power(self) -> float:
        """‖X Wᵀ‖², damping counted: what errors are a share of."""
        return ((self.W @ self.H) * self.W).sum().item()

    @cached_property
    def so_far(self) -> Float[Tensor, " in"]:
        """The layer's error after each turn, a share of its outputs' power."""
        costs = (self.errors / self.U.diagonal()).square().sum(0)  # e² R_jj²
        return costs.cumsum(0) / self.power

    @cached_property
    def nearest_so_far(self) -> Float[Tensor, " in"]:
        """The same if each column is rounded to nearest and nothing is pushed."""
        E = self.W - self.nearest.dequantize(torch.float64)[:, self.order]
        pairs = (E.T @ E) * self.H  # what columns i and j cost together
        return pairs.cumsum(0).cumsum(1).diagonal() / self.power

    @cached_property
    def likeness(self) -> Float[Tensor, "in in"]:
        """|H| over the inputs' sizes, 0 to 1: how much two inputs go together."""
        size = self.H.diagonal().sqrt()
        return (self.H / torch.outer(size, size)).abs()

    def now(self, row: int, turn: int) -> Float[Tensor, " in"]:
        """A row after this turn: rounded so far, and beyond it moved."""
        done = slice(0, turn + 1)
        moved = self.W[row] - self.errors[row, done] @ self.pushes[done]
        moved[done] = self.W_hat[row, done]
        return moved

    def pushed(self, row: int, turn: int) -> Float[Tensor, " in"]:
        """By how much this turn moves each weight of the row; 0 up to itself."""
        moves = -self.errors[row, turn] * self.pushes[turn]
        moves[: turn + 1] = 0
        return moves

    def arithmetic(self, row: int, turn: int) -> list[tuple[str, str]]:
        """One weight's turn, step by step: what is done, and what comes out."""
        column, was = int(self.order[turn]), self.W[row, turn]
        became = torch.empty_like(self.W)
        became[:, self.order] = self.became
        ruling = Ruling.of(became, self.made, row, column, 1)
        (_, weight), *steps, (name, error) = ruling.arithmetic(0)
        start = [(f"weight {column} was", number(was))]
        start.append(("pushed so far", number(self.became[row, turn] - was, sign=True)))
        e = number(self.errors[row, turn], sign=True)  # gone, not come: was minus is
        steps.append(("e = is − back", f"{e}, {error.partition('= ')[2]}"))
        if "clipped" in name:
            steps[-1] = (f"clipped: {steps[-1][0]}", steps[-1][1])
        if turn + 1 < len(self.order):
            k = int(self.pushed(row, turn).abs().argmax())
            P = number(self.pushes[turn, k], digits=3)
            move = number(self.pushed(row, turn)[k], sign=True)
            steps.append((f"−e × {P}: weight {int(self.order[k])} moves", move))
        return [*start, ("is", weight), *steps]

    def describe(self, row: int, turn: int) -> str:
        """One state in words: what the turn pushed, and the layer's error so far."""
        column, count = int(self.order[turn]), len(self.order)
        most = number(self.pushed(row, turn).abs().max(), digits=3)
        error = number(self.errors[row, turn], digits=3, sign=True)
        after, nearest = (
            f"{share[turn]:.3%}" for share in (self.so_far, self.nearest_so_far)
        )
        pushed = f"those to come ({count - turn - 1}) by up to {most}"
        return (
            f"Turn {turn + 1} of {count}: column {column} is rounded, in row {row} "
            f"with an error of {error}, "
            f"{f'which moves {pushed}' if turn + 1 < count else 'and none is left'}. "
            f"The layer's error so far is {after} of its outputs' power; rounding to "
            f"nearest would have made {nearest}."
        )
