"""The packed product on a GPU, beside fp16 and what others have; then a whole model.

    python benchmarks/matmul.py [--tokens 1 4 16 64 256] [--bits 4] [--group 128]
                                [--tune] [--layers 32] [--only products]

For each shape: µs, TB/s (words, scales and zeros, X and Y all counted), the share of
the rate at which this card copies memory, and how many times faster than fp16 cuBLAS.
Peers that are installed are measured in the same run: tinygemm (in torch, bf16),
gemlite, bitsandbytes' NF4. Every product is first compared with float64; one that is
wrong is not timed.

A time is that of a CUDA graph with one product for each of several copies of the
matrix, together larger than the card's cache, so that none is read from there; the
median of 20 replays counts. `--tune` times other plans than the table's and prints the
best. Last, a random model of the shape of a 7 B Llama writes tokens: packed and fp16.

Without a GPU nothing is measured, and it says so. Exits with 1 when a product is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant import launch, matmul
from minquant.words import ZERO_BITS, PackedMatrix, block_size, dequantize

SHAPES = ((4096, 4096), (4096, 11008), (8192, 28672), (28672, 8192))  # out, in
TOKENS = (1, 4, 16, 64, 256)
REPLAYS = 20
WITHIN = {torch.float16: 1e-3, torch.bfloat16: 4e-3}
WIDTH, MLP, HEADS, VOCABULARY, CONTEXT = 4096, 11008, 32, 32000, 256  # of a 7 B Llama

Product = Callable[[Tensor], Tensor]


def random_packed(
    out: int,
    width: int,
    bits: int,
    g: int,
    device: str,
    zeros: bool = True,
) -> PackedMatrix:
    """A matrix of random codes, scaled so that outputs are as large as inputs."""
    n_groups, per_byte = width // g, 8 // ZERO_BITS[bits]
    n_words = -(-width // block_size(bits)) * 16
    words = torch.randint(-(2**31), 2**31, (out, n_words), device=device)
    spread = 0.4 * 2**bits * width**0.5
    scales = (torch.rand(out, n_groups, device=device) + 0.5) / spread
    made = torch.full((out, -(-n_groups // per_byte)), 0x88, device=device)
    return PackedMatrix(
        words.int(),
        scales.half(),
        made.to(torch.uint8) if zeros else None,
        bits,
        g,
        (out, width),
    )


# --- the ways to compute it: a matrix becomes a function of X ---


def ours(packed: PackedMatrix) -> tuple[Product, int]:
    """Our kernels: the product, and the bytes of the matrix."""
    return lambda X: matmul.matmul(X, packed, backend="triton"), packed.nbytes


def cublas(packed: PackedMatrix) -> tuple[Product, int]:
    """fp16 weights."""
    W = dequantize(packed, torch.float16)
    return lambda X: X @ W.T, W.nbytes


def tinygemm(packed: PackedMatrix) -> tuple[Product, int]:
    """torch's own 4-bit kernel for CUDA: bf16, an offset for each group."""
    codes = matmul.unpack_matrix(packed)
    pairs = codes[:, ::2] << 4 | codes[:, 1::2]  # the even code on top
    tiles = torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), 8)
    scales = packed.scales.T.bfloat16()
    scales = torch.stack([scales, torch.zeros_like(scales)], 2).contiguous()
    run = torch.ops.aten._weight_int4pack_mm
    size = tiles.nbytes + scales.nbytes
    return lambda X: run(X, tiles, packed.group_size, scales), size


def gemlite(packed: PackedMatrix) -> tuple[Product, int]:
    """Mobius Labs' Triton kernels."""
    from gemlite.core import DType, GemLiteLinear

    out, width = packed.shape
    layer = GemLiteLinear(
        packed.bits,
        group_size=packed.group_size,
        in_features=width,
        out_features=out,
        input_dtype=DType.FP16,
        output_dtype=DType.FP16,
    )
    zeros = torch.full_like(packed.scales, 2.0 ** (packed.bits - 1))
    layer.pack(matmul.unpack_matrix(packed), packed.scales, zeros, None)
    return layer, sum(t.nbytes for t in layer.state_dict().values())


def bitsandbytes(packed: PackedMatrix) -> tuple[Product, int]:
    """NF4 in blocks of 64; it is compared with its own dequantized weights."""
    import bitsandbytes as bnb

    W = dequantize(packed, torch.float16)
    codes, state = bnb.functional.quantize_4bit(W, quant_type="nf4")
    W_hat = bnb.functional.dequantize_4bit(codes, state).double()

    def product(X: Tensor) -> Tensor:
        return bnb.matmul_4bit(X, codes.t(), quant_state=state)

    product.W_hat = W_hat
    return product, codes.nbytes + state.absmax.nbytes


