"""A quantized matrix as it lies in memory: packed codes, and a table to read them by.

A `QuantizedTensor` keeps its codes one by one, to be looked at. To be kept for long, a
matrix takes the storage format of `bits`, and its values come from a table:

    code     →  levels[code]                              any grid: NF4, FP4, integers
    W_hat    =  (levels[code] − zero) · scale / input_scale

At 4 bits the table is asked for whole bytes: it has 256 entries of two values, and one
lookup reads two weights, without unpacking.

    byte  c₁c₀  →  levels[c₀], levels[c₁]

`parts` gives W_hat some rows at a time, each a few megabytes, so that a product with a
large matrix never holds all of it in floats. Rows come in eights: eight codes of b bits
are exactly b bytes, so a part begins where a byte does, whatever the width.

Scales, zeros and input_scales are stored as the method made them, double-quantized ones
too. Values are bit for bit those of `QuantizedTensor.dequantize`: the same
operations in the same order. What is left out: any kernel. `matmul` has those, for
integer grids with plain scales. Lessons 08 and 10.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from minquant.numerics.bits import pack, packed_bytes, unpack
from minquant.numerics.grids import Grid, value
from minquant.numerics.groups import Granularity, group_shape
from minquant.numerics.scales import Scales, scale_values
from minquant.numerics.tensor import QuantizedTensor

_PART = 2**20  # weights that are floats at one time


def row_slices(out: int, width: int) -> Iterator[slice]:
    """The rows of a large matrix in parts: each a multiple of 8, a million weights.

    >>> list(row_slices(8192, 4096))[-1], list(row_slices(100, 128))
    (slice(7936, 8192, None), [slice(0, 100, None)])
    """
    step = max(8, _PART // width // 8 * 8)
    for start in range(0, out, step):
        yield slice(start, min(start + step, out))


def scale_parts(kind: type) -> list[str]:
    """The tensors that a format of scales consists of, by name.

    >>> from minquant.numerics.double_quant import DoubleQuantized
    >>> scale_parts(DoubleQuantized)
    ['codes', 'absmax', 'mean']
    """
    return [field.name for field in fields(kind)]


@dataclass(frozen=True, eq=False)
class LookupMatrix:
    """Codes and zeros as dense streams of bits, all else as in `QuantizedTensor`."""

    codes: UInt8[Tensor, " packed_bytes"]
    scales: Scales
    zeros: UInt8[Tensor, " packed_zeros"] | None
    grid: Grid
    granularity: Granularity
    shape: tuple[int, int]
    input_scales: Float[Tensor, " in"] | None = None

    @classmethod
    def of(cls, quantized: QuantizedTensor) -> "LookupMatrix":
        """What any method returned, packed. Nothing is rounded; `unpacked` goes back.

        Raises ValueError for more than 8 bits, which no table is good for.

        >>> import minquant as mq
        >>> q = mq.quantize_rtn(torch.tensor([[-1.0, 0.0, 0.72, 0.2]]), mq.NF4)
        >>> LookupMatrix.of(q).codes  # 0 7 14 9
        tensor([112, 158], dtype=torch.uint8)
        """
        q, grid = quantized, quantized.grid
        if grid.bits > 8:
            raise ValueError(
                f"grid {grid.name} has {grid.bits} bits; pack 1 to 8, and keep more as "
                "floats of 16"
            )
        codes = pack(q.codes.int() - grid.low, grid.bits)
        zeros = None if q.zeros is None else pack(q.zeros.int() - grid.low, grid.bits)
        shape = tuple(q.codes.shape)
        return cls(codes, q.scales, zeros, grid, q.granularity, shape, q.input_scales)

    def unpacked(self) -> QuantizedTensor:
        """The same as a `QuantizedTensor`: `of` is undone exactly."""
        bits, low = self.grid.bits, self.grid.low
        codes = unpack(self.codes, bits, self.shape).int() + low
        zeros, rulers = self.zeros, group_shape(self.shape, self.granularity)[:2]
        if zeros is not None:
            zeros = unpack(zeros, bits, rulers).int() + low
        made = codes, self.scales, zeros, self.grid, self.granularity
        return QuantizedTensor(*made, self.input_scales)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors: what is in memory is what `QuantizedTensor` counts."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is stored, by name: what a layer registers as buffers.

        >>> import minquant as mq
        >>> list(LookupMatrix.of(mq.quantize_rtn(torch.ones(2, 8), mq.NF4)).tensors())
        ['codes', 'scales']
        """
        found: dict[str, Tensor] = {}
        for name in ("codes", "scales", "zeros", "input_scales"):
            held = getattr(self, name)
            if isinstance(held, Tensor):
                found[name] = held
            elif held is not None:  # scales in a format of their own
                for part in scale_parts(type(held)):
                    found[f"{name}_{part}"] = getattr(held, part)
        return found

    def with_tensors(self, tensors: dict[str, Tensor]) -> "LookupMatrix":
        """The same matrix around other tensors, named as `tensors` names them."""
        given = dict(tensors)
        if not isinstance(self.scales, Tensor):
            kind = type(self.scales)
            parts = {part: given.pop(f"scales_{part}") for part in scale_parts(kind)}
            given["scales"] = kind(**parts)
        return replace(self, **given)

    def parts(
        self, dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[slice, Float[Tensor, "rows in"]]]:
        """W_hat, some rows at a time: which rows, and their values in `dtype`.

        Computed in float32 (float64 for float64), as `QuantizedTensor.dequantize`.
        """
        work = torch.float64 if dtype == torch.float64 else torch.float32
        scales = scale_values(self.scales).to(work)
        for rows in row_slices(*self.shape):
            yield rows, self._rows(rows, scales, work).to(dtype)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """All of W_hat at once."""
        return torch.cat([rows for _, rows in self.parts(dtype)])

    def _rows(
        self, rows: slice, scales: Float[Tensor, "_ n_groups"], work: torch.dtype
    ) -> Float[Tensor, "rows in"]:
        count, width = rows.stop - rows.start, self.shape[1]
        values = self._read(self.codes, rows.start, count, width, work)
        if self.granularity.kind == "tensor":  # one ruler, which all rows share
            values, own = values[:, None], slice(None)
        else:
            n_groups, own = scales.shape[1], rows
            values = values.view(count, n_groups, -1)  # (rows, n_groups, g)
        if self.zeros is not None:
            values -= self._zeros(own, scales.shape, work)[:, :, None]
        W_hat = values.mul_(scales[own, :, None]).view(count, width)
        if self.input_scales is not None:
            W_hat /= self.input_scales.to(work)
        return W_hat

    def _zeros(
        self, rows: slice, shape: tuple[int, int], work: torch.dtype
    ) -> Float[Tensor, "rows n_groups"]:
        first, last, _ = rows.indices(shape[0])
        return self._read(self.zeros, first, last - first, shape[1], work)

    def _read(
        self, stream: Tensor, start: int, count: int, width: int, work: torch.dtype
    ) -> Float[Tensor, "count width"]:
        """What the codes of some rows of a stream are worth at scale 1, zero 0."""
        bits, n = self.grid.bits, count * width
        first = start * width * bits // 8  # exact: start is a multiple of 8
        some = stream[first : first + packed_bytes(n, bits)]
        table = _table(self.grid, work, stream.device)
        if bits == 4 and work == torch.float32:
            pairs = table.index_select(0, some.int())  # a byte's two values as one
            return pairs.view(work)[:n].view(count, width)
        codes = some if bits == 8 else unpack(some, bits, (n,))
        return table.index_select(0, codes.int()).view(count, width)


@lru_cache(maxsize=64)
def _table(
    grid: Grid, dtype: torch.dtype, device: torch.device
) -> Shaped[Tensor, " entries"]:
    """What each code is worth; for 4 bits in float32, what each byte is worth, its two
    values seen as one number of 64 bits.

    So they are copied in one go: `index_select` on a vector takes 1 ns per entry here,
    on a matrix of two columns 15.
    """
    codes = torch.arange(2**grid.bits).clamp(max=grid.high - grid.low) + grid.low
    values = value(codes, grid, dtype).to(device)
    if grid.bits == 4 and dtype == torch.float32:
        low, high = values.repeat(16), values.repeat_interleave(16)
        return torch.stack([low, high], 1).view(torch.int64).flatten()
    return values
