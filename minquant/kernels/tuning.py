"""Find out which plan is fastest on this card, by trying, and remember it.

    tune(packed, tokens=1)      # some seconds; `matmul` takes the winner from now on

`launch.TABLE` holds what one can reason about, for all cards alike. How many outputs a
program should make, among how many warps it should share out K, how many loads it
should have under way: the card decides that. So each of `candidates` is first compared
with the specification and then timed, with the card's cache emptied before each run.
The fastest goes into `launch.TUNED`, under the card, the form of the matrix, and the
number of tokens (a plan for 16 serves from 9 on: `launch.STEPS`).

Nothing is tuned unless you ask: not on import, and not by the first product. Compiling
a new plan takes about a second. Lesson 10.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from math import inf

import torch
from torch import Tensor

from minquant.kernels import launch
from minquant.kernels.launch import Plan
from minquant.kernels.matmul import reference
from minquant.kernels.packed_words import PackedMatrix

WITHIN = 1e-3  # ‖Y − Y*‖ / ‖Y*‖ of a product in fp16
Timer = Callable[[Callable[[], Tensor]], float]


def candidates(tokens: int) -> Iterator[Plan]:
    """Plans to try for so many tokens. All have sizes that their kernel can work with.

    >>> len(list(candidates(1))), {plan.kernel for plan in candidates(64)}
    (16, {'gemm'})
    """
    if tokens <= 4:
        for block_n, warps in itertools.product((2, 4, 8, 16), (1, 2, 4, 8)):
            yield Plan(tokens, inf, "gemv", 1, block_n, 128 * warps, warps, 1)
    if 1 < tokens <= 16:
        block_m = 8 if tokens <= 8 else 16
        sizes = itertools.product((16, 32, 64), (2, 4, 8), (2, 3, 4))
        for block_n, split, stages in sizes:
            yield Plan(tokens, inf, "skinny", block_m, block_n, split, split, stages)
    if tokens > 16:
        sizes = itertools.product((32, 64), (32, 64), (4, 8), (2, 3, 4))
        for block_m, block_n, warps, stages in sizes:
            yield Plan(tokens, inf, "gemm", block_m, block_n, 1, warps, stages)


def tune(
    packed: PackedMatrix, tokens: int = 1, *, timer: Timer | None = None
) -> dict[Plan, float]:
    """Times every plan and keeps the fastest: from now on `matmul` takes it.

    packed: on the GPU. tokens: of X, which is fp16; 1 to 256. timer: gives the seconds
    that a call takes; None is Triton's own, the median of many calls, with the cache
    emptied before each.

    Returns the seconds of each plan, the fastest first. A plan that does not compile on
    this card, or is wrong, is left out.

    Raises ValueError if the kernels cannot multiply by this matrix, if there are more
    tokens, or if no plan is right.
    """
    if not 1 <= tokens <= launch.STEPS[-1]:
        raise ValueError(f"tokens is {tokens}; plans are for 1 to {launch.STEPS[-1]}")
    device = packed.words.device
    draw = {"device": device, "generator": torch.Generator(device).manual_seed(0)}
    X = torch.randn(tokens, packed.shape[1], dtype=torch.float32, **draw).half()
    if reason := launch.refuses(X, packed):
        raise ValueError(f"packed cannot be tuned: {reason}")
    from minquant.kernels.triton_kernels import triton

    Y_exact = reference(X.double(), packed)
    seconds: dict[Plan, float] = {}
    for plan in candidates(tokens):
        run = partial(launch.product, X, packed, plan)
        try:
            error = (run() - Y_exact).norm() / Y_exact.norm()
            if error <= WITHIN:
                seconds[plan] = (timer or _median)(run)
        except (RuntimeError, triton.TritonError):
            continue  # it needs more than this card has, or its compiler fails
    if not seconds:
        raise ValueError(f"no plan is right for {packed.shape} and {tokens} tokens")
    fastest_first = sorted(seconds, key=lambda plan: seconds[plan])
    launch.TUNED[launch.tuning_key(X, packed)] = fastest_first[0]
    return {plan: seconds[plan] for plan in fastest_first}


def _median(run: Callable[[], Tensor]) -> float:
    """The seconds of a call on the GPU, by Triton's clock."""
    from minquant.kernels.triton_kernels import triton

    return triton.testing.do_bench(run, return_mode="median") / 1e3
