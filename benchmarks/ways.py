"""The ways to multiply by packed weights that matmul.py compares: ours, and others'.

A way makes of a packed matrix what it computes with (`Made`): a product, and the list
of all tensors that the product reads, so that their bytes are counted, and so that
`copies` can see to it that no two copies lie in the same memory, where a card's cache
would keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from decode import Product
from torch import Tensor

from minquant.kernels import launch, matmul
from minquant.kernels.frozen_product import row_slices
from minquant.kernels.packed_words import PackedMatrix, dequantize, unpack_matrix
from minquant.layers.layouts import tensors_of, with_tensors

WITHIN = {torch.float16: 1e-3, torch.bfloat16: 4e-3}


@dataclass(frozen=True)
class Made:
    """A matrix as a way keeps it: the product, and every tensor of it that is read.

    W_hat: its own weights, where they are not those of the packed matrix. is_ours: then
    its errors are ours.
    """

    product: Product
    reads: Sequence[Tensor]
    W_hat: Callable[[], Tensor] | None = None
    is_ours: bool = False

    @property
    def nbytes(self) -> int:
        """What a product reads of the matrix."""
        return sum(tensor.nbytes for tensor in self.reads)


def ours(packed: PackedMatrix, by: launch.Plan | None = None) -> Made:
    """Our kernels, or one of them by a plan of its own."""
    held = list(tensors_of(packed).values())
    if by:
        return Made(lambda X: launch.product(X, packed, by), held, is_ours=True)
    run = partial(matmul.matmul, packed=packed, backend="triton")
    return Made(run, held, is_ours=True)


def cublas(packed: PackedMatrix) -> Made:
    """fp16 weights."""
    W = dequantize(packed, torch.float16)
    return Made(lambda X: X @ W.T, [W])


def tinygemm(packed: PackedMatrix) -> Made:
    """torch's own 4-bit kernel for CUDA: bf16, an offset for each group."""
    codes = unpack_matrix(packed)
    pairs = codes[:, ::2] << 4 | codes[:, 1::2]  # the even code on top
    tiles = torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), 8)
    scales = packed.scales.T.bfloat16()
    scales = torch.stack([scales, torch.zeros_like(scales)], 2).contiguous()
    run, g = torch.ops.aten._weight_int4pack_mm, packed.group_size
    return Made(lambda X: run(X, tiles, g, scales), [tiles, scales])


def gemlite(packed: PackedMatrix) -> Made:
    """Mobius Labs' Triton kernels."""
    from gemlite.core import DType, GemLiteLinear

    (out, width), g = packed.shape, packed.group_size
    layer = GemLiteLinear(packed.bits, g, width, out, DType.FP16, DType.FP16)
    zeros = torch.full_like(packed.scales, 2.0 ** (packed.bits - 1))
    layer.pack(unpack_matrix(packed), packed.scales, zeros, None)
    return Made(layer, [layer.W_q, layer.scales, layer.zeros])


def bitsandbytes(packed: PackedMatrix) -> Made:
    """NF4 in blocks of 64; it is compared with its own dequantized weights."""
    import bitsandbytes as bnb

    W = dequantize(packed, torch.float16)
    codes, state = bnb.functional.quantize_4bit(W, quant_type="nf4")
    return Made(
        lambda X: bnb.matmul_4bit(X, codes.t(), quant_state=state),
        [codes, state.absmax],
        lambda: bnb.functional.dequantize_4bit(codes, state),
    )


def ways(bits: int) -> Iterator[tuple[str, torch.dtype, Callable]]:
    """Name, dtype of X, and maker of each way that is there."""
    yield "fp16 cuBLAS", torch.float16, cublas
    yield "ours", torch.float16, ours
    yield "ours bf16", torch.bfloat16, ours
    if bits == 4:
        yield "tinygemm bf16", torch.bfloat16, tinygemm
    if find_spec("gemlite") and bits in (2, 4, 8):
        yield "gemlite", torch.float16, gemlite
    if find_spec("bitsandbytes") and bits == 4:
        yield "bitsandbytes", torch.float16, bitsandbytes


def error(
    product: Product,
    X: Tensor,
    packed: PackedMatrix,
    W_hat: Callable[[], Tensor] | None = None,
) -> float:
    """‖Y − Y*‖ / ‖Y*‖ against float64, some rows of the matrix at a time."""
    Y, own, off, size = product(X).double(), W_hat and W_hat(), 0, 0
    for rows in row_slices(packed.shape, launch.PART):
        W = dequantize(packed, torch.float64, rows) if own is None else own[rows]
        exact = X.double() @ W.double().T
        off += (Y[:, rows] - exact).square().sum()
        size += exact.square().sum()
    return (off / size).sqrt().item()


def judged(made: Made, X: Tensor, packed: PackedMatrix) -> float:
    """The error. ArithmeticError if ours is wrong; a peer may be, by its format."""
    wrong = error(made.product, X, packed, made.W_hat)
    if made.is_ours and not wrong <= WITHIN[X.dtype]:  # NaN is refused, too
        raise ArithmeticError(f"WRONG: {wrong:.1e} from float64, not timed")
    return wrong


def copies_of(nbytes: int) -> int:
    """How many copies of a matrix are larger than the cache: four at least."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(4, -(-3 * cache // nbytes))


def copies(make: Callable[[PackedMatrix], Made], packed: PackedMatrix) -> list[Made]:
    """The matrix more often than a cache holds it, each in memory of its own."""

    def another() -> Made:
        tensors = tensors_of(packed)
        return make(with_tensors(packed, {n: t.clone() for n, t in tensors.items()}))

    held = [another()]
    held += [another() for _ in range(copies_of(held[0].nbytes) - 1)]
    where = [t.data_ptr() for made in held for t in made.reads if t.numel()]
    if len(set(where)) < len(where):
        raise RuntimeError("copies share memory, and a cache would hold it")
    return held
