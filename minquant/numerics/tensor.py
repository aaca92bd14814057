"""The one currency: a quantized matrix, as every method returns it.

    W_hat = (value(codes) − zeros) · scales / input_scales

    codes          (out, in)          integers, one per weight
    scales         (rows, n_groups)   one per group; rows are out, or 1 per tensor
    zeros          (rows, n_groups)   integers; None on symmetric grids and codebooks
    input_scales   (in,)              only AWQ's and SmoothQuant's: what the columns
                                      of W were multiplied by before rounding

A QuantizedTensor weighs what it would on disk: `nbytes` counts codes and zeros packed
at the grid's bits (`bits` does the packing; in memory they lie one by one, to be looked
at), and scales and input_scales as they are. So 4 bits in groups of 128 are not 4 bits
per weight but 4 + (16 + 4) / 128 = 4.16.

Scales are a plain tensor (fp16 unless chosen otherwise), or stored shorter still: see
`scales`. `.to` moves everything and casts nothing: a scale that is cast is another
scale, and codes belong to the scale they were computed against.

Notebook 02 introduces it, notebook 03 counts its bits.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.numerics.bits import packed_bytes
from minquant.numerics.grids import Grid
from minquant.numerics.groups import Granularity, group_shape, join, split
from minquant.numerics.ruler import Ruler, work_dtype
from minquant.numerics.scales import Scales, scale_name


def check_rulers(
    shape: tuple[int, int],
    scales: Scales,
    zeros: Integer[Tensor, "rows n_groups"] | None,
    grid: Grid,
    granularity: Granularity,
) -> None:
    """Raises ValueError unless there is one scale for each group of an (out, in)
    matrix, and one zero where the grid has zeros, and none where it has none.
    """
    groups = group_shape(shape, granularity)[:2]
    for name, given in (("scales", scales), ("zeros", zeros)):
        if given is not None and tuple(given.shape) != groups:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}; a matrix {shape} "
                f"{granularity} needs {groups}"
            )
    if grid.has_zeros and zeros is None:
        raise ValueError(f"zeros is None, but grid {grid.name} has zeros; give them")
    if zeros is not None and not grid.has_zeros:
        raise ValueError(f"zeros are given, but grid {grid.name} has none; give None")


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A quantized matrix: what is stored, and how to read it. The module draws it.

    dtype: what `dequantize` gives unless told otherwise; nothing is stored in it.

    Raises ValueError if a field does not fit the codes' shape or the grid.
    """

    codes: Integer[Tensor, "out in"]
    scales: Scales
    zeros: Integer[Tensor, "rows n_groups"] | None
    grid: Grid
    granularity: Granularity
    input_scales: Float[Tensor, " in"] | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        shape = tuple(self.codes.shape)
        check_rulers(shape, self.scales, self.zeros, self.grid, self.granularity)
        given = self.input_scales
        if given is not None and tuple(given.shape) != shape[1:]:
            raise ValueError(
                f"input_scales has shape {tuple(given.shape)}; give one number for "
                f"each of {shape[1]} columns"
            )

    def dequantize(self, dtype: torch.dtype | None = None) -> Float[Tensor, "out in"]:
        """W_hat, in W's own coordinates: computed in float32 (float64 for float64).

        Raises ValueError if a value overflows `dtype`.
        """
        dtype = dtype or self.dtype
        work = work_dtype(dtype)
        ruler = Ruler.of_groups(self.scales, self.zeros, self.grid, work)
        W_hat = ruler.values(split(self.codes, self.granularity))
        W_hat = join(W_hat, tuple(self.codes.shape))  # (out, in)
        if self.input_scales is not None:
            W_hat = W_hat / self.input_scales.to(work)
        out = W_hat.to(dtype)
        if torch.finfo(dtype).max < 1e30 and not out.isfinite().all():
            raise ValueError(
                f"dtype {dtype} ends at {torch.finfo(dtype).max:g}, but W_hat reaches "
                f"{W_hat.abs().max():g}; dequantize to torch.float32"
            )
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of all that must be stored; codes and zeros packed at the grid's bits.

        The last byte of codes, or of zeros, may be partly empty; it counts in full.
        """
        return sum(size for _, size, _ in self._parts())

    @property
    def bits_per_weight(self) -> float:
        """8 · nbytes / weights: scales, zeros, input_scales and padding counted.

        4-bit codes with an fp16 scale and a 4-bit zero per 128 weights:

        >>> import minquant as mq
        >>> mq.quantize_rtn(
        ...     torch.ones(16, 256), mq.zero_point(4), mq.per_group(128)
        ... ).bits_per_weight
        4.15625
        """
        return 8 * self.nbytes / self.codes.numel()

    def _parts(self) -> list[tuple[str, int, str]]:
        """What is stored: name, bytes, and a note."""
        bits, low, high = self.grid.bits, self.grid.low, self.grid.high
        parts = [
            (
                "codes",
                packed_bytes(self.codes.numel(), bits),
                f"{low} … {high}, packed at {bits} bits".replace("-", "−"),
            ),
            (
                "scales",
                self.scales.nbytes,
                f"{tuple(self.scales.shape)} {scale_name(self.scales)}",
            ),
        ]
        if self.zeros is not None:
            size = packed_bytes(self.zeros.numel(), bits)
            parts.append(("zeros", size, f"{tuple(self.zeros.shape)} packed likewise"))
        if (s := self.input_scales) is not None:
            parts.append(
                ("input_scales", s.nbytes, f"{tuple(s.shape)} {scale_name(s)}")
            )
        return parts

    def to(self, *where: torch.device | str | torch.dtype) -> "QuantizedTensor":
        """On a device, in a dtype, or both, in any order. Scales are never cast: a
        dtype changes what `dequantize` gives and nothing that is stored.

        >>> import minquant as mq
        >>> q = mq.quantize_rtn(torch.ones(2, 8), mq.absmax(4)).to(torch.bfloat16)
        >>> q.scales.dtype, q.dequantize().dtype
        (torch.float16, torch.bfloat16)
        """
        made = self
        for place in where:
            if isinstance(place, torch.dtype):
                made = replace(made, dtype=place)
                continue
            names = ("codes", "scales", "zeros", "input_scales")
            held = {name: getattr(made, name) for name in names}
            moved = {n: t.to(device=place) for n, t in held.items() if t is not None}
            made = replace(made, **moved)
        return made

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
