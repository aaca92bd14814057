"""A row of weights on its ruler, as numbers and in words.

Rounding a weight means: divide by the scale, go to the nearest integer, move by the
zero, stay within the grid. `Ruling` holds what one window of a quantized row needs to
be looked at weight by weight: every tick of every ruler in it, the half step that
rounding can move a weight, and which weights lie beyond the ruler's end. It reads all
this from a `QuantizedTensor`, so it serves any method, and computes no codes or scales.

Notebook 02 derives the half step, notebook 03 the many short rulers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import SupportsFloat

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minquant.course.drawing.numbers import integer, number
from minquant.numerics.grids import Grid, IntegerGrid, value
from minquant.numerics.groups import spread
from minquant.numerics.ruler import Ruler
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
        used, owner = np.unique(rulers, return_inverse=True)
        scales = scale_values(quantized.scales).flatten()[used].float()
        zeros = None if quantized.zeros is None else quantized.zeros.flatten()[used]
        codes, nodes = _ticks(quantized.grid)
        scale_type = scale_name(quantized.scales)
        zero = None if zeros is None else zeros[:, None]
        levels = Ruler(scales[:, None], zero, quantized.grid).stretch(nodes)
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
            scale_type=_SHORT.get(scale_type, scale_type),
            first=first,
            row_max=float(W[row].abs().max()),
        )

    @cached_property
    def errors(self) -> Float[np.ndarray, " n"]:
        """What rounding did: the value after minus the weight before."""
        return self.values - self.weights

    @cached_property
    def places(self) -> Int[np.ndarray, " n"]:
        """Index of each weight's code in `level_codes`."""
        return np.searchsorted(self.level_codes, self.codes)

    @cached_property
    def half_steps(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The lowest and the highest error of each weight that rounding can make.

        Half the gap to the next tick up and down; at an end the inner gap counts.
        """
        gaps = np.diff(self.levels, axis=1)
        gaps = np.concatenate([gaps[:, :1], gaps, gaps[:, -1:]], axis=1) / 2
        return -gaps[self.owner, self.places + 1], gaps[self.owner, self.places]

    @cached_property
    def steps(self) -> Float[np.ndarray, " n"]:
        """The local step: the width of the range that rounds to each weight's code."""
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
        """Root mean squared error of these n weights, in float64."""
        return float(np.sqrt(np.mean(self.errors.astype(np.float64) ** 2)))

    def arithmetic(self, i: int) -> list[tuple[str, str]]:
        """The rounding of weight i, step by step: what is done, and what comes out.

        Each result follows from the ones before it, so a reader can check by hand.
        """
        scale = number(self.scales[self.owner[i]])
        steps = [
            ("weight", number(self.weights[i])),
            (
                f"÷ scale {scale} ({self.scale_type})",
                number(self.weights[i] / self.scales[self.owner[i]]),
            ),
        ]
        if self.nodes is None:
            steps += self._integer_steps(i)
            level = integer(self.codes[i])
        else:
            level = number(self.nodes[self.places[i]])
            steps += [("nearest level", level), ("its code", integer(self.codes[i]))]
        if self.zeros is not None:
            level = f"({level} − {integer(self.zeros[self.owner[i]])})"
        steps.append((f"back: {level} × {scale}", number(self.values[i])))
        name = "clipped: error" if self.clipped[i] else "error"
        error = number(self.errors[i], sign=True)
        steps.append((name, f"{error} = {self.in_steps(i)}"))
        return steps

    def in_steps(self, i: int) -> str:
        """The size of weight i's error in steps, such as `0.06 of a step`."""
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
        count = len(set(self.owner))
        rulers = "There is one ruler; it has"
        if count > 1:
            rulers = f"There are {count} rulers; that of the selected weight has"
        out = int(self.clipped.sum())
        clipped = "1 weight is" if out == 1 else f"{out or 'no'} weights are"

        def _short(x: SupportsFloat) -> str:
            return number(x, digits=3)

        return (
            f"{len(self.weights)} weights of a row as dots, from "
            f"{_short(self.weights.min())} to {_short(self.weights.max())}, "
            f"each joined to the nearest tick of its ruler. {rulers} {len(levels)} "
            f"ticks from {_short(levels[0])} to {_short(levels[-1])}. Beneath, the "
            f"rounding errors as bars from {_short(self.errors.min())} to "
            f"{_short(self.errors.max())}, over a band of half a step, at most "
            f"{_short(max(high.max(), -low.min()))}; {clipped} clipped. On the "
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
