"""Which kernel runs, in blocks of what size, and with what arguments.

`triton_kernels` is what a GPU executes. This is what Python does before: look up the
shape in `TABLE`, make X contiguous, allocate Y, launch. The reasons for the table:

    one token           reading the weights takes all the time: gemv
    up to 16            reading still decides. Tensor cores do the arithmetic, though
                        their tiles are half empty. The warps of a program share out K,
                        so that many loads are under way: skinny
    up to 256           a program unpacks a weight once for up to 64 tokens: gemm
    more, or fp32 X     arithmetic takes all the time: W_hat is written once, and cuBLAS
                        multiplies
    before sm_80 (T4)   Triton leaves the tensor cores alone there: it compiles tl.dot
                        to plain multiply-adds (triton #5066). Up to 4 tokens: gemv,
                        token by token, which reads less than writing and reading W_hat
                        would. Above: W_hat and cuBLAS, which uses tensor cores

A program makes block_n outputs. Narrow matrices get small programs: 4096 outputs in
blocks of 8 are 512 programs, about four for each multiprocessor of a large card. The
table was chosen by what the compiler makes of it (registers, barriers, no spills:
tests/helpers/aot.py) and has not been timed on a card. `tuning` times plans, and the
one that it finds for a shape comes before the table. gemm is never wider than 64
outputs: at 128, Triton 3.6 and 3.7 may compile it to a bare trap for sm_100.

Triton compiles a kernel when it first meets a set of constants (bits, group size, block
sizes) and keeps it on disk. Nothing is compiled or measured on import.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import gcd, inf
from types import ModuleType
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.kernels.frozen_product import row_slices
from minquant.kernels.packed_words import HALVES, WORDS, PackedMatrix, fields

PART = 2**26  # weights of W_hat that are written at a time: 128 MB in fp16


@dataclass(frozen=True)
class Plan:
    """A row of the table: up to so many tokens and outputs, this kernel in these sizes.

    block_m, block_n: tokens and outputs of a program. split: how much of K a program
    takes at a time, in words (gemv; 128 to a warp) or in blocks of 16 words (skinny;
    one to a warp). num_stages: for how many rounds of the loop over K the loads are
    under way.
    """

    tokens: float
    outputs: float
    kernel: Literal["gemv", "skinny", "gemm", "dequantize"]
    block_m: int
    block_n: int
    split: int
    num_warps: int
    num_stages: int


# The first row that the shape fits is taken. If it fits none, W_hat is written.
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
STEPS = (1, 4, 8, 16, 32, 256)  # a plan tuned for 16 tokens serves 9 to 16
TUNED: dict[tuple, Plan] = {}  # by `tuning_key`; `tuning.tune` fills it


def tuning_key(X: Tensor, packed: PackedMatrix) -> tuple:
    """What a tuned plan is for: the card, the matrix' form and the step of tokens."""
    card = torch.cuda.get_device_name(X.device) if X.is_cuda else "interpreter"
    step = next((step for step in STEPS if len(X) <= step), 0)
    zeros = packed.zeros is not None
    return card, packed.bits, packed.group_size, zeros, *packed.shape, step


def plan_for(tokens: int, outputs: int, capability: tuple[int, int]) -> Plan | None:
    """The row of `TABLE` for X (tokens, in) and W (outputs, in); None: write W_hat.

    capability: the card's compute capability, (9, 0) for an H100.

    >>> plan_for(1, 4096, (9, 0)).kernel, plan_for(64, 4096, (9, 0)).kernel
    ('gemv', 'gemm')
    >>> plan_for(64, 4096, (7, 5)) is None  # a T4
    True
    """
    for row in TABLE["sm_80 and later" if capability >= (8, 0) else "before sm_80"]:
        if tokens <= row.tokens and outputs <= row.outputs:
            return row
    return None


@cache
def _kernels() -> ModuleType | None:
    """The module of the kernels, or None if triton is not installed."""
    if find_spec("triton") is None:
        return None
    from minquant.kernels import triton_kernels

    return triton_kernels


def refuses(X: Tensor, packed: PackedMatrix) -> str:
    """Why the kernels cannot compute this product, and what to do; "" if they can."""
    if _kernels() is None:
        return "triton is not installed; pip install triton (Linux), or use 'torch'"
    if not X.is_cuda and not _kernels().INTERPRETED:
        return (
            f"X is on {X.device}; move it to a GPU, or set TRITON_INTERPRET=1 before "
            "the first product to run the kernels in Triton's interpreter"
        )
    if X.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"X is {X.dtype}; the kernels take float16, bfloat16 and float32"
    if _capability(X) < (7, 5):
        card = torch.cuda.get_device_name(X.device)
        return f"{card} is too old for Triton; use 'torch'"
    if packed.group_size % HALVES and packed.scales.shape[1] > 1:
        return (
            f"group_size is {packed.group_size}; the kernels take multiples of "
            f"{HALVES}, or one group per row"
        )
    return ""


