"""The pictures of lesson 08, each named by what it shows.

weights_and_bell      the weights of a model, and the bell that is as wide
rulers_under_the_bell the levels of codebooks under the bell
use_of_codes          how often each code is used
errors_by_codebook    the error of the bell and of a model's weights, by codebook
bits_of               what formats take, all counted
verdicts              the error of the weights beside what the model loses
one_at_a_time         the same for single matrices
planted               the model with outlier channels
on_both_sides         what the model loses if its inputs are rounded as well
scales_moved          how far double quantization moves the scales of a model
live_codebook         the uneven ruler that moves
live_formats          formats as dots at their true bits
errors_of_formats     the error of one matrix in all formats
real_formats          what SmolLM2 loses in each format, as measured before
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant import almanac
from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.table import Table
from minquant.course.nf4 import live_formats as dots
from minquant.course.nf4.figure_codebooks import rulers_under_the_bell
from minquant.course.nf4.live_codebook import CodebookPicture
from minquant.course.nf4.live_formats import FormatsPicture, Measure
from minquant.measure.evaluate import Divergence, compare
from minquant.measure.measured import Rows
from minquant.methods.catalog import BY_NAME, Format, score
from minquant.methods.rtn import quantize_rtn
from minquant.models.folds import plant_outliers
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.text import calibration_batches
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import FP4, NF4, Grid, symmetric_full
from minquant.numerics.groups import per_group

__all__ = ["rulers_under_the_bell"]

CODEBOOKS = {"NF4": NF4, "int4": symmetric_full(4), "FP4": FP4}
SAMPLE = 64, 128  # weights in the live picture: rows, columns


def matrices(model: nn.Module) -> list[Float[Tensor, "_ _"]]:
    """The matrices of a model's layers, float32."""
    return [
        weight_of(layer).detach().float() for layer in linear_layers(model).values()
    ]


@palette.style()
def weights_and_bell(model: nn.Module) -> Picture:
    """A histogram of all weights, each over the standard deviation of its row; and the
    bell. Rows that are all alike are left out."""
    x = torch.cat([_standardized(W) for W in matrices(model)]).numpy()
    inside = (abs(x) < 1).mean()
    fig, ax = plot(
        "weight, in standard deviations of its row",
        "share of the weights",
        title="Weights (bars) and the bell curve (line)",
        height=260,
    )
    grid = np.linspace(-4, 4, 201)
    bell = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    ax.hist(x, 80, range=(-4, 4), density=True, color=palette.SKY)
    ax.plot(grid, bell, color=palette.INK)
    ax.set_yticks([])
    fig.alt = (
        f"A histogram of {len(x):,} weights, close to the bell curve; {inside:.0%} lie "
        "within one standard deviation."
    )
    return fig


def _standardized(W: Float[Tensor, "out in"]) -> Float[Tensor, " n"]:
    deviation = W.std(1, keepdim=True)
    return (W / deviation)[deviation.flatten() > 0].flatten()


@palette.style()
def use_of_codes(use: Mapping[str, Float[Tensor, " codes"]]) -> Picture:
    """The share of the weights that have each code, a line for each name."""
    fig, ax = plot(
        "code", "weights (%)", title="How often is each code used?", height=280
    )
    words = []
    for (name, shares), color, mark in zip(
        use.items(), palette.SERIES, "os^vP", strict=False
    ):
        percent = 100 * shares.numpy()
        ax.plot(percent, f"{mark}-", color=color, label=name)
        words.append(f"{name}: from {percent.min():.1f} % to {percent.max():.1f} %")
    equal = 100 / len(next(iter(use.values())))
    ax.axhline(equal, color=palette.MUTED, lw=1.2, ls=(0, (4, 3)), label="all alike")
    ax.set_xticks(range(16))
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower center", ncols=len(use) + 1)
    fig.alt = f"The share of the weights at each of 16 codes. {'; '.join(words)}."
    return fig


