"""Codes that a method found, put into GGUF's blocks as they are.

    our grid, groups of 32     type    what is stored
    signed(2 … 4)              Q4_0    d = scale, q = code + 8             exact
    signed(5)                  Q5_0    d = scale, q = code + 16            exact
    symmetric_full(2 … 5)      Q4_0 or Q5_0, likewise
    absmax, symmetric_full(8)  Q8_0    d = scale, q = code                 exact
    zero_point(2 … 4)          Q4_1    d = scale, m = −zero · scale, q = code

So GPTQ's codes run in llama.cpp without being rounded a second time. Q4_1 adds fp16's
rounding of m, at most 1 part in 2048 of it; the others store exactly what we computed.
A ruler for more than 32 weights is repeated for each 32 of them: the file is then as
large as with groups of 32, and computes the same.

What has no type: NF4 and other codebooks, 5 bits with zero-points, input scales that
were not folded, groups that 32 does not divide.
"""

from jaxtyping import Float
from torch import Tensor

from minquant.files.gguf import GgufTensor
from minquant.files.gguf_blocks import (
    codes_as_q4_0,
    codes_as_q4_1,
    codes_as_q5_0,
    codes_as_q8_0,
)
from minquant.numerics.grids import IntegerGrid
from minquant.numerics.groups import group_shape
from minquant.numerics.scales import scale_values
from minquant.numerics.tensor import QuantizedTensor

BLOCK = 32


def type_for(quantized: QuantizedTensor) -> str:
    """The type that stores these codes. Raises ValueError, with a reason, if none does.

    >>> import torch
    >>> import minquant as mq
    >>> W = torch.ones(2, 64)
    >>> type_for(mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(32)))
    'Q4_0'
    """
    grid = quantized.grid
    if quantized.input_scales is not None:
        raise ValueError(
            "its input_scales are not 1: fold them into the layer before, with "
            "mq.fold_; those in its `left` need another method"
        )
    shape = tuple(quantized.codes.shape)
    g = (
        shape[1]
        if quantized.granularity.kind == "tensor"
        else (group_shape(shape, quantized.granularity)[2])
    )
    if g % BLOCK:
        raise ValueError(
            f"its groups have {g} weights, and a block has 32: take groups of 32 or 64"
        )
    if isinstance(grid, IntegerGrid) and grid.has_zeros and grid.bits <= 4:
        return "Q4_1"
    if isinstance(grid, IntegerGrid) and not grid.has_zeros:
        for name, half in (("Q4_0", 8), ("Q5_0", 16), ("Q8_0", 128)):
            if -half <= grid.low and grid.high < half:
                return name
    raise ValueError(
        f"its grid is {grid.name} of {grid.bits} bits, which no type stores: take "
        "signed(4), zero_point(4) or absmax(8)"
    )


def tensor_of(quantized: QuantizedTensor) -> GgufTensor:
    """The codes as blocks of `type_for`'s type; nothing is rounded but Q4_1's minimum.

    Raises ValueError as `type_for` does, and if a scale does not fit into fp16.

    >>> import torch
    >>> import minquant as mq
    >>> q = mq.quantize_rtn(torch.randn(2, 64), mq.symmetric_full(4), mq.per_group(32))
    >>> bool((tensor_of(q).dequantize() == q.dequantize()).all())
    True
    """
    name, shape = type_for(quantized), tuple(quantized.codes.shape)
    codes = quantized.codes.reshape(-1, BLOCK).int()
    d = _per_block(scale_values(quantized.scales), shape)
    if name == "Q4_1":
        m = -_per_block(quantized.zeros.float(), shape) * d
        data = codes_as_q4_1(codes, d, m)
    else:
        pack = {"Q4_0": codes_as_q4_0, "Q5_0": codes_as_q5_0, "Q8_0": codes_as_q8_0}
        data = pack[name](codes, d)
    return GgufTensor(name, shape, data.reshape(shape[0], -1))


def _per_block(
    numbers: Float[Tensor, "rows n_groups"], shape: tuple[int, int]
) -> Float[Tensor, "n 1"]:
    """A number for each group, repeated for each block of 32."""
    out, width = shape
    rows = numbers.expand(out, -1)  # one for the whole matrix serves every row
    return rows.repeat_interleave(width // BLOCK // rows.shape[1], 1).reshape(-1, 1)