def product(
    X: Float[Tensor, "n in"], packed: PackedMatrix, plan: Plan | None = None
) -> Float[Tensor, "n out"]:
    """X W_hatᵀ by the kernels, if `refuses` has no objection.

    plan: None takes the one that was tuned for this shape, or that of the table.
    """
    if plan is None and X.dtype != torch.float32:
        if TUNED:
            plan = TUNED.get(tuning_key(X, packed))
        if plan is None:
            plan = plan_for(len(X), packed.shape[0], _capability(X))
    with torch.cuda.device_of(X):
        if plan is None:
            return _write_and_multiply(X, packed)
        Y = X.new_empty(len(X), packed.shape[0], dtype=_kernel_dtype(X.dtype))
        _launch(plan, X.contiguous(), packed, Y)
    return Y.to(X.dtype)


def dequantize(
    packed: PackedMatrix, dtype: torch.dtype, rows: slice
) -> Float[Tensor, "rows in"]:
    """These rows of W_hat, written by a kernel. As `packed_words.dequantize`."""
    words, scales = packed.words[rows], packed.scales[rows]
    zeros = None if packed.zeros is None else packed.zeros[rows]
    W_hat = scales.new_empty(len(words), packed.shape[1], dtype=_kernel_dtype(dtype))
    grid = (words.shape[1] // WORDS, _blocks(len(words), 32))
    shape = (*W_hat.shape, scales.shape[1])
    constants = {"BITS": packed.bits, "GROUP": packed.group_size, "BLOCK_N": 32}
    with torch.cuda.device_of(words):
        _kernels().dequantize[grid](words, scales, zeros, W_hat, *shape, **constants)
    return W_hat.to(dtype)


def _capability(X: Tensor) -> tuple[int, int]:
    """The compute capability of X's card; (8, 0) in the interpreter."""
    return torch.cuda.get_device_capability(X.device) if X.is_cuda else (8, 0)


def _write_and_multiply(X: Tensor, packed: PackedMatrix) -> Tensor:
    """Y: W_hat is written a few rows at a time, and cuBLAS multiplies."""
    Y = X.new_empty(len(X), packed.shape[0])
    for rows in row_slices(packed.shape, PART):
        Y[:, rows] = X @ dequantize(packed, X.dtype, rows).T  # (n, rows)
    return Y


def _launch(plan: Plan, X: Tensor, packed: PackedMatrix, Y: Tensor) -> None:
    """Starts the plan's kernel, which fills Y. X is contiguous."""
    (n, width), out, n_groups = X.shape, packed.shape[0], packed.scales.shape[1]
    run = fields(packed.bits)  # slices of a block that surely share a scale
    if n_groups > 1:
        run = gcd(packed.group_size // HALVES, run)
    constants = {
        "BITS": packed.bits,
        "GROUP": packed.group_size,
        "RUN": run,
        "BLOCK_N": plan.block_n,
        "num_warps": plan.num_warps,
    }
    grid = (_blocks(n, plan.block_m), _blocks(out, plan.block_n))
    pointers = (packed.words, packed.scales, packed.zeros, Y)
    if plan.kernel == "gemv":
        pairs = _pairs(X)
        sizes = (out, pairs.shape[1], n_groups)
        constants |= {"WORDS": plan.split, "IS_BF16": X.dtype == torch.bfloat16}
        _kernels().gemv[grid](pairs, *pointers, *sizes, **constants)
        return
    constants |= {"BLOCK_M": plan.block_m, "STAGES": plan.num_stages}
    if plan.kernel == "skinny":
        constants["SPLIT"] = plan.split
    kernel = getattr(_kernels(), plan.kernel)
    kernel[grid](X, *pointers, n, out, width, n_groups, **constants)


def _pairs(X: Tensor) -> Integer[Tensor, "n half_in"]:
    """X of 16-bit numbers, two to an int32. Rows of odd length get a 0 at the end."""
    if X.shape[1] % 2:
        X = torch.nn.functional.pad(X, (0, 1))
    if X.storage_offset() % 2:  # an int32 cannot start in the middle of another
        X = X.clone()
    return X.view(torch.int32)


def _kernel_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a kernel writes, if the result is to have this one.

    A GPU rounds to 16 bits. Triton's interpreter cuts the bits off, so it writes fp32
    and torch rounds.
    """
    return torch.float32 if _kernels().INTERPRETED else dtype


def _blocks(n: int, size: int) -> int:
    """How many blocks of this size cover n."""
    return -(-n // size)
