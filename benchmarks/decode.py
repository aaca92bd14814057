"""A 7 B Llama of random weights writes tokens; and how `matmul` and it measure time.

    python benchmarks/matmul.py --only decode [--layers 32] [--bits 4] [--group 128]

What a user has is a model of layers, and Python that calls them one by one. So three
kinds of layer are timed, each with a CUDA graph of the whole step and without:

    nn.Linear      fp16, the base of each mode's ratios; 14 GB, of --layers 16 half
    matmul         the bare function on packed words
    QuantLinear    the layer around it

`host` is how long Python is busy with one call, card or no card: a step of 32 layers
has 128 of them, and without a graph no step is faster than they are together. Before
it is timed, one step of two layers is compared with the same weights in fp16.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant.kernels.matmul import matmul
from minquant.kernels.packed_words import (
    WORDS,
    PackedMatrix,
    blocks_per_row,
    dequantize,
)
from minquant.layers.linear import QuantLinear

REPLAYS, CALLS = 20, 200
WIDTH, MLP, HEADS, VOCABULARY, CONTEXT = 4096, 11008, 32, 32000, 256  # of a 7 B Llama
STEP_WITHIN = 1e-2  # both sides round to fp16, in each of eight products

Product = Callable[[Tensor], Tensor]
Maker = Callable[[int, int], Product]
Wrap = Callable[[PackedMatrix], Product]


def random_packed(
    out: int, width: int, bits: int, g: int, device: str = "cuda"
) -> PackedMatrix:
    """Random codes, symmetric, scaled so that outputs are as large as inputs."""
    n_words = WORDS * blocks_per_row(width, bits)
    words = torch.randint(-(2**31), 2**31, (out, n_words), device=device)
    spread = 0.4 * 2**bits * width**0.5
    scales = (torch.rand(out, width // g, device=device) + 0.5) / spread
    return PackedMatrix(words.int(), scales.half(), None, bits, g, (out, width))


def say(line: str) -> None:
    """Prints a line at once, so that an interrupted run has said what it knew."""
    print(line, flush=True)


def ratio(top: float | None, bottom: float | None) -> str:
    """How many times as large; "—" where one of the two is not known."""
    return "—" if top is None or bottom is None else f"{top / bottom:.2f}×"


def reason(problem: BaseException) -> str:
    """Type and first line of an error, and of those that led to it.

    Ends the run where the card's context is lost with it: nothing works after that.
    """
    said, seen = [], problem
    while seen is not None:
        lines = str(seen).strip().splitlines() or ["no message"]
        said.append(f"{type(seen).__name__}: {lines[0][:160]}")
        seen = seen.__cause__ or seen.__context__
    told = ", after ".join(dict.fromkeys(said))
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError as lost:
            raise SystemExit(
                f"{told}\nthe card's context is lost, so nothing more can be measured: "
                "run the rest by itself, with --only, --shapes and --tokens"
            ) from lost
    return told


# --- time ---


def graph_seconds(run: Callable[[], object], replays: int = REPLAYS) -> float:
    """The median time of one replay of what `run` does, captured in a CUDA graph.

    Two replays are started at once and the second is timed: while the first runs, the
    card need not wait for Python to start the other.
    """
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())  # what `run` reads is made there
    with torch.cuda.stream(stream):  # and the stream is left where a capture fails, too
        run()  # compile and warm up before the capture
        run()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            run()
    times = []
    for _ in range(replays + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times[3:])


def eager_seconds(run: Callable[[], object], steps: int = REPLAYS) -> float:
    """The median time of a step of which Python starts each kernel, and waits."""
    times = []
    for _ in range(steps + 3):
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[3:])


def host_seconds(run: Callable[[], object], calls: int = CALLS) -> float:
    """How long Python is busy with one call: so few that the card's queue takes all."""
    for _ in range(20):
        run()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begun) / calls


# --- the model ---


