"""What a name such as Q4_K_M means: which matrix of a model gets which type.

    mixture("Q4_K_M", 32)["ffn_down"]       # a type for each of the 32 blocks

The table follows llama.cpp's `llama_tensor_get_type` (src/llama-quant.cpp) for dense
models of Llama's kind with fewer than eight heads to a key. Left out: mixtures of
experts, models of 70 billion weights, and the mixes of 2 and 3 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BITS = {"Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_0": 8.5}  # per weight
MIXES = ("Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K")
MATRICES = (
    *("attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_gate", "ffn_up", "ffn_down"),
)
LLAMA_8B: Mapping[str, int] = MappingProxyType(  # weights of a matrix of Llama 3 8B
    {
        "attn_q": 4096 * 4096,
        "attn_k": 1024 * 4096,
        "attn_v": 1024 * 4096,
        "attn_output": 4096 * 4096,
        "ffn_gate": 14336 * 4096,
        "ffn_up": 14336 * 4096,
        "ffn_down": 4096 * 14336,
        "token_embd": 128256 * 4096,
        "output": 128256 * 4096,
    }
)


def mixture(name: str, blocks: int) -> dict[str, list[str]]:
    """For each matrix of a block its type in every block; embedding and output once.

    Raises ValueError for a mix that is not in MIXES.
    """
    if name not in MIXES:
        raise ValueError(f"name is {name!r}; choose from {', '.join(MIXES)}")
    base = name.removesuffix("_S").removesuffix("_M")
    types = {matrix: [base] * blocks for matrix in MATRICES}
    for i in range(blocks):
        if name.endswith("_M") and _more_bits(i, blocks):
            types["attn_v"][i] = types["ffn_down"][i] = "Q6_K"
        if name == "Q4_K_S" and i < 4:
            types["attn_v"][i] = "Q5_K"
        if name == "Q4_K_S" and i < blocks // 8:
            types["ffn_down"][i] = "Q5_K"
    return types | {"token_embd": [base], "output": ["Q6_K"]}


def _more_bits(i: int, blocks: int) -> bool:
    """The first eighth of the blocks, the last, and every third in between."""
    eighth = blocks // 8
    return i < eighth or i >= 7 * blocks // 8 or (i - eighth) % 3 == 2


def bits_per_weight(name: str, blocks: int, sizes: Mapping[str, int]) -> float:
    """Of a whole model in this mix. sizes: weights of each matrix, by its name."""
    types = mixture(name, blocks)
    bits = sum(BITS[t] * sizes[m] for m, column in types.items() for t in column)
    return bits / sum(sizes[m] * len(column) for m, column in types.items())
