"""The packed product on a GPU, beside fp16 and what others have; then a whole model.

    python benchmarks/matmul.py [--shapes 4096x4096 8192x28672] [--tokens 1 4 16 64 256]
        [--bits 4] [--group 128] [--only products | decode] [--tune] [--layers 32]

For each shape (out x in): µs, TB/s (words, scales, X and Y all counted), the share of
the rate at which this card copies memory, how many times faster than fp16 cuBLAS, and
the error from float64; then how many times faster ours is than each of the others.
Peers that are installed are measured in the same run: tinygemm (in torch, bf16),
gemlite, bitsandbytes' NF4, which is held to its own weights. Ours is not timed where it
is wrong; a peer's numbers may be of another format, so it is timed and marked with *.

A time is that of a CUDA graph with one product for each of several copies of the
matrix, together larger than the card's cache, so that none is read from there; the
median of 20 replays counts. `decode` measures a model. `--tune` measures neither: it
times other plans than `launch.TABLE`'s, prints each, and the three best at the end.

Each line is printed when it is known, so an interruption loses nothing. Not yet run on
a card, so how long it takes is an estimate: most of it is compiling, once, 22 kernels,
and 236 for --tune, of 0.3 to 3 seconds each on one core of a server. So --tune may pass
10 minutes; give it --shapes and --tokens one by one. gemlite, where it is installed,
searches for plans of its own, and may take longest of all.

Without a GPU nothing is measured, and it says so. Exits with 1 when a product of ours
is wrong or fails; a peer may be absent, or fail.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
import decode
from decode import graph_seconds, random_packed, ratio, reason, say
from ways import WITHIN, Made, copies, judged, ours, ways

from minquant.kernels.launch import Plan
from minquant.kernels.packed_words import ZERO_BITS
from minquant.kernels.tuning import candidates

SHAPES = ((4096, 4096), (4096, 11008), (8192, 28672), (28672, 8192))  # out, in
TOKENS = (1, 4, 16, 64, 256)
# --- time ---


def copy_rate() -> float:
    """Bytes per second, read and written, of a copy of 1 GB."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / graph_seconds(lambda: target.copy_(source))


def seconds(held: list[Made], X: Tensor) -> float:
    """The time of one product: all copies in turn, over their number."""
    return graph_seconds(lambda: [made.product(X) for made in held]) / len(held)


# --- the tables ---


def product_rows(
    out: int, width: int, args: argparse.Namespace, rate: float, device: str = "cuda"
) -> bool:
    """Prints the rows of one matrix; whether all of ours were right, and ran."""
    right, took = True, {}  # name → tokens → seconds
    say(f"{out} × {width}")
    say("  way           tokens        µs    TB/s  of copy     fp16    error")
    for name, dtype, make in ways(args.bits):
        held, took[name] = None, {}  # one way at a time is in memory
        random = partial(torch.randn, device=device, dtype=dtype)
        try:
            packed = random_packed(out, width, args.bits, args.group, device)
            held = copies(make, packed)
            if make is ours:
                judged(held[0], random(3, width), packed)
        except Exception as problem:  # a peer may not run on this card: say so, go on
            say(f"  {name:13} does not run here: {reason(problem)}")
            right &= make is not ours
            continue
        for n in args.tokens:
            try:
                X = random(n, width)
                wrong = judged(held[0], X, packed)
                spent = took[name][n] = seconds(held, X)
            except Exception as problem:
                say(f"  {name:13} {n:6}   {reason(problem)}")
                right &= make is not ours
                continue
            moved = (held[0].nbytes + X.nbytes + 2 * n * out) / spent
            times = ratio(took.get("fp16 cuBLAS", {}).get(n), spent)
            say(
                f"  {name:13} {n:6} {spent * 1e6:9.1f} {moved / 1e12:7.2f} "
                f"{moved / rate:8.1%} {times:>8} {wrong:8.0e}"
                f"{'' if wrong <= WITHIN[dtype] else ' *'}"
            )
    for n in args.tokens:
        say(f"  ours, {n} tokens: {against(took, n)}")
    return right


