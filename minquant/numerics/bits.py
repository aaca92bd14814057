"""The storage format: codes of a few bits, packed without a gap.

A byte has 8 bits; three codes of 3 bits do not fill it and a fourth would not fit. So
codes run over the edges of bytes, as one stream of bits, the lowest bit first:

    codes    a        b        c        d        e        f        g        h
    bits     a0 a1 a2 b0 b1 b2 c0 c1 c2 d0 d1 d2 e0 e1 e2 f0 f1 f2 g0 g1 g2 h0 h1 h2
             └────── byte 0 ───────┘ └────── byte 1 ───────┘ └────── byte 2 ───────┘
    byte 0 written as a number, the highest bit first:  c1 c0 b2 b1 b0 a2 a1 a0

Eight codes of b bits are exactly b bytes, for every b: that is the whole trick. `pack`
puts eight codes into one 64-bit word, each b bits above the one before, and reads the
word as bytes. 3 bits take 3.0 bits, not the 3.2 of ten codes to a 32-bit word.

    order       row-major, whatever the shape
    padding     the last byte is filled up with zero bits: at most 7, once per tensor
    9-16 bits   all low bytes first, then the high bits as a second stream

What is left out: a layout that a GPU reads in long strides; the `kernels` room has one.
Codes are unsigned here: for a grid with negative codes, pack `codes - grid.low`.
Lesson 10 derives it.
"""

from math import prod

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor


def packed_bytes(n: int, bits: int) -> int:
    """Bytes of n packed codes: n · bits / 8, rounded up.

    >>> packed_bytes(8, 3), packed_bytes(9, 3)
    (3, 4)
    """
    return -(-n * bits // 8)


def pack(codes: Integer[Tensor, "*shape"], bits: int) -> UInt8[Tensor, " packed_bytes"]:
    """Codes 0 … 2^bits − 1 as a dense stream of bits; `unpack` is the exact inverse.

    codes: any shape and integer dtype. bits: 1 to 16.
    Raises ValueError if a code does not fit into its bits.

    >>> pack(torch.tensor([1, 2, 3]), 4)  # the lower half of a byte comes first
    tensor([33,  3], dtype=torch.uint8)
    """
    _check(bits)
    flat = codes.reshape(-1).long()
    if flat.numel() and (flat.min() < 0 or flat.max() >= 2**bits):
        raise ValueError(
            f"codes run from {flat.min()} to {flat.max()}, but {bits} bits hold 0 to "
            f"{2**bits - 1}; for signed codes pack codes - grid.low"
        )
    if bits > 8:
        return torch.cat([pack(flat & 255, 8), pack(flat >> 8, bits - 8)])
    eights = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    words = (eights << _shifts(bits, 8, flat)).sum(1, keepdim=True)  # (n / 8, 1)
    stream = (words >> _shifts(8, bits, flat)) & 255  # (n / 8, bits): b bytes a word
    return stream.to(torch.uint8).flatten()[: packed_bytes(len(flat), bits)]


def unpack(
    packed: UInt8[Tensor, " packed_bytes"], bits: int, shape: tuple[int, ...]
) -> Integer[Tensor, "*shape"]:
    """The codes that `pack` was given, in their shape; uint8, above 8 bits int32.

    Raises ValueError if `packed` is not as long as codes of that shape need.

    >>> unpack(pack(torch.tensor([[5, 0], [7, 2]]), 3), 3, (2, 2))
    tensor([[5, 0],
            [7, 2]], dtype=torch.uint8)
    """
    _check(bits)
    n = prod(shape)
    if len(packed) != packed_bytes(n, bits):
        raise ValueError(
            f"packed has {len(packed)} bytes; {n} codes of {bits} bits take "
            f"{packed_bytes(n, bits)}: check bits and shape"
        )
    if bits > 8:
        low = unpack(packed[:n], 8, shape).int()
        return low | unpack(packed[n:], bits - 8, shape).int() << 8
    padded = torch.nn.functional.pad(packed.long(), (0, -len(packed) % bits))
    stream = padded.view(-1, bits)  # (n / 8, bits): b bytes a word
    words = (stream << _shifts(8, bits, padded)).sum(1, keepdim=True)  # (n / 8, 1)
    codes = (words >> _shifts(bits, 8, padded)) & (2**bits - 1)  # (n / 8, 8)
    return codes.to(torch.uint8).flatten()[:n].view(shape)


def _shifts(width: int, count: int, like: Tensor) -> Integer[Tensor, " count"]:
    """The first bit of each of `count` fields of `width` bits: 0, width, 2 width, …"""
    return torch.arange(0, width * count, width, device=like.device)


def _check(bits: int) -> None:
    if not isinstance(bits, int) or not 1 <= bits <= 16:
        raise ValueError(f"bits is {bits}; choose a width from 1 to 16")
