"""The Triton kernels: Y = X W_hatᵀ, with W_hat made in registers and never written.

With few tokens a product costs what reading the weights costs. A kernel reads words
(`packed_words`) and turns codes into numbers in so few instructions that memory stays
the bottleneck.

    the product             y[n] += x[k] · (code − zero) · scale     for each k, each n
    the scale waits         y[n] += scale · Σ x[k] · (code − zero)   over k in one group
    the zero waits too      y[n] += scale · (Σ x[k] · code − zero · Σ x[k])

    gemv         1 token       no tensor cores: one AND and one multiply-add per weight
    skinny       up to 16      tensor cores; the warps of one program share out K
    gemm         up to 256     tensor cores; a plain 2-D tile
    dequantize   more          writes W_hat; torch multiplies

Two ways to turn a code into a number without converting it, both exact:

    gemv     a float32 whose bits are 0…0 code 0…0 has the exponent 0. It is a
             *subnormal* number: code · 2^(bits · i − 149), for field i. X is multiplied
             by 2^(64 − bits · i) and the sum by 2^85 to make up for that. Subnormal
             numbers must not be flushed to 0. What is left between the ends of fp32 is
             |x| from 2^−41 to 2^64.
    others   from 1024 to 2048 the step of fp16 is 1, and 0x6600 is 1536. So the integer
             0x6600 + code − zero, read as fp16, is 1536 + code − zero: subtract 1536.
             One 32-bit addition does this for both halves of a word.

Every kernel has four phases: *map* (which part of Y is mine), *point* (at its data),
*iterate* (over the blocks of K), *write*. Comments give the shapes of tiles: N stands
for BLOCK_N, M for BLOCK_M. Nothing is read or written beyond M, N or K. The arguments
are x (M, K), then words, scales and zeros of a PackedMatrix (zeros may be None), and
y (M, N), all contiguous. GROUP: weights that share a scale. RUN: how many slices of 32
weights surely share one.

Left out: an order of words for the tensor cores of one card, as Marlin has. The 16-bit
lanes follow Kim et al. 2022, "Who Says Elephants Can't Run". Notebook 10 builds all of
this.
"""

from typing import no_type_check  # pytest checks shapes of Python functions alone

import triton
import triton.language as tl
from triton.language import constexpr, tensor


@triton.jit
@no_type_check
def _zeros_at(zeros, n, group, live, n_groups, BITS: tl.constexpr):
    """The zeros of these rows and groups as int32, taken out of their bytes."""
    WIDTH: tl.constexpr = 4 if BITS == 3 else BITS
    PER_BYTE: tl.constexpr = 8 // WIDTH
    if zeros is None:  # a symmetric grid
        zero = tl.full(live.shape, 1 << (BITS - 1), tl.int32)
    else:
        at = n * tl.cdiv(n_groups, PER_BYTE) + group // PER_BYTE
        byte = tl.load(zeros + at, mask=live, other=0).to(tl.int32)
        zero = (byte >> (group % PER_BYTE * WIDTH)) & ((1 << WIDTH) - 1)
    return zero


# whether the kernels run in Triton's interpreter, on the CPU
INTERPRETED = tl.constexpr(not isinstance(_zeros_at, triton.JITFunction))


@triton.jit
@no_type_check
def _steps(word, zero, BITS: tl.constexpr, i: tl.constexpr):
    """code − zero of field i, exact in fp16: words (..., 16) → (..., 16, 2)."""
    BOTH: tl.constexpr = 0x00010001  # times a number: the number in both halves
    field = (word >> (BITS * i)) & (((1 << BITS) - 1) * BOTH)
    lanes = field + (0x66006600 - zero * BOTH)
    low = lanes.to(tl.int16).to(tl.float16, bitcast=True)
    high = (lanes >> 16).to(tl.int16).to(tl.float16, bitcast=True)
    return tl.join(low, high) - 1536.0


@triton.jit
@no_type_check
def _add_product(W, X, sums):
    """sums + W X. The interpreter cannot multiply bf16, so there it uses float32."""
    W = W.to(X.dtype)
    if INTERPRETED:
        W = W.to(tl.float32)
        X = X.to(tl.float32)
    return tl.dot(W, X, sums)


@triton.jit
@no_type_check
def _as_floats(pair, IS_BF16: tl.constexpr):
    """Two neighbours of X, fp16 or bf16, held in one int32 → two float32."""
    if IS_BF16:  # a bf16 is the upper half of a float32
        low = (pair << 16).to(tl.float32, bitcast=True)
        high = (pair & -65536).to(tl.float32, bitcast=True)
    else:
        low = pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        high = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
