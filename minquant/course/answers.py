"""The answers to the exercises, each made of the package's own functions.

A learner writes these functions in a notebook; here they are in the package's words, so
that the two cannot drift apart. `checks.solution(name)` shows them and what they call.

    lesson 00   model_bytes, megabytes
    lesson 01   decode_float, gap, weight_bytes
    lesson 02   absmax_row, scale_and_zero, quantize_zero_point, dequantize
    lesson 03   bits_per_weight, absmax_groups, best_clip
    lesson 04   perplexity, flips, paired_interval
    lesson 05   outlier_columns, vector_wise, smoothing_scales
    lesson 06   obs_push, eliminate, gptq_columns
    lesson 07   salient_columns, awq_scales, fold_scales
    lesson 08   nf4_levels, nearest_level, nf4_bytes
    lesson 09   lora_forward, lora_gradients, qlora_bytes (in `answers_adapters`)
    lesson 10   pack_nibbles, unpack_nibbles, crossover
    lesson 11   ternary, latent_step, assign_bits (in `answers_low_bits`)
    lesson 12   cache_bytes, choose, read_layer (in `answers_serving`)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Integer, Num
from torch import Tensor

from minquant.course.answers_adapters import lora_forward, lora_gradients, qlora_bytes
from minquant.course.answers_low_bits import assign_bits, latent_step, ternary
from minquant.course.answers_serving import cache_bytes, choose, read_layer
from minquant.measure.evaluate import Perplexity
from minquant.measure.intervals import bootstrap
from minquant.methods import awq, gptq_derivation, llm_int8, rtn, smoothquant
from minquant.models.folds import divide_outputs_
from minquant.numerics import grids, groups
from minquant.numerics.bits import pack, packed_bytes, unpack
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.floats import FloatFormat
from minquant.numerics.grids import absmax, round_to_codes, zero_point
from minquant.planning.roofline import Machine

__all__ = ["cache_bytes", "choose", "lora_forward", "lora_gradients", "qlora_bytes"]
__all__ += ["assign_bits", "latent_step", "read_layer", "ternary"]


def model_bytes(n_weights: int, bits: float) -> float:
    """Bytes of so many weights of so many bits; eight bits are a byte."""
    return n_weights * bits / 8


def megabytes(n_weights: int, bits: float, g: int, scale_bits: int = 16) -> float:
    """MB (10^6 bytes) of codes and of one scale for every g weights."""
    return model_bytes(n_weights, bits_per_weight(bits, g, scale_bits)) / 1e6


def decode_float(pattern: int, exponent_bits: int, fraction_bits: int) -> float:
    """The value of a pattern below infinity, as IEEE 754 reads it."""
    return FloatFormat("yours", exponent_bits, fraction_bits).decode(pattern)


def gap(x: float, exponent_bits: int, fraction_bits: int) -> float:
    """From x, a positive number of the format, to the next above it."""
    form = FloatFormat("yours", exponent_bits, fraction_bits)
    _, above = form.neighbours(form.encode(x))
    return above - x


def weight_bytes(n_weights: int, exponent_bits: int, fraction_bits: int) -> float:
    """Bytes of so many numbers of a floating-point format."""
    return model_bytes(n_weights, FloatFormat("", exponent_bits, fraction_bits).bits)


def absmax_row(
    w: Float[Tensor, " n"], bits: int
) -> tuple[Integer[Tensor, " n"], Float[Tensor, ""]]:
    """Codes and scale of one row on a symmetric grid; the scale is kept in float32."""
    scale, _ = rtn.scale_and_zero(
        w[None, None], absmax(bits), scale_dtype=torch.float32
    )
    scale = scale[0, 0]
    return round_to_codes(w / scale, absmax(bits)), scale


def scale_and_zero(
    w: Float[Tensor, " n"], bits: int
) -> tuple[Float[Tensor, ""], Integer[Tensor, ""]]:
    """The ruler of one row: levels 0 … 2^bits − 1, and the code that stands for 0."""
    scale, zero = rtn.scale_and_zero(
        w[None, None], zero_point(bits), scale_dtype=torch.float32
    )
    return scale[0, 0], zero[0, 0]


def quantize_zero_point(
    w: Float[Tensor, " n"], scale: float, zero: int, bits: int
) -> Integer[Tensor, " n"]:
    """Codes 0 … 2^bits − 1 of a row on a ruler that is given."""
    return round_to_codes(w / scale, zero_point(bits), torch.tensor(zero))


def dequantize(
    codes: Integer[Tensor, " n"], scale: float, zero: int
) -> Float[Tensor, " n"]:
    """The values that codes stand for."""
    return (grids.value(codes, zero_point(8)) - zero) * scale


def bits_per_weight(
    bits: float, g: int, scale_bits: int = 16, zero_bits: int = 0
) -> float:
    """Bits of a code, and its share of a scale and a zero for every g weights."""
    return bits + (scale_bits + zero_bits) / g


def absmax_groups(
    W: Float[Tensor, "out in"], bits: int, g: int
) -> tuple[Integer[Tensor, "out in"], Float[Tensor, "out n_groups"]]:
    """Codes and scales with one symmetric ruler for every g weights along a row."""
    made = rtn.quantize_rtn(
        W, absmax(bits), groups.per_group(g), scale_dtype=torch.float32
    )
    return made.codes, made.scales


def best_clip(w: Float[Tensor, " n"], bits: int, keeps: Sequence[float]) -> float:
    """The share of the absmax ruler of a row with the least squared error."""
    _, whole = absmax_row(w, bits)

    def _error(keep: float) -> float:
        scale = (whole * keep)[None, None]
        made = rtn.quantize_with(w[None], scale, None, absmax(bits), groups.PER_CHANNEL)
        return (made.dequantize()[0] - w).double().square().mean().item()

    return min(keeps, key=_error)


def perplexity(nats: Num[Tensor, " d"], tokens: Num[Tensor, " d"]) -> float:
    """exp of all nats over all tokens; nats and tokens are sums over each document."""
    documents = tuple(range(len(nats)))
    return Perplexity(documents, nats, tokens, window=1, stride=1).value


def flips(
    reference: Float[Tensor, "n vocab"], model: Float[Tensor, "n vocab"]
) -> float:
    """The share of n tokens at which two models' first choice differs."""
    return (reference.argmax(-1) != model.argmax(-1)).float().mean().item()


