"""The live picture of lesson 03: a matrix cut into groups that share a ruler.

    groups(W)                             # the last line of a cell
    groups(W, [mq.weight_of(layer) for layer in layers.values()])

Above, the weights and the lengths of their rulers; below, error against true bits. All
numbers are measured here by the package; `groups.js` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.course.rulers.figure_pareto import Cost
from minquant.methods import rtn
from minquant.numerics import grids
from minquant.numerics.groups import (
    PER_CHANNEL,
    PER_TENSOR,
    Granularity,
    per_group,
    split,
)

BITS = range(2, 6)
SIZES = 64, 32, 16
ROWS = 16  # of the matrix in view


class GroupsPicture(LivePicture):
    """Zero-point rulers for a matrix, its rows, and groups of 64, 32 and 16 weights.

    W: weights (out, in); in view are up to 16 rows around its largest weight.
    matrices: what error and bits are measured on, W alone by default. bits: 2 to 5.
    cut: 0 for one ruler for the matrix, 1 for one for each row, and so on.

    Raises TypeError or ValueError as `quantize_rtn` does, and ValueError for a setting
    that the picture does not have.
    """

    script = Path(__file__).with_name("groups.js")

    heat = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cuts = traitlets.List().tag(sync=True)
    lengths = traitlets.List().tag(sync=True)
    costs = traitlets.List().tag(sync=True)
    bits = traitlets.Int().tag(sync=True)
    cut = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        W: Float[Tensor, ...],
        matrices: Sequence[Float[Tensor, ...]] | None = None,
        *,
        bits: int = 3,
        cut: int = 0,
    ) -> None:
        if W.ndim != 2:
            raise ValueError(f"W has shape {tuple(W.shape)}; give one matrix (out, in)")
        W = rtn.floats(W).cpu()
        matrices = [rtn.floats(V) for V in (matrices or [W])]
        ways = _ways(W, *matrices)
        row = int(W.abs().amax(dim=1).argmax())
        first = max(0, min(row - ROWS // 2, len(W) - ROWS))
        here = slice(first, first + ROWS)
        shade = (W[here].abs() / W.abs().max().clamp(min=1e-30)).sqrt()
        super().__init__(
            heat=[bytes(r).hex() for r in (255 * shade).int().tolist()],
            cuts=[
                {"name": name, "size": way.group_size or W.shape[1]}
                for name, way in ways.items()
            ],
            lengths=[lengths(W, way)[here].tolist() for way in ways.values()],
            costs=[
                cost(matrices, width, way)._asdict() | {"cut": i}
                for width in BITS
                for i, way in enumerate(ways.values())
            ],
            bits=bits,
            cut=cut,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        return (
            "A matrix as a heat map, cut into parts that share a ruler, and the error "
            f"against the true bits per weight for {len(self.costs)} ways to do it."
        )

    @traitlets.validate("bits", "cut")
    def _valid(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = BITS if name == "bits" else range(len(self.cuts))
        if value not in allowed:
            raise ValueError(f"{name} is {value}; choose {allowed[0]} to {allowed[-1]}")
        return value


def lengths(
    W: Float[Tensor, "out in"], way: Granularity
) -> Float[Tensor, "out n_groups"]:
    """How long the zero-point ruler of each group is; 1 is that of the matrix."""
    parts = split(W, way)
    span = parts.amax(-1).clamp(min=0) - parts.amin(-1).clamp(max=0)
    whole = W.max().clamp(min=0) - W.min().clamp(max=0)
    return (span / whole.clamp(min=1e-30)).expand(len(W), -1)


def cost(matrices: Sequence[Float[Tensor, ...]], bits: int, way: Granularity) -> Cost:
    """Bits and error of rounding all these matrices in one way."""
    squares, weights, stored = 0.0, 0, 0
    for V in matrices:
        q = rtn.quantize_rtn(V, grids.zero_point(bits), way)
        squares += (q.dequantize() - V).double().square().sum().item()
        weights, stored = weights + V.numel(), stored + q.nbytes
    return Cost(bits, str(way), 8 * stored / weights, (squares / weights) ** 0.5)


def groups(
    W: Float[Tensor, ...],
    matrices: Sequence[Float[Tensor, ...]] | None = None,
    **start: int,
) -> GroupsPicture:
    """The live picture of one matrix; the arguments are those of `GroupsPicture`."""
    return GroupsPicture(W, matrices, **start)


def _ways(*matrices: Tensor) -> dict[str, Granularity]:
    """The ways to cut that fit all these matrices, by the name that readers see."""
    ways = {"the matrix": PER_TENSOR, "a row": PER_CHANNEL}
    for g in SIZES:
        if all(V.shape[1] % g == 0 and V.shape[1] > g for V in matrices):
            ways[f"{g} weights"] = per_group(g)
    return ways
