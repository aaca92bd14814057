"""A quantized matrix packed without a gap, and the table that it is read by.

A `QuantizedTensor` keeps its codes one by one, so that one can look at them. A layer
keeps them packed, in the storage format of `numerics.bits`, and looks their values up
in a table:

    code     →  levels[code]                              any grid: NF4, FP4, integers
    W_hat    =  (levels[code] − zero) · scale / input_scale

At 4 bits the table has an entry for each of the 256 bytes, with two values. So one
lookup reads two weights, and nothing is unpacked.

    byte  c₁c₀  →  levels[c₀], levels[c₁]

`parts` gives W_hat a few rows at a time, some megabytes each, so that a product with a
large matrix never holds all of it in floats. Each part has a multiple of 8 rows: eight
codes of b bits are exactly b bytes, so it starts with a whole byte.

Scales, zeros and input_scales are stored as the method made them, double-quantized
scales too. The values equal `QuantizedTensor.dequantize` bit for bit: the operations
are the same, in the same order. What is left out: kernels. `kernels.matmul` has them,
for integer grids with plain scales. Lessons 08 and 10.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from minquant.kernels.frozen_product import Parts, row_slices
from minquant.numerics.bits import pack, packed_bytes, unpack
from minquant.numerics.grids import Grid, code_dtype, value
from minquant.numerics.groups import Granularity
from minquant.numerics.ruler import Ruler, work_dtype
from minquant.numerics.scales import Scales, scale_values
from minquant.numerics.tensor import QuantizedTensor

PART = 2**20  # weights of W_hat that are made at a time: 4 MB in fp32


def scale_parts(kind: type) -> list[str]:
    """The names of the tensors that a format of scales consists of.

    >>> from minquant.numerics.double_quant import DoubleQuantized
    >>> scale_parts(DoubleQuantized)
    ['codes', 'absmax', 'mean']
    """
    return [field.name for field in fields(kind)]


@dataclass(frozen=True, eq=False)
class LookupMatrix:
    """Codes and zeros as dense streams of bits; the rest is as in `QuantizedTensor`."""

    codes: UInt8[Tensor, " packed_bytes"]
    scales: Scales
    zeros: UInt8[Tensor, " packed_zeros"] | Float[Tensor, "rows n_groups"] | None
    grid: Grid
    granularity: Granularity
    shape: tuple[int, int]
    input_scales: Float[Tensor, " in"] | None = None

    @classmethod
    def pack(cls, quantized: QuantizedTensor) -> "LookupMatrix":
        """The result of any method, packed. Nothing is rounded.

        Raises ValueError for more than 8 bits: the table would be too long.

        >>> import minquant as mq
        >>> q = mq.quantize_rtn(torch.tensor([[-1.0, 0.0, 0.72, 0.2]]), mq.NF4)
        >>> LookupMatrix.pack(q).codes  # 0 7 14 9
        tensor([112, 158], dtype=torch.uint8)
        """
        q, grid = quantized, quantized.grid
        if grid.bits > 8:
            raise ValueError(
                f"grid {grid.name} has {grid.bits} bits; pack 1 to 8, and keep more as "
                "16-bit floats"
            )
        codes = pack(q.codes.int() - grid.low, grid.bits)
        zeros = q.zeros
        if zeros is not None and not zeros.is_floating_point():
            zeros = pack(zeros.int() - grid.low, grid.bits)
        shape = tuple(q.codes.shape)
        return cls(codes, q.scales, zeros, grid, q.granularity, shape, q.input_scales)

    def quantized(self, dtype: torch.dtype = torch.float32) -> QuantizedTensor:
        """What `pack` was given, with a number to each code again.

        dtype: of what its `dequantize` returns.

        >>> import minquant as mq
        >>> q = mq.quantize_rtn(torch.tensor([[-1.0, 0.0, 0.72, 0.2]]), mq.NF4)
        >>> LookupMatrix.pack(q).quantized().codes
        tensor([[ 0,  7, 14,  9]], dtype=torch.uint8)
        """
        zeros = self.zeros
        if zeros is not None and not zeros.is_floating_point():
            zeros = self._codes(zeros, tuple(self.scales.shape))
        return QuantizedTensor(
            self._codes(self.codes, self.shape),
            self.scales,
            zeros,
            self.grid,
            self.granularity,
            self.input_scales,
            dtype,
        )

    def _codes(self, stream: Tensor, shape: tuple[int, int]) -> Tensor:
        codes = unpack(stream, self.grid.bits, shape).int() + self.grid.low
        return codes.to(code_dtype(self.grid))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is stored, by name. A layer registers these as buffers.

        >>> import minquant as mq
        >>> q = mq.quantize_rtn(torch.ones(2, 8), mq.NF4)
        >>> list(LookupMatrix.pack(q).tensors())
        ['codes', 'scales']
        """
        tensors: dict[str, Tensor] = {}
        for name in ("codes", "scales", "zeros", "input_scales"):
            stored = getattr(self, name)
            if isinstance(stored, Tensor):
                tensors[name] = stored
            elif stored is not None:  # scales in a format such as DoubleQuantized
                for part in scale_parts(type(stored)):
                    tensors[f"{name}_{part}"] = getattr(stored, part)
        return tensors

    def with_tensors(self, tensors: dict[str, Tensor]) -> "LookupMatrix":
        """The same matrix around other tensors, named as `tensors` names them."""
        changed = dict(tensors)
        if not isinstance(self.scales, Tensor):
            kind = type(self.scales)
            parts = {part: changed.pop(f"scales_{part}") for part in scale_parts(kind)}
            changed["scales"] = kind(**parts)
        return replace(self, **changed)

    def parts(self, dtype: torch.dtype = torch.float32) -> Parts:
        """W_hat in `dtype`, a few rows at a time: which rows, and their values.

        It is computed in float32, or in float64 if `dtype` is float64.
        """
        scales = scale_values(self.scales).to(work_dtype(dtype))
        for rows in row_slices(self.shape, PART):
            yield rows, self._rows(rows, scales).to(dtype)

    def _rows(
        self, rows: slice, scales: Float[Tensor, "_ n_groups"]
    ) -> Float[Tensor, "rows in"]:
        count, width = rows.stop - rows.start, self.shape[1]
        levels = self._read(self.codes, rows.start, count, width, scales.dtype)
        if self.granularity.kind == "tensor":  # all rows share one scale
            levels, own = levels[:, None], slice(None)
        else:
            levels, own = levels.view(count, scales.shape[1], -1), rows
        zeros = self._zeros(own, scales)
        ruler = Ruler.of_groups(scales[own], zeros, self.grid, scales.dtype)
        W_hat = ruler.stretch(levels).view(count, width)
        if self.input_scales is not None:
            W_hat = W_hat / self.input_scales.to(W_hat)
        return W_hat

    def _zeros(
        self, rows: slice, scales: Float[Tensor, "_ n_groups"]
    ) -> Float[Tensor, "rows n_groups"] | None:
        if self.zeros is None or self.zeros.is_floating_point():
            return None if self.zeros is None else self.zeros[rows]
        first, last, _ = rows.indices(len(scales))
        return self._read(
            self.zeros, first, last - first, scales.shape[1], scales.dtype
        )

    def _read(
        self, stream: Tensor, start: int, count: int, width: int, work: torch.dtype
    ) -> Float[Tensor, "count width"]:
        """The values of some rows of a stream at scale 1 and zero 0, from the table."""
        bits, n = self.grid.bits, count * width
        first = start * width * bits // 8  # exact, as start is a multiple of 8
        packed = stream[first : first + packed_bytes(n, bits)]
        table = _table(self.grid, work, stream.device)
        if bits == 4 and work == torch.float32:
            pairs = table.index_select(0, packed.int())  # two values as one number
            return pairs.view(work)[:n].view(count, width)
        codes = packed if bits == 8 else unpack(packed, bits, (n,))
        return table.index_select(0, codes.int()).view(count, width)


@lru_cache(maxsize=64)
def _table(
    grid: Grid, dtype: torch.dtype, device: torch.device
) -> Shaped[Tensor, " entries"]:
    """The value of each code. At 4 bits in float32: the two values of each byte.

    Those two are stored as one 64-bit number, so that they are copied together:
    `index_select` takes 1 ns per entry from a vector, and 15 from a matrix of two
    columns.
    """
    codes = torch.arange(2**grid.bits, device=device)
    codes = codes.clamp(max=grid.high - grid.low) + grid.low
    values = value(codes, grid, dtype)
    if grid.bits == 4 and dtype == torch.float32:
        low, high = values.repeat(16), values.repeat_interleave(16)
        return torch.stack([low, high], 1).view(torch.int64).flatten()
    return values