def ways(bits: int) -> Iterator[tuple[str, torch.dtype, Callable]]:
    """Name, dtype of X, and maker of each way that is there."""
    yield "fp16 cuBLAS", torch.float16, cublas
    yield "ours", torch.float16, ours
    yield "ours, bf16", torch.bfloat16, ours
    if bits == 4:
        yield "tinygemm, bf16", torch.bfloat16, tinygemm
    if find_spec("gemlite") and bits in (2, 4, 8):
        yield "gemlite", torch.float16, gemlite
    if find_spec("bitsandbytes") and bits == 4:
        yield "bitsandbytes", torch.float16, bitsandbytes


def error(product: Product, X: Tensor, packed: PackedMatrix) -> float:
    """‖Y − Y*‖ / ‖Y*‖ against float64."""
    Y = product(X).double()
    W_hat = getattr(product, "W_hat", None)
    W_hat = dequantize(packed, torch.float64) if W_hat is None else W_hat
    exact = X.double() @ W_hat.T
    return ((Y - exact).norm() / exact.norm()).item()


# --- time ---


def graph_seconds(run: Callable[[], object], replays: int = REPLAYS) -> float:
    """The median time of one replay of what `run` does, captured in a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # compile and warm up before the capture
        run()
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(replays + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times[3:])


def copy_rate() -> float:
    """Bytes per second, read and written, of a copy of 1 GB."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / graph_seconds(lambda: target.copy_(source))


def copies_of(nbytes: int) -> int:
    """How many copies of a matrix are larger than the cache: four at least."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(4, -(-3 * cache // nbytes))


def seconds(products: list[Product], X: Tensor) -> float:
    """The time of one product: all copies in turn, over their number."""
    return graph_seconds(lambda: [f(X) for f in products]) / len(products)


# --- the tables ---


def product_rows(out: int, width: int, args: argparse.Namespace, rate: float) -> bool:
    """Prints the rows of one matrix; whether all products were right."""
    right, base = True, {}
    for name, dtype, make in ways(args.bits):
        packed = random_packed(out, width, args.bits, args.group, "cuda", zeros=False)
        try:
            first, nbytes = make(packed)
            wrong = error(
                first, torch.randn(3, width, device="cuda", dtype=dtype), packed
            )
            rest = [make(packed)[0] for _ in range(copies_of(nbytes) - 1)]
        except Exception as problem:  # a peer may not run on this card: say so, go on
            print(f"  {name:15} does not run here: {type(problem).__name__}: {problem}")
            right &= make is not ours
            continue
        for n in args.tokens:
            X = torch.randn(n, width, device="cuda", dtype=dtype)
            wrong = error(first, X, packed)
            line = f"  {name:15} {n:4} tokens "
            if wrong > WITHIN[dtype]:
                print(f"{line} WRONG: {wrong:.1e} from float64, not timed")
                right &= make is not ours
                continue
            took = seconds([first, *rest], X)
            base.setdefault(n, took)
            moved = (nbytes + X.nbytes + 2 * n * out) / took
            print(
                f"{line}{took * 1e6:9.1f} µs {moved / 1e12:6.2f} TB/s "
                f"{moved / rate:6.1%} of copy {base[n] / took:6.2f}× fp16   {wrong:.0e}"
            )
        del first, rest
    return right


def candidates(n: int) -> Iterator[launch.Plan]:
    """Plans to try for n tokens; the kernel's own demands are kept."""
    if n == 1:
        for block_n, warps in itertools.product((2, 4, 8, 16), (1, 2, 4, 8)):
            yield launch.Plan(1, 1, "gemv", 1, block_n, 128 * warps, warps, 1)
    elif n <= 16:
        for block_n, split, stages in itertools.product(
            (16, 32, 64), (2, 4, 8), (2, 3, 4)
        ):
            block_m = 8 if n <= 8 else 16
            yield launch.Plan(n, 1, "skinny", block_m, block_n, split, split, stages)
    else:
        sizes = itertools.product((32, 64), (32, 64, 128), (4, 8), (2, 3, 4))
        for block_m, block_n, warps, stages in sizes:
            yield launch.Plan(n, 1, "gemm", block_m, block_n, 1, warps, stages)


def tune(out: int, width: int, args: argparse.Namespace) -> None:
    """Prints the three fastest plans for each number of tokens."""
    nbytes = random_packed(out, width, args.bits, args.group, "cuda").nbytes
    held = [
        random_packed(out, width, args.bits, args.group, "cuda")
        for _ in range(copies_of(nbytes))
    ]
    for n in args.tokens:
        X = torch.randn(n, width, device="cuda", dtype=torch.float16)
        took = []
        for by in candidates(n):
            try:
                wrong = error(
                    lambda X, by=by: launch.product(X, held[0], by), X, held[0]
                )
                runs = [lambda X, p=p, by=by: launch.product(X, p, by) for p in held]
                took += [(seconds(runs, X), by)] if wrong <= 1e-3 else []
            except Exception as problem:  # too large for this card's shared memory
                print(f"  {by}: {type(problem).__name__}")
        for best, by in sorted(took, key=lambda pair: pair[0])[:3]:
            print(f"  {n:4} tokens {best * 1e6:9.1f} µs  {by}")


