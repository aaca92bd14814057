"""Exercises of lesson 13: a block of Q4_0 read and written, and a fault named.

    read_block        18 bytes become 32 weights
    pack_block        32 codes and a scale become 18 bytes
    name_the_fault    which of the museum's faults made these weights of those

In no block are the two halves alike, and codes reach both ends, so that an exchange, a
sign, or an offset shows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from minquant.course.exercises import Exercise, normal
from minquant.files import gguf_blocks

CODES = torch.tensor(
    [*range(-8, 8), 3, -8, 7, 0, -1, 5, -5, 2, 6, -7, 1, -3, 4, -2, 7, 7]
)
OTHER = CODES.roll(7).flip(0)


def _bytes(codes: Tensor, d: float) -> Tensor:
    return gguf_blocks.codes_as_q4_0(codes[None], torch.tensor([[d]]))[0]


# --- read_block ---


def read_block(data: UInt8[Tensor, " 18"]) -> Float[Tensor, " 32"]:
    """The 32 weights of a block of Q4_0."""
    return gguf_blocks.dequantize_blocks(data[None], "Q4_0")[0]


def _read(
    data: Tensor,
    *,
    offset: int = 8,
    order: Callable[[Tensor, Tensor], Tensor] = lambda low, high: torch.cat(
        [low, high]
    ),
    swap_scale: bool = False,
) -> Tensor:
    """A block read, in which one part can be made wrong."""
    two = data[:2].flip(0) if swap_scale else data[:2]
    d = two.contiguous().view(torch.float16).float()
    q = order(data[2:] & 15, data[2:] >> 4).int()
    return (q - offset) * d


def _neighbours(low: Tensor, high: Tensor) -> Tensor:
    return torch.stack([low, high], 1).flatten()


def _wrapped(data: Tensor) -> Tensor:
    d = data[:2].contiguous().view(torch.float16).float()
    return (torch.cat([data[2:] & 15, data[2:] >> 4]) - 8) * d


check_read_block = Exercise(
    name="read_block",
    task="read_block(data) gives the 32 weights of a block of Q4_0, 18 bytes as uint8",
    answer=read_block,
    cases={
        "codes at both ends": (_bytes(CODES, 0.25),),
        "a negative d, as llama.cpp writes it": (_bytes(OTHER, -0.0173),),
    },
    mistakes={
        "codes 0 … 15 stand for −8 … 7; subtract 8": (
            lambda data: _read(data, offset=0)
        ),
        "the offset is 8, not 7": lambda data: _read(data, offset=7),
        "the low halves are weights 0–15, the high halves 16–31; yours are exchanged": (
            lambda data: _read(data, order=lambda low, high: torch.cat([high, low]))
        ),
        "the two halves of a byte are no neighbours: they are 16 weights apart": (
            lambda data: _read(data, order=_neighbours)
        ),
        "uint8 has no numbers below 0: give the codes a sign before you subtract": (
            _wrapped
        ),
        "the bytes of d are in the wrong order; the lower byte comes first": (
            lambda data: _read(data, swap_scale=True)
        ),
        "multiply by d": lambda data: _read(data) / _scale(data),
    },
    outputs=("the weights",),
    solution="""\
def read_block(data):
    d = data[:2].view(torch.float16).float()
    q = torch.cat([data[2:] & 15, data[2:] >> 4]).int()
    return (q - 8) * d
""",
    inside="minquant.files.gguf_blocks.dequantize_blocks",
)


def _scale(data: Tensor) -> Tensor:
    return data[:2].contiguous().view(torch.float16).float()


# --- pack_block ---


def pack_block(
    codes: Integer[Tensor, " 32"], d: Float[Tensor, ""]
) -> UInt8[Tensor, " 18"]:
    """The 18 bytes of a block of Q4_0."""
    return gguf_blocks.codes_as_q4_0(codes[None], d.reshape(1, 1))[0]


def _packed(
    codes: Tensor,
    d: Tensor,
    *,
    offset: int = 8,
    halves: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda q: (q[:16], q[16:]),
    scale_last: bool = False,
    flip: bool = False,
) -> Tensor:
    """A block packed, in which one part can be made wrong."""
    low, high = halves((codes + offset) & 15)
    stored = d.half().reshape(1).view(torch.uint8)
    stored = stored.flip(0) if flip else stored
    data = (low | (high << 4)).to(torch.uint8)
    return torch.cat([data, stored] if scale_last else [stored, data])


check_pack_block = Exercise(
    name="pack_block",
    task="pack_block(codes, d) gives a block of Q4_0: 18 bytes as uint8, for 32 codes "
    "−8 … 7 and a scale",
    answer=pack_block,
    cases={
        "codes at both ends": (CODES, torch.tensor(0.25)),
        "a scale that fp16 rounds": (OTHER, torch.tensor(0.0173)),
    },
    mistakes={
        "add 8 to the codes, so that they are 0 … 15": (
            lambda codes, d: _packed(codes, d, offset=0)
        ),
        "weights 0–15 are the low halves, 16–31 the high ones; yours are exchanged": (
            lambda codes, d: _packed(codes, d, halves=lambda q: (q[16:], q[:16]))
        ),
        "byte i holds weights i and i + 16, not two neighbours": (
            lambda codes, d: _packed(codes, d, halves=lambda q: (q[::2], q[1::2]))
        ),
        "the scale comes before the codes": (
            lambda codes, d: _packed(codes, d, scale_last=True)
        ),
        "the bytes of the scale are in the wrong order; the lower comes first": (
            lambda codes, d: _packed(codes, d, flip=True)
        ),
    },
    outputs=("the bytes",),
    solution="""\
