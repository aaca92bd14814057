"""The live picture of lesson 08: an uneven ruler under the weights that lie on it.

    codebook({"the bell": bell, "weights": W})      # the last line of a cell

The reader chooses a codebook, the weights and the size of the blocks, and sees which
share of the weights each tick has, and which share of the squared error. `codebook.js`
rounds in the browser as `methods/rtn.py` does; a test compares the two code by code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.methods import rtn
from minquant.numerics import grids

BOOKS = {"NF4": grids.NF4, "FP4": grids.FP4, "int4": grids.symmetric_full(4)}
BLOCKS = 16, 32, 64, 128, 256


class CodebookPicture(LivePicture):
    """Matrices on rulers with the ticks of BOOKS.

    weights: name to (out, in), any float dtype. book: the codebook to begin with.
    block: how many weights share a scale, the nearest of those of BLOCKS that divide
    all rows. tick: the one that is marked, from 0.

    Raises TypeError or ValueError as `quantize_rtn` does; ValueError if there is no
    matrix, if no block divides all rows, or for a setting that the picture does not
    have.
    """

    script = Path(__file__).with_name("codebook.js")

    weights = traitlets.List().tag(sync=True)
    books = traitlets.Dict().tag(sync=True)
    blocks = traitlets.List().tag(sync=True)
    book = traitlets.Unicode().tag(sync=True)
    source = traitlets.Unicode().tag(sync=True)
    size = traitlets.Int().tag(sync=True)
    tick = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        weights: Mapping[str, Float[Tensor, "_ _"]],
        book: str = "NF4",
        block: int = 64,
        *,
        tick: int = 8,
    ) -> None:
        if not weights:
            raise ValueError("weights is empty; give at least one matrix, by its name")
        matrices = {name: rtn.floats(W, name).float() for name, W in weights.items()}
        widths = [W.shape[1] for W in matrices.values()]
        blocks = [g for g in BLOCKS if all(width % g == 0 for width in widths)]
        if not blocks:
            raise ValueError(f"rows of {widths} weights: none of {BLOCKS} divides all")
        super().__init__(
            weights=[
                {"name": name, "width": W.shape[1], "hex": float32_hex(W)}
                for name, W in matrices.items()
            ],
            books={
                name: {
                    "levels": list(grid.levels),
                    "reach": grid.reach,
                    "even": isinstance(grid, grids.IntegerGrid),
                }
                for name, grid in BOOKS.items()
            },
            blocks=blocks,
            book=book,
            source=next(iter(matrices)),
            size=min(range(len(blocks)), key=lambda i: abs(blocks[i] - block)),
            tick=tick,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        ticks = len(self.books[self.book]["levels"])
        return (
            f"A histogram of {self.source} in blocks of {self.blocks[self.size]}, each "
            f"divided by its largest, over the {ticks} ticks of {self.book}; below, "
            "which share of the weights and of the squared error each tick has."
        )

    @traitlets.validate("book", "source", "size", "tick")
    def _valid(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {
            "book": list(self.books),
            "source": [matrix["name"] for matrix in self.weights],
            "size": range(len(self.blocks)),
            "tick": range(16),
        }[name]
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; choose from {list(allowed)}")
        return value


def float32_hex(W: Float[Tensor, "out in"]) -> str:
    """The numbers of a matrix, eight hexadecimal digits each, little-endian."""
    return W.cpu().numpy().astype(np.dtype("<f4")).tobytes().hex()


def codebook(
    weights: Mapping[str, Float[Tensor, "_ _"]], **start: object
) -> CodebookPicture:
    """The live picture; the arguments are those of `CodebookPicture`."""
    return CodebookPicture(weights, **start)