def against(took: dict[str, dict[int, float]], n: int) -> str:
    """How many times faster ours is than each other way; bf16 peers meet our bf16."""
    others = [name for name in took if not name.startswith("ours")]
    mine = {name: "ours bf16" if name.endswith("bf16") else "ours" for name in others}
    times = {o: ratio(took[o].get(n), took[mine[o]].get(n)) for o in others}
    return ", ".join(f"{times[name]} {name}" for name in others)


# --- other plans ---


def tune(out: int, width: int, args: argparse.Namespace, device: str = "cuda") -> bool:
    """Prints each plan as it is timed, then the three best; whether none was wrong.

    A plan that does not compile, or is too large for the card, is no fault.
    """
    right, packed = True, random_packed(out, width, args.bits, args.group, device)
    say(f"{out} × {width}, other plans")
    for n in args.tokens:
        X, took = torch.randn(n, width, device=device, dtype=torch.float16), []
        for by in candidates(n):
            row = f"  {n:6} tokens  {named(by):42}"
            try:
                held = copies(partial(ours, by=by), packed)
                judged(held[0], X, packed)
                took.append((seconds(held, X), row))
                say(f"{row} {took[-1][0] * 1e6:9.1f} µs")
            except Exception as problem:
                say(f"{row} {reason(problem)}")
                right &= not isinstance(problem, ArithmeticError)
        for spent, row in sorted(took)[:3]:
            say(f"best{row[4:]} {spent * 1e6:9.1f} µs")
    return right


def named(by: Plan) -> str:
    """The plan's numbers, by name."""
    sizes = f"{by.block_m} × {by.block_n}, split {by.split}"
    return f"{by.kernel} {sizes}, {by.num_warps} warps, {by.num_stages} stages"


# --- the run ---


def header(given: Sequence[str], args: argparse.Namespace, rate: float) -> None:
    """Prints what a table has to say of the machine, and of how it was made."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(
            ask, capture_output=True, encoding="utf-8", check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        told = ""
    driver = (told.split() or ["unknown"])[0]
    card = torch.cuda.get_device_properties(0)
    say(f"$ python benchmarks/matmul.py {shlex.join(given)}".rstrip())
    say(
        f"{card.name}, sm_{card.major}{card.minor}, driver {driver}, CUDA "
        f"{torch.version.cuda}, torch {torch.__version__}, triton {of('triton')}"
    )
    say(f"peers: gemlite {of('gemlite')}, bitsandbytes {of('bitsandbytes')}, tinygemm")
    say(
        f"{args.bits} bits in groups of {args.group}, symmetric: no zeros; a copy runs "
        f"at {rate / 1e12:.2f} TB/s"
    )
    say("errors are from float64; * is more than ours may have: 1e-3, in bf16 4e-3")


def of(package: str) -> str:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def shape(text: str) -> tuple[int, int]:
    """Out and in: 4096x11008 is (4096, 11008)."""
    if not re.fullmatch(r"\d+[x×]\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r}; give OUTxIN, such as 4096x11008")
    out, width = re.split("[x×]", text)
    return int(out), int(width)


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a product of ours is wrong or fails."""
    given = sys.argv[1:] if given is None else given
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=shape, nargs="+", default=SHAPES)
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--bits", type=int, default=4, choices=sorted(ZERO_BITS))
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--layers", type=int, default=32, help="of the 7 B model")
    parser.add_argument("--only", choices=["products", "decode"])
    parser.add_argument("--tune", action="store_true", help="time other plans instead")
    args = parser.parse_args(given)
    if odd := [
        width for _, width in args.shapes if args.group < 1 or width % args.group
    ]:
        parser.error(f"--group {args.group} does not divide {odd[0]} inputs")
    if min(args.tokens) < 1:
        parser.error(f"--tokens {min(args.tokens)}; give 1 or more")
    if not torch.cuda.is_available():
        say("no GPU here: nothing was measured. Run this on a machine with a CUDA card")
        return 0
    rate, right = copy_rate(), True
    header(given, args, rate)
    for out, width in () if args.only == "decode" and not args.tune else args.shapes:
        if args.tune:
            right &= tune(out, width, args)
        else:
            right &= product_rows(out, width, args, rate)
        torch.cuda.empty_cache()
    if not args.tune and args.only != "products":
        right &= decode.rows(args)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
