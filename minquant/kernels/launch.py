"""Which kernel runs, in blocks of what size, and with what arguments.

`kernels` is what a GPU executes; this is what Python does before: look up the shape in
`TABLE`, make X contiguous, allocate Y, launch. The table's reasons:

    one token           memory is all: gemv
    to 16               tensor cores for nothing, as their tile is half empty; but each
                        program shares K among its warps, so memory is kept busy: skinny
    to 256              a weight is unpacked once for up to 64 tokens of a program: gemm
    more, or fp32 X     arithmetic is all: W_hat is written once, and cuBLAS multiplies
    before sm_80 (T4)   Triton compiles tl.dot to plain multiply-adds there (triton
                        #5066): gemv token by token to 4, which reads less than W_hat
                        written and read, and cuBLAS, which has tensor cores, above

A program makes block_n outputs. Narrow matrices get small programs: 4096 outputs in
blocks of 8 are 512, some four for each multiprocessor of a large card. The table was
chosen by what the compiler makes of it (registers, barriers, no spills: tests/aot.py)
and has not been timed on a card; `tuning` does that, and what it finds for a shape goes
before the table. gemm is never wider than 64 outputs: at 128, Triton 3.6 and 3.7 may
make a bare trap of it for sm_100.

Triton compiles a kernel when it first meets a set of constants (bits, group size, block
sizes) and keeps it on disk; nothing is compiled or measured on import.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import gcd, inf
from types import ModuleType
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.kernels.packed_words import HALVES, PackedMatrix

CHUNK = 2**26  # weights of W_hat that exist at a time: 128 MB in fp16


@dataclass(frozen=True)
class Plan:
    """A row of the table: up to so many tokens and outputs, this kernel, so shaped.

    split: what a program takes of K at a time, in words (gemv; 128 to a warp) or blocks
    of 16 words (skinny; one to a warp). num_stages: how many rounds of the loop over K
    have their loads under way.
    """

    tokens: float
    outputs: float
    kernel: Literal["gemv", "skinny", "gemm", "dequantize"]
    block_m: int
    block_n: int
    split: int
    num_warps: int
    num_stages: int


# The first row that admits the shape is taken; where none does, W_hat is written.
# fmt: off
TABLE: dict[str, tuple[Plan, ...]] = {
    #     tokens outputs  kernel  block_m block_n split warps stages
    "before sm_80": (
        Plan(  4,   8192, "gemv",       1,      8,  256,    2,     1),
        Plan(  4,    inf, "gemv",       1,      8,  512,    4,     1),
    ),
    "sm_80 and later": (
        Plan(  1,   8192, "gemv",       1,      8,  256,    2,     1),
        Plan(  1,    inf, "gemv",       1,      8,  512,    4,     1),
        Plan(  8,   8192, "skinny",     8,     16,    4,    4,     3),
        Plan(  8,    inf, "skinny",     8,     32,    4,    4,     3),
        Plan( 16,   8192, "skinny",    16,     16,    4,    4,     3),
        Plan( 16,    inf, "skinny",    16,     32,    4,    4,     3),
        Plan( 32,    inf, "gemm",      32,     64,    1,    4,     3),
        Plan(256,    inf, "gemm",      64,     64,    1,    4,     3),
    ),
}
# fmt: on
STEPS = (1, 4, 8, 16, 32, 256)  # tokens: what was tuned for one serves from the last on
TUNED: dict[tuple, Plan] = {}  # by `tuning_key`; `tuning` fills it, if it is asked to


def tuning_key(X: Tensor, packed: PackedMatrix) -> tuple:
    """What a tuned plan is for: the card, the matrix' form, and the step of tokens."""
    card = torch.cuda.get_device_name(X.device) if X.is_cuda else "interpreter"
    step = next((step for step in STEPS if len(X) <= step), 0)
    zeros = packed.zeros is not None
    return card, packed.bits, packed.group_size, zeros, *packed.shape, step


def plan(tokens: int, outputs: int, capability: tuple[int, int]) -> Plan | None:
    """The row of `TABLE` for X (tokens, in) and W (outputs, in); None: write W_hat.

    capability: the card's, (9, 0) for an H100.

    >>> plan(1, 4096, (9, 0)).kernel, plan(64, 4096, (9, 0)).kernel
    ('gemv', 'gemm')
    >>> plan(64, 4096, (7, 5)) is None  # a T4
    True
    """
    rows = TABLE["sm_80 and later" if capability >= (8, 0) else "before sm_80"]
    fitting = (r for r in rows if tokens <= r.tokens and outputs <= r.outputs)
    return next(fitting, None)


@cache
def _kernels() -> ModuleType | None:
    """The kernels, or None where there is no triton to run them."""
    if find_spec("triton") is None:
        return None
    from minquant.kernels import triton_kernels

    return triton_kernels


