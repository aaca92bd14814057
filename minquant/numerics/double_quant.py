"""Double quantization: the scales are numbers too, so quantize them as well.

Unlike RTN, which stores an fp16 scale per group: NF4 has short groups, of 64, and each
has an absmax. In fp32 that is 32 / 64 = half a bit per weight. QLoRA (Dettmers et al.
2023, section 3) rounds these absmaxes to 8 bits, and gives every 256 of them a ruler:

    mean   = mean of all scales                    they are positive: centre them first
    absmax = largest |scale − mean| of a block of 256
    code   = the place in a map of 256 values that is nearest to (scale − mean) / absmax
    scale  = map[code] · absmax + mean             what comes back

    4 + 32 / 64                             4.5   bits per weight with fp32 scales
    4 + 8 / 64 + 32 / (64 · 256)            4.127 and one number, the mean, per matrix

The map is `dynamic_map`: bitsandbytes' 8-bit "dynamic tree" data type (Dettmers 2016),
seven decades, of which the largest has the finest steps. The scales of a matrix are
much alike, so their differences from the mean fill it well.

A scale must stay positive. Far below the mean, the nearest value may not be: then we
take the next code above, whose value is positive. Codes of weights are computed against
the scale *as stored*, as always, so an 8-bit scale makes a ruler a little too long or
too short, and both directions still agree.

What is left out: bitsandbytes takes its mean in fp32 and ours is in fp64, rounded once.
With `clip="mse"` the search stores the scales of a few rows at a time, under the mean
of those rows: near what is stored in the end, but not exactly that. Lesson 08.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import pad

from minquant.numerics.grids import Codebook, Grid
from minquant.numerics.ruler import Ruler
from minquant.numerics.scales import StoredScales

BLOCK = 256


def dynamic_map() -> Float[Tensor, "256"]:
    """The 256 values, ascending in −1 … 1: what an 8-bit code of a scale is worth.

    One bit is the sign. In the other seven, the leading zeros say the decade, a 1 ends
    them, and the i bits that are left cut the decade into 2^i equal slices, each worth
    its middle. So near 1 there are 64 values to a decade, and near 10^−6 there is one.
    The two codes that are left stand for 0 and 1. Dettmers 2016, section 2; lesson 08.

    All in float32, where bitsandbytes builds it: in float64, 72 values would differ in
    their last bit.

    >>> levels = dynamic_map()
    >>> levels[[0, 1, 126, 127, 128, 254, 255]]
    tensor([-9.9297e-01, -9.7891e-01, -5.5000e-07,  0.0000e+00,  5.5000e-07,
             9.9297e-01,  1.0000e+00])
    """
    here = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are
    values = [torch.tensor([0.0, 1.0], **here)]
    for i in range(7):
        ends = torch.linspace(0.1, 1, 2**i + 1, **here)
        middles = (ends[:-1] + ends[1:]) / 2 * 10.0 ** (i - 6)
        values += [middles, -middles]
    return torch.cat(values).sort().values


_MAP = Codebook("dynamic_map", 8, tuple(dynamic_map().tolist()))


@dataclass(frozen=True, eq=False)
class DoubleQuantized(StoredScales):
    """Scales in 8 bits, blocks of 256 of them with an fp32 absmax, and one fp32 mean.

    Blocks run on from row to row, as in memory; the last may be shorter.
    """

    codes: UInt8[Tensor, "rows n_groups"]
    absmax: Float[Tensor, " n_blocks"]
    mean: Float[Tensor, ""]

    @classmethod
    def store(
        cls, scales: Float[Tensor, "rows n_groups"], grid: Grid
    ) -> "DoubleQuantized":
        """Ideal scales rounded to 8 bits, for `scale_dtype=DoubleQuantized.store`.

        grid: of the weights; it does not matter here. Equation above; lesson 08.

        >>> import minquant as mq
        >>> W = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
        >>> args = mq.NF4, mq.per_group(64)
        >>> short = mq.quantize_rtn(W, *args, scale_dtype=DoubleQuantized.store)
        >>> plain = mq.quantize_rtn(W, *args, scale_dtype=torch.float32)
        >>> [round(q.bits_per_weight, 3) for q in (plain, short)]
        [4.5, 4.127]
        """
        mean = scales.double().mean().float()
        blocks = _blocks(scales.float() - mean)  # (n_blocks, 256)
        absmax = blocks.abs().amax(1)
        ruler = Ruler(torch.where(absmax > 0, absmax, 1)[:, None], None, _MAP)
        codes = ruler.codes(blocks).flatten()[: scales.numel()].reshape(scales.shape)
        too_low = (cls(codes, absmax, mean).dequantize() <= 0) & (scales > 0)
        return cls(codes + too_low.to(torch.uint8), absmax, mean)

    def dequantize(self) -> Float[Tensor, "rows n_groups"]:
        """map[code] · absmax + mean, float32."""
        values = Ruler(self.absmax[:, None], None, _MAP).values(_blocks(self.codes))
        values = values.flatten()[: self.codes.numel()]
        return values.reshape(self.shape) + self.mean


def _blocks(values: Shaped[Tensor, "rows n_groups"]) -> Shaped[Tensor, "n_blocks 256"]:
    """Values in memory order, 256 to a row; the last row is filled up with zeros."""
    flat = values.flatten()
    return pad(flat, (0, -flat.numel() % BLOCK)).reshape(-1, BLOCK)
