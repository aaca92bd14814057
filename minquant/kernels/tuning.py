"""Find out by trying which plan is fastest on this card, and remember it.

    tune(packed, tokens=1)      # some seconds; `matmul` takes the winner from now on
    save(path), load(path)      # for the next time, on the same card

`launch.TABLE` holds for all cards what one can reason about. What a card does is for it
to say: how many outputs a program makes, among how many warps it shares K, how many
loads it has under way. So each of `candidates` is first held to the specification and
then timed, with the card's cache emptied before each run; the fastest goes into
`launch.TUNED`, under the card, the matrix' form, and the number of tokens: a plan for
16 serves from 9 on (`launch.STEPS`).

Nothing is tuned unless you ask: not on import, and not by the first product. To compile
a plan that is new takes about a second. Lesson 10.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from minquant.kernels import launch
from minquant.kernels.launch import Plan
from minquant.kernels.matmul import PackedMatrix, reference

WITHIN = 1e-3  # ‖Y − Y*‖ / ‖Y*‖ of a product in fp16
Timer = Callable[[Callable[[], Tensor]], float]


def candidates(tokens: int) -> Iterator[Plan]:
    """Plans to try for so many tokens; each keeps what its kernel takes for granted.

    >>> len(list(candidates(1))), {by.kernel for by in candidates(64)}
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
    """The plans that are right, by their time in seconds; the fastest, the first, is
    kept.

    packed: on the GPU. tokens: of X, in fp16, to 256. timer: seconds that a call takes;
    None is Triton's own, the median, which empties the cache before each run. A plan
    that does not compile on this card, or is wrong, is left out.

    Raises ValueError if the kernels do not serve the matrix, if there are more tokens,
    or if no plan is right.
    """
    if not 1 <= tokens <= launch.STEPS[-1]:
        raise ValueError(f"tokens is {tokens}; plans are for 1 to {launch.STEPS[-1]}")
    X = torch.randn(tokens, packed.shape[1], device=packed.words.device).half()
    if refusal := launch.refuses(X, packed):
        raise ValueError(f"packed cannot be tuned: {refusal}")
    from minquant.kernels.triton_kernels import triton

    exact = reference(X.double(), packed)
    took: dict[Plan, float] = {}
    for by in candidates(tokens):
        run = partial(launch.product, X, packed, by)
        try:
            wrong = (run() - exact).norm() / exact.norm()
            if wrong <= WITHIN:
                took[by] = (timer or _median)(run)
        except (RuntimeError, triton.TritonError):
            continue  # it asks for more than this card, or its compiler, has
    if not took:
        raise ValueError(f"no plan is right for {packed.shape} and {tokens} tokens")
    ordered = dict(sorted(took.items(), key=lambda pair: pair[1]))
    launch.TUNED[launch.tuning_key(X, packed)] = next(iter(ordered))
    return ordered


def save(path: str | Path) -> None:
    """What was tuned, of all cards, as JSON."""
    rows = [{"for": key, "plan": asdict(by)} for key, by in launch.TUNED.items()]
    Path(path).write_text(json.dumps(rows, indent=1))


def load(path: str | Path) -> None:
    """What `save` wrote, beside what was tuned since; of two for one form the file's.

    Raises ValueError if the file holds something else.
    """
    try:
        rows = json.loads(Path(path).read_text())
        found = {tuple(row["for"]): Plan(**row["plan"]) for row in rows}
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(
            f"path {path} holds no plans ({problem}); give what tuning.save wrote"
        ) from problem
    launch.TUNED.update(found)


def _median(run: Callable[[], Tensor]) -> float:
    """Seconds of a call on the GPU."""
    from minquant.kernels.triton_kernels import triton

    return triton.testing.do_bench(run, return_mode="median") / 1e3