def refuses(X: Tensor, packed: PackedMatrix) -> str:
    """Why the kernels do not serve this product, and the mend; "" if they do."""
    if _kernels() is None:
        return "triton is not installed; pip install triton (Linux), or use 'torch'"
    if not X.is_cuda and not _kernels().INTERPRETED:
        return (
            f"X is on {X.device}; move it to a GPU, or set TRITON_INTERPRET=1 before "
            "the first product to run the kernels in Triton's interpreter"
        )
    if X.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"X is {X.dtype}; the kernels take float16, bfloat16 and float32"
    if X.is_cuda and torch.cuda.get_device_capability(X.device) < (7, 5):
        return f"{torch.cuda.get_device_name(X.device)} is too old for Triton: 'torch'"
    if packed.group_size % HALVES and packed.scales.shape[1] > 1:
        return (
            f"group_size is {packed.group_size}; the kernels take multiples of "
            f"{HALVES}, or one group per row"
        )
    return ""


def product(
    X: Float[Tensor, "n in"], packed: PackedMatrix, by: Plan | None = None
) -> Float[Tensor, "n out"]:
    """X W_hatᵀ by the kernels, where `refuses` says nothing. by: a plan of your own."""
    capability = torch.cuda.get_device_capability(X.device) if X.is_cuda else (8, 0)
    if X.dtype != torch.float32 and by is None:
        found = TUNED.get(tuning_key(X, packed)) if TUNED else None
        by = found or plan(len(X), packed.shape[0], capability)
    with torch.cuda.device_of(X):
        if by is None:
            return _write_and_multiply(X, packed)
        Y = X.new_empty(len(X), packed.shape[0], dtype=_written(X.dtype))
        _launch(by, X.contiguous(), packed, Y)
    return Y.to(X.dtype)


def dequantize(
    packed: PackedMatrix, dtype: torch.dtype, rows: slice
) -> Float[Tensor, "rows in"]:
    """These rows of W_hat, written by a kernel; as `packed_words.dequantize`."""
    words, scales = packed.words[rows], packed.scales[rows]
    zeros = None if packed.zeros is None else packed.zeros[rows]
    W_hat = scales.new_empty(len(words), packed.shape[1], dtype=_written(dtype))
    grid = (words.shape[1] // 16, _blocks(len(words), 32))
    shape = (*W_hat.shape, scales.shape[1])
    constants = {"BITS": packed.bits, "GROUP": packed.group_size, "BLOCK_N": 32}
    with torch.cuda.device_of(words):
        _kernels().dequantize[grid](words, scales, zeros, W_hat, *shape, **constants)
    return W_hat.to(dtype)


def by_rows(packed: PackedMatrix, weights: int) -> Iterator[slice]:
    """Slices of rows that hold about so many weights: W_hat is made one at a time."""
    out, width = packed.shape
    step = max(1, weights // max(1, width))
    return (slice(first, first + step) for first in range(0, out, step))


def _write_and_multiply(X: Tensor, packed: PackedMatrix) -> Tensor:
    Y = X.new_empty(len(X), packed.shape[0])
    for rows in by_rows(packed, CHUNK):
        Y[:, rows] = X @ dequantize(packed, X.dtype, rows).T  # (n, rows)
    return Y


def _launch(by: Plan, X: Tensor, packed: PackedMatrix, Y: Tensor) -> None:
    """Fills Y. X is contiguous."""
    (n, width), out, n_groups = X.shape, packed.shape[0], packed.scales.shape[1]
    fields = 16 // packed.bits
    shared = gcd(packed.group_size // HALVES, fields) if n_groups > 1 else fields
    constants = {
        "BITS": packed.bits,
        "GROUP": packed.group_size,
        "RUN": shared,
        "BLOCK_N": by.block_n,
        "num_warps": by.num_warps,
    }
    grid = (_blocks(n, by.block_m), _blocks(out, by.block_n))
    held = (packed.words, packed.scales, packed.zeros, Y)
    if by.kernel == "gemv":
        pairs = _pairs(X)
        constants |= {"WORDS": by.split, "IS_BF16": X.dtype == torch.bfloat16}
        _kernels().gemv[grid](pairs, *held, out, pairs.shape[1], n_groups, **constants)
        return
    constants |= {"BLOCK_M": by.block_m, "STAGES": by.num_stages}
    if by.kernel == "skinny":
        constants["SPLIT"] = by.split
    kernel = getattr(_kernels(), by.kernel)
    kernel[grid](X, *held, n, out, width, n_groups, **constants)


def _pairs(X: Tensor) -> Integer[Tensor, "n half_in"]:
    """X of 16-bit numbers, two to an int32; an odd row gets a 0 to end with."""
    if X.shape[1] % 2:
        X = torch.nn.functional.pad(X, (0, 1))
    if X.storage_offset() % 2:  # an int32 cannot begin in the middle of another
        X = X.clone()
    return X.view(torch.int32)


def _written(dtype: torch.dtype) -> torch.dtype:
    """What a kernel writes. The interpreter cuts 16-bit floats off where a GPU rounds,
    so it writes fp32, and torch rounds."""
    return torch.float32 if _kernels().INTERPRETED else dtype


def _blocks(n: int, size: int) -> int:
    return -(-n // size)
