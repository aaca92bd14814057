"""torch's own 4-bit product on the CPU: the same codes in torch's order.

Unlike our kernels for the GPU this one is compiled into torch, and it is good at one
thing: X in bf16, with few tokens. There it multiplies straight out of the 4-bit codes
with AVX-512 or AVX2. For fp16 and fp32 it has a plain loop, slower than making W_hat
first.

    W_hat = (code − 8) · scale + offset          scale and offset rounded to bf16

Symmetric grids have the zero 8, so their offset is 0 and nothing is lost but the last
bits of the scale. A zero-point would give the offset (8 − zero) · scale. It is rounded
once, so the error is the same for all weights of a group, and adds up wherever the
inputs of that group have the same sign. So matrices with zeros are refused.

Its order of codes is not ours. The first product of a matrix converts the codes and
keeps the result as long as `words` lives: half a byte per weight more than
`PackedMatrix.nbytes` says. Notebook 10 measures what that buys.
"""

import torch
from jaxtyping import BFloat16, Integer
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from minquant.kernels.packed_words import PackedMatrix, unpack_matrix

GROUP_SIZES = (32, 64, 128, 256)
_converted = WeakTensorKeyDictionary()  # words → (their version, codes, scales)


def refuses(X: Tensor, packed: PackedMatrix) -> str:
    """Why torch's kernel cannot compute this product, and what to do; "" if it can."""
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
    """X W_hatᵀ, if `refuses` has no objection. The first call converts the matrix."""
    codes, scales = _in_torchs_order(packed)
    return torch.ops.aten._weight_int4pack_mm_for_cpu(
        X.contiguous(), codes, packed.group_size, scales
    )


def _in_torchs_order(
    packed: PackedMatrix,
) -> tuple[Integer[Tensor, "out half_in"], BFloat16[Tensor, "n_groups out 2"]]:
    """Codes and (scale, offset) as torch wants them, converted once per matrix."""
    words = packed.words
    version = 0 if words.is_inference() else words._version  # loading changes it
    entry = _converted.get(words)
    if entry is None or entry[0] != version:
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
            unpack_matrix(packed).int(), 1
        )
        scales = packed.scales.T.bfloat16()  # (n_groups, out)
        scales = torch.stack([scales, torch.zeros_like(scales)], 2).contiguous()
        entry = _converted[words] = (version, codes, scales)
    return entry[1:]