def pack_block(codes, d):
    q = (codes + 8).to(torch.uint8)
    scale = d.half().reshape(1).view(torch.uint8)
    return torch.cat([scale, q[:16] | (q[16:] << 4)])
""",
    inside="minquant.files.gguf_blocks.codes_as_q4_0",
)


# --- name_the_fault ---

NIBBLES, ROWS, ZERO, SCALES = range(4)


def _seen(W: Tensor, fault: int) -> Tensor:
    """Weights (rows, width) as a reader with this fault sees them; step 1/8."""
    blocks = W.unflatten(1, (-1, 2, 16))
    if fault == NIBBLES:
        return blocks.flip(2).flatten(1)
    if fault == ROWS:
        return torch.cat([W[::2], W[1::2]])
    if fault == ZERO:
        steps = torch.arange(1.0, 1 + blocks.shape[1])[None, :, None, None] / 8
        return (blocks + steps).flatten(1)
    factor = torch.arange(2.0, 2 + blocks.shape[1])[None, :, None, None] / 2
    return (blocks * factor).flatten(1)


WEIGHTS = (normal(4, 64, seed=13) * 64).round() / 64


def name_the_fault(
    W: Float[Tensor, "rows width"], seen: Float[Tensor, "rows width"]
) -> int:
    """0 for swapped nibbles, 1 for rows in another order, 2 for zeros that are off, 3
    for other scales."""
    blocks, read = (x.unflatten(1, (-1, 2, 16)) for x in (W, seen))
    if torch.equal(read, blocks.flip(2)):
        return NIBBLES
    if {*map(tuple, W.tolist())} == {*map(tuple, seen.tolist())}:
        return ROWS
    off = (read - blocks).flatten(2)
    return ZERO if torch.allclose(off, off[:, :, :1]) else SCALES


def _always(number: int) -> Callable[[Tensor, Tensor], int]:
    return lambda W, seen: number


def _one_shift_for_all(W: Tensor, seen: Tensor) -> int:
    """Looks for a shift that all blocks share."""
    found = name_the_fault(W, seen)
    off = seen - W
    same = torch.allclose(off, off[0, 0].expand_as(off))
    return SCALES if found == ZERO and not same else found


def _sorts_all(W: Tensor, seen: Tensor) -> int:
    """Takes whatever holds the same numbers for rows in another order."""
    same = torch.equal(W.flatten().sort().values, seen.flatten().sort().values)
    return ROWS if same else name_the_fault(W, seen)


def _halves_of_the_row(W: Tensor, seen: Tensor) -> int:
    found = name_the_fault(W, seen)
    return SCALES if found == NIBBLES else found


check_name_the_fault = Exercise(
    name="name_the_fault",
    task="name_the_fault(W, seen) gives 0 for swapped nibbles, 1 for rows in another "
    "order, 2 for zeros that are off, 3 for scales of other blocks",
    answer=name_the_fault,
    cases={
        "first file": (WEIGHTS, _seen(WEIGHTS, ZERO)),
        "second file": (WEIGHTS, _seen(WEIGHTS, NIBBLES)),
        "third file": (WEIGHTS, _seen(WEIGHTS, SCALES)),
        "fourth file": (WEIGHTS, _seen(WEIGHTS, ROWS)),
    },
    mistakes={
        "each block has a step of its own: compare the shift within blocks of 32": (
            _one_shift_for_all
        ),
        "swapped nibbles hold the same numbers too: compare whole rows": _sorts_all,
        "nibbles are swapped within blocks of 32, not within the row": (
            _halves_of_the_row
        ),
        "it answers 0 whatever it sees": _always(NIBBLES),
    },
    outputs=("the number of the fault",),
    solution="""\
def name_the_fault(W, seen):
    blocks = W.reshape(len(W), -1, 2, 16)  # two halves of 16 in a block
    read = seen.reshape(blocks.shape)
    if torch.equal(read, blocks.flip(2)):
        return 0
    if sorted(W.tolist()) == sorted(seen.tolist()):
        return 1
    shift = (read - blocks).flatten(2)
    return 2 if torch.allclose(shift, shift[:, :, :1]) else 3
""",
    inside="minquant.course.gguf.museum",
)
