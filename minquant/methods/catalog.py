"""Formats by name: a grid, for how many weights a scale serves, how the scale is kept.

    name               codes           a scale for   kept in     bits per weight
    int4               0 … 15 − zero   128           fp16        4 + 20 / 128   4.156
    int4, symmetric    −8 … 7          128           fp16        4 + 16 / 128   4.125
    NF4                NF4             64            fp32        4 + 32 / 64    4.5
    NF4, double        NF4             64            double      4 + 8.125/64   4.127
    FP4                FP4 (E2M1)      64            fp32        4 + 32 / 64    4.5
    MXFP4              FP4             32            E8M0        4 + 8 / 32     4.25
    NVFP4              FP4             16            E4M3        4 + 8 / 16     4.5

A name is three decisions at once, so two names cannot tell which decision made a
difference. `Format` keeps them apart: take one, change one field, compare. And a format
with shorter groups is better and dearer, so `fit` asks what each would be at *one*
price: the shortest groups that so many bits per weight pay for. MXFP4's and NVFP4's
groups are part of their definition (hardware is built for them) and stay.

`compare` measures many formats on the same matrices. Errors are shares of the weights'
power, Σ (W_hat − W)² / Σ W². They say what rounding did to the weights; what it did to
a model says only the model.

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

from minquant.methods.rtn import Clip, quantize_rtn
from minquant.numerics.double_quant import BLOCK, DoubleQuantized
from minquant.numerics.grids import FP4, NF4, Grid, symmetric_full, zero_point
from minquant.numerics.groups import per_group
from minquant.numerics.scales import E4M3, E8M0, ScaleType
from minquant.numerics.tensor import QuantizedTensor

SCALE_BITS = {"fp32": 32, "fp16": 16, "E8M0": 8, "E4M3": 8, "double": 8 + 32 / BLOCK}


@dataclass(frozen=True)
class Format:
    """One way to store a matrix.

    grid: which codes there are. g: weights that share a scale. scale: how it is kept, a
    name of SCALE_BITS. fixed: g belongs to the definition, and `fit` leaves it.
    Raises ValueError if scale is no such name.

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
        """Bits that a group stores beside its codes: the scale, and a zero if any."""
        return SCALE_BITS[self.scale] + (self.grid.bits if self.grid.has_zeros else 0)

    @property
    def bits_per_weight(self) -> float:
        """True bits of a weight in a large matrix: what is stored once per matrix (four
        bytes at most) is left out, padding too. `QuantizedTensor` counts both.
        """
        return self.grid.bits + self.group_bits / self.g

    def fit(self, budget: float, width: int) -> Format:
        """The same with the shortest groups that `budget` bits per weight pay for, and
        that divide rows of `width` weights. A fixed format stays as it is.

        Raises ValueError if the budget is too small for any.

        >>> Format(zero_point(4), 128).fit(4.5, width=640).g
        40
        """
        sizes = [self.g] if self.fixed else [g for g in _divisors(width) if g > 1]
        for g in sizes:
            if (made := replace(self, g=g)).bits_per_weight <= budget:
                return made
        least = replace(self, g=sizes[-1]).bits_per_weight
        raise ValueError(
            f"budget {budget:g} is too small: this format takes {least:.4g} bits per "
            f"weight in groups of {sizes[-1]}"
        )

    def quantize(
        self, W: Float[Tensor, "out in"], clip: Clip = None
    ) -> QuantizedTensor:
        """W rounded to nearest in this format. Raises as `quantize_rtn` does."""
        how = scale_type(self.scale, W, self.grid)
        return quantize_rtn(W, self.grid, per_group(self.g), clip=clip, scale_dtype=how)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def scale_type(name: str, W: Float[Tensor, "out in"], grid: Grid) -> ScaleType:
    """What `rtn` calls `scale_dtype`, by its name. E4M3 looks at W for its fp32."""
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "E8M0": E8M0.store}
    kinds |= {"double": DoubleQuantized.store}
    return E4M3.of(W, grid) if name == "E4M3" else kinds[name]


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

    bits_per_weight: all counted, as it would lie on disk. error: the share of the
    weights' power, Σ (W_hat − W)² / Σ W². form: the format that was measured.
    """

    bits_per_weight: float
    error: float
    form: Format


def score(
    matrices: Iterable[Float[Tensor, "_ _"]], form: Format, clip: Clip = None
) -> Score:
    """One format on all matrices together."""
    stored, weights, error, power = 0, 0, 0.0, 0.0
    for W in matrices:
        made = form.quantize(W, clip)
        stored, weights = stored + made.nbytes, weights + W.numel()
        W_hat = made.dequantize(torch.float32)
        error += (W_hat - W).double().square().sum().item()
        power += W.double().square().sum().item()
    if not power:
        raise ValueError("matrices hold no weight but 0; give some that have others")
    return Score(8 * stored / weights, error / power, form)


def at_equal_bits(
    matrices: Sequence[Float[Tensor, "_ _"]],
    budget: float,
    forms: Mapping[str, Format] = BY_NAME,
    clip: Clip = None,
) -> dict[str, Score]:
    """Every format at one price: each with the shortest groups that `budget` bits per
    weight pay for, on the same matrices. Formats that cost more are left out.

    Groups divide the rows of all matrices. Where matrices are so small that what is
    stored once matters, the score is a little above the budget, and says how much.

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
