"""A quantized matrix, as every method returns it.

    W_hat = (value(codes) − zeros) · scales / input_scales

    codes          (out, in)          integers, one per weight
    scales         (rows, n_groups)   one per group; rows are out, or 1 per tensor
    zeros          (rows, n_groups)   integers; None on symmetric grids and codebooks;
                                      HQQ's alone are floats
    input_scales   (in,)              only with AWQ and SmoothQuant: what the columns
                                      of W were multiplied by before rounding

`nbytes` is its size on disk: codes and zeros packed at the grid's bits (`bits` does the
packing; in memory each code has a number to itself, so that one can look at it), and
scales and input_scales as they are. So 4 bits in groups of 128 are not 4 bits per
weight but 4 + (16 + 4) / 128 = 4.16.

Scales are a plain tensor (fp16 unless chosen otherwise), or in a shorter format: see
`scales`. `.to` moves everything and casts nothing: a scale that is cast is another
scale, and codes belong to the scale that they were computed against.

Lesson 02 introduces it, lesson 03 counts its bits.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.numerics.bits import packed_bytes
from minquant.numerics.grids import Grid
from minquant.numerics.groups import Granularity, group_shape, split
from minquant.numerics.ruler import Ruler, Zeros, narrowed, work_dtype
from minquant.numerics.scales import Scales, scale_name


def check_rulers(
    shape: tuple[int, int],
    scales: Scales,
    zeros: Zeros,
    grid: Grid,
    granularity: Granularity,
) -> None:
    """Raises ValueError unless there is one scale for each group of an (out, in)
    matrix, and one zero where the grid has zeros, and none where it has none.
    """
    groups = group_shape(shape, granularity)[:2]
    for name, part in (("scales", scales), ("zeros", zeros)):
        if part is not None and tuple(part.shape) != groups:
            raise ValueError(
                f"{name} has shape {tuple(part.shape)}; a matrix {shape} "
                f"{granularity} needs {groups}"
            )
    if grid.has_zeros and zeros is None:
        raise ValueError(f"zeros is None, but grid {grid.name} has zeros; give them")
    if zeros is not None and not grid.has_zeros:
        raise ValueError(f"zeros are given, but grid {grid.name} has none; give None")


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A quantized matrix: what is stored, as the module lists it, and how to read it.

    dtype: what `dequantize` returns by default; nothing is stored in it.

    Raises ValueError if a field does not fit the shape of the codes, or the grid.
    """

    codes: Integer[Tensor, "out in"]
    scales: Scales
    zeros: Zeros
    grid: Grid
    granularity: Granularity
    input_scales: Float[Tensor, " in"] | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        shape = tuple(self.codes.shape)
        check_rulers(shape, self.scales, self.zeros, self.grid, self.granularity)
        s = self.input_scales
        if s is not None and tuple(s.shape) != shape[1:]:
            raise ValueError(
                f"input_scales has shape {tuple(s.shape)}; give one number for each "
                f"of {shape[1]} columns"
            )

    def dequantize(self, dtype: torch.dtype | None = None) -> Float[Tensor, "out in"]:
        """W_hat in the coordinates of W, with input_scales divided out again.

        Computed in float32 (float64 for float64). Raises ValueError if a value
        overflows `dtype`.
        """
        dtype = dtype or self.dtype
        work = work_dtype(dtype)
        ruler = Ruler.of_groups(self.scales, self.zeros, self.grid, work)
        W_hat = ruler.values(split(self.codes, self.granularity))
        W_hat = W_hat.reshape(self.codes.shape)  # (out, in)
        if self.input_scales is not None:
            W_hat = W_hat / self.input_scales.to(work)
        return narrowed(W_hat, dtype, "W_hat")

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored; codes and zeros are packed at the grid's bits.

        The last byte of codes, or of zeros, may be partly empty; it counts in full.
        """
        return sum(size for _, size, _ in self._parts())

    @property
    def bits_per_weight(self) -> float:
        """8 · nbytes / weights: counts scales, zeros, input_scales and padding too.

        4-bit codes with an fp16 scale and a 4-bit zero per 128 weights:

        >>> import minquant as mq
        >>> W = torch.ones(16, 256)
        >>> mq.quantize_rtn(W, mq.zero_point(4), mq.per_group(128)).bits_per_weight
        4.15625
        """
        return 8 * self.nbytes / self.codes.numel()

    def _parts(self) -> list[tuple[str, int, str]]:
        """What is stored: the name of each part, its bytes, and a note."""
        bits, low, high = self.grid.bits, self.grid.low, self.grid.high
        note = f"{low} … {high}, packed at {bits} bits".replace("-", "−")
        parts = [("codes", packed_bytes(self.codes.numel(), bits), note)]
        note = f"{tuple(self.scales.shape)} {scale_name(self.scales)}"
        parts.append(("scales", self.scales.nbytes, note))
        if (zeros := self.zeros) is not None:
            size, note = packed_bytes(zeros.numel(), bits), "packed likewise"
            if zeros.is_floating_point():
                size, note = zeros.nbytes, scale_name(zeros)
            parts.append(("zeros", size, f"{tuple(zeros.shape)} {note}"))
        if (s := self.input_scales) is not None:
            note = f"{tuple(s.shape)} {scale_name(s)}"
            parts.append(("input_scales", s.nbytes, note))
        return parts

    def to(self, *where: torch.device | str | torch.dtype) -> "QuantizedTensor":
        """On a device, in a dtype, or both, in any order. Scales are never cast: a
        dtype changes what `dequantize` returns and nothing that is stored.

        >>> import minquant as mq
        >>> q = mq.quantize_rtn(torch.ones(2, 8), mq.absmax(4)).to(torch.bfloat16)
        >>> q.scales.dtype, q.dequantize().dtype
        (torch.float16, torch.bfloat16)
        """
        moved = self
        for target in where:
            if isinstance(target, torch.dtype):
                moved = replace(moved, dtype=target)
                continue
            names = [name for name, *_ in moved._parts()]
            parts = {name: getattr(moved, name).to(device=target) for name in names}
            moved = replace(moved, **parts)
        return moved

    def __repr__(self) -> str:
        size, n = " × ".join(map(str, self.codes.shape)), self.codes.numel()
        lines = [f"QuantizedTensor {size}: {self.grid.name}, {self.granularity}"]
        for name, count, note in self._parts():
            lines.append(f"  {name:<12} {count:>12,} bytes   {note}")
        lines.append(
            f"  {'together':<12} {self.nbytes:>12,} bytes   {self.bits_per_weight:.2f} "
            f"bits per weight, {2 * n / self.nbytes:.2f} times smaller than fp16"
        )
        return "\n".join(lines)
