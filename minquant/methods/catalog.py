"""Formats by name: a grid, how many weights share a scale, how the scale is kept.

    name               codes           a scale for   kept in     bits per weight
    int4               0 … 15 − zero   128           fp16        4 + 20 / 128   4.156
    int4, symmetric    −8 … 7          128           fp16        4 + 16 / 128   4.125
    NF4                NF4             64            fp32        4 + 32 / 64    4.5
    NF4, double        NF4             64            double      4 + 8.125/64   4.127
    FP4                FP4 (E2M1)      64            fp32        4 + 32 / 64    4.5
    MXFP4              FP4             32            E8M0        4 + 8 / 32     4.25
    NVFP4              FP4             16            E4M3        4 + 8 / 16     4.5

A name stands for three decisions, so comparing two names does not show which decision
made the difference. `Format` keeps them apart: take one, change one field, compare. And
a format with shorter groups is better and dearer, so `fit` asks what each would be at
*one* price: the shortest groups that a number of bits per weight pays for. The groups
of MXFP4 and NVFP4 are part of their definition (hardware is built for them) and stay.

`at_equal_bits` measures many formats on the same matrices. Errors are shares of the
weights' power, Σ (W_hat − W)² / Σ W². They say what rounding did to the weights; what
it did to a model, only the model can say.

Sources: int4 and its symmetric form as in GPTQ's code and compressed-tensors; NF4,
double: QLoRA (Dettmers et al. 2023, section 3); MXFP4: OCP Microscaling Formats v1.0;
NVFP4: Nvidia's format of 2025, FP4 in groups of 16 with E4M3 scales and one fp32 per
matrix. The "fp4" of bitsandbytes has ±1/192 where E2M1, scaled to 1, has ±1/12.
Lesson 08 compares them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.methods.rtn import Clip, floats, quantize_rtn
from minquant.numerics.double_quant import BLOCK, DoubleQuantized
from minquant.numerics.grids import FP4, NF4, Grid, symmetric_full, zero_point
from minquant.numerics.groups import per_group
from minquant.numerics.scales import E4M3, E8M0, ScaleType
from minquant.numerics.tensor import QuantizedTensor

SCALE_BITS = {"fp32": 32, "fp16": 16, "E8M0": 8, "E4M3": 8, "double": 8 + 32 / BLOCK}


@dataclass(frozen=True)
class Format:
    """One way to store a matrix.

    grid: which codes there are. g: how many weights share a scale. scale: how it is
    kept, a name in SCALE_BITS. fixed: True if g belongs to the definition, so that
    `fit` leaves it. Raises ValueError if scale is no such name.

    >>> nf4 = Format(NF4, 64, "double")
    >>> round(nf4.bits_per_weight, 3), replace(nf4, scale="fp16").bits_per_weight
    (4.127, 4.25)
    """

    grid: Grid
    g: int
    scale: str = "fp16"
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALE_BITS:
            raise ValueError(
                f"scale is {self.scale!r}; choose one of {', '.join(SCALE_BITS)}"
            )

    @property
    def group_bits(self) -> float:
        """Bits that a group stores besides its codes: the scale, and a zero if any."""
        return SCALE_BITS[self.scale] + (self.grid.bits if self.grid.has_zeros else 0)

    @property
    def bits_per_weight(self) -> float:
        """True bits of a weight in a large matrix. Padding, and what is stored once per
        matrix (four bytes at most), are left out; `QuantizedTensor` counts both.
        """
        return self.grid.bits + self.group_bits / self.g

    def fit(self, budget: float, width: int) -> Format:
        """The same format with the shortest groups that divide rows of `width` weights
        and that `budget` bits per weight pay for. A fixed format stays as it is.

        Raises ValueError if the budget is too small for any groups.

        >>> Format(zero_point(4), 128).fit(4.5, width=640).g
        40
        """
        divisors = [g for g in range(2, width + 1) if width % g == 0] or [1]
        for g in [self.g] if self.fixed else divisors:
            fitted = replace(self, g=g)
            if fitted.bits_per_weight <= budget:
                return fitted
        raise ValueError(
            f"budget {budget:g} is too small: this format takes "
            f"{fitted.bits_per_weight:.4g} bits per weight in groups of {g}"
        )

    def quantize(
        self, W: Float[Tensor, "out in"], clip: Clip = None
    ) -> QuantizedTensor:
        """W rounded to nearest in this format. Raises as `quantize_rtn` does."""
        W = floats(W)
        options = {"clip": clip, "scale_dtype": scale_type(self.scale, W, self.grid)}
        return quantize_rtn(W, self.grid, per_group(self.g), **options)


def scale_type(name: str, W: Float[Tensor, "out in"], grid: Grid) -> ScaleType:
    """The `scale_dtype` for `quantize_rtn`, by its name in SCALE_BITS.

    W: E4M3 takes its one fp32 from it.
    """
    if name == "E4M3":
        return E4M3.of(W, grid)
    types = {
        "fp32": torch.float32,
        "fp16": torch.float16,
        "E8M0": E8M0.store,
        "double": DoubleQuantized.store,
    }
    return types[name]


BY_NAME = {
    "int4": Format(zero_point(4), 128),
    "int4, symmetric": Format(symmetric_full(4), 128),
    "NF4": Format(NF4, 64, "fp32"),
    "NF4, double": Format(NF4, 64, "double"),
    "FP4": Format(FP4, 64, "fp32"),
    "MXFP4": Format(FP4, 32, "E8M0", fixed=True),
    "NVFP4": Format(FP4, 16, "E4M3", fixed=True),
}


class Score(NamedTuple):
    """What a format costs on some matrices, and what it loses.

    bits_per_weight: everything counted, as on disk. error: the share of the weights'
    power, Σ (W_hat − W)² / Σ W². form: the format that was measured.
    """

    bits_per_weight: float
    error: float
    form: Format


def score(
    matrices: Iterable[Float[Tensor, "_ _"]], form: Format, clip: Clip = None
) -> Score:
    """The `Score` of one format on all matrices together.

    Raises ValueError if all weights are 0.
    """
    stored, weights, error, power = 0, 0, 0.0, 0.0
    for W in matrices:
        quantized = form.quantize(W, clip)
        stored += quantized.nbytes
        weights += W.numel()
        W_hat = quantized.dequantize(torch.float32)
        W = W.double()
        error += (W_hat - W).square().sum().item()
        power += W.square().sum().item()
    if not power:
        raise ValueError("matrices hold only zeros; give some with other weights")
    return Score(8 * stored / weights, error / power, form)


def at_equal_bits(
    matrices: Sequence[Float[Tensor, "_ _"]],
    budget: float,
    forms: Mapping[str, Format] = BY_NAME,
    clip: Clip = None,
) -> dict[str, Score]:
    """Every format at one price, measured on the same matrices: each with the shortest
    groups that `budget` bits per weight pay for. Formats that cost more are left out.

    Groups divide the rows of all matrices. In small matrices, what is stored once per
    matrix puts the score's bits a little above the budget.

    >>> W = torch.randn(64, 640, generator=torch.Generator().manual_seed(0))
    >>> {name: s.form.g for name, s in at_equal_bits([W], 4.25).items()}
    {'int4': 80, 'int4, symmetric': 64, 'NF4': 128, 'NF4, double': 40, 'FP4': 128, \
'MXFP4': 32}
    """
    width = gcd(*(W.shape[1] for W in matrices))
    fitted = {}
    for name, form in forms.items():
        try:
            fitted[name] = form.fit(budget, width)
        except ValueError:  # dearer than the budget, whatever its groups
            continue
    return {name: score(matrices, form, clip) for name, form in fitted.items()}
