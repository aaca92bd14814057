"""Our methods beside those that others wrote, on the same layer: error and time.

    make peers                          # sets the peers up, and runs this
    make peers ON=--big                 # on a layer of 4096 × 4096, some minutes
    python benchmarks/methods.py [--big] [--only GPTQ] [--times 3] [--threads 1]

The layer is that of tests/fixture.py: seeded weights, and inputs of which a few columns
are twenty times the rest. `error` is mean((X (W_hat − W)ᵀ)²) on 1024 inputs that no
method has seen; `known` is what the methods' own authors' code was measured to leave
there, and `its` what the peer leaves in this run. All scales are float32, as theirs.

Ours and the peer's take turns in one process, and the fastest of some rounds counts. On
one thread that is processor time, so that other work on the machine matters little; on
more it is the clock's. Timed are the solve of GPTQ, with H given, and AWQ's search for
input scales, with X given. Ours also take the scales of the groups in that time. On the
big layer AWQ looks at the first 2048 of 8192 inputs.

Exits with 1 if an error is above `known` (by more than 1e-3 of it: which way a tie
falls depends on the order of a sum), if NF4 is not bit for bit the peer's, or if a time
is above its share of the peer's. Without peers errors are judged alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/golden")]
import peers
from helpers import fixture

from minquant.methods import rtn
from minquant.methods.awq import quantize_awq, quantize_scaled
from minquant.methods.gptq import quantize_gptq
from minquant.numerics import grids, groups
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.tensor import QuantizedTensor

FP32 = {"scale_dtype": torch.float32}
INT4 = grids.zero_point(4), groups.per_group(128)
SLACK = 1e-3
SHARE = 0.5  # of the peer's time, on the big layer
AWQ_ROWS = 2048  # of the big layer's inputs


@dataclass
class Peer:
    """What others wrote: the part that is timed, and how W_hat is had from it.

    differs: in how many bytes ours is not what it made, where none is allowed to.
    """

    name: str
    run: Callable[[], object]
    W_hat: Callable[[object], Tensor]
    differs: Callable[[QuantizedTensor, object], int] | None = None


@dataclass
class Case:
    """A method of ours, the error it may leave, a peer, and its share of whose time."""

    name: str
    known: float
    ours: Callable[[], QuantizedTensor]
    peer: Peer | None = None
    share: float = inf


def small(layer: fixture.Layer) -> Iterator[Case]:
    """All methods on the layer of 512 × 1024."""
    W, X, H = layer.W, layer.X_calibration, gram(layer.X_calibration)
    (int4, g128), row, g64 = INT4, groups.PER_CHANNEL, groups.per_group(64)
    plain = partial(rtn.quantize_rtn, W, **FP32)
    gptq = partial(quantize_gptq, W, H, granularity=g128, **FP32)
    awq = partial(quantize_awq, W, X, *INT4, **FP32)
    nf4 = partial(rtn.quantize_rtn, W, grids.NF4, g64)
    full, short = grids.symmetric_full(4), {"scale_dtype": DoubleQuantized.store}
    yield Case("RTN zero-point", 2.7919e-2, partial(plain, *INT4))
    yield Case("RTN symmetric_full", 3.3762e-2, partial(plain, full, g128))
    yield Case("RTN absmax", 3.724e-2, partial(plain, grids.absmax(4), g128))
    yield Case("RTN zero-point, per row", 4.2446e-2, partial(plain, int4, row))
    yield Case("GPTQ", 6.752e-3, partial(gptq, int4))
    static = partial(gptq, int4, static_groups=True)
    yield Case("GPTQ, static groups", 6.568e-3, static, llm_compressor(W, H, False))
    ordered = partial(gptq, int4, act_order=True)
    yield Case("GPTQ, act-order", 2.980e-3, ordered, llm_compressor(W, H, True))
    yield Case("GPTQ, 3 bits", 3.486e-2, partial(gptq, grids.zero_point(3)))
    yield Case("GPTQ, clip search", 5.882e-3, partial(gptq, int4, clip="mse"))
    yield Case("AWQ", 1.1946e-2, partial(awq, clip=None), torchao(W, X))
    yield Case("AWQ, clip search", 1.0497e-2, awq)
    yield Case("NF4", 2.3326e-2, partial(nf4, **FP32), bitsandbytes(W, False))
    in_8_bits = partial(nf4, **short)
    yield Case("NF4, 8-bit scales", 2.3341e-2, in_8_bits, bitsandbytes(W, True))


def big(layer: fixture.Layer) -> Iterator[Case]:
    """What takes long, on a layer of 4096 × 4096."""
    W, X, full = layer.W, layer.X_calibration, grids.symmetric_full(4)
    some = X[:AWQ_ROWS]
    plain = partial(rtn.quantize_rtn, W, **FP32)
    yield Case("RTN zero-point", 1.5588e-1, partial(plain, *INT4))
    yield Case("RTN symmetric_full", 1.8764e-1, partial(plain, full, INT4[1]))
    H = gram(X)
    gptq = partial(quantize_gptq, W, H, *INT4, **FP32)
    yield Case("GPTQ", 2.534e-2, gptq)
    ordered = partial(gptq, act_order=True)
    yield Case("GPTQ, act-order", 1.880e-2, ordered, llm_compressor(W, H, True), SHARE)
    awq = partial(quantize_awq, W, some, *INT4, clip=None, **FP32)
    yield Case("AWQ", 5.443e-2, awq, torchao(W, some), SHARE)


def gram(X: Tensor) -> Tensor:
    """H = XᵀX."""
    return X.T @ X


def llm_compressor(W: Tensor, H: Tensor, act_order: bool) -> Peer | None:
    """Its GPTQ, where it is installed. Its scales are fixed before the loop."""
    if not peers.ready("llmcompressor"):
        return None
    solve = peers.Gptq(W, H, act_order=act_order).solve
    return Peer("llm-compressor", solve, lambda W_hat: W_hat)


def torchao(W: Tensor, X: Tensor) -> Peer | None:
    """Its search for AWQ's input scales, under which we then round W."""

    def W_hat(s: Tensor) -> Tensor:
        return quantize_scaled(W, s, *INT4, torch.float32).dequantize()

    search = partial(peers.awq_scales, W, X)
    return Peer("torchao", search, W_hat) if peers.ready("torchao") else None


