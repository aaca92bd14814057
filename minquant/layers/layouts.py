"""The two layouts of a layer's codes, and which of them to take.

    words     what the kernels read (`kernels.packed_words`): integer grids of 2, 3, 4
              and 8 bits. 3 bits take 3.2, and the last block of a row is filled up
    stream    packed without a gap, read by a table (`packed_stream`): any grid of up to
              8 bits, also NF4 under double quantization. 3 bits take 3.0

"auto" takes words if they cost at most 2 % more than the method counted (at 3 bits,
more than 3.2), and the stream otherwise: for codebooks, for scales that words would
store in fp32, for rows so short that most of a block would be padding.

A layer needs two things from either: its tensors by name, which become buffers, and the
same matrix around other tensors, after they were moved or loaded. `form` describes for
a file's header what the tensors mean, and `from_form` reads that. Lesson 10.
"""

from dataclasses import asdict, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from minquant.kernels.packed_words import ZERO_BITS, PackedMatrix, pack_matrix
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

    Raises ValueError if the layout is unknown, or cannot hold this matrix.

    >>> import torch
    >>> import minquant as mq
    >>> W = torch.ones(8, 640)
    >>> [type(packed(mq.quantize_rtn(W, g))).__name__ for g in (mq.absmax(3), mq.NF4)]
    ['PackedMatrix', 'LookupMatrix']
    """
    if layout not in ("auto", "words", "stream"):
        raise ValueError(f'layout is {layout!r}; choose "auto", "words" or "stream"')
    grid = quantized.grid
    bare = replace(quantized, input_scales=None)
    if layout == "words":
        return pack_matrix(bare)
    in_words = isinstance(grid, IntegerGrid) and grid.bits in ZERO_BITS
    if bare.zeros is not None and bare.zeros.is_floating_point():
        in_words = False
    if layout == "auto" and in_words:
        words = pack_matrix(bare)
        nbytes = bare.nbytes
        if grid.bits == 3:
            nbytes += quantized.codes.numel() / 40  # 3.2 bits for 3.0
        if words.nbytes <= 1.02 * nbytes:
            return words
    return LookupMatrix.pack(quantized)


def tensors_of(matrix: Matrix) -> dict[str, Tensor]:
    """Everything that a packed matrix stores, by name."""
    if isinstance(matrix, LookupMatrix):
        return matrix.tensors()
    tensors = {"words": matrix.words, "scales": matrix.scales}
    if matrix.zeros is not None:
        tensors["zeros"] = matrix.zeros
    return tensors


def with_tensors(matrix: Matrix, tensors: dict[str, Tensor]) -> Matrix:
    """The same matrix around other tensors. Tensors of other names are ignored."""
    needed = {name: tensors[name] for name in tensors_of(matrix)}
    if isinstance(matrix, LookupMatrix):
        return matrix.with_tensors(needed)
    return replace(matrix, **needed)


def form(matrix: Matrix) -> dict[str, Any]:
    """What the tensors of a matrix mean, as JSON can hold it.

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


def from_form(description: dict[str, Any], tensors: dict[str, Tensor]) -> Matrix:
    """The matrix that `form` described, around these tensors.

    Raises ValueError if a tensor or a part of the description is missing.
    """
    try:
        shape = tuple(description["shape"])
        if "bits" in description:
            return PackedMatrix(
                tensors["words"],
                tensors["scales"],
                tensors.get("zeros"),
                description["bits"],
                description["group_size"],
                shape,
            )
        grid = dict(description["grid"])
        if "levels" in grid:
            grid["levels"] = tuple(grid["levels"])
        scales = tensors.get("scales")
        if description["scales"] in _SCALES:
            kind = _SCALES[description["scales"]]
            parts = {part: tensors[f"scales_{part}"] for part in scale_parts(kind)}
            scales = kind(**parts)
        return LookupMatrix(
            tensors["codes"],
            scales,
            tensors.get("zeros"),
            _GRIDS[description["kind"]](**grid),
            Granularity(**description["granularity"]),
            shape,
            tensors.get("input_scales"),
        )
    except KeyError as problem:
        raise ValueError(
            f"tensors {sorted(tensors)} and the form {sorted(description)} lack "
            f"{problem}; give what packed_model.save wrote"
        ) from problem
