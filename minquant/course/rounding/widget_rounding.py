"""The rounding widget: one row of real weights snapped to a ruler.

    rounding(W)            # a weight matrix (out, in): the last line of a cell

The reader moves the bits, the kind of ruler, how many weights share one, and where it
ends, and sees every weight of the row go to its tick, the error, and the bits that are
stored. One weight is followed through the arithmetic, step by step. Every number comes
from `rtn` on the whole matrix.

Notebook 02 shows it with few controls, notebook 03 with all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.course.drawing.ruling import Ruling
from minquant.course.live.controls import Control, choice, decimal, integer, switch
from minquant.course.live.dashboard import Dashboard, Frame, Spot
from minquant.course.live.markup import paragraph, steps_table
from minquant.course.rounding.figure_ruler import ERROR, MAIN, RulerPicture
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.numerics.tensor import QuantizedTensor

WINDOW = 64  # weights in view; a longer row is turned page by page
GRIDS = {
    "absmax": grids.absmax,
    "symmetric, full": grids.symmetric_full,
    "zero-point": grids.zero_point,
    "NF4": lambda bits: grids.NF4,
}
CONTROLS = ("bits", "grid", "ruler", "clip", "keep", "row", "weight", "magnify")


def rounding(
    W: Float[Tensor, ...],
    *,
    controls: Sequence[str] = CONTROLS,
    kinds: Sequence[str] = tuple(GRIDS),
    **start: object,
) -> Dashboard:
    """The widget on one weight matrix.

    W: weights (out, in). controls: which of CONTROLS the reader gets, in this order.
    kinds: which of GRIDS the menu offers. start: first values, such as `bits=3` or
    `ruler="groups of 32"`; a value without a control stays.

    Raises ValueError if W is not a matrix, or for a control that is not in CONTROLS.
    """
    study = Study(W)
    values = {"bits": 4, "grid": kinds[0], "ruler": "each row", "clip": "none"}
    values |= {"keep": 0.8, "row": 0, "weight": 20, "magnify": False} | start
    known = study.controls(values, kinds)
    if unknown := [name for name in (*controls, *start) if name not in known]:
        raise ValueError(
            f"{unknown[0]} is no control of this widget; "
            f"choose from {', '.join(CONTROLS)}"
        )

    def _draw(**moved: object) -> Frame:
        return study.draw(**values | moved)

    return Dashboard(_draw, {name: known[name] for name in controls})


class Study:
    """One matrix on many rulers: quantizes it when asked, remembers it, draws it."""

    def __init__(self, W: Float[Tensor, ...]) -> None:
        if W.ndim != 2:
            raise ValueError(f"W has shape {tuple(W.shape)}; give one matrix (out, in)")
        self.W = W.detach().float().cpu()
        self.rulers = {"the matrix": groups.PER_TENSOR, "each row": groups.PER_CHANNEL}
        for g in (128, 64, 32, 16):
            if self.W.shape[1] % g == 0 and g < self.W.shape[1]:
                self.rulers[f"groups of {g}"] = groups.per_group(g)
        self.quantized = lru_cache(maxsize=64)(self.quantize)
        self.picture: RulerPicture | None = None

    def controls(
        self, values: dict[str, object], kinds: Sequence[str]
    ) -> dict[str, Control]:
        """Every control this widget knows, at its first value."""
        out, width = self.W.shape
        return {
            "bits": integer("bits", values["bits"], 2, 8),
            "grid": choice("ruler", values["grid"], list(kinds)),
            "ruler": choice("one for", values["ruler"], list(self.rulers)),
            "clip": choice(
                "clip",
                values["clip"],
                {"none": "none", "least error": "mse", "by hand": "hand"},
            ),
            "keep": decimal("shrink to", values["keep"], 0.2, 1.0, step=0.01),
            "row": integer("row", values["row"], 0, out - 1),
            "weight": integer("weight", min(values["weight"], width - 1), 0, width - 1),
            "magnify": switch("magnify the errors", values["magnify"]),
        }

    def quantize(
        self, bits: int, grid: str, ruler: str, clip: str, keep: float
    ) -> QuantizedTensor:
        """The whole matrix, rounded to nearest by the package."""
        codes, granularity = GRIDS[grid](bits), self.rulers[ruler]
        if clip == "hand":
            weights = groups.split(self.W, granularity)
            scales, zeros = rtn.scale_and_zero(weights, codes)
            scales = (scales * keep).to(scales)
            return rtn.quantize_with(self.W, scales, zeros, codes, granularity)
        return rtn.quantize_rtn(
            self.W, codes, granularity, clip=None if clip == "none" else clip
        )

    def draw(
        self,
        *,
        bits: int,
        grid: str,
        ruler: str,
        clip: str,
        keep: float,
        row: int,
        weight: int,
        magnify: bool,
    ) -> Frame:
        """One state: the picture, the words, the texts under the pointer."""
        quantized = self.quantized(bits, grid, ruler, clip, keep)
        first = weight - weight % WINDOW
        count = min(WINDOW, self.W.shape[1] - first)
        ruling = Ruling.of(self.W, quantized, row, first, count)
        if self.picture is None:
            self.picture = RulerPicture(ruling, weight - first, magnify=magnify)
        else:
            self.picture.update(ruling, weight - first, magnify=magnify)
        words, details = self.summary(quantized, row), _table(ruling, weight - first)
        disabled = set()
        if clip != "hand":
            disabled.add("keep")
        if grid == "NF4":
            disabled.add("bits")
        return Frame(self.picture.fig, words, details, self._spots(ruling), disabled)

    def summary(self, quantized: QuantizedTensor, row: int) -> str:
        """The error of the row and of the matrix, and the bits that are stored."""
        W_hat = quantized.dequantize()
        used = len(quantized.codes[row].unique())
        ticks = len(quantized.grid.levels)
        of_row, of_all = (
            number((error.double() ** 2).mean().sqrt().item(), digits=3)
            for error in ((W_hat - self.W)[row], W_hat - self.W)
        )
        return paragraph(
            f"Error (RMSE): <b>{of_row}</b> in row {row}, "
            f"{of_all} in the matrix. Storage: <b>{quantized.bits_per_weight:.2f} bits "
            "per weight</b>, scales and zeros counted. "
            f"The row uses {used} of {ticks} codes."
        )

    def _spots(self, ruling: Ruling) -> list[Spot]:
        left = [self.picture.column(i - 0.5) for i in range(len(ruling.weights) + 1)]
        top, bottom = MAIN[1], ERROR[1] + ERROR[3]
        return [
            Spot(left[i], top, left[i + 1] - left[i], bottom - top, _tip(ruling, i))
            for i in range(len(ruling.weights))
        ]


def _tip(ruling: Ruling, i: int) -> str:
    """One weight's arithmetic as the text under the pointer."""
    (_, weight), *steps = ruling.arithmetic(i)
    lines = [f"{done}: {result}" for done, result in steps]
    return "\n".join((f"weight {ruling.first + i}: {weight}", *lines))


def _table(ruling: Ruling, i: int) -> str:
    """One weight's arithmetic as a table."""
    (_, weight), *steps = ruling.arithmetic(i)
    return steps_table([(f"weight {ruling.first + i}", weight), *steps], gap=14)
