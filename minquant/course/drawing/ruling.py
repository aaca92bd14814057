"""A row of weights on its ruler, as numbers and in words.

Rounding a weight means: divide by the scale, go to the nearest integer, move by the
zero, stay within the grid. `Ruling` holds what one window of a quantized row needs to
be looked at weight by weight: every tick of every ruler in it, the half step that
rounding can move a weight, and which weights lie beyond the ruler's end. It is read
from a `QuantizedTensor`, so it serves any method; it computes no code and no scale of
its own.

Notebook 02 derives the half step, notebook 03 the many short rulers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minquant.course.drawing.numbers import integer, number
from minquant.numerics.grids import Grid, IntegerGrid, value
from minquant.numerics.groups import spread
from minquant.numerics.scales import scale_name, scale_values
from minquant.numerics.tensor import QuantizedTensor

_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


@dataclass(frozen=True, eq=False)
class Ruling:
    """n neighbouring weights of one row, and the rulers they were rounded to.

    weights, values: the row before and after, in the units of the weights.
    codes: what is stored. level_codes: every code there is, in the order of `levels`.
    levels: for each ruler the value of every code, ascending. owner: each weight's
    ruler.
    scales, zeros: of each ruler; zeros is None on a symmetric grid or a codebook.
    nodes: the value of each code at scale 1 where the grid is a codebook, else None.
    first: position of weights[0] in its row. row_max: largest |weight| of the whole
    row.
    """

    weights: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    codes: Int[np.ndarray, " n"]
    level_codes: Int[np.ndarray, " codes"]
    levels: Float[np.ndarray, "rulers codes"]
    owner: Int[np.ndarray, " n"]
    scales: Float[np.ndarray, " rulers"]
    zeros: Int[np.ndarray, " rulers"] | None = None
    nodes: Float[np.ndarray, " codes"] | None = None
    scale_type: str = "fp16"
    first: int = 0
    row_max: float = 0.0

    @classmethod
    def of(
        cls,
        W: Float[Tensor, "out in"],
        quantized: QuantizedTensor,
        row: int,
        first: int = 0,
        count: int | None = None,
    ) -> Ruling:
        """`count` weights of one row of W, from `first`, as `quantized` stores them."""
        out, width = W.shape
        if not 0 <= row < out:
            raise ValueError(f"row is {row}; choose a row from 0 to {out - 1}")
        here = slice(first, width if count is None else first + count)
        rulers = _rulers(quantized, row)[here]  # which (row, group) each weight is in
        kinds, owner = np.unique(rulers, return_inverse=True)
        scales = scale_values(quantized.scales).flatten()[kinds].float()
        zeros = None if quantized.zeros is None else quantized.zeros.flatten()[kinds]
        codes, nodes = _ticks(quantized.grid)
        stored = scale_name(quantized.scales)
        if zeros is None:
            levels = nodes * scales[:, None]
        else:
            levels = (nodes - zeros[:, None].float()) * scales[:, None]
        return cls(
            weights=W[row, here].detach().float().cpu().numpy(),
            values=quantized.dequantize()[row, here].float().cpu().numpy(),
            codes=quantized.codes[row, here].long().cpu().numpy(),
            level_codes=codes.numpy(),
            levels=levels.cpu().numpy(),
            owner=owner,
            scales=scales.cpu().numpy(),
            zeros=None if zeros is None else zeros.long().cpu().numpy(),
            nodes=None if isinstance(quantized.grid, IntegerGrid) else nodes.numpy(),
            scale_type=_SHORT.get(stored, stored),
            first=first,
            row_max=float(W[row].abs().max()),
        )

    @cached_property
    def errors(self) -> Float[np.ndarray, " n"]:
        """What rounding did: value after minus weight before."""
        return self.values - self.weights

    @cached_property
    def places(self) -> Int[np.ndarray, " n"]:
        """Index of each weight's code in `level_codes`."""
        return np.searchsorted(self.level_codes, self.codes)

    @cached_property
    def half_steps(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The lowest and the highest error that rounding alone can make, per weight.

        Half the gap to the next tick up and down; at an end the inner gap counts.
        """
        gaps = np.diff(self.levels, axis=1)
        gaps = np.concatenate([gaps[:, :1], gaps, gaps[:, -1:]], axis=1) / 2
        return -gaps[self.owner, self.places + 1], gaps[self.owner, self.places]

    @cached_property
    def steps(self) -> Float[np.ndarray, " n"]:
        """Width of the basin that rounds to each weight's code: the local step."""
        low, high = self.half_steps
        return high - low

    @cached_property
    def clipped(self) -> Bool[np.ndarray, " n"]:
        """True where a weight lies more than half a step beyond its ruler's end."""
        low, high = self.half_steps
        slack = 1e-3 * self.steps  # a tie, in float32, is not a clip
        return (self.errors < low - slack) | (self.errors > high + slack)

    @property
    def rmse(self) -> float:
        """Root of the mean squared error of these n weights, in float64."""
        return float(np.sqrt(np.mean(self.errors.astype(np.float64) ** 2)))

    def arithmetic(self, i: int) -> list[tuple[str, str]]:
        """The rounding of weight i, step by step: what is done, and what comes out.

        Each result follows from the ones before it, so a reader can check by hand.
        """
        scale, code = number(self.scales[self.owner[i]]), integer(self.codes[i])
        ratio = number(self.weights[i] / self.scales[self.owner[i]])
        steps = [("weight", number(self.weights[i]))]
        steps.append((f"÷ scale {scale} ({self.scale_type})", ratio))
        if self.nodes is None:
            steps += self._integer_steps(i)
        else:
            node = number(self.nodes[self.places[i]])
            steps += [("nearest level", node), ("its code", code)]
        kept = code if self.nodes is None else node
        if self.zeros is not None:
            kept = f"({code} − {integer(self.zeros[self.owner[i]])})"
        steps.append((f"back: {kept} × {scale}", number(self.values[i])))
        error = number(self.errors[i], sign=True)
        name = "clipped: error" if self.clipped[i] else "error"
        steps.append((name, f"{error} = {self.in_steps(i)}"))
        return steps

    def in_steps(self, i: int) -> str:
        """The size of weight i's error in words, such as `0.06 of a step`."""
        share = abs(self.errors[i]) / self.steps[i]
        return f"{share:.2f} of a step" if share < 1 else f"{share:.3g} steps"

    def _integer_steps(self, i: int) -> list[tuple[str, str]]:
        """From the ratio to the code on an integer grid: round, add the zero, clamp."""
        code, low, high = self.codes[i], *self.level_codes[[0, -1]]
        nearest = round(float(self.weights[i] / self.scales[self.owner[i]]))
        steps = [("round", integer(nearest))]  # half to even, like the grid
        if self.zeros is not None:
            zero = int(self.zeros[self.owner[i]])
            nearest += zero
            steps.append((f"+ zero {zero}", integer(nearest)))
        if nearest != code:
            ends = f"{integer(low)} … {integer(high)}"
            steps.append((f"clamp to {ends}", integer(code)))
        steps[-1] = (f"{steps[-1][0]} = code", steps[-1][1])
        return steps

    def describe(self, i: int) -> str:
        """The row in words: the weights and their ruler, the errors, weight i."""
        levels, (low, high) = self.levels[self.owner[i]], self.half_steps
        rulers, out = len(set(self.owner)), int(self.clipped.sum())
        many = f"There are {rulers} rulers; that of the selected weight has"
        w_low, w_high, first, last, e_low, e_high, half = (
            number(x, digits=3)
            for x in (
                *(self.weights.min(), self.weights.max(), levels[0], levels[-1]),
                *(self.errors.min(), self.errors.max(), max(high.max(), -low.min())),
            )
        )
        return (
            f"{len(self.weights)} weights of a row as dots, from {w_low} to {w_high}, "
            "each joined to the nearest tick of its ruler. "
            f"{'There is one ruler; it has' if rulers == 1 else many} {len(levels)} "
            f"ticks from {first} to {last}. Beneath, the rounding errors as bars from "
            f"{e_low} to {e_high}, over a band of half a step, at most {half}; "
            f"{out or 'no'} weight{' is' if out == 1 else 's are'} clipped. On the "
            f"right, weight {self.first + i} magnified: {number(self.weights[i])} is "
            f"stored as code {integer(self.codes[i])}, "
            f"the value {number(self.values[i])}."
        )


def _rulers(quantized: QuantizedTensor, row: int) -> Int[np.ndarray, " in"]:
    """The index of each weight's scale among all scales, for one row."""
    out, width = quantized.codes.shape
    shape = torch.Size(quantized.scales.shape)
    numbers = torch.arange(shape.numel(), dtype=torch.float32).reshape(shape)
    return spread(numbers, (out, width), quantized.granularity)[row].long().numpy()


def _ticks(grid: Grid) -> tuple[Tensor, Tensor]:
    """Every code of a grid, and its value at scale 1 and zero 0; both ascending."""
    if isinstance(grid, IntegerGrid):
        codes = torch.arange(grid.low, grid.high + 1)
    else:
        codes = torch.arange(len(grid.levels))
    return codes, value(codes, grid).float()
