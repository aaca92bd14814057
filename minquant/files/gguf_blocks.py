"""The blocks of GGUF: how llama.cpp stores the weights of a matrix, type by type.

A row is cut into blocks of 32 or 256 weights. Each block is stored by itself, its
scale beside its codes, so a row is one stretch of bytes:

    type    a block holds                                a weight is   bits per weight
    F32     one number                                                           32
    F16     one number                                                           16
    BF16    one number                                                           16
    Q8_0    32 weights: fp16 d, 32 bytes q               w = q · d              8.5
    Q5_0    32 weights: fp16 d, 32 codes of 5 bits       w = (q − 16) · d       5.5
    Q4_1    32 weights: fp16 d and m, 32 codes of 4 bits w = q · d + m          5.0
    Q4_0    32 weights: fp16 d, 32 codes of 4 bits       w = (q − 8) · d        4.5
    Q6_K    256 weights: fp16 d, 16 scales of 8 bits,    w = (q − 32) · d · s   6.5625
            one for each 16 weights, 256 codes of 6 bits
    Q4_K    256 weights: fp16 d and dmin, 8 scales and   w = q · d · s          4.5
            8 minimums of 6 bits, one pair for each 32       − dmin · m
            weights, 256 codes of 4 bits

q is the code, d the scale, m a minimum; in a K type s and m are the scale and minimum
of a small block. Codes of 4 bits lie two in a byte: in a block of 32 the low half of
byte i is weight i, and the high half weight i + 16.

The types without a K are rounded to nearest. Q8_0 has an absmax ruler, and Q4_1 one
from the lowest weight to the highest. Q4_0 and Q5_0 use the sign of the extreme: Q4_0
sets d to the weight with the largest size divided by −8, so that this weight gets code
0 and all 16 codes are in use. An absmax ruler of ours leaves one code unused.

The K types store their scales in 6 or 8 bits, relative to one fp16 number for 256
weights. That is double quantization, as in QLoRA, at another size. Their codes are
found by a search. For each small block, some candidate scales are tried. Under each one
the weights are rounded, and then the scale (and for Q4_K the minimum) that suits these
codes best is computed by least squares. The pair with the least error wins:

    error = Σ importance · (w − w_hat)²

`importance` says how much an error in each column of W matters. The diagonal of H = XᵀX
is the right choice: column j adds (w − w_hat)² · H[j, j] to the outputs' error as long
as inputs do not vary together. llama.cpp calls it the *imatrix*. Without one, larger
weights count a little more.

Rounding of the types without a K follows llama.cpp's arithmetic operation by operation,
so the bytes are the same. Here and there it differs from the rest of the package: codes
are computed against d before it is stored in fp16, and ties go away from 0.

There is one exception, in all types: llama.cpp lets a d below 2^-25 become 0, and loses
weights up to 127 · 2^-25. Here every d is 0 or at least 2^-24, the smallest that fp16
holds, so weights that are almost 0 err by half of that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

Blocks = Float[Tensor, "n block"]
Bytes = UInt8[Tensor, "n bytes"]


@dataclass(frozen=True)
class BlockType:
    """One way to store weights. number: what GGUF files call it. weights, nbytes: of a
    block."""

    name: str
    number: int
    weights: int
    nbytes: int

    @property
    def bits_per_weight(self) -> float:
        """All that a block stores, over its weights."""
        return 8 * self.nbytes / self.weights


TYPES = {
    kind.name: kind
    for kind in (
        BlockType("F32", 0, 1, 4),
        BlockType("F16", 1, 1, 2),
        BlockType("Q4_0", 2, 32, 18),
        BlockType("Q4_1", 3, 32, 20),
        BlockType("Q5_0", 6, 32, 22),
        BlockType("Q8_0", 8, 32, 34),
        BlockType("Q4_K", 12, 256, 144),
        BlockType("Q6_K", 14, 256, 210),
        BlockType("BF16", 30, 1, 2),
    )
}


def block_type(name: str) -> BlockType:
    """A type by its name. Raises ValueError for one that is not in the table above."""
    if name not in TYPES:
        raise ValueError(f"type is {name!r}; there are {', '.join(TYPES)}")
    return TYPES[name]


_AT_A_TIME = 2**15  # blocks, so that embeddings take no five times their memory


def quantize_blocks(
    W: Float[Tensor, "rows width"],
    name: str,
    importance: Float[Tensor, " columns"] | None = None,
) -> UInt8[Tensor, "rows bytes"]:
    """A matrix as rows of blocks of one type.

    importance: for the K types, how much an error in each column matters; the module
    says how to choose it. The other types take no notice of it, as in llama.cpp.

    Raises ValueError if the type is unknown, if its block does not divide the width, if
    W or importance is not finite, or if a scale is too large for fp16.

    >>> W = torch.arange(32.0)[None] - 16
    >>> quantize_blocks(W, "Q4_0")[0, :4]  # d = −16 / −8 = 2, and then codes
    tensor([  0,  64, 128, 145], dtype=torch.uint8)
    """
    kind = block_type(name)
    rows, width = W.shape
    if width % kind.weights:
        raise ValueError(
            f"W has rows of {width} weights, and a block of {name} has {kind.weights}; "
            "take a type whose block divides them, such as Q4_0 or Q8_0 (32)"
        )
    if not W.isfinite().all():
        raise ValueError(
            f"W holds {int((~W.isfinite()).sum())} NaN or infinite weights"
        )
    x = W.detach().float().reshape(-1, kind.weights)
    parts = x.split(_AT_A_TIME)
    if name in _SEARCHED:
        weights = _importance_of(x, importance, rows, width).split(_AT_A_TIME)
        blocks = list(map(_SEARCHED[name], parts, weights))
    else:
        blocks = list(map(_ROUNDED[name], parts))
    return torch.cat(blocks).reshape(rows, -1)


def dequantize_blocks(
    data: UInt8[Tensor, "rows bytes"], name: str
) -> Float[Tensor, "rows width"]:
    """What rows of blocks stand for, in float32.

    Raises ValueError if the type is unknown or a row is no whole number of blocks.
    """
    kind = block_type(name)
    if data.shape[1] % kind.nbytes:
        raise ValueError(
            f"data has rows of {data.shape[1]} bytes; a block of {name} has "
            f"{kind.nbytes}"
        )
    return _READ[name](data.reshape(-1, kind.nbytes)).reshape(len(data), -1)


def _importance_of(
    x: Blocks, importance: Float[Tensor, " columns"] | None, rows: int, width: int
) -> Blocks:
    """How much each weight's error counts, all of them positive."""
    if importance is None:
        # larger weights count a little more: what is large in W tends to matter
        return x.square().mean(1, keepdim=True).sqrt() + x.abs() + 1e-30
    if importance.shape != (width,) or not importance.isfinite().all():
        raise ValueError(
            f"importance has shape {tuple(importance.shape)}; give {width} finite "
            "numbers, one for each column, such as H.diagonal()"
        )
    if (importance < 0).any():
        raise ValueError("importance holds negative numbers; give H.diagonal()")
    mean = importance.double().mean()
    # only proportions matter, and a column that calibration never saw is worth a little
    shares = importance.detach() / mean + 1e-6 if mean > 0 else torch.ones(width)
    return shares.to(x).expand(rows, width).reshape(x.shape)


