"""Codes in the words that a GPU reads: 32 bits, and no code crosses into the next word.

`numerics.bits` packs for the disk, as tightly as possible. A kernel wants something
else: each thread should load 16 bytes in one go, and need few instructions to take the
codes out. So a row of codes is cut into blocks of 16 words, laid out like this
(4 bits; `fields` = 16 // bits = 4 codes fill one half of a word):

    half t of 32    │ weight 96+t │ weight 64+t │ weight 32+t │ weight t │   16 bits
    word j of 16    │          half 2j + 1      │          half 2j       │   32 bits

The same field of all 32 halves, from half 0 to half 31, is a *slice*: 32 neighbouring
weights. The same field of both halves of one word holds two neighbours, so

    (word >> bits · i) & 0x000F000F   =   │ weight 32i + 2j + 1 │ weight 32i + 2j │

takes one shift and one AND for two weights. Each now stands alone in 16 bits, ready to
become a 16-bit number (`triton_kernels` shows how).

    bits                       8      4      3      2
    fields in a half           2      4      5      8
    weights in a block        64    128    160    256
    bits per weight          8.0    4.0    3.2    2.0    a half has 16 bits, 5 · 3 = 15

The last block of a row is filled up with zero bits. Zeros are packed too, at `bits` (3
bits take 4), and each row of them starts a new byte. Symmetric grids store no zeros:
their codes are shifted by 2^(bits − 1), which is then the zero of every group.

Notebook 10 packs a word by hand.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from minquant.kernels.frozen_product import Parts, row_slices
from minquant.numerics.grids import IntegerGrid, zero_point
from minquant.numerics.groups import group_shape, per_group, split
from minquant.numerics.ruler import Ruler, work_dtype
from minquant.numerics.scales import scale_values
from minquant.numerics.tensor import QuantizedTensor

WORDS = 16  # in a block
HALVES = 32  # in a block; a slice has one field of each, so it has 32 weights
ZERO_BITS = {2: 2, 3: 4, 4: 4, 8: 8}  # bits of a code: bits that a zero takes
PART = 2**22  # weights of W_hat that `parts` makes at a time: 16 MB in fp32


def fields(bits: int) -> int:
    """Codes in one half of a word. Raises ValueError unless bits is 2, 3, 4 or 8.

    >>> [fields(bits) for bits in (8, 4, 3, 2)]
    [2, 4, 5, 8]
    """
    if bits not in ZERO_BITS:
        raise ValueError(f"bits is {bits}; the words hold codes of 2, 3, 4 or 8 bits")
    return 16 // bits


def blocks_per_row(width: int, bits: int) -> int:
    """Blocks that a row of `width` codes takes; the last may be partly filled.

    Raises ValueError as `fields` does.

    >>> blocks_per_row(256, 4), blocks_per_row(257, 4)
    (2, 3)
    """
    return -(-width // (HALVES * fields(bits)))


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A quantized matrix (out, in) as the kernels read it. `pack_matrix` makes one.

    words: a whole number of blocks per row. scales: fp16 or fp32. zeros: packed bytes,
    or None if every zero is 2^(bits − 1). group_size: how many weights of a row share
    a scale; it divides `in`.

    Raises ValueError if a field does not fit the shape.
    """

    words: Integer[Tensor, "out n_words"]
    scales: Float[Tensor, "out n_groups"]
    zeros: UInt8[Tensor, "out zero_bytes"] | None
    bits: int
    group_size: int
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        out, width = self.shape
        n_words = WORDS * blocks_per_row(width, self.bits)
        n_groups = group_shape(self.shape, per_group(self.group_size))[1]
        zero_bytes = -(-n_groups * ZERO_BITS[self.bits] // 8)
        needed = {"words": n_words, "scales": n_groups, "zeros": zero_bytes}
        for name, columns in needed.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != (out, columns):
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}; {self.shape} at "
                    f"{self.bits} bits in groups of {self.group_size} needs "
                    f"{(out, columns)}: make it with pack_matrix"
                )
        if self.scales.dtype not in (torch.float16, torch.float32):
            raise ValueError(
                f"scales are {self.scales.dtype}; give float16 or float32, as stored"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of words, scales and zeros: what a product has to read."""
        zeros = 0 if self.zeros is None else self.zeros.nbytes
        return self.words.nbytes + self.scales.nbytes + zeros

    @property
    def bits_per_weight(self) -> float:
        """8 · nbytes / weights, with the padding of the last block.

        >>> import minquant as mq
        >>> W = torch.ones(16, 1280)
        >>> def counted_and_packed(bits):
        ...     q = mq.quantize_rtn(W, mq.zero_point(bits), mq.per_group(128))
        ...     return q.bits_per_weight, pack_matrix(q).bits_per_weight
        >>> counted_and_packed(4)
        (4.15625, 4.15625)
        >>> counted_and_packed(3)
        (3.1484375, 3.35625)
        """
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def parts(self, dtype: torch.dtype = torch.float32) -> Parts:
        """W_hat in `dtype`, a few rows at a time: which rows, and their values."""
        for rows in row_slices(self.shape, PART):
            yield rows, dequantize(self, dtype, rows)

    def to(self, device: torch.device | str) -> "PackedMatrix":
        """The same matrix on another device."""
        zeros = None if self.zeros is None else self.zeros.to(device)
        return replace(
            self,
            words=self.words.to(device),
            scales=self.scales.to(device),
            zeros=zeros,
        )


def pack_matrix(quantized: QuantizedTensor) -> PackedMatrix:
    """A quantized matrix in words. `unpack_matrix` and `dequantize` read them.

    quantized: of a uniform grid of 2, 3, 4 or 8 bits, per tensor, channel or group.
    Scales of fp16 and fp32 stay as they are; others become fp32.

    Raises ValueError for a codebook, other bits, input_scales, zeros that are floats
    (HQQ's), or codes off the grid.

    >>> import minquant as mq
    >>> codes = torch.arange(128)[None] % 15 - 7
    >>> q = QuantizedTensor(
    ...     codes, torch.ones(1, 1), None, mq.absmax(4), mq.PER_CHANNEL
    ... )
    >>> (codes[0, [0, 32, 64, 96, 1, 33, 65, 97]] + 8).tolist()
    [1, 3, 5, 7, 2, 4, 6, 8]
    >>> hex(int(pack_matrix(q).words[0, 0]) & 0xFFFFFFFF)
    '0x86427531'
    """
    grid, shape = quantized.grid, tuple(quantized.codes.shape)
    if not isinstance(grid, IntegerGrid):
        raise ValueError(
            f"grid {grid.name} is a codebook, and the kernels need equal steps; "
            "multiply by quantized.dequantize() instead"
        )
    if quantized.input_scales is not None:
        raise ValueError(
            "input_scales are given, and words have no place for them; divide X by "
            "them, and pack dataclasses.replace(quantized, input_scales=None)"
        )
    if quantized.zeros is not None and quantized.zeros.is_floating_point():
        raise ValueError(
            "zeros are floats, and words hold whole numbers; take layout='stream'"
        )
    fields(grid.bits)  # raises ValueError for other bits
    offset = 0 if grid.has_zeros else 2 ** (grid.bits - 1)
    codes = quantized.codes.short() + offset
    if codes.numel() and (codes.min() < 0 or codes.max() >= 2**grid.bits):
        raise ValueError(
            f"codes run from {codes.min() - offset} to {codes.max() - offset}; grid "
            f"{grid.name} of {grid.bits} bits has {grid.low} to {grid.high}"
        )
    rows, _, g = group_shape(shape, quantized.granularity)
    scales = quantized.scales
    if not (isinstance(scales, Tensor) and scales.dtype == torch.float16):
        scales = scale_values(scales).float()
    zeros = quantized.zeros
    if rows != shape[0]:  # one scale for the whole tensor: each row gets a copy
        g = shape[1]
        scales = scales.expand(shape[0], 1)
        zeros = None if zeros is None else zeros.expand(shape[0], 1)
    if zeros is not None:
        zeros = _pack_zeros(zeros, ZERO_BITS[grid.bits])
    words = _pack_codes(codes, grid.bits)
    return PackedMatrix(words, scales.contiguous(), zeros, grid.bits, g, shape)


def unpack_matrix(
    packed: PackedMatrix, rows: slice | None = None
) -> UInt8[Tensor, "rows in"]:
    """The codes of these rows, or of all: 0 … 2^bits − 1.

    Codes of a symmetric grid come shifted by 2^(bits − 1), as they are stored.
    """
    bits = packed.bits
    words = packed.words[rows or slice(None)]
    halves = words.contiguous().view(torch.int16)  # (rows, n_blocks · 32)
    halves = halves.view(len(words), words.shape[1] // WORDS, HALVES)
    slices = [(halves >> bits * i) & (2**bits - 1) for i in range(fields(bits))]
    codes = torch.stack(slices, 2).to(torch.uint8)  # (rows, n_blocks, fields, 32)
    return codes.flatten(1)[:, : packed.shape[1]]


def dequantize(
    packed: PackedMatrix,
    dtype: torch.dtype = torch.float32,
    rows: slice | None = None,
) -> Float[Tensor, "rows in"]:
    """W_hat, or these rows of it: (codes − zeros) · scales.

    It is computed in float32, or in float64 if `dtype` is float64, and equals
    `QuantizedTensor.dequantize` bit for bit.
    """
    rows = rows or slice(None)
    codes, scales = unpack_matrix(packed, rows), packed.scales[rows]
    zeros = torch.full_like(scales, 2 ** (packed.bits - 1), dtype=torch.uint8)
    if packed.zeros is not None:
        zeros = _unpack_zeros(
            packed.zeros[rows], ZERO_BITS[packed.bits], scales.shape[1]
        )
    grid = zero_point(packed.bits)  # codes are 0 … 2^bits − 1 here, whatever they were
    ruler = Ruler.of_groups(scales, zeros, grid, work_dtype(dtype))
    W_hat = ruler.values(split(codes, per_group(packed.group_size)))
    return W_hat.reshape(codes.shape).to(dtype)


def _pack_codes(
    codes: Integer[Tensor, "out in"], bits: int
) -> Integer[Tensor, "out n_words"]:
    out, width = codes.shape
    n_blocks = blocks_per_row(width, bits)
    missing = n_blocks * fields(bits) * HALVES - width
    padded = torch.nn.functional.pad(codes, (0, missing))
    slices = padded.reshape(out, n_blocks, fields(bits), HALVES)
    halves = codes.new_zeros(out, n_blocks, HALVES)
    for i in range(fields(bits)):
        halves |= slices[:, :, i] << bits * i
    return halves.flatten(1).view(torch.int32)  # little endian: half 0 is the low one


def _pack_zeros(
    zeros: Integer[Tensor, "out n_groups"], width: int
) -> UInt8[Tensor, "out zero_bytes"]:
    per_byte = 8 // width
    padded = torch.nn.functional.pad(zeros.int(), (0, -zeros.shape[1] % per_byte))
    shifts = torch.arange(0, 8, width, device=zeros.device)
    in_bytes = padded.unflatten(1, (padded.shape[1] // per_byte, per_byte))
    return (in_bytes << shifts).sum(2).to(torch.uint8)  # (out, zero_bytes)


def _unpack_zeros(
    zeros: UInt8[Tensor, "rows zero_bytes"], width: int, n_groups: int
) -> UInt8[Tensor, "rows n_groups"]:
    shifts = torch.arange(0, 8, width, device=zeros.device)
    unpacked = (zeros.int()[:, :, None] >> shifts) & (2**width - 1)
    return unpacked.flatten(1)[:, :n_groups].to(torch.uint8)
