"""Exercises of lesson 03: many short rulers, what they cost, and where they end.

    bits_per_weight    the bits of a code, and its share of a scale and a zero
    absmax_groups      codes and scales with a ruler for every g weights of a row
    best_clip          how much shorter than absmax the best ruler of a row is

The matrix of `absmax_groups` is made of rows like those of lesson 02, with ties and
negative extremes. `best_clip` gets rows of 512 weights, some with a few far out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.course.exercises import Exercise, normal
from minquant.course.rounding.exercises import HEAVY, TIES, absmax_row, wrong_roundings
from minquant.methods import rtn
from minquant.numerics import groups
from minquant.numerics.grids import absmax

# --- bits_per_weight ---


def bits_per_weight(
    bits: float, g: int, scale_bits: int = 16, zero_bits: int = 0
) -> float:
    """Bits of a code, and its share of a scale and a zero for every g weights."""
    return bits + (scale_bits + zero_bits) / g


check_bits_per_weight = Exercise(
    name="bits_per_weight",
    task="bits_per_weight(bits, g, scale_bits=16, zero_bits=0) gives what one weight "
    "takes, with its share of the scale and the zero that g weights have in common",
    answer=bits_per_weight,
    cases={
        "4 bits, fp16 scales per 128": (4, 128),
        "4 bits, scales and zeros per 128": (4, 128, 16, 4),
        "3 bits, 8-bit scales per 32": (3, 32, 8),
    },
    mistakes={
        "the scales and zeros are forgotten": lambda b, g, s=16, z=0: b,
        "the scales are forgotten": lambda b, g, s=16, z=0: b + z / g,
        "the zeros are forgotten": lambda b, g, s=16, z=0: b + s / g,
        "one scale serves g weights: divide its bits by g": (
            lambda b, g, s=16, z=0: b + s + z
        ),
        "only the scale is divided by g; the zero too serves g weights": (
            lambda b, g, s=16, z=0: b + s / g + z
        ),
        "this is a whole group; divide by g": lambda b, g, s=16, z=0: b * g + s + z,
        "scale_bits is an argument; it is not always 16": (
            lambda b, g, s=16, z=0: b + (16 + z) / g
        ),
    },
    outputs=("bits per weight",),
    solution="""\
def bits_per_weight(bits, g, scale_bits=16, zero_bits=0):
    return bits + (scale_bits + zero_bits) / g
""",
    inside="minquant.QuantizedTensor",
)


# --- absmax_groups ---


def absmax_groups(
    W: Float[Tensor, "out in"], bits: int, g: int
) -> tuple[Integer[Tensor, "out in"], Float[Tensor, "out n_groups"]]:
    """Codes and scales with one symmetric ruler for every g weights along a row."""
    quantized = rtn.quantize_rtn(
        W, absmax(bits), groups.per_group(g), scale_dtype=torch.float32
    )
    return quantized.codes, quantized.scales


def _in_groups(
    W: Float[Tensor, "out in"],
    bits: int,
    g: int,
    *,
    largest: Callable = lambda cut: cut.abs().amax(-1),
    top: int | None = None,
    rounding: Callable = torch.round,
) -> tuple[Tensor, Tensor]:
    """Codes and scales in groups, in which one part can be made wrong.

    largest: of the groups (out, n_groups, g), what each is divided by. top: the highest
    code.
    """
    cut = W.reshape(len(W), -1, g)  # (out, n_groups, g)
    scales = largest(cut).expand(cut.shape[:2]) / (top or 2 ** (bits - 1) - 1)
    codes = rounding(cut / scales[..., None]).reshape(W.shape)
    return codes.to(torch.int32), scales


def _strided(W: Tensor, bits: int, g: int) -> tuple[Tensor, Tensor]:
    """A group is every n-th weight of a row, as reshape(out, g, n) makes it."""
    strided = W.reshape(len(W), g, -1)  # (out, g, n)
    codes, scales = _in_groups(strided.mT.reshape(W.shape), bits, g)
    return codes.reshape(strided.mT.shape).mT.reshape(W.shape), scales


HALVES = torch.tensor([7.0, -0.5, -2.5, 1.5, -7.0, 2.5, -1.5, 0.25])
SMALL = torch.stack([TIES, HEAVY, 10 * HEAVY.flip(0), HALVES])

check_absmax_groups = Exercise(
    name="absmax_groups",
    task="absmax_groups(W, bits, g) gives codes (out, in) and scales (out, in / g): a "
    "ruler for every g neighbours of a row",
    answer=absmax_groups,
    cases={
        "4 rows of 8, groups of 4, 4 bits": (SMALL, 4, 4),
        "4 rows of 8, groups of 2, 3 bits": (SMALL, 3, 2),
    },
    mistakes={
        "there is one scale for the whole tensor; each group has its own": (
            lambda W, b, g: _in_groups(W, b, g, largest=lambda c: c.abs().amax())
        ),
        "there is one scale for each row; each group has its own": (
            lambda W, b, g: _in_groups(
                W, b, g, largest=lambda c: c.abs().amax((1, 2))[:, None]
            )
        ),
        "all rows share their scales; each row has its own": (
            lambda W, b, g: _in_groups(W, b, g, largest=lambda c: c.abs().amax((0, 2)))
        ),
        "a group is g neighbours; reshape to (out, in / g, g)": _strided,
        "the largest weight in size may be negative; take .abs() before the maximum": (
            lambda W, b, g: _in_groups(W, b, g, largest=lambda c: c.amax(-1))
        ),
        "the highest code is 2^(b−1) − 1, one bit being the sign, not 2^b − 1": (
            lambda W, b, g: _in_groups(W, b, g, top=2**b - 1)
        ),
        "the highest code is 2^(b−1) − 1, one less than yours": (
            lambda W, b, g: _in_groups(W, b, g, top=2 ** (b - 1))
        ),
        "the codes are the weights themselves; divide by the scale and round": (
            lambda W, b, g: (W, _in_groups(W, b, g)[1])
        ),
        **wrong_roundings(_in_groups),
    },
    outputs=("codes", "scales"),
    solution="""\