def errors_by_codebook(
    weights: Mapping[str, Sequence[Float[Tensor, "_ _"]]],
    codebooks: Mapping[str, Grid] = CODEBOOKS,
    g: int = 64,
) -> Table:
    """The error of each codebook in blocks of g, as a share of the weights' squares."""
    rows = []
    for name, grid in codebooks.items():
        errors = [score(some, Format(grid, g)).error for some in weights.values()]
        rows.append([name, f"{len(grid.levels)}", *(f"{e:.5f}" for e in errors)])
    return Table(["codebook", "ticks", *(f"error, {name}" for name in weights)], rows)


def bits_of(forms: Mapping[str, Format]) -> Table:
    """The bill of each format: what a group stores beside its codes, and true bits."""
    rows = [
        [name, f"{form.group_bits:g}", str(form.g), f"{form.bits_per_weight:.3f}"]
        for name, form in sorted(
            forms.items(), key=lambda pair: pair[1].bits_per_weight
        )
    ]
    return Table(["format", "bits of a ruler", "shared by", "bits per weight"], rows)


def verdicts(
    forms: Mapping[str, Format], model: nn.Module, apart: Mapping[str, Divergence]
) -> Table:
    """The error of the weights beside the KL of the model, with its interval."""
    rows = []
    for name, form in forms.items():
        error, kl = score(matrices(model), form).error, apart[name]
        low, high = kl.interval()
        cells = f"{error:.5f}", f"{kl.kl:.4f}", f"[{low:.4f}, {high:.4f}]"
        rows.append([name, f"{form.bits_per_weight:.2f}", *cells])
    return Table(["", "bits", "weight error", "KL", "95 % interval"], rows)


def one_at_a_time(
    model: nn.Module,
    forms: Mapping[str, Format],
    alone: Mapping[tuple[str, str], Divergence],
) -> Table:
    """The weight error of single matrices, and the KL of the model with this matrix
    rounded alone. alone: by layer and name of the format."""
    rows = []
    for (layer, name), apart in alone.items():
        W = weight_of(model.get_submodule(layer)).detach().float()
        error = f"{score([W], forms[name]).error:.4f}"
        short = layer.removeprefix("model.layers.")
        rows.append([short, name, error, f"{apart.kl:.5f}"])
    return Table(["matrix", "", "weight error", "KL"], rows)


def planted(model: nn.Module, tokenizer: Any) -> nn.Module:
    """The model with six outlier channels, as in lesson 05; it computes the same."""
    seen = almanac.documents("calibration", 16)
    return plant_outliers(model, calibration_batches(tokenizer, seen))[0]


def on_both_sides(sides: Mapping[tuple[str, str], Divergence]) -> Table:
    """KL and its interval, a row for each method, a column for each model."""
    names, models = (list(dict.fromkeys(part)) for part in zip(*sides, strict=True))
    rows = []
    for name in names:
        cells = []
        for model in models:
            kl = sides[name, model]
            low, high = kl.interval()
            cells.append(f"{kl.kl:.4f} [{low:.4f}, {high:.4f}]")
        rows.append([name, *cells])
    return Table(["both sides in", *(f"KL, {model}" for model in models)], rows)


def scale_moves(model: nn.Module, g: int = 64) -> Float[Tensor, " n_scales"]:
    """By which share of itself double quantization moves each scale of NF4. Scales of
    groups that hold only zeros are left out."""
    moves = []
    for W in matrices(model):
        some = {"scale_dtype": torch.float32}
        before = quantize_rtn(W, NF4, per_group(g), **some).scales
        after = DoubleQuantized.store(before, NF4).dequantize()
        moves.append(((after - before).abs() / before).flatten())
    return torch.cat(moves)


