"""One matrix in the words of a format that other programs read: "pack-quantized".

It is compressed-tensors' name for weights of few bits that are multiplied in floats.
Each matrix is three tensors:

    weight_packed    (out, words)     int32    the codes
    weight_scale     (out, n_groups)  fp16     the scales
    weight_shape     (2,)             int64    out, in

Words hold what `bits` packs: the codes of a row one after the other, the lowest bits
first, each row from a new word. Codes are shifted to be positive, so that

    word j of a row, 4 bits     =     Σ (code[8j + i] + 8) · 16^i      over i = 0 … 7

Unlike the words of our kernels (`words`), neighbours lie side by side, in the order a
reader expects and not in the one a GPU likes; engines sort them anew when they load.

No zero is stored, since on a symmetric grid it is always 8. That makes a file safe to
hand on: zeros have more than one convention (GPTQ's first format stores zero − 1), and
a reader with another one is wrong by a whole step everywhere, without a word.

What is left out, and refused: zeros, codebooks such as NF4, widths other than 4 and 8,
scales that are not plain numbers, input scales that were not folded. Lesson 12.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int32, Integer
from torch import Tensor

from minquant.numerics.bits import pack, unpack
from minquant.numerics.grids import IntegerGrid, symmetric_full
from minquant.numerics.groups import PER_CHANNEL, Granularity, per_group
from minquant.numerics.tensor import QuantizedTensor

FORMAT = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
PACKED, SCALE, SHAPE = PARTS = ("weight_packed", "weight_scale", "weight_shape")
WIDTHS = (4, 8)  # bits of a code


def pack_words(
    codes: Integer[Tensor, "out in"], bits: int
) -> Int32[Tensor, "out words"]:
    """Signed codes −2^(bits−1) … 2^(bits−1) − 1 as words: the equation of the module.

    bits: 4 or 8. The last word of a row is filled up with zero bits. Raises ValueError
    if a code is outside its bits.

    >>> word = pack_words(torch.tensor([[-8, -7, -6, -5, -4, -3, -2, -1]]), 4)
    >>> hex(word.item())  # the first code is the last digit
    '0x76543210'
    """
    shifted = codes.long() + 2 ** (bits - 1)
    filled = torch.nn.functional.pad(shifted, (0, -codes.shape[1] % (32 // bits)))
    return pack(filled, bits).view(torch.int32).view(len(codes), -1)


def unpack_words(
    words: Int32[Tensor, "out words"], bits: int, width: int
) -> Integer[Tensor, "out in"]:
    """The exact inverse of `pack_words`, for rows of `width` codes; int8.

    >>> unpack_words(torch.tensor([[0x76543210]], dtype=torch.int32), 4, 3)
    tensor([[-8, -7, -6]], dtype=torch.int8)
    """
    shape = len(words), words.shape[1] * (32 // bits)
    shifted = unpack(words.contiguous().view(torch.uint8).flatten(), bits, shape)
    return (shifted[:, :width].short() - 2 ** (bits - 1)).to(torch.int8)


def stored(
    quantized: QuantizedTensor, dtype: torch.dtype = torch.float16
) -> dict[str, Tensor]:
    """The three tensors of a matrix, by name; dtype is that of the scales.

    Raises ValueError for what the format, or dtype, has no word for.
    """
    grid, scales = quantized.grid, quantized.scales
    whole = isinstance(grid, IntegerGrid) and not grid.has_zeros
    if not whole or grid.bits not in WIDTHS:
        raise ValueError(
            f"grid is {grid.name} of {grid.bits} bits, which the format has no word "
            "for; quantize with grids.symmetric_full(4), or (8)"
        )
    if quantized.input_scales is not None:
        raise ValueError(
            "input_scales are not 1: fold them into the layer before, with folds.fold_"
        )
    if not isinstance(scales, Tensor) or (scales.to(dtype) != scales).any():
        raise ValueError(
            f"scales are not numbers of {dtype}; quantize with scale_dtype={dtype}"
        )
    rows = scales.to(dtype).expand(len(quantized.codes), -1)  # one for all: one each
    return {
        PACKED: pack_words(quantized.codes, grid.bits),
        SCALE: rows.contiguous(),
        SHAPE: torch.tensor(quantized.codes.shape),
    }


def read(tensors: Mapping[str, Tensor], bits: int) -> QuantizedTensor:
    """The matrix of `bits` that three tensors stand for; groups follow from the shapes.

    Raises ValueError if one is missing, if they do not fit together, if there are more
    of them, such as zeros, or if bits is neither 4 nor 8.
    """
    if set(tensors) != set(PARTS):
        raise ValueError(
            f"tensors are {sorted(tensors)}; only symmetric grids without act-order "
            f"are read: {', '.join(PARTS)}"
        )
    words, scales = tensors[PACKED], tensors[SCALE]
    out, width = tensors[SHAPE].tolist()
    n_groups = scales.shape[1] if scales.ndim == 2 else 0
    fits = bits in WIDTHS and tuple(words.shape) == (out, -(-width * bits // 32))
    if not fits or not n_groups or len(scales) != out or width % n_groups:
        raise ValueError(
            f"{PACKED} {tuple(words.shape)} and {SCALE} {tuple(scales.shape)} do not "
            f"fit a matrix {(out, width)} of {bits} bits; there are 4 and 8"
        )
    cut = per_group(width // n_groups) if n_groups > 1 else PER_CHANNEL
    codes = unpack_words(words, bits, width)
    return QuantizedTensor(codes, scales, None, symmetric_full(bits), cut)


def described(
    report: Mapping[str, QuantizedTensor], linear: Sequence[str]
) -> dict[str, Any]:
    """How a reader is told which layers have codes, and of which kind: for config.json.

    linear: the names of all linear layers of the model. Layers that are alike make a
    group; when there is only one, it is every linear layer but those to `ignore`, and
    otherwise they are named.
    """
    alike: dict[tuple[int, Granularity], list[str]] = {}
    for name, quantized in report.items():
        kind = quantized.grid.bits, quantized.granularity
        alike.setdefault(kind, []).append(name)
    return FORMAT | {
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{number}": {
                "targets": names if len(alike) > 1 else ["Linear"],
                "weights": {
                    "num_bits": bits,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "group" if cut.group_size else "channel",
                    "group_size": cut.group_size,
                },
            }
            for number, ((bits, cut), names) in enumerate(alike.items())
        },
        "ignore": [name for name in linear if name not in report],
    }


def widths(said: Mapping[str, Any]) -> Callable[[str], int]:
    """From a layer's name to its bits, as a quantization_config says it.

    Raises ValueError if that is of another format, or of inputs as well; the function
    does if no group names the layer.
    """
    groups = list((said.get("config_groups") or {}).values())
    weights = [group.get("weights") or {} for group in groups]
    plain = all(
        of.get("type") == "int" and of.get("symmetric") and of.get("num_bits") in WIDTHS
        for of in weights
    ) and not any(group.get("input_activations") for group in groups)
    if {key: said.get(key) for key in FORMAT} != FORMAT or not (groups and plain):
        raise ValueError(
            f"quantization_config is of {said.get('quant_method')} "
            f"{said.get('format')} {groups}; only {' '.join(FORMAT.values())} is read, "
            "of weights alone: symmetric integers of 4 or 8 bits"
        )

    def bits(name: str) -> int:
        """The bits of a layer."""
        for group, of in zip(groups, weights, strict=True):
            if any(_means(target, name) for target in group.get("targets", ())):
                return of["num_bits"]
        raise ValueError(f"quantization_config has no group for {name}: {groups}")

    return bits


def _means(target: str, name: str) -> bool:
    """Whether a target is this layer: all that are Linear, a name, or a pattern."""
    if target.startswith("re:"):
        return re.match(target[3:], name) is not None
    return target in ("Linear", name)
