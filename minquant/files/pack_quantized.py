"""One matrix in a format that other programs read: "pack-quantized".

That is compressed-tensors' name for weights of few bits that are multiplied in floats.
Each matrix is three tensors:

    weight_packed    (out, words)     int32    the codes
    weight_scale     (out, n_groups)  fp16     the scales
    weight_shape     (2,)             int64    out, in

The words are packed as in `numerics.bits`: the codes of a row one after the other, the
lowest bits first. Each row starts a new word. Codes are shifted to be positive, so that

    word j of a row, 4 bits     =     Σ (code[8j + i] + 8) · 16^i      over i = 0 … 7

Unlike in the words of our kernels (`kernels.packed_words`), neighbours lie side by
side. That is the order that a reader expects, not the one that a GPU likes: engines
sort the codes again when they load them.

No zero is stored, since on a symmetric grid it is always 8. That makes a file safe to
hand on. There is more than one convention for zeros (GPTQ's first format stores
zero − 1), and a reader with another one is silently wrong by a whole step everywhere.

What is left out, and refused: zeros, codebooks such as NF4, widths other than 4 and 8,
scales that are not plain numbers, input scales that were not folded. Lesson 12.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int32, Integer
from torch import Tensor

from minquant.numerics.grids import IntegerGrid, symmetric_full
from minquant.numerics.groups import PER_CHANNEL, Granularity, per_group
from minquant.numerics.tensor import QuantizedTensor

FORMAT = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
PACKED, SCALE, SHAPE = PARTS = ("weight_packed", "weight_scale", "weight_shape")
WIDTHS = (4, 8)  # bits of a code


def pack_words(
    codes: Integer[Tensor, "out in"], bits: int
) -> Int32[Tensor, "out words"]:
    """Signed codes −2^(bits−1) … 2^(bits−1) − 1 as words. The module has the equation.

    bits: 4 or 8. The last word of a row is filled up with zero bits.

    Raises ValueError if a code does not fit its bits.

    >>> word = pack_words(torch.tensor([[-8, -7, -6, -5, -4, -3, -2, -1]]), 4)
    >>> hex(word.item())  # the first code is the last digit
    '0x76543210'
    """
    half = 2 ** (bits - 1)
    low, high = (int(end) for end in codes.aminmax()) if codes.numel() else (0, 0)
    if low < -half or high >= half:
        raise ValueError(
            f"codes run from {low} to {high}; {bits} bits hold {-half} to {half - 1}"
        )
    shifted = (codes.short() + half).to(torch.uint8)
    filled = torch.nn.functional.pad(shifted, (0, -codes.shape[1] % (32 // bits)))
    if bits == 4:
        filled = filled[:, ::2] | filled[:, 1::2] << 4  # two codes in a byte
    return filled.contiguous().view(torch.int32)


def unpack_words(
    words: Int32[Tensor, "out words"], bits: int, width: int
) -> Integer[Tensor, "out in"]:
    """The codes that `pack_words` was given, as int8, in rows of `width`.

    >>> unpack_words(torch.tensor([[0x76543210]], dtype=torch.int32), 4, 3)
    tensor([[-8, -7, -6]], dtype=torch.int8)
    """
    shifted = words.contiguous().view(torch.uint8)
    if bits == 4:
        shifted = torch.stack([shifted & 15, shifted >> 4], 2).flatten(1)
    return (shifted[:, :width] - 2 ** (bits - 1)).view(torch.int8)  # modulo 256


def check(quantized: QuantizedTensor, dtype: torch.dtype = torch.float16) -> None:
    """Raises ValueError if the format cannot store the matrix, or dtype its scales."""
    grid, scales = quantized.grid, quantized.scales
    is_symmetric = isinstance(grid, IntegerGrid) and grid.fit in ("absmax", "absmean")
    if not is_symmetric or grid.bits not in WIDTHS:
        raise ValueError(
            f"grid is {grid.name} of {grid.bits} bits, which the format has no word "
            "for; quantize with grids.symmetric_full(4), or (8)"
        )
    if quantized.input_scales is not None:
        raise ValueError(
            "input_scales are not 1: fold them into the layer before, with "
            "folds.fold_; those in its `left` need another method"
        )
    if not isinstance(scales, Tensor) or (scales.to(dtype) != scales).any():
        raise ValueError(
            f"scales are not numbers of {dtype}; quantize with scale_dtype={dtype}"
        )


def tensors_of(
    quantized: QuantizedTensor, dtype: torch.dtype = torch.float16
) -> dict[str, Tensor]:
    """The three tensors of a matrix, by name. dtype: of the scales.

    Raises ValueError as `check` does.
    """
    check(quantized, dtype)
    scales = quantized.scales.to(dtype)
    per_row = scales.expand(len(quantized.codes), -1)  # copies a single one
    return {
        PACKED: pack_words(quantized.codes, quantized.grid.bits),
        SCALE: per_row.contiguous(),
        SHAPE: torch.tensor(quantized.codes.shape, device="cpu"),
    }


def quantized_tensor(tensors: Mapping[str, Tensor], bits: int) -> QuantizedTensor:
    """The matrix that `tensors_of` stored. The group size follows from the shapes.

    Raises ValueError if a tensor is missing, if there are others, such as zeros, if
    they do not fit together, or if bits is neither 4 nor 8.
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
    granularity = per_group(width // n_groups) if n_groups > 1 else PER_CHANNEL
    codes = unpack_words(words, bits, width)
    return QuantizedTensor(codes, scales, None, symmetric_full(bits), granularity)


def quantization_config(
    report: Mapping[str, QuantizedTensor], linear: Sequence[str]
) -> dict[str, Any]:
    """The part of config.json that says which layers have codes, and of which kind.

    linear: the names of all linear layers of the model. Layers of the same bits and
    granularity make a group. A single group means every linear layer that is not to
    `ignore`; several groups name their layers.
    """
    names_by_kind: dict[tuple[int, Granularity], list[str]] = {}
    for name, quantized in report.items():
        kind = quantized.grid.bits, quantized.granularity
        names_by_kind.setdefault(kind, []).append(name)
    groups = {}
    for number, ((bits, granularity), names) in enumerate(names_by_kind.items()):
        groups[f"group_{number}"] = {
            "targets": names if len(names_by_kind) > 1 else ["Linear"],
            "weights": {
                "num_bits": bits,
                "type": "int",
                "symmetric": True,
                "strategy": "group" if granularity.group_size else "channel",
                "group_size": granularity.group_size,
            },
        }
    return FORMAT | {
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [name for name in linear if name not in report],
    }


def bits_by_layer(config: Mapping[str, Any]) -> Callable[[str], int]:
    """A function from the name of a layer to its bits.

    config: a quantization_config, of this package or another program.

    Raises ValueError if config has another format, or quantizes inputs too. The
    function raises ValueError if no group has the layer.
    """
    groups = list((config.get("config_groups") or {}).values())
    is_ours = all(config.get(key) == value for key, value in FORMAT.items())
    if not is_ours or not groups or not all(map(_is_readable, groups)):
        raise ValueError(
            f"quantization_config is of {config.get('quant_method')} "
            f"{config.get('format')} {groups}; only {' '.join(FORMAT.values())} is "
            "read, of weights alone: symmetric integers of 4 or 8 bits"
        )

    def bits(name: str) -> int:
        """The bits of a layer."""
        for group in groups:
            if any(_targets(target, name) for target in group.get("targets", ())):
                return group["weights"]["num_bits"]
        raise ValueError(f"quantization_config has no group for {name}: {groups}")

    return bits


def _is_readable(group: Mapping[str, Any]) -> bool:
    """Whether a group of layers has symmetric integers of 4 or 8 bits, and float X."""
    weights = group.get("weights") or {}
    return bool(
        weights.get("type") == "int"
        and weights.get("symmetric")
        and weights.get("num_bits") in WIDTHS
        and not group.get("input_activations")
    )


def _targets(target: str, name: str) -> bool:
    """Whether a target includes this layer: "Linear", a name, or a pattern, "re:…"."""
    if target.startswith("re:"):
        return re.match(target[3:], name) is not None
    return target in ("Linear", name)
