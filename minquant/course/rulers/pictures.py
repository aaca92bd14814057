"""The pictures of lesson 03, each named by what it shows.

rulers_of_a_row     the weights of a row over its rulers, cut in several ways
costs, frontier     error against true bits, for all matrices of a model
matrix_costs        the same for one matrix
model_frontier      added loss against true bits
clipping            rounding and clipping errors as the ruler gets shorter
live_rulers         the rulers that move
real_frontier       added loss of a real model against true bits
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from minquant import almanac
from minquant.course.drawing.figures import Picture
from minquant.course.drawing.ruling import Ruling
from minquant.course.drawing.table import Table
from minquant.course.rounding.live_ruler import RulerPicture
from minquant.course.rulers.figure_clipping import ClipCurve, clip_curve
from minquant.course.rulers.figure_histogram import weights_over_rulers
from minquant.course.rulers.figure_pareto import Cost, error_against_bits
from minquant.course.rulers.live_groups import GroupsPicture
from minquant.measure.evaluate import compare, perplexity
from minquant.measure.intervals import Difference
from minquant.measure.measured import Row
from minquant.methods.rtn import quantize_rtn
from minquant.models.linear_layers import Size, linear_layers, weight_of
from minquant.models.quantize import quantize
from minquant.numerics.grids import Grid, zero_point
from minquant.numerics.groups import Granularity
from minquant.numerics.tensor import QuantizedTensor

Costs = dict[tuple[int, str], Cost]  # by bits of a code and name of the ruler
SHOWN = 32  # weights of a row
LEAST = 1e-4  # nats: a logarithmic axis has no 0


def rulers_of_a_row(
    W: Float[Tensor, "out in"], quantized: Mapping[str, QuantizedTensor], row: int
) -> Picture:
    """A histogram of the weights of a row, and below it each of its rulers."""
    return weights_over_rulers(
        {name: Ruling.of(W, q, row=row) for name, q in quantized.items()}
    )


def costs(
    model: nn.Module,
    bits: Sequence[int],
    cuts: Mapping[str, Granularity],
    clip: str | None = None,
) -> Costs:
    """Root mean squared error and true bits, over all matrices of the model's layers,
    for each width on a zero-point grid and each way to cut."""
    matrices = [weight_of(layer).float() for layer in linear_layers(model).values()]
    return _costs(matrices, bits, cuts, clip)


def matrix_costs(
    W: Float[Tensor, "out in"], bits: Sequence[int], cuts: Mapping[str, Granularity]
) -> Costs:
    """The same for one matrix."""
    return _costs([W.float()], bits, cuts, None)


def _costs(
    matrices: Iterable[Tensor],
    bits: Sequence[int],
    cuts: Mapping[str, Granularity],
    clip: str | None,
) -> Costs:
    found = {}
    for b in bits:
        for name, cut in cuts.items():
            squares, weights, stored = 0.0, 0, 0
            for W in matrices:
                q = quantize_rtn(W, zero_point(b), cut, clip=clip)
                squares += (q.dequantize() - W).double().square().sum().item()
                weights += W.numel()
                stored += q.nbytes
            rmse = (squares / weights) ** 0.5
            found[b, name] = Cost(b, name, 8 * stored / weights, rmse)
    return found


def frontier(costs: Costs, named: int) -> Picture:
    """Error against true bits. named: the width whose rulers are named."""
    return error_against_bits(list(costs.values()), named=[named])


def model_frontier(
    added: Mapping[tuple[int, str], tuple[Difference, Size]], named: int
) -> Picture:
    """Added loss against true bits, for each width and ruler."""
    paid = [
        Cost(bits, ruler, size.bits_per_weight, max(change.mean, LEAST))
        for (bits, ruler), (change, size) in added.items()
    ]
    return error_against_bits(
        paid,
        ylabel="added loss (nats per token)",
        title="What the model pays, by what its weights take",
        named=[named],
    )


def changes_by_kind(
    model: nn.Module, tokenizer: Any, cuts: Mapping[str, Granularity], bits: int
) -> dict[str, Difference]:
    """The loss with groups of 64 minus the loss with a ruler per row, on 20 texts of
    each kind of the almanac."""
    models = [
        quantize(
            model,
            partial(quantize_rtn, grid=zero_point(bits), granularity=cuts[cut]),
            progress=False,
        )[0]
        for cut in ("row", "64")
    ]
    changes = {}
    for kind in almanac.KINDS:
        texts = almanac.documents("test", 20, kind=kind)
        row, g64 = (perplexity(m, tokenizer, texts, progress=False) for m in models)
        changes[kind] = compare(row, g64)
    return changes


def loss_by_kind(
    model: nn.Module, tokenizer: Any, cuts: Mapping[str, Granularity], bits: int
) -> Table:
    """`changes_by_kind`, with 95 % intervals."""
    rows = [
        [kind, f"{change.mean:+.3f}", f"[{change.low:+.3f}, {change.high:+.3f}]"]
        for kind, change in changes_by_kind(model, tokenizer, cuts, bits).items()
    ]
    return Table(["texts", "groups of 64 minus rows (nats)", "95 % interval"], rows)


def clipping(W: Float[Tensor, "out in"], grid: Grid) -> Picture:
    """The mean squared error, in two parts, as all rulers of W get shorter."""
    return clip_curve(ClipCurve.of(W, grid))


def best_clip(W: Float[Tensor, "out in"], grid: Grid) -> tuple[float, float]:
    """The share of all rulers to keep, and the share of the squared error then left."""
    curve = ClipCurve.of(W, grid)
    return curve.best, float(curve.total.min() / curve.total[-1])


def live_groups(model: nn.Module, W: Float[Tensor, "out in"]) -> GroupsPicture:
    """W cut into groups; error against true bits, over all matrices of the model."""
    matrices = [weight_of(layer) for layer in linear_layers(model).values()]
    return GroupsPicture(W, matrices)


def live_clipping(W: Float[Tensor, "out in"], row: int) -> RulerPicture:
    """A row of W on one ruler whose end moves."""
    largest = int(W[row].abs().argmax())
    first = largest // SHOWN * SHOWN
    return RulerPicture(W[row], 3, first=first, count=SHOWN, weight=largest)


def real_frontier(rows: Mapping[str, Row], widths: Sequence[int]) -> Picture:
    """Added loss of SmolLM2 against true bits, with one ruler per row and, where that
    was measured, in groups of 64, rounded to nearest.

    rows: `mq.measured()`.
    """
    whole = rows["float"].loss
    paid = []
    for bits in widths:
        for ruler in ("row", "64"):
            row = rows.get(f"{bits} rtn, {ruler}")
            if row is not None:
                change = max(compare(whole, row.loss).mean, LEAST)
                paid.append(Cost(bits, ruler, row.bits_per_weight, change))
    return error_against_bits(
        paid,
        ylabel="added loss (nats per token)",
        title="What SmolLM2 pays, by what its weights take",
        named=widths,
    )