@palette.style()
def scales_moved(model: nn.Module, g: int = 64) -> Picture:
    """How far double quantization moves the scales of NF4, on a logarithmic axis."""
    moves = 100 * scale_moves(model, g).clamp(min=1e-6).numpy()
    fig, ax = plot(
        "how far a scale moves (%)",
        "scales",
        title="Scales kept in 8 bits",
        height=250,
    )
    bins = np.geomspace(0.001, 10, 41)
    ax.hist(moves.clip(bins[0], bins[-1]), bins, color=palette.VERMILION)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    middle, worst = np.median(moves), moves.max()
    for x, name in ((middle, "half of them"), (worst, "the worst")):
        ax.axvline(x, color=palette.INK, lw=1.2, ls=(0, (4, 3)))
        ax.annotate(
            f"{name}: {x:.1f} %",
            (x, 0.92),
            (-6, 0),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha="right",
        )
    fig.alt = (
        f"A histogram of how far {len(moves):,} scales move when they are kept in 8 "
        f"bits: half of them by less than {middle:.2f} %, the worst by {worst:.1f} %."
    )
    return fig


def live_codebook(
    bell: Float[Tensor, "_ _"], W: Float[Tensor, "out in"], **start: object
) -> CodebookPicture:
    """The uneven ruler under a sample of the bell, and under weights of a matrix."""
    rows, columns = SAMPLE
    return CodebookPicture(
        {"real": W[:rows, :columns], "the bell": bell[:rows, :columns]}, **start
    )


def live_formats(
    forms: Mapping[str, Format],
    bell: Float[Tensor, "_ _"],
    model: nn.Module,
    apart: Mapping[str, Divergence],
    **start: object,
) -> FormatsPicture:
    """Each format at its bits: the error of the bell, the error of the model's weights,
    and the KL divergence from the model before."""
    kinds = {
        "error of the bell": [bell],
        "error of the weights": matrices(model),
    }
    measures = {
        kind: {name: Measure(score(some, form).error) for name, form in forms.items()}
        for kind, some in kinds.items()
    }
    measures["KL of the model"] = {
        name: Measure(apart[name].kl, apart[name].interval()) for name in forms
    }
    bits = {name: form.bits_per_weight for name, form in forms.items()}
    return dots.formats(bits, measures, **start)


def errors_of_formats(
    W: Float[Tensor, "out in"],
    forms: Mapping[str, Format] = BY_NAME,
    bits: float = 4.5,
) -> Table:
    """The error of a matrix in each format, with the shortest groups that `bits` pay
    for. Formats that its rows do not fit are named."""
    W = W.detach().float()
    rows = []
    for name, form in forms.items():
        try:
            fitted = form.fit(bits, W.shape[1])
            found = score([W], fitted)
        except ValueError as reason:
            rows.append([name, "–", "–", f"refused: {reason}"])
        else:
            paid, error = f"{found.bits_per_weight:.2f}", f"{found.error:.4f}"
            rows.append([name, str(fitted.g), paid, error])
    return Table(["format", "groups of", "bits", "weight error"], rows)


def real_formats(rows: Rows, budget: float = 4.5) -> Table:
    """What SmolLM2 loses in each format that `budget` bits pay for, by KL: true bits,
    weight error, KL, and the loss above the float model's with its 95 % interval. Says
    so if none is measured yet."""
    fixed = "format NVFP4", "format MXFP4"
    at = f" at {budget:g}"
    kept = [row for key, row in rows.items() if key.endswith(at) or key in fixed]
    columns = ["format", "bits", "weight error", "KL", "added loss", "95 % interval"]
    lines = []
    for row in sorted(kept, key=lambda row: row.divergence.kl):
        change = compare(rows["float"].loss, row.loss)
        lines.append(
            [
                row.key.removeprefix("format ").removesuffix(at),
                f"{row.bits_per_weight:.2f}",
                f"{row.weight_error:.4f}",
                f"{row.divergence.kl:.3f}",
                f"{change.mean:+.3f}",
                f"[{change.low:+.3f}, {change.high:+.3f}]",
            ]
        )
    return Table(columns, lines or [["not measured yet", *["–"] * 5]])