# --- bytes ---


def _fp16(numbers: Float[Tensor, "n k"]) -> UInt8[Tensor, "n 2*k"]:
    stored = numbers.half()
    if stored.isinf().any():
        raise ValueError(
            f"W needs {numbers.abs().max():.3g} in fp16, which ends at 65504; make W "
            "smaller, or take BF16"
        )
    return stored.contiguous().view(torch.uint8)


def _read_fp16(data: Bytes) -> Float[Tensor, "n k"]:
    return data.contiguous().view(torch.float16).float()


def _nibbles(codes: Num[Tensor, "n pairs"]) -> UInt8[Tensor, "n bytes"]:
    """Two codes of 4 bits in a byte: code i low, code i + half high."""
    low, high = codes.to(torch.uint8).chunk(2, 1)
    return (low & 15) | ((high & 15) << 4)


def _read_nibbles(data: Bytes) -> UInt8[Tensor, "n pairs"]:
    return torch.cat([data & 15, data >> 4], 1)


# --- types that are rounded to nearest ---


def _lifted(d: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """d, but where it is smaller than all numbers of fp16, the smallest: 2^-24."""
    return torch.where(d == 0, d, d.abs().clamp(min=2.0**-24).copysign(d))


def _inverse(d: Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
    return torch.where(d == 0, 0.0, 1 / d)


def _signed_extreme(x: Blocks) -> Float[Tensor, "n 1"]:
    return x.gather(1, x.abs().argmax(1, keepdim=True))


def _q8_0(x: Blocks) -> Bytes:
    d = _lifted(x.abs().amax(1, keepdim=True) / 127)
    scaled = x * _inverse(d)
    codes = scaled.sign() * (scaled.abs() + 0.5).floor()  # ties away from 0
    return codes_as_q8_0(codes, d)


def _q4_0(x: Blocks) -> Bytes:
    d = _lifted(_signed_extreme(x) / -8)
    return codes_as_q4_0((x * _inverse(d) + 8.5).trunc().clamp(0, 15) - 8, d)


def _q4_1(x: Blocks) -> Bytes:
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    d = _lifted((high - low) / 15)
    return codes_as_q4_1(((x - low) * _inverse(d) + 0.5).trunc().clamp(0, 15), d, low)


def _q5_0(x: Blocks) -> Bytes:
    d = _lifted(_signed_extreme(x) / -16)
    return codes_as_q5_0((x * _inverse(d) + 16.5).trunc().clamp(0, 31) - 16, d)


# --- codes into bytes ---


def codes_as_q8_0(codes: Num[Tensor, "n 32"], d: Float[Tensor, "n 1"]) -> Bytes:
    """Codes −128 … 127 and scales as blocks of Q8_0."""
    return torch.cat([_fp16(d), codes.to(torch.int8).view(torch.uint8)], 1)


def codes_as_q4_0(codes: Num[Tensor, "n 32"], d: Float[Tensor, "n 1"]) -> Bytes:
    """Codes −8 … 7 and scales as blocks of Q4_0."""
    return torch.cat([_fp16(d), _nibbles(codes + 8)], 1)


def codes_as_q4_1(
    codes: Num[Tensor, "n 32"], d: Float[Tensor, "n 1"], m: Float[Tensor, "n 1"]
) -> Bytes:
    """Codes 0 … 15, scales and minimums as blocks of Q4_1: w = code · d + m."""
    return torch.cat([_fp16(d), _fp16(m), _nibbles(codes)], 1)


def codes_as_q5_0(codes: Num[Tensor, "n 32"], d: Float[Tensor, "n 1"]) -> Bytes:
    """Codes −16 … 15 and scales as blocks of Q5_0."""
    codes = (codes + 16).to(torch.uint8)
    place = torch.arange(8, device=codes.device)
    fifth = (codes >> 4).view(len(codes), 4, 8).int() << place  # bit i: of weight i
    return torch.cat([_fp16(d), fifth.sum(2).to(torch.uint8), _nibbles(codes)], 1)


_ROUNDED: dict[str, Callable[[Blocks], Bytes]] = {
    "F32": lambda x: x.contiguous().view(torch.uint8),
    "F16": _fp16,
    "BF16": lambda x: x.bfloat16().contiguous().view(torch.uint8),
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
}


# --- types that are searched ---


def _q4_k(x: Float[Tensor, "n 256"], importance: Float[Tensor, "n 256"]) -> Bytes:
    groups, weight = x.view(-1, 8, 32), importance.view(-1, 8, 32)
    scale, minimum = map(_lifted, _scale_and_minimum(groups, weight, top=15))
    # an error in a scale is multiplied by the codes, one in a minimum counts once
    step = scale[:, :, None]
    codes = torch.where(step > 0, (groups + minimum[:, :, None]) / step, 0.0)
    d, s = _six_bits(scale, (weight * codes.square()).sum(2))
    dmin, m = _six_bits(minimum, weight.sum(2))
    d, dmin = _fp16(d), _fp16(dmin)
    step = (_read_fp16(d) * s)[:, :, None]  # as it is stored
    low = (_read_fp16(dmin) * m)[:, :, None]
    codes = torch.where(step > 0, (groups + low) / step, 0.0).round().clamp(0, 15)
    # two groups of 32 share 32 bytes, the first in the low halves
    packed = _nibbles(codes.reshape(-1, 64)).view(len(x), 128)
    return torch.cat([d, dmin, _pack_sixes(s, m), packed], 1)


def _scale_and_minimum(
    x: Float[Tensor, "n k g"], weight: Float[Tensor, "n k g"], top: int
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """For each group the scale and the minimum ≥ 0 with the least weighted error of
    w = code · scale − minimum, codes 0 … top. Search: the module."""
    low = x.amin(2, keepdim=True).clamp(max=0)
    reach = x.amax(2, keepdim=True) - low
    w, wx = weight.sum(2), (weight * x).sum(2)
    best_scale, best_low = (reach / top).squeeze(2), low.squeeze(2)
    least = torch.full_like(best_scale, torch.inf)
    for shift in [-1 + i / 10 for i in range(21)]:
        inverse = torch.where(reach > 0, (top + shift) / reach, 0.0)
        codes = ((x - low) * inverse).round().clamp(0, top)
        wl, wll = (weight * codes).sum(2), (weight * codes * codes).sum(2)
        wxl = (weight * x * codes).sum(2)
        # least squares for x ≈ codes · a + b
        det = w * wll - wl * wl
        solvable = det > 0
        a = torch.where(solvable, (w * wxl - wx * wl) / det, best_scale)
        b = torch.where(solvable, (wll * wx - wl * wxl) / det, best_low)
        positive = b > 0  # the minimum is subtracted and has no sign: b is 0 then
        a = torch.where(positive & (wll > 0), wxl / wll, a)
        b = b.clamp(max=0)
        error = (weight * (codes * a[:, :, None] + b[:, :, None] - x).square()).sum(2)
        better = (error < least) & (a >= 0)
        least = torch.where(better, error, least)
        best_scale = torch.where(better, a, best_scale)
        best_low = torch.where(better, b, best_low)
    return best_scale, -best_low


def _six_bits(
    numbers: Float[Tensor, "n 8"], weight: Float[Tensor, "n 8"]
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 8"]]:
    """d and s = 0 … 63 with the least weighted error of numbers ≈ d · s, numbers ≥ 0.

    Tried: largest number / top for tops around 63, each with the best d for its s.
    """
    largest = numbers.amax(1, keepdim=True)
    best_d = _lifted(largest / 63)
    best_s = (numbers * _inverse(best_d)).round()
    least = torch.full_like(best_d, torch.inf)
    for top in [50 + i / 4 for i in range(56)]:
        s = (numbers * _inverse(_lifted(largest / top))).round().clamp(0, 63)
        square = (weight * s * s).sum(1, keepdim=True)
        d = torch.where(
            square > 0, (weight * s * numbers).sum(1, keepdim=True) / square, 0
        )
        d = _lifted(d).half().float()  # as it is stored
        error = (weight * (d * s - numbers).square()).sum(1, keepdim=True)
        best_s = torch.where(error < least, s, best_s)
        best_d = torch.where(error < least, d, best_d)
        least = least.minimum(error)
    return best_d, best_s


def _pack_sixes(
    s: Float[Tensor, "n 8"], m: Float[Tensor, "n 8"]
) -> UInt8[Tensor, "n 12"]:
    """Eight scales and eight minimums of 6 bits in 12 bytes.

    Bytes 0-3 hold the first four scales and bytes 4-7 the first four minimums, in their
    low 6 bits. Of the last four the low 4 bits are in bytes 8-11, scale low and minimum
    high, and the top 2 bits are on top of bytes 0-7.
    """
    s, m = s.to(torch.uint8), m.to(torch.uint8)
    return torch.cat(
        [
            s[:, :4] | ((s[:, 4:] >> 4) << 6),
            m[:, :4] | ((m[:, 4:] >> 4) << 6),
            (s[:, 4:] & 15) | ((m[:, 4:] & 15) << 4),
        ],
        1,
    )


def _read_sixes(
    data: UInt8[Tensor, "n 12"],
) -> tuple[Float[Tensor, "n 8"], Float[Tensor, "n 8"]]:
    first, second, last = data.split(4, 1)
    s = torch.cat([first & 63, (last & 15) | ((first >> 6) << 4)], 1)
    m = torch.cat([second & 63, (last >> 4) | ((second >> 6) << 4)], 1)
    return s.float(), m.float()


def _q6_k(x: Float[Tensor, "n 256"], importance: Float[Tensor, "n 256"]) -> Bytes:
    groups, weight = x.view(-1, 16, 16), importance.view(-1, 16, 16)
    scale = _lifted(_signed_scale(groups, weight, half=32))  # (n, 16)
    d = _signed_extreme(scale) / -128
    # fp16's numbers below 2^-14 are 2^-24 apart: take the next above, so no s is cut
    up = (d * 2.0**24).abs().ceil().copysign(d) / 2.0**24
    d = torch.where(d.abs() < 2.0**-14, up, d)
    s = (scale * _inverse(d)).round().clamp(-128, 127)
    d = _fp16(d)
    step = (_read_fp16(d) * s)[:, :, None]
    codes = torch.where(step != 0, groups / step, 0.0).round().clamp(-32, 31) + 32
    codes = codes.to(torch.uint8).view(len(x), 2, 4, 32)  # halves of 128, 4 runs of 32
    # the low 4 bits of runs 0 and 2 share 32 bytes, and those of runs 1 and 3; the top
    # 2 bits of all four share another 32
    low = (codes[:, :, :2] & 15) | ((codes[:, :, 2:] & 15) << 4)  # (n, 2, 2, 32)
    place = torch.tensor([0, 2, 4, 6], device=x.device)[:, None]
    high = ((codes >> 4).int() << place).sum(2).to(torch.uint8)  # (n, 2, 32)
    signed = s.to(torch.int8).view(torch.uint8)
    return torch.cat([low.flatten(1), high.flatten(1), signed, d], 1)


def _signed_scale(
    x: Float[Tensor, "n k g"], weight: Float[Tensor, "n k g"], half: int
) -> Float[Tensor, "n k"]:
    """For each group the scale, of either sign, with the least weighted error of
    w = code · scale, codes −half … half − 1. Search: the module."""
    extreme = x.gather(2, x.abs().argmax(2, keepdim=True))
    best = torch.zeros_like(extreme).squeeze(2)
    most = torch.zeros_like(best)  # how much of Σ weight · x² is explained
    for shift in [i / 10 for i in range(-9, 10)]:
        inverse = torch.where(extreme == 0, 0.0, -(half + shift) / extreme)
        codes = (x * inverse).round().clamp(-half, half - 1)
        wl, wxl = (weight * codes * codes).sum(2), (weight * x * codes).sum(2)
        explained = torch.where(wl > 0, wxl * wxl / wl, 0.0)
        better = explained > most
        most = torch.where(better, explained, most)
        best = torch.where(better, wxl / wl, best)
    return best


_SEARCHED: dict[str, Callable[[Blocks, Blocks], Bytes]] = {"Q4_K": _q4_k, "Q6_K": _q6_k}


# --- reading ---


def _read_q8_0(data: Bytes) -> Blocks:
    return data[:, 2:].contiguous().view(torch.int8).float() * _read_fp16(data[:, :2])


def _read_q4_0(data: Bytes) -> Blocks:
    return (_read_nibbles(data[:, 2:]).float() - 8) * _read_fp16(data[:, :2])


def _read_q4_1(data: Bytes) -> Blocks:
    d, m = _read_fp16(data[:, :4]).split(1, 1)
    return _read_nibbles(data[:, 4:]).float() * d + m


def _read_q5_0(data: Bytes) -> Blocks:
    place = torch.arange(8, device=data.device)
    fifth = ((data[:, 2:6, None].int() >> place) & 1).flatten(1)  # (n, 32)
    codes = _read_nibbles(data[:, 6:]).int() | (fifth << 4)
    return (codes.float() - 16) * _read_fp16(data[:, :2])


def _read_q4_k(data: Bytes) -> Blocks:
    d, dmin = _read_fp16(data[:, :4]).split(1, 1)
    s, m = _read_sixes(data[:, 4:16])
    codes = _read_nibbles(data[:, 16:].reshape(-1, 32)).view(len(data), 8, 32).float()
    return ((d * s)[:, :, None] * codes - (dmin * m)[:, :, None]).flatten(1)


def _read_q6_k(data: Bytes) -> Blocks:
    low = data[:, :128].view(-1, 2, 2, 32)
    low = torch.cat([low & 15, low >> 4], 2)  # (n, 2, 4, 32)
    place = torch.tensor([0, 2, 4, 6], device=data.device)[:, None]
    high = (data[:, 128:192].view(-1, 2, 1, 32).int() >> place) & 3
    codes = (low.int() | (high << 4)).float() - 32
    scale = _read_fp16(data[:, 208:]) * data[:, 192:208].view(torch.int8).float()
    return (scale[:, :, None] * codes.reshape(-1, 16, 16)).flatten(1)


_READ: dict[str, Callable[[Bytes], Blocks]] = {
    "F32": lambda data: data.clone().view(torch.float32),
    "F16": _read_fp16,
    "BF16": lambda data: data.contiguous().view(torch.bfloat16).float(),
    "Q8_0": _read_q8_0,
    "Q4_0": _read_q4_0,
    "Q4_1": _read_q4_1,
    "Q5_0": _read_q5_0,
    "Q4_K": _read_q4_k,
    "Q6_K": _read_q6_k,
}