def bitsandbytes(W: Tensor, double: bool) -> Peer | None:
    """Its NF4, with scales in float32 or in 8 bits."""
    if not peers.ready("bitsandbytes"):
        return None
    run = partial(peers.nf4, W, double=double)
    differs = None if double else nf4_differs
    return Peer("bitsandbytes", run, lambda made: peers.nf4_back(*made), differs)


def nf4_differs(ours: QuantizedTensor, theirs: object) -> int:
    """In how many packed bytes and scales ours are not bitsandbytes'."""
    packed, state = theirs
    even, odd = ours.codes.reshape(-1, 2).unbind(1)
    wrong = ((even << 4) | odd) != packed.flatten()
    return int(wrong.sum() + (ours.scales.flatten() != state.absmax).sum())


def fastest(
    runs: Sequence[Callable[[], object]], times: int
) -> list[tuple[float, object]]:
    """The least seconds of each, and what it made; they take turns."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found: list[tuple[float, object]] = [(inf, None)] * len(runs)
    for _ in range(times):
        for i, run in enumerate(runs):
            start = clock()
            made = run()
            found[i] = min(found[i][0], clock() - start), made
    return found


def judge(case: Case, layer: fixture.Layer, times: int) -> bool:
    """Run a case and print its row; whether it meets its targets."""
    runs = [case.ours, *([case.peer.run] if case.peer else [])]
    (seconds, made), *others = fastest(runs, times)
    error = fixture.error(made.dequantize(), layer)
    missed = ["error"] if error > case.known * (1 + SLACK) else []
    row = f"{case.name:24}{case.known:11.4e}{error:11.4e}{seconds:8.2f}"
    for took, theirs in others:
        left, ratio = fixture.error(case.peer.W_hat(theirs), layer), seconds / took
        allowed = f"{case.share:9.2f}" if case.share < inf else f"{'':9}"
        row += f"  {case.peer.name:14}{left:11.4e}{took:8.2f}{ratio:7.2f}{allowed}"
        if ratio > case.share:
            missed.append("time")
        if case.peer.differs and (wrong := case.peer.differs(made, theirs)):
            missed.append(f"{wrong} bytes differ")
    print(
        row.rstrip() + (f"  MISSED: {', '.join(missed)}" if missed else ""), flush=True
    )
    return not missed


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--big", action="store_true", help="a layer of 4096 × 4096")
    parser.add_argument("--only", default="", help="methods with this in their name")
    parser.add_argument("--times", type=int, help="rounds; 3, and 1 with --big")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layer = fixture.layer(4096, 4096, 8192) if options.big else fixture.layer()
    times = options.times or (1 if options.big else 3)
    here = [package for package in peers.PARTS if peers.ready(package)]
    versions = ", ".join(f"{name} {v}" for name, v in peers.versions().items())
    print(f"{tuple(layer.W.shape)}, {options.threads} thread(s), best of {times}")
    print(f"load: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; {versions}")
    print(
        f"{'':24}{'known':>11}{'error':>11}{'s':>8}  {'peer':14}{'its error':>11}"
        f"{'its s':>8}{'ratio':>7}{'allowed':>9}"
    )
    cases = big(layer) if options.big else small(layer)
    cases = [case for case in cases if options.only in case.name]
    met = min([judge(case, layer, times) for case in cases])  # a miss stops none
    if not here:
        print("no peer is installed here: `make peers` measures beside them")
    print("every target is met" if met else "a target is missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
