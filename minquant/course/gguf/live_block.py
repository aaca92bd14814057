"""The live picture of lesson 13: the bytes of one block, each half of them a button.

    block(file.tensors["blk.0.ffn_gate.weight"])       # the last line of a cell

The reader goes from weight to weight, and sees which half of which byte is its code.
`block.js` decodes the bytes in the browser; a test compares it with the package.
"""

from __future__ import annotations

from pathlib import Path

import traitlets

from minquant.course.live.picture import LivePicture
from minquant.files.gguf import GgufTensor
from minquant.files.gguf_blocks import block_type

KINDS = ("Q4_1", "Q4_0", "Q8_0")
WEIGHTS = 32  # of a block


class BlockPicture(LivePicture):
    """One block of a tensor, in three types.

    tensor: of a type whose blocks have 32 weights or fewer. row, number: which block.
    type: the type to begin with. weight: the one to begin with, 0 to 31. In the
    tensor's own type the bytes are those of the file; in the others, what its weights
    become.

    Raises ValueError if there is no such block, type or weight.
    """

    script = Path(__file__).with_name("block.js")

    blocks = traitlets.Dict().tag(sync=True)  # type: its bytes
    own = traitlets.Unicode().tag(sync=True)
    type = traitlets.Unicode().tag(sync=True)
    weight = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        tensor: GgufTensor,
        row: int = 0,
        number: int = 0,
        *,
        type: str = "Q4_1",
        weight: int = 5,
    ) -> None:
        n_rows, n_blocks = len(tensor.data), tensor.shape[-1] // WEIGHTS
        if not (0 <= row < n_rows and 0 <= number < n_blocks):
            raise ValueError(
                f"row is {row} and number {number}; the tensor has {n_rows} rows of "
                f"{n_blocks} blocks"
            )
        first = number * WEIGHTS
        W = tensor.dequantize().reshape(n_rows, -1)[row : row + 1, first:][:, :WEIGHTS]
        blocks = {kind: GgufTensor.of(W, kind).data[0].tolist() for kind in KINDS}
        if tensor.type in KINDS:
            size = block_type(tensor.type).nbytes
            data = tensor.data[row, number * size : (number + 1) * size]
            blocks[tensor.type] = data.tolist()
        super().__init__(blocks=blocks, own=tensor.type, type=type, weight=weight)

    @property
    def words(self) -> str:
        """What the picture shows."""
        data = self.blocks[self.type]
        return (
            f"The {len(data)} bytes of one block in {self.type}, "
            f"{' '.join(f'{byte:02x}' for byte in data)}, and the {WEIGHTS} weights "
            "that they stand for."
        )

    @traitlets.validate("type", "weight")
    def _valid(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "type" and value not in KINDS:
            raise ValueError(f"type is {value!r}; choose from {', '.join(KINDS)}")
        if name == "weight" and not 0 <= value < WEIGHTS:
            raise ValueError(f"weight is {value!r}; choose 0 to {WEIGHTS - 1}")
        return value


def block(tensor: GgufTensor, row: int = 0, number: int = 0) -> BlockPicture:
    """The live picture of one block; the arguments are those of `BlockPicture`."""
    return BlockPicture(tensor, row, number)