def paired_interval(
    before: Num[Tensor, " d"], after: Num[Tensor, " d"], tokens: Num[Tensor, " d"]
) -> tuple[float, float]:
    """The 95 % interval of the change in nats per token, by drawing documents again."""
    return bootstrap(after - before, tokens)


def outlier_columns(X: Float[Tensor, "n in"], threshold: float) -> Bool[Tensor, " in"]:
    """The columns of X in which any token's |x| reaches the threshold."""
    return llm_int8.outlier_columns(X, threshold)


def vector_wise(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "n out"]:
    """X Wᵀ of 8-bit codes, with a scale for each row of X and each row of W."""
    X_q, W_q = llm_int8.quantize_rows(X), llm_int8.quantize_rows(W)
    return llm_int8.vector_wise(X_q, W_q)


def smoothing_scales(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"], alpha: float
) -> Float[Tensor, " in"]:
    """What SmoothQuant divides each column of X by, and multiplies W's by."""
    return smoothquant.scales_of([W], X, alpha)


def obs_push(
    w: Float[Tensor, " n"], H: Float[Tensor, "n n"], q: int, v: float
) -> Float[Tensor, " n"]:
    """Weight q fixed at v, and all others moved as well as they can."""
    return gptq_derivation.obs_step(w, torch.linalg.inv(H), q, v)[0]


def eliminate(H_inv: Float[Tensor, "n n"], q: int) -> Float[Tensor, "left left"]:
    """The inverse of H without its row and column q, from the inverse of H."""
    return gptq_derivation.eliminate(H_inv, q)


def gptq_columns(
    W: Float[Tensor, "out n"], H: Float[Tensor, "n n"]
) -> Float[Tensor, "out n"]:
    """W in whole numbers by GPTQ, from the first column to the last."""
    rows = gptq_derivation.rows_by_cholesky(H)
    *_, end = gptq_derivation.steps(W, rows, lambda w, j: (w.round().int(), w.round()))
    return end.W


def salient_columns(
    W: Float[Tensor, "out in"], X: Float[Tensor, "n in"], share: float
) -> Int[Tensor, " k"]:
    """The columns of W whose inputs are largest; W itself has no say."""
    return awq.salient(X.abs().mean(0), share)


def awq_scales(X: Float[Tensor, "n in"], ratio: float) -> Float[Tensor, " in"]:
    """AWQ's scales of one ratio, from its inputs."""
    return awq.input_scales(X.abs().mean(0), ratio)


@torch.no_grad()
def fold_scales(
    gain: Float[Tensor, " in"], W: Float[Tensor, "out in"], s: Float[Tensor, " in"]
) -> tuple[Float[Tensor, " in"], Float[Tensor, "out in"]]:
    """A norm's gain divided by s, and the matrix after it with its columns times s."""
    norm = torch.nn.RMSNorm(len(gain))
    norm.weight.copy_(gain)
    divide_outputs_(norm, s)
    return norm.weight.detach(), W * s


def nf4_levels(outermost: float) -> tuple[float, ...]:
    """Quantiles of the normal up to this one: 8 above 0, 7 below; over the largest."""
    return grids.nf4_levels(outermost)


def nearest_level(
    x: Float[Tensor, " n"], levels: Sequence[float]
) -> Integer[Tensor, " n"]:
    """The place of each number's nearest level; in a tie the lower."""
    return round_to_codes(x, grids.Codebook("yours", 8, tuple(levels)))


def nf4_bytes(n_weights: int, g: int) -> float:
    """Bytes of a matrix in NF4 with double quantization."""
    scales = DoubleQuantized.store(torch.ones(1, n_weights // g), grids.NF4)
    return float(packed_bytes(n_weights, grids.NF4.bits) + scales.nbytes)


def pack_nibbles(codes: Integer[Tensor, " n"]) -> Int[Tensor, " words"]:
    """Eight codes to an int32, the first in its lowest bits; filled up with zeros."""
    filled = torch.nn.functional.pad(codes, (0, -len(codes) % 8))
    return pack(filled, 4).view(torch.int32)


def unpack_nibbles(words: Int[Tensor, " words"], n: int) -> Integer[Tensor, " n"]:
    """The n codes that `pack_nibbles` was given."""
    return unpack(words.view(torch.uint8), 4, (8 * len(words),))[:n]


def crossover(bits_per_weight: float, bandwidth: float, peak: float) -> float:
    """Tokens at which reading a weight takes as long as its arithmetic."""
    return Machine("yours", bandwidth, peak).crossover(bits_per_weight)
