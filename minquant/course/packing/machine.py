"""This machine, measured: what it reads, what it computes, how long products take.

    this_machine()         a `Machine`: bandwidth by reading, peaks by multiplying
    product_seconds()      one matrix in 32, 16 and 4 bits, for 1 to 256 tokens

Each number is the best of several runs, so it is what was reached while nobody else
used the machine, and not what the maker promises. Seconds, not hours: both together
take less than ten.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear

from minquant.kernels import cpu_int4
from minquant.kernels.matmul import matmul
from minquant.kernels.packed_words import PackedMatrix, pack_matrix
from minquant.methods.rtn import quantize_rtn
from minquant.numerics.grids import symmetric_full
from minquant.numerics.groups import per_group
from minquant.planning.roofline import Machine

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
READ = 2**28  # bytes: more than any cache
TOKENS = (1, 4, 16, 64, 256)
GROUP = 128
W_HAT_FIRST, AS_THEY_COME = "4 bits, W_hat first", "4 bits, as they come"
Times = dict[str, dict[int, float]]  # way → tokens → seconds


def best_seconds(run: Callable[[], object], seconds: float = 0.1) -> float:
    """The shortest of three or more runs, as many as fit into `seconds`."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        if GPU:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def this_machine() -> Machine:
    """Bandwidth: a large tensor is read and summed. Peak: square matrices multiplied.

    On a GPU in fp16. On a CPU in fp32; `narrow` has bf16, and int8 where torch has it.
    """
    large = torch.ones(READ // 4, device=DEVICE)
    bandwidth = READ / best_seconds(large.sum, 0.3)
    if GPU:
        return Machine("this GPU", bandwidth, _peak(torch.float16, 8192))
    narrow = {"bf16": _peak(torch.bfloat16, 512)}
    if hasattr(torch, "_int_mm"):
        narrow["int8"] = _peak(torch.int8, 512)
    return Machine("this CPU", bandwidth, _peak(torch.float32, 512), narrow=narrow)


def _peak(dtype: torch.dtype, side: int) -> float:
    """Operations per second of a square product."""
    square = torch.ones(side, side, device=DEVICE).to(dtype)
    multiply = torch._int_mm if dtype == torch.int8 else torch.matmul
    return 2 * side**3 / best_seconds(partial(multiply, square, square))


def product_seconds(side: int = 2048) -> Times:
    """Seconds of X Wᵀ for W (side, side), by way and tokens.

    The ways, by what is read for a weight: floats; 4-bit codes that become W_hat
    first; 4-bit codes multiplied as they come (torch's kernel on a CPU, ours on a GPU).
    A way has several copies of W, together larger than a cache, and takes them in turn.
    """
    W = torch.randn(side, side)
    packed = pack_matrix(quantize_rtn(W, symmetric_full(4), per_group(GROUP)))
    found: Times = {}
    for name, dtype, run in _ways(W.to(DEVICE), packed.to(DEVICE)):
        found[name] = {}
        for tokens in TOKENS:
            X = torch.randn(tokens, side, device=DEVICE).to(dtype)
            found[name][tokens] = best_seconds(partial(run, X))
    return found


Way = tuple[str, torch.dtype, Callable[[Tensor], Tensor]]


def _ways(W: Tensor, packed: PackedMatrix) -> Iterator[Way]:
    """Name, dtype of X, and the product, which takes the next copy at each call."""
    floats = {"fp16": torch.float16} if GPU else {"fp32": torch.float32}
    if not GPU:
        floats["bf16"] = torch.bfloat16
    for name, dtype in floats.items():
        copies = [
            W.to(dtype).clone() for _ in range(_count(W.numel() * dtype.itemsize))
        ]
        yield name, dtype, _in_turn(linear, copies, dtype)
    copies = [
        replace(packed, words=packed.words.clone())
        for _ in range(_count(packed.nbytes))
    ]
    direct = "triton" if GPU else "cpu_int4"
    yield W_HAT_FIRST, dtype, _in_turn(partial(matmul, backend="torch"), copies, dtype)
    if GPU or not cpu_int4.refuses(torch.ones(1, 1, dtype=dtype), packed):
        yield (
            AS_THEY_COME,
            dtype,
            _in_turn(partial(matmul, backend=direct), copies, dtype),
        )


def _count(nbytes: int) -> int:
    """How many copies take a quarter of READ together; one, if one is enough."""
    return -(-READ // 4 // nbytes)


def _in_turn(
    product: Callable[..., Tensor], matrices: Sequence[object], dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """X ↦ product(X, W), with the next matrix at each call. All are used once first."""
    for matrix in matrices:
        product(torch.ones(1, matrix.shape[1], device=DEVICE, dtype=dtype), matrix)
    following = itertools.cycle(matrices)
    return lambda X: product(X, next(following))
