"""The uneven ruler on real weights: change the format and the blocks, watch the codes.

    uneven_ruler(matrices)      # name to W (out, in): the last line of a cell

The reader chooses a matrix, a format (what its 16 codes mean, how its scales are
stored) and how many weights share a scale, and sees where the weights lie on their
rulers, how often each code is used, and where the error comes from; below are the error
and the true bits per weight. One code is followed in words. Every number comes from the
package: `catalog` quantizes, `codebooks` counts. Notebook 08 shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing.numbers import integer, number
from minquant.course.live import controls
from minquant.course.live.dashboard import Dashboard, Frame, Spot
from minquant.course.live.markup import paragraph
from minquant.course.nf4.figure_code_usage import (
    END,
    LEFT,
    PANELS,
    WIDE,
    Usage,
    UsagePicture,
)
from minquant.methods.catalog import BY_NAME, Format
from minquant.methods.codebooks import usage
from minquant.numerics import grids
from minquant.numerics.tensor import QuantizedTensor

OWN = "as defined"
BLOCKS = (16, 32, 64, 128, 256)
KINDS = {
    "NF4": replace(BY_NAME["NF4"], scale="fp16"),
    "NF4, double": BY_NAME["NF4, double"],
    "int4": BY_NAME["int4"],
    "int4, symmetric": BY_NAME["int4, symmetric"],
    "int4, absmax": Format(grids.absmax(4), 128),
    "FP4": replace(BY_NAME["FP4"], scale="fp16"),
    "MXFP4": BY_NAME["MXFP4"],
    "NVFP4": BY_NAME["NVFP4"],
}


def uneven_ruler(
    matrices: Mapping[str, Float[Tensor, ...]],
    *,
    kind: str = "NF4",
    block: str = "64",
    code: int = 7,
) -> Dashboard:
    """The widget. matrices: name to W (out, in).

    kind, block, code: the first format (of KINDS), block ("64", or "as defined"), place
    of the code that is marked. Blocks that do not divide all rows are not offered.

    Raises ValueError if there is no matrix.
    """
    if not matrices:
        raise ValueError("matrices is empty; give at least one, by its name")
    study = Study(matrices)
    return Dashboard(
        study.draw,
        {
            "kind": controls.choice("format", kind, list(KINDS)),
            "block": controls.choice("block", block, study.blocks),
            "matrix": controls.choice("matrix", next(iter(matrices)), list(matrices)),
            "code": controls.integer("code", code, 0, 15),
        },
    )


class Study:
    """Matrices in many formats: quantizes them when asked, remembers and draws them."""

    def __init__(self, matrices: Mapping[str, Float[Tensor, ...]]) -> None:
        self.matrices = {name: W.detach().float().cpu() for name, W in matrices.items()}
        widths = [W.shape[1] for W in self.matrices.values()]
        self.blocks = [OWN] + [
            f"{g}" for g in BLOCKS if all(width % g == 0 for width in widths)
        ]
        self.measured = lru_cache(maxsize=128)(self.measure)
        self.picture: UsagePicture | None = None

    def measure(
        self, kind: str, block: str, matrix: str
    ) -> tuple[Usage, QuantizedTensor, str]:
        """One state: the numbers of the picture, the quantized matrix, the words."""
        form, W = KINDS[kind], self.matrices[matrix]
        form = form if block == OWN else replace(form, g=int(block))
        form = replace(form, g=min(form.g, W.shape[1]))
        quantized = form.quantize(W)
        words = _summary(kind, form, W, quantized)
        return Usage.of(W, quantized, kind), quantized, words

    def draw(self, *, kind: str, block: str, matrix: str, code: int) -> Frame:
        """The picture, the words, the texts under the pointer."""
        codes, quantized, words = self.measured(kind, block, matrix)
        code = min(code, len(codes.levels) - 1)
        if self.picture is None:
            self.picture = UsagePicture(codes, code)
        else:
            self.picture.update(codes, code)
        details = paragraph(_describe(codes, quantized, code), space=0)
        return Frame(self.picture.fig, words, details, _spots(codes, quantized))


def _summary(
    kind: str, form: Format, W: Float[Tensor, "out in"], quantized: QuantizedTensor
) -> str:
    """The bits of a format on this matrix, and its error."""
    squared = (quantized.dequantize() - W).double().square()
    share = squared.mean() / W.double().square().mean()
    return paragraph(
        f"<b>{kind}</b>, a scale ({form.scale}) for "
        f"{form.g} weights: <b>{quantized.bits_per_weight:.3f} bits per weight</b>. "
        f"Error (RMSE): <b>{number(squared.mean().sqrt(), digits=3)}</b>, that is "
        f"{share:.2%} of the weights' power."
    )


def _describe(codes: Usage, quantized: QuantizedTensor, i: int) -> str:
    """Code i in a sentence."""
    level = number(quantized.grid.levels[i], digits=4)
    low, high = (number(x, digits=3) for x in codes.borders[i : i + 2].clip(-1, 1))
    return (
        f"Code {integer(i + codes.low)} is worth {level} at scale 1. It has "
        f"{usage(quantized)[i]:.2%} of the weights, those from {low} to {high} of the "
        f"ruler (−1 is its lowest tick, 1 its highest), and {codes.error[i]:.2%} of "
        "the squared error."
    )


def _spots(codes: Usage, quantized: QuantizedTensor) -> list[Spot]:
    """Texts under the pointer, a strip for each code."""
    edges = LEFT + WIDE * (codes.borders + END) / (2 * END)
    top = PANELS["weights"][0]
    bottom = sum(PANELS["error"])
    return [
        Spot(a, top, b - a, bottom - top, _describe(codes, quantized, i))
        for i, (a, b) in enumerate(pairwise(edges))
    ]
