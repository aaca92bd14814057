"""The two layouts that a layer's codes may lie in, and which to take.

    words     what the kernels read (`words`, `matmul`): integer grids of 2, 3, 4 and 8
              bits. 3 bits take 3.2, and the last block of a row is filled up
    stream    packed without a gap (`bits`), read by a table (`lookup`): any grid of up
              to 8 bits, NF4 under double quantization too. 3 bits take 3.0

"auto" takes words where they cost no more than 2 % over what the method counted (at 3
bits, over 3.2), and the stream elsewhere: for codebooks, for scales that words would
widen, for rows so short that blocks would mostly be filling.

A layer needs two things of either: its tensors by name, which become buffers, and the
same matrix around other tensors, when they have been moved or loaded. `form` and
`from_form` say in words, for a file's header, what the tensors mean. Lesson 10.
"""

from dataclasses import asdict, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from minquant.kernels.packed_words import PackedMatrix, pack_matrix
from minquant.layers.packed_stream import LookupMatrix, scale_parts
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import Codebook, IntegerGrid
from minquant.numerics.groups import Granularity
from minquant.numerics.scales import E4M3, E8M0
from minquant.numerics.tensor import QuantizedTensor

Layout: TypeAlias = Literal["auto", "words", "stream"]
Matrix: TypeAlias = PackedMatrix | LookupMatrix
_GRIDS = {kind.__name__: kind for kind in (IntegerGrid, Codebook)}
_SCALES = {kind.__name__: kind for kind in (DoubleQuantized, E8M0, E4M3)}


def packed(quantized: QuantizedTensor, layout: Layout = "auto") -> Matrix:
    """A quantized matrix in one of the layouts. Words leave out its input_scales.

    Raises ValueError if the layout is unknown, or does not take this matrix.

    >>> import torch
    >>> import minquant as mq
    >>> W = torch.ones(8, 640)
    >>> made = [packed(mq.quantize_rtn(W, grid)) for grid in (mq.absmax(3), mq.NF4)]
    >>> [type(matrix).__name__ for matrix in made]
    ['PackedMatrix', 'LookupMatrix']
    """
    if layout not in ("auto", "words", "stream"):
        raise ValueError(f'layout is {layout!r}; choose "auto", "words" or "stream"')
    grid = quantized.grid
    possible = isinstance(grid, IntegerGrid) and grid.bits in (2, 3, 4, 8)
    if layout == "words" or (layout == "auto" and possible):
        bare = replace(quantized, input_scales=None)
        words, dense = pack_matrix(bare), bare.nbytes
        dense += quantized.codes.numel() / 40 if grid.bits == 3 else 0  # 3.2 for 3.0
        if layout == "words" or words.nbytes <= 1.02 * dense:
            return words
    return LookupMatrix.of(quantized)


def tensors_of(matrix: Matrix) -> dict[str, Tensor]:
    """Everything that a packed matrix stores, by name."""
    if isinstance(matrix, LookupMatrix):
        return matrix.tensors()
    names = ("words", "scales", "zeros")
    held = {name: getattr(matrix, name) for name in names}
    return {name: tensor for name, tensor in held.items() if tensor is not None}


def with_tensors(matrix: Matrix, tensors: dict[str, Tensor]) -> Matrix:
    """The same matrix around other tensors; those of other names are left out."""
    mine = {name: tensors[name] for name in tensors_of(matrix)}
    if isinstance(matrix, LookupMatrix):
        return matrix.with_tensors(mine)
    return replace(matrix, **mine)


def form(matrix: Matrix) -> dict[str, Any]:
    """What a matrix' tensors mean, in words and numbers that JSON has.

    >>> import minquant as mq
    >>> import torch
    >>> form(packed(mq.quantize_rtn(torch.ones(8, 640), mq.absmax(4))))
    {'bits': 4, 'group_size': 640, 'shape': [8, 640]}
    """
    shape = list(matrix.shape)
    if isinstance(matrix, PackedMatrix):
        return {"bits": matrix.bits, "group_size": matrix.group_size, "shape": shape}
    return {
        "kind": type(matrix.grid).__name__,
        "grid": asdict(matrix.grid),
        "granularity": asdict(matrix.granularity),
        "scales": type(matrix.scales).__name__,
        "shape": shape,
    }


def from_form(said: dict[str, Any], tensors: dict[str, Tensor]) -> Matrix:
    """The matrix that `form` described, around these tensors.

    Raises ValueError if a tensor is missing or the form is of another version.
    """
    try:
        shape = tuple(said["shape"])
        if "bits" in said:
            held = tensors["words"], tensors["scales"], tensors.get("zeros")
            return PackedMatrix(*held, said["bits"], said["group_size"], shape)
        grid = dict(said["grid"])
        if "levels" in grid:
            grid["levels"] = tuple(grid["levels"])
        scales = tensors.get("scales")
        if said["scales"] in _SCALES:
            kind = _SCALES[said["scales"]]
            scales = kind(
                **{part: tensors[f"scales_{part}"] for part in scale_parts(kind)}
            )
        return LookupMatrix(
            tensors["codes"],
            scales,
            tensors.get("zeros"),
            _GRIDS[said["kind"]](**grid),
            Granularity(**said["granularity"]),
            shape,
            tensors.get("input_scales"),
        )
    except KeyError as problem:
        raise ValueError(
            f"tensors {sorted(tensors)} and the form {sorted(said)} lack {problem}; "
            "give what packed_model.save wrote"
        ) from problem