def absmax_groups(W, bits, g):
    top = 2 ** (bits - 1) - 1
    cut = W.reshape(len(W), -1, g)  # (out, n_groups, g)
    scales = cut.abs().amax(dim=-1, keepdim=True) / top
    codes = (cut / scales).round().int()
    return codes.reshape(W.shape), scales[..., 0]
""",
    inside="minquant.quantize_rtn",
)


# --- best_clip ---


def best_clip(w: Float[Tensor, " n"], bits: int, keeps: Sequence[float]) -> float:
    """The share of the absmax ruler of a row with the least squared error."""
    _, whole = absmax_row(w, bits)

    def _error(keep: float) -> float:
        scale = (whole * keep)[None, None]
        quantized = rtn.quantize_with(
            w[None], scale, None, absmax(bits), groups.PER_CHANNEL
        )
        return (quantized.dequantize()[0] - w).double().square().mean().item()

    return min(keeps, key=_error)


def _search(
    w: Tensor,
    bits: int,
    keeps: Sequence[float],
    *,
    loss: Callable = lambda error: error.square().mean(),
    clamp: bool = True,
) -> float:
    """A search in which the loss can be wrong, or the clamp can be missing."""
    _, whole = absmax_row(w, bits)
    top = 2 ** (bits - 1) - 1

    def _loss(keep: float) -> float:
        codes = (w / (whole * keep)).round()
        if clamp:
            codes = codes.clamp(-top, top)
        return float(loss(codes * whole * keep - w))

    return min(keeps, key=_loss)


KEEPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
NORMAL = normal(512, seed=3)
TAILED = NORMAL * (1 + 0.35 * NORMAL.abs())  # a few weights far out

check_best_clip = Exercise(
    name="best_clip",
    task="best_clip(w, bits, keeps) gives the share of the absmax ruler, one of keeps, "
    "with the least mean squared error",
    answer=best_clip,
    cases={
        "512 weights, a few far out, 3 bits": (TAILED, 3, KEEPS),
        "512 normal weights, 3 bits": (NORMAL, 3, KEEPS),
        "512 weights, a few far out, 2 bits": (TAILED, 2, KEEPS),
        "512 normal weights, 8 bits": (NORMAL, 8, KEEPS),
    },
    mistakes={
        "clipping costs nothing in your error, so the shortest ruler wins: clamp the "
        "codes, and compare with the weights as they were": (
            lambda w, b, k: _search(w, b, k, clamp=False)
        ),
        "this has the least largest error; take the mean of the squares": (
            lambda w, b, k: _search(w, b, k, loss=lambda e: e.abs().max())
        ),
        "this has the least mean |error|; take the mean of the squares": (
            lambda w, b, k: _search(w, b, k, loss=lambda e: e.abs().mean())
        ),
        "this has the least mean error, where + and − cancel; square it first": (
            lambda w, b, k: _search(w, b, k, loss=lambda e: e.mean().abs())
        ),
        "this has the greatest error; take the least": (
            lambda w, b, k: _search(w, b, k, loss=lambda e: -e.square().mean())
        ),
    },
    outputs=("the share",),
    solution="""\
def best_clip(w, bits, keeps):
    top = 2 ** (bits - 1) - 1

    def error(keep):
        scale = keep * w.abs().max() / top
        codes = (w / scale).round().clamp(-top, top)
        return (codes * scale - w).square().mean()

    return min(keeps, key=error)
""",
    inside="minquant.quantize_rtn",
)