# --- a whole model ---


class Decoder(nn.Module):
    """One step of a Llama of random weights: one token in, after a full context.

    make: turns (out, in) into the product of that matrix. No weights are shared between
    layers, so none stay in the cache from one to the next.
    """

    def __init__(
        self,
        make: Callable[[int, int], Product],
        layers: int,
        device: str = "cuda",
        dtype: torch.dtype = torch.float16,
        width: int = WIDTH,
        mlp: int = MLP,
        heads: int = HEADS,
        vocabulary: int = VOCABULARY,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = [
            {
                "qkv": make(3 * width, width),
                "o": make(width, width),
                "gate_up": make(2 * mlp, width),
                "down": make(width, mlp),
            }
            for _ in range(layers)
        ]
        kv = (layers, 2, 1, heads, CONTEXT, width // heads)
        self.cache = torch.randn(kv, device=device, dtype=dtype)
        self.embedding = torch.randn(vocabulary, width, device=device, dtype=dtype)
        self.head = (
            torch.randn(vocabulary, width, device=device, dtype=dtype) / width**0.5
        )

    def forward(self, token: Tensor) -> Tensor:
        """The next token (1,) after this one (1,); the same work for every token."""
        x, attend = self.embedding[token], nn.functional.scaled_dot_product_attention
        for block, (keys, values) in zip(self.blocks, self.cache, strict=True):
            q, k, v = block["qkv"](_norm(x)).view(3, 1, self.heads, 1, -1)
            keys[:, :, -1:], values[:, :, -1:] = k, v
            mixed = attend(q, keys, values).reshape(1, -1)
            x = x + block["o"](mixed)
            gate, up = block["gate_up"](_norm(x)).chunk(2, 1)
            x = x + block["down"](nn.functional.silu(gate) * up)
        return (_norm(x) @ self.head.T).argmax(1)


def _norm(x: Tensor) -> Tensor:
    return nn.functional.rms_norm(x, x.shape[-1:])


def decode_rows(args: argparse.Namespace) -> None:
    """Prints tokens per second of the model, fp16 and packed."""

    def packed(out: int, width: int) -> Product:
        return ours(random_packed(out, width, args.bits, args.group, "cuda"))[0]

    def plain(out: int, width: int) -> Product:
        W = torch.randn(out, width, device="cuda", dtype=torch.float16) / width**0.5
        return lambda X: X @ W.T

    print(f"decode, {args.layers} layers of a 7 B Llama, {CONTEXT} tokens of context")
    base = None
    for name, make in (("fp16", plain), (f"{args.bits} bits", packed)):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        try:
            model = Decoder(make, args.layers)
        except torch.cuda.OutOfMemoryError:
            print(f"  {name:8} does not fit this card; try --layers {args.layers // 2}")
            continue
        held = torch.cuda.memory_allocated() - before
        token = torch.zeros(1, dtype=torch.long, device="cuda")
        with torch.inference_mode():
            rate = 1 / graph_seconds(lambda m=model, t=token: m(t))
        base = base or rate
        print(
            f"  {name:8} {rate:8.1f} tokens/s  {rate / base:5.2f}× {held / 1e9:6.2f} GB"
        )
        del model


def main(given: list[str] | None = None) -> int:
    """Measure and print; 1 if a product of ours is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--bits", type=int, default=4, choices=sorted(ZERO_BITS))
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--tune", action="store_true", help="time other plans too")
    parser.add_argument("--layers", type=int, default=32, help="of the 7 B model")
    parser.add_argument("--only", choices=["products", "decode"])
    args = parser.parse_args(given)
    if not torch.cuda.is_available():
        print(
            "no GPU here: nothing was measured. Run this on a machine with a CUDA card"
        )
        return 0
    import triton

    rate, card = copy_rate(), torch.cuda.get_device_name()
    print(f"{card}, torch {torch.__version__}, triton {triton.__version__}; copies at")
    print(
        f"{rate / 1e12:.2f} TB/s; {args.bits} bits in groups of {args.group}, symmetric"
    )
    right = True
    for out, width in () if args.only == "decode" else SHAPES:
        print(f"{out} × {width}")
        right &= product_rows(out, width, args, rate)
        if args.tune:
            tune(out, width, args)
        torch.cuda.empty_cache()
    if args.only != "products":
        decode_rows(args)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
