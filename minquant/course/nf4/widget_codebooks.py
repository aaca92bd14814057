"""The uneven ruler on real weights: change the format and the blocks, watch the codes.

    uneven_ruler(matrices)      # name to W (out, in): the last line of a cell

The reader chooses a matrix, a format (what its 16 codes mean, how its scales are kept)
and for how many weights a scale serves, and sees where the weights lie on their rulers,
how often each code is used, and where the error comes from; beneath stand the error and
the true bits per weight. One code is followed in words. Every number is that of the
package: `formats` quantizes, `codebooks` counts. Notebook 08 shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.course.live.controls import choice, integer
from minquant.course.live.dashboard import Dashboard, Frame, Spot
from minquant.course.nf4.figure_code_usage import (
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
    controls = {
        "kind": choice("format", kind, list(KINDS)),
        "block": choice("block", block, study.blocks),
        "matrix": choice("matrix", next(iter(matrices)), list(matrices)),
        "code": integer("code", code, 0, 15),
    }
    return Dashboard(study.draw, controls)


class Study:
    """Matrices in many formats: quantizes when asked, remembers, draws."""

    def __init__(self, matrices: Mapping[str, Float[Tensor, ...]]) -> None:
        self.matrices = {k: W.detach().float().cpu() for k, W in matrices.items()}
        widths = [W.shape[1] for W in self.matrices.values()]
        self.blocks = [OWN] + [
            f"{g}" for g in BLOCKS if all(width % g == 0 for width in widths)
        ]
        self.seen = lru_cache(maxsize=128)(self.measure)
        self.picture: UsagePicture | None = None

    def measure(
        self, kind: str, block: str, matrix: str
    ) -> tuple[Usage, QuantizedTensor, str]:
        """One state: the numbers of the picture, the matrix, and the words."""
        form, W = KINDS[kind], self.matrices[matrix]
        form = form if block == OWN else replace(form, g=int(block))
        form = replace(form, g=min(form.g, W.shape[1]))
        made = form.quantize(W)
        return Usage.of(W, made, kind), made, _summary(kind, form, W, made)

    def draw(self, *, kind: str, block: str, matrix: str, code: int) -> Frame:
        """The picture, the words, the texts under the pointer."""
        seen, made, words = self.seen(kind, block, matrix)
        code = min(code, len(seen.levels) - 1)
        if self.picture is None:
            self.picture = UsagePicture(seen, code)
        else:
            self.picture.update(seen, code)
        told = f'<p style="margin:0">{_tell(seen, made, code)}</p>'
        return Frame(self.picture.fig, words, told, _spots(seen, made))


def _summary(
    kind: str, form: Format, W: Float[Tensor, "out in"], made: QuantizedTensor
) -> str:
    """What the format costs here, and what it loses."""
    errors = (made.dequantize() - W).double().square()
    share = errors.mean() / W.double().square().mean()
    return (
        f'<p style="margin:0 0 6px"><b>{kind}</b>, a scale ({form.scale}) for '
        f"{form.g} weights: <b>{made.bits_per_weight:.3f} bits per weight</b>. Error "
        f"(RMSE): <b>{number(errors.mean().sqrt(), digits=3)}</b>, that is "
        f"{share:.2%} of the weights' power.</p>"
    )


def _tell(seen: Usage, made: QuantizedTensor, i: int) -> str:
    """One code in a sentence."""
    level = number(made.grid.levels[i], digits=4)
    low, high = (number(x, digits=3) for x in seen.borders[i : i + 2].clip(-1, 1))
    return (
        f"Code {i + seen.low} is worth {level} at scale 1. It has "
        f"{usage(made)[i]:.2%} of the weights, those from {low} to {high} of the ruler "
        f"(−1 is its lowest tick, 1 its highest), and {seen.error[i]:.2%} of the "
        "squared error."
    ).replace("Code -", "Code −")


def _spots(seen: Usage, made: QuantizedTensor) -> list[Spot]:
    """What the pointer tells, a strip for each code."""
    edges = LEFT + WIDE * (seen.borders + 1.06) / 2.12
    top = PANELS["weights"][0]
    bottom = sum(PANELS["error"])
    return [
        Spot(a, top, b - a, bottom - top, _tell(seen, made, i))
        for i, (a, b) in enumerate(pairwise(edges))
    ]
