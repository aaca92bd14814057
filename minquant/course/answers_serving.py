"""The answers to the exercises of lesson 12: a model that is to be served.

Three questions in the order in which they come up: does it fit, which one is it to be,
and what does its file say? `answers` has them by name.

    cache_bytes    keys and values of every token that is still remembered
    choose         the smallest file that harms nothing beyond what was agreed
    read_layer     words and scales of an exported file back as weights

The last two are written out in full, short enough to be written by hand; the package's
own, which also say why or refuse what they cannot read, are `choice.choose` and
`pack_quantized.quantized_tensor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float16, Int32
from torch import Tensor

from minquant.planning import serving_memory


def cache_bytes(
    layers: int, kv_heads: int, head_size: int, tokens: int, bits: float = 16
) -> int:
    """Bytes of the keys and values of so many tokens, in all layers.

    >>> cache_bytes(32, 8, 128, 1)  # a token of Llama-3.1-8B
    131072
    """
    return serving_memory.cache_bytes(layers, kv_heads, head_size, tokens, bits)


def choose(
    candidates: Sequence[tuple[str, int, Mapping[str, tuple[float, float, float]]]],
    lines: Mapping[str, float],
    budget: int,
) -> str | None:
    """The smallest candidate within the budget whose high ends hold every line.

    candidates: name, bytes, and a (mean, low, high) for each measure, positive if worse
    than the original. lines: the most that is acceptable, in each measure's unit.

    >>> harms = {"rare facts": (1.0, 0.2, 1.8)}  # points of right answers lost
    >>> choose([("int4", 500, harms)], {"rare facts": 2.0}, 600)
    'int4'
    >>> choose([("int4", 500, harms)], {"rare facts": 1.5}, 600) is None
    True
    """
    passing = [
        (nbytes, name)
        for name, nbytes, harms in candidates
        if nbytes <= budget and all(harms[m][2] <= most for m, most in lines.items())
    ]
    return min(passing)[1] if passing else None


def read_layer(
    packed: Int32[Tensor, "out words"],
    scales: Float16[Tensor, "out n_groups"],
    shape: Sequence[int],
) -> Float[Tensor, "out in"]:
    """W_hat in float32 from the words and scales of a layer of 4 bits.

    shape: out, in. Eight codes of a word, the lowest bits first, each stored plus 8.

    >>> word = torch.tensor([[0x76543210]], dtype=torch.int32)
    >>> read_layer(word, torch.tensor([[0.5]]).half(), (1, 3))
    tensor([[-4.0000, -3.5000, -3.0000]])
    """
    width = shape[1]
    fields = packed[:, :, None] >> 4 * torch.arange(8)  # (out, words, 8)
    codes = (fields & 15).flatten(1)[:, :width] - 8  # (out, in)
    g = width // scales.shape[1]
    return codes * scales.float().repeat_interleave(g, dim=1)
