"""GPTQ column by column, read from its result: what each became and pushed.

    W ──▶ became ──round──▶ W_hat          became[:, j] = W[:, j] − Σ_{k<j} e_k P[k, j]
              └── e = became − W_hat ──▶ pushed on all columns to the right

`gptq.quantize_gptq` never rewrites W, so one cannot see the path to its codes. It can
be computed from the result. With H⁻¹ = Uᵀ U and R = U⁻¹, both upper triangular, and
the error that is left at the end, E = W − W_hat:

    e = E R / diag(R)          P[j, k] = U[j, k] / U[j, j]       cost_j = Σ e_j² R_jj²

So every number belongs to the package's own result, and no second loop is run.
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
    """One matrix on its way through GPTQ.

    W, W_hat: weights before and after. H: with its damping. U: the Cholesky factor of
    H⁻¹. All four are float64, with columns in the order of their turns. order: the
    column of the matrix that has each turn. quantized, nearest: the results of GPTQ and
    RTN on the same rulers, one for each row; with columns as in the matrix.
    """

    W: Float[Tensor, "out in"]
    W_hat: Float[Tensor, "out in"]
    H: Float[Tensor, "in in"]
    U: Float[Tensor, "in in"]
    order: Int[Tensor, " in"]
    quantized: QuantizedTensor
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
        """The path of `quantize_gptq` on W, given H = XᵀX; one ruler for each row.

        damping, act_order: as there.
        """
        quantized = quantize_gptq(W, H, grid, damping=damping, act_order=act_order)
        H = H.double()
        order = torch.arange(len(H))
        if act_order:
            order = H.diagonal().argsort(descending=True, stable=True)
        H = H[order][:, order].clone()
        dead = H.diagonal() == 0
        H.diagonal().add_(damping * H.diagonal().mean() + dead)
        return cls(
            W=W.double()[:, order],
            W_hat=quantized.dequantize(torch.float64)[:, order],
            H=H,
            U=gptq_derivation.inverse_cholesky(H),
            order=order,
            quantized=quantized,
            nearest=rtn.quantize_rtn(W, grid),
        )

    @cached_property
    def pushes(self) -> Float[Tensor, "in in"]:
        """P: an error of 1 in turn j moves the column of turn k by −P[j, k]."""
        return self.U / self.U.diagonal()[:, None]

    @cached_property
    def errors(self) -> Float[Tensor, "out in"]:
        """e: each weight when its turn came, minus what is stored."""
        eye = torch.eye(len(self.U), dtype=self.U.dtype)
        R = torch.linalg.solve_triangular(self.U, eye, upper=True)
        return (self.W - self.W_hat) @ R / R.diagonal()

    @cached_property
    def became(self) -> Float[Tensor, "out in"]:
        """Each weight when its turn came: moved by all columns before it."""
        return self.W_hat + self.errors

    @cached_property
    def power(self) -> float:
        """‖X Wᵀ‖² with damping; errors are shares of it."""
        return ((self.W @ self.H) * self.W).sum().item()

    @cached_property
    def so_far(self) -> Float[Tensor, " in"]:
        """The layer's error after each turn, as a share of its outputs' power."""
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
        """|H| over the inputs' sizes, 0 to 1: how much two inputs vary together."""
        size = self.H.diagonal().sqrt()
        return (self.H / torch.outer(size, size)).abs()

    def now(self, row: int, turn: int) -> Float[Tensor, " in"]:
        """A row after this turn: rounded up to here, and moved beyond."""
        done = slice(0, turn + 1)
        moved = self.W[row] - self.errors[row, done] @ self.pushes[done]
        moved[done] = self.W_hat[row, done]
        return moved

    def pushed(self, row: int, turn: int) -> Float[Tensor, " in"]:
        """How far this turn moves each weight of the row; 0 up to itself."""
        moves = -self.errors[row, turn] * self.pushes[turn]
        moves[: turn + 1] = 0
        return moves

    def arithmetic(self, row: int, turn: int) -> list[tuple[str, str]]:
        """One weight's turn, step by step: what is done, and what comes out."""
        column = int(self.order[turn])
        was, became = self.W[row, turn], self.became[row, turn]
        columns = torch.empty_like(self.W)
        columns[:, self.order] = self.became
        rounding = Ruling.of(columns, self.quantized, row, column, 1).arithmetic(0)
        (_, weight), *steps, (name, error) = rounding
        in_steps = error.partition("= ")[2]
        e = number(self.errors[row, turn], sign=True)  # before minus after: e of GPTQ
        steps.append(("e = is − back", f"{e}, {in_steps}"))
        if "clipped" in name:
            steps[-1] = (f"clipped: {steps[-1][0]}", steps[-1][1])
        if turn + 1 < len(self.order):
            moves = self.pushed(row, turn)
            k = int(moves.abs().argmax())
            P = number(self.pushes[turn, k], digits=3)
            label = f"−e × {P}: weight {int(self.order[k])} moves"
            steps.append((label, number(moves[k], sign=True)))
        return [
            (f"weight {column} was", number(was)),
            ("pushed so far", number(became - was, sign=True)),
            ("is", weight),
            *steps,
        ]

    def describe(self, row: int, turn: int) -> str:
        """One state in words: what the turn pushed, and the layer's error so far."""
        column, count = int(self.order[turn]), len(self.order)
        error = number(self.errors[row, turn], digits=3, sign=True)
        if turn + 1 < count:
            most = number(self.pushed(row, turn).abs().max(), digits=3)
            pushed = f"which moves those to come ({count - turn - 1}) by up to {most}"
        else:
            pushed = "and none is left"
        return (
            f"Turn {turn + 1} of {count}: column {column} is rounded, in row {row} "
            f"with an error of {error}, {pushed}. The layer's error so far is "
            f"{self.so_far[turn]:.3%} of its outputs' power; rounding to "
            f"nearest would have made {self.nearest_so_far[turn]:.3%}."
        )