@no_type_check
def gemv(
    x: tensor,
    words: tensor,
    scales: tensor,
    zeros: tensor,
    y: tensor,
    N: tensor,
    half_K: tensor,
    n_groups: tensor,
    BITS: constexpr,
    GROUP: constexpr,
    RUN: constexpr,
    IS_BF16: constexpr,
    BLOCK_N: constexpr,
    WORDS: constexpr,
) -> None:
    """One token per program. x is (M, K / 2) int32: each holds two neighbours.

    A lane is the four words that a thread loads in one go. With WORDS = 128 · num_warps
    each thread has one lane.
    """
    FIELDS: tl.constexpr = 16 // BITS
    LANES: tl.constexpr = WORDS // 4
    # map: token m, BLOCK_N outputs from n
    m = tl.program_id(0)
    n = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N))[:, None]  # (N, 1)
    # point
    n_words = tl.cdiv(half_K, 16 * FIELDS) * 16  # of a row
    w_rows, x_row = words + n * n_words, x + m * half_K
    # iterate
    sums = tl.zeros((BLOCK_N, LANES), tl.float32)
    for first in tl.range(0, n_words, WORDS):
        at = first + tl.arange(0, WORDS)[None, :]  # (1, WORDS)
        low = tl.load(w_rows + at, mask=(n < N) & (at < n_words), other=0)
        high = (low >> 16) & 0xFFFF  # (N, WORDS)
        pair_at = at // 16 * (16 * FIELDS) + at % 16
        block = first // 16 + tl.arange(0, LANES)[None, :] // 4  # (1, LANES)
        for run in tl.static_range(FIELDS // RUN):
            dots = tl.zeros((BLOCK_N, WORDS), tl.float32)  # Σ x · code
            totals = tl.zeros((1, WORDS), tl.float32)  # Σ x
            for i in tl.static_range(run * RUN, run * RUN + RUN):
                k = pair_at + 16 * i  # (1, WORDS)
                pair = tl.load(x_row + k, mask=k < half_K, other=0)
                x_low, x_high = _as_floats(pair, IS_BF16)
                totals += x_low + x_high
                field = ((1 << BITS) - 1) << (BITS * i)
                code = (low & field).to(tl.float32, bitcast=True)  # (N, WORDS)
                dots += code * (x_low * 2.0 ** (64 - BITS * i))
                code = (high & field).to(tl.float32, bitcast=True)
                dots += code * (x_high * 2.0 ** (64 - BITS * i))
            group = (block * FIELDS + run * RUN) * 32 // GROUP  # (1, LANES)
            live = (n < N) & (group < n_groups)  # (N, LANES)
            scale = tl.load(scales + n * n_groups + group, mask=live, other=0.0)
            zero = _zeros_at(zeros, n, group, live, n_groups, BITS)
            dot = tl.sum(dots.reshape(BLOCK_N, LANES, 4), axis=2) * 2.0**85
            sums += scale * (dot - zero * tl.sum(totals.reshape(1, LANES, 4), axis=2))
    # write
    total = tl.sum(sums, axis=1)[:, None].to(y.dtype.element_ty)  # (N, 1): over lanes
    tl.store(y + m * N + n, total, mask=n < N)


@triton.jit
@no_type_check
def skinny(
    x: tensor,
    words: tensor,
    scales: tensor,
    zeros: tensor,
    y: tensor,
    M: tensor,
    N: tensor,
    K: tensor,
    n_groups: tensor,
    BITS: constexpr,
    GROUP: constexpr,
    RUN: constexpr,
    BLOCK_M: constexpr,
    BLOCK_N: constexpr,
    SPLIT: constexpr,
    STAGES: constexpr,
) -> None:
    """A few tokens: Yᵀ = W Xᵀ, so that 8 of them fill a tensor core's tile.

    There are SPLIT layers of sums, one per warp. Each takes every SPLIT-th block of K,
    and the layers are added up at the end.
    """
    FIELDS: tl.constexpr = 16 // BITS
    # map: BLOCK_M tokens, BLOCK_N outputs, SPLIT blocks at a time
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[None, None, :]  # (1, 1, M)
    n = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]  # (1, N)
    layer = tl.arange(0, SPLIT)[:, None]  # (SPLIT, 1)
    # point
    n_blocks = tl.cdiv(K, 32 * FIELDS)
    w_rows = words + n[:, :, None] * (n_blocks * 16) + tl.arange(0, 16)  # (1, N, 16)
    in_slice = tl.arange(0, 32)[None, :, None]  # (1, 32, 1)
    # iterate
    sums = tl.zeros((SPLIT, BLOCK_N, BLOCK_M), tl.float32)
    for first in tl.range(0, n_blocks, SPLIT, num_stages=STAGES):
        block = first + layer  # (SPLIT, 1)
        live = (n < N) & (block < n_blocks)  # (SPLIT, N)
        word = tl.load(w_rows + block[:, :, None] * 16, mask=live[:, :, None], other=0)
        for run in tl.static_range(FIELDS // RUN):
            group = (block * FIELDS + run * RUN) * 32 // GROUP  # (SPLIT, 1)
            live = (n < N) & (group < n_groups)  # (SPLIT, N)
            scale = tl.load(scales + n * n_groups + group, mask=live, other=0.0)
            zero = _zeros_at(zeros, n, group, live, n_groups, BITS)[:, :, None]
            dots = tl.zeros((SPLIT, BLOCK_N, BLOCK_M), tl.float32)
            for i in tl.static_range(run * RUN, run * RUN + RUN):
                k = (block * FIELDS + i)[:, :, None] * 32 + in_slice  # (SPLIT, 32, 1)
                X = tl.load(x + m * K + k, mask=(m < M) & (k < K), other=0.0)
                W = _steps(word, zero, BITS, i).reshape(SPLIT, BLOCK_N, 32)
                dots = _add_product(W, X, dots)  # (SPLIT, N, 32) (SPLIT, 32, M)
            sums += scale[:, :, None] * dots
    # write
    total, n = tl.sum(sums, axis=0)[None, :, :], n[:, :, None]  # (1, N, M), (1, N, 1)
    tl.store(y + m * N + n, total.to(y.dtype.element_ty), mask=(m < M) & (n < N))


@triton.jit
@no_type_check
def gemm(
    x: tensor,
    words: tensor,
    scales: tensor,
    zeros: tensor,
    y: tensor,
    M: tensor,
    N: tensor,
    K: tensor,
    n_groups: tensor,
    BITS: constexpr,
    GROUP: constexpr,
    RUN: constexpr,
    BLOCK_M: constexpr,
    BLOCK_N: constexpr,
    STAGES: constexpr,
) -> None:
    """More tokens. Unlike skinny it has no layers: one block of K after the other."""
    FIELDS: tl.constexpr = 16 // BITS
    # map: BLOCK_M tokens, BLOCK_N outputs; programs with the same weights run together
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[None, :]  # (1, M)
    n = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N))[:, None]  # (N, 1)
    # point
    n_blocks = tl.cdiv(K, 32 * FIELDS)
    w_rows = words + n * (n_blocks * 16) + tl.arange(0, 16)[None, :]  # (N, 16)
    in_slice = tl.arange(0, 32)[:, None]  # (32, 1)
    # iterate
    sums = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for block in tl.range(0, n_blocks, num_stages=STAGES):
        word = tl.load(w_rows + block * 16, mask=n < N, other=0)  # (N, 16)
        for run in tl.static_range(FIELDS // RUN):
            group = (block * FIELDS + run * RUN) * 32 // GROUP  # a number
            live = (n < N) & (group < n_groups)  # (N, 1)
            scale = tl.load(scales + n * n_groups + group, mask=live, other=0.0)
            zero = _zeros_at(zeros, n, group, live, n_groups, BITS)  # (N, 1)
            dots = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
            for i in tl.static_range(run * RUN, run * RUN + RUN):
                k = (block * FIELDS + i) * 32 + in_slice  # (32, 1)
                X = tl.load(x + m * K + k, mask=(m < M) & (k < K), other=0.0)  # (32, M)
                W = _steps(word, zero, BITS, i).reshape(BLOCK_N, 32)
                dots = _add_product(W, X, dots)  # (N, 32) (32, M)
            sums += scale * dots
    # write
    tl.store(y + m * N + n, sums.to(y.dtype.element_ty), mask=(m < M) & (n < N))


@triton.jit
@no_type_check
def dequantize(
    words: tensor,
    scales: tensor,
    zeros: tensor,
    W_hat: tensor,
    N: tensor,
    K: tensor,
    n_groups: tensor,
    BITS: constexpr,
    GROUP: constexpr,
    BLOCK_N: constexpr,
) -> None:
    """W_hat itself. A program writes one block of K for BLOCK_N rows."""
    FIELDS: tl.constexpr = 16 // BITS
    # map
    block = tl.program_id(0)
    n = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N))[:, None]  # (N, 1)
    # point
    w_rows = words + n * (tl.num_programs(0) * 16) + tl.arange(0, 16)[None, :]
    word = tl.load(w_rows + block * 16, mask=n < N, other=0)  # (N, 16)
    # iterate
    for i in tl.static_range(FIELDS):
        first = (block * FIELDS + i) * 32
        group, live = first // GROUP, (n < N) & (first < K)  # a number, (N, 1)
        scale = tl.load(scales + n * n_groups + group, mask=live, other=0.0)
        zero = _zeros_at(zeros, n, group, live, n_groups, BITS)
        steps = _steps(word, zero, BITS, i).reshape(BLOCK_N, 32).to(tl.float32)
        # write
        k = first + tl.arange(0, 32)[None, :]  # (1, 32)
        W = (steps * scale).to(W_hat.dtype.element_ty)  # (N, 32)
        tl.store(W_hat + n * K + k, W, mask=live & (k < K))
