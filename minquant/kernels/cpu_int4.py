"""torch's own 4-bit product on the CPU: the same codes in torch's order.

Unlike the kernels for the GPU this one is compiled into torch, and it is good at one
thing: bf16 X, few tokens. There it multiplies straight out of the 4-bit codes with
AVX-512 or AVX2; for fp16 and fp32 it has a plain loop, slower than making W_hat first.

    W_hat = (code − 8) · scale + offset          scale and offset rounded to bf16

Symmetric grids have the zero 8, so their offset is 0 and nothing is lost but the last
bits of the scale. A zero-point would give the offset (8 − zero) · scale, and its
rounding errors all fall on one side: they add up over a group wherever the x of a group
have a common sign. Such matrices are therefore not given to it.

Its order of codes is not ours, so the first product of a matrix converts it and keeps
the result for as long as `words` lives: half a byte per weight more than
`PackedMatrix.nbytes` says. Notebook 10 measures what that buys.
"""

import torch
from jaxtyping import BFloat16, Integer
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from minquant.kernels.packed_words import PackedMatrix, unpack_matrix

GROUP_SIZES = (32, 64, 128, 256)
_converted = WeakTensorKeyDictionary()  # words: (version of words, codes, scales)


def refuses(X: Tensor, packed: PackedMatrix) -> str:
    """Why torch's kernel does not serve this product, and the mend; "" if it does."""
    if X.device.type != "cpu":
        return f"X is on {X.device}, and cpu_int4 is for the CPU: use 'triton'"
    if X.dtype != torch.bfloat16:
        return f"X is {X.dtype}; cpu_int4 wants X.bfloat16()"
    if packed.bits != 4 or packed.zeros is not None:
        zeros = "no zeros" if packed.zeros is None else "zeros"
        return (
            f"packed has {packed.bits} bits and {zeros}; cpu_int4 takes symmetric "
            "grids of 4 bits"
        )
    if packed.group_size not in GROUP_SIZES:
        return f"group_size is {packed.group_size}; cpu_int4 has 32, 64, 128 and 256"
    if packed.shape[0] % 16:
        return f"out_features is {packed.shape[0]}; cpu_int4 wants a multiple of 16"
    return ""


def product(
    X: BFloat16[Tensor, "n in"], packed: PackedMatrix
) -> BFloat16[Tensor, "n out"]:
    """X W_hatᵀ where `refuses` says nothing. The first call converts it."""
    codes, scales = _in_torchs_order(packed)
    return torch.ops.aten._weight_int4pack_mm_for_cpu(
        X.contiguous(), codes, packed.group_size, scales
    )


def _in_torchs_order(
    packed: PackedMatrix,
) -> tuple[Integer[Tensor, "out half_in"], BFloat16[Tensor, "n_groups out 2"]]:
    """Codes and (scale, offset) as torch wants them, converted once per matrix."""
    words = packed.words
    version = 0 if words.is_inference() else words._version  # loading writes into it
    kept = _converted.get(words)
    if kept is None or kept[0] != version:
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
            unpack_matrix(packed).int(), 1
        )
        scales = packed.scales.T.bfloat16()  # (n_groups, out)
        scales = torch.stack([scales, torch.zeros_like(scales)], 2).contiguous()
        kept = _converted[words] = (version, codes, scales)
    return kept[1:]