class Decoder(nn.Module):
    """One step of a Llama of random weights: one token in, after a full context.

    make: turns (out, in) into the product of that matrix. No weights are shared between
    layers, so none stay in the cache from one to the next.
    """

    def __init__(
        self,
        make: Maker,
        layers: int,
        device: str = "cuda",
        dtype: torch.dtype = torch.float16,
        width: int = WIDTH,
        mlp: int = MLP,
        heads: int = HEADS,
        vocabulary: int = VOCABULARY,
    ) -> None:
        super().__init__()
        shapes = {"qkv": (3 * width, width), "o": (width, width)}
        shapes |= {"gate_up": (2 * mlp, width), "down": (width, mlp)}
        self.blocks = [{k: make(*s) for k, s in shapes.items()} for _ in range(layers)]
        self.heads, new = heads, {"device": device, "dtype": dtype}
        kv = (layers, 2, 1, heads, CONTEXT, width // heads)
        self.cache = torch.randn(kv, **new)
        self.embedding = torch.randn(vocabulary, width, **new)
        self.head = torch.randn(vocabulary, width, **new) / width**0.5

    def forward(self, token: Tensor) -> Tensor:
        """The next token (1,) after this one (1,); the same work for every token."""
        return self.logits(token).argmax(1)

    def logits(self, token: Tensor) -> Tensor:
        """(1, vocabulary); the last place of the context is overwritten."""
        x, attend = self.embedding[token], nn.functional.scaled_dot_product_attention
        for block, (keys, values) in zip(self.blocks, self.cache, strict=True):
            q, k, v = block["qkv"](_norm(x)).view(3, 1, self.heads, 1, -1)
            keys[:, :, -1:], values[:, :, -1:] = k, v
            mixed = attend(q, keys, values).reshape(1, -1)
            x = x + block["o"](mixed)
            gate, up = block["gate_up"](_norm(x)).chunk(2, 1)
            x = x + block["down"](nn.functional.silu(gate) * up)
        return _norm(x) @ self.head.T


def _norm(x: Tensor) -> Tensor:
    return nn.functional.rms_norm(x, x.shape[-1:])


def bare(packed: PackedMatrix) -> Product:
    """The function alone."""
    return lambda X: matmul(X, packed, backend="triton")


def layer(packed: PackedMatrix) -> Product:
    """What stands in a quantized model."""
    return QuantLinear.around(packed, ruler="random codes")


@torch.inference_mode()
def step_error(wrap: Wrap, bits: int, g: int, **shape: Any) -> float:
    """‖Y − Y*‖ / ‖Y*‖ of a step's logits; Y* has W_hat in floats. shape: Decoder's."""
    made, device = [], shape.get("device", "cuda")

    def packed(out: int, width: int) -> Product:
        made.append(random_packed(out, width, bits, g, device))
        return wrap(made[-1])

    def plain(out: int, width: int) -> Product:
        W_hat = dequantize(made.pop(0), shape.get("dtype", torch.float16))
        return lambda X: X @ W_hat.T

    model, other = Decoder(packed, 2, **shape), Decoder(plain, 2, **shape)
    other.cache, other.embedding = model.cache.clone(), model.embedding
    other.head, token = model.head, torch.zeros(1, dtype=torch.long, device=device)
    Y, exact = (m.logits(token).double() for m in (model, other))
    return ((Y - exact).norm() / exact.norm()).item()


@torch.inference_mode()
def rows(args: argparse.Namespace, device: str = "cuda", **shape: Any) -> bool:
    """Prints tokens per second; whether all of ours were right, and ran."""
    say(f"decode, {args.layers} layers of a 7 B Llama, {CONTEXT} tokens of context")
    like = {"device": device, "dtype": torch.float16}
    token = torch.zeros(1, dtype=torch.long, device=device)
    right, base = True, {}

    def made_by(wrap: Wrap | None) -> Maker:
        if wrap is None:
            return lambda out, width: nn.Linear(width, out, bias=False, **like)
        wrong = step_error(wrap, args.bits, args.group, **like, **shape)
        if not wrong <= STEP_WITHIN:  # NaN is refused, too
            raise ArithmeticError(f"WRONG: a step is {wrong:.1e} from fp16, not timed")
        how = args.bits, args.group, device
        return lambda out, width: wrap(random_packed(out, width, *how))

    for name, wrap in (("nn.Linear", None), ("matmul", bare), ("QuantLinear", layer)):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        try:
            make = made_by(wrap)
            model = Decoder(make, args.layers, **like, **shape)
            held = (torch.cuda.memory_allocated() - before) / 1e9
            one, X = model.blocks[0]["o"], model.embedding[:1]
            host = host_seconds(partial(one, X)) * 1e6
            say(f"  {name:12} {held:6.2f} GB, host {host:.1f} µs a call")
            for mode, clock in (("graph", graph_seconds), ("eager", eager_seconds)):
                try:
                    rate = 1 / clock(partial(model, token))
                except Exception as problem:
                    say(f"  {name:12} {mode} FAILED: {reason(problem)}")
                    right &= wrap is None
                    continue
                if wrap is None:
                    base[mode] = rate
                times = ratio(rate, base.get(mode))
                say(f"  {name:12} {mode} {rate:8.1f} tokens/s {times:>7} nn.Linear")
        except Exception as problem:  # fp16 may not fit the card: say so, and go on
            say(f"  {name:12} FAILED: {reason(problem)}")
            right &= wrap is None
        model = one = X = None  # before the next takes its memory
    return right
