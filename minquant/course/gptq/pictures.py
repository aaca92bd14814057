"""The pictures of lesson 06, each named by what it shows, and what they are drawn from.

valley              two weights, the map of their error, and two ways to round them
inputs_of           what flows into a layer
inputs_together     H as a map, and the sizes of the inputs
one_push            how far the other weights move when one is rounded
elimination         H⁻¹ loses row after row; the rows that it loses are U
near_and_far        errors of weights and of outputs, GPTQ beside RTN
live_columns        the stepper
shares_left         bars: what share of RTN's error is left
in_every_matrix     the same for all matrices of a model
won_back            what share of the added loss is won back
by_word             errors by how often calibration saw a word
by_direction        errors by how much calibration uses a direction
inputs_on_english   what flows into a layer of a real model
points_won_back     answers of SmolLM2: GPTQ beside RTN, by kind of question
in_pairs            SmolLM2 with one thing changed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import intervals
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.table import Table
from minquant.course.gptq.figure_elimination import elimination
from minquant.course.gptq.figure_valley import valley
from minquant.course.gptq.live_stepper import StepperPicture
from minquant.measure.evaluate import compare
from minquant.measure.exam import ExamDifference, compare_exams
from minquant.measure.intervals import Difference
from minquant.measure.measured import Row
from minquant.methods.gptq import quantize_gptq
from minquant.methods.rtn import quantize_rtn
from minquant.models.calibrate import run_body, watching
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.quantize import quantize
from minquant.models.text import calibration_batches
from minquant.numerics.grids import zero_point
from minquant.numerics.groups import PER_CHANNEL, Granularity
from minquant.numerics.tensor import QuantizedTensor

__all__ = ["by_direction", "by_word", "elimination", "in_every_matrix", "in_pairs"]
__all__ += ["inputs_of", "inputs_on_english", "inputs_together", "live_columns"]
__all__ += ["near_and_far", "one_push", "points_won_back", "shares_left", "valley"]
__all__ += ["won_back"]

Batches = Sequence[Int[Tensor, "_ _"]]
Options = Mapping[str, Any]


class _Enough(Exception):
    """The layer was reached; the rest of the model need not run."""


@torch.no_grad()
def inputs_of(model: nn.Module, layer: str, batches: Batches) -> Float[Tensor, "n in"]:
    """What flows into a layer in float64, a row per token. The model runs no farther
    than this layer."""
    seen: list[Tensor] = []

    def see(_: str, states: Tensor) -> None:
        """The layer is about to run."""
        seen.append(states.double())
        raise _Enough

    with watching({layer: linear_layers(model)[layer]}, see):
        for ids in batches:
            with suppress(_Enough):
                run_body(model, [ids])
    return torch.cat([states.flatten(0, -2) for states in seen])


def error_of(E: Float[Tensor, "out in"], H: Float[Tensor, "in in"]) -> float:
    """The squared error of all outputs: the sum of δ H δᵀ over the rows δ of E."""
    return ((E @ H) * E).sum().item()


@palette.style()
def inputs_together(H: Float[Tensor, "in in"], count: int = 40) -> Picture:
    """How much two of the first inputs go together, 0 to 1; and how large each is."""
    size = H.diagonal().sqrt()
    together = (H / torch.outer(size, size)).abs()
    fig = Picture(900, 330)
    ax = fig.axes_at(60, 40, 270, 270)
    shown = together[:count, :count].numpy()
    image = ax.imshow(shown, cmap="cividis", vmin=0, vmax=0.5)
    bar = fig.axes_at(345, 40, 12, 270)
    fig.colorbar(image, cax=bar, ticks=[0, 0.25, 0.5])
    bar.set_yticklabels(["0", "0.25", "0.5 or more"])
    fig.write(60, 18, f"how much two of {count} inputs go together", weight="bold")
    ax = fig.axes_at(520, 40, 360, 220)
    ax.plot(np.sort(size.numpy())[::-1], color=palette.BLUE)
    ax.set(xlabel="inputs, the largest first", ylim=(0, None))
    fig.write(520, 18, "how large an input is (root mean square)", weight="bold")
    fig.alt = (
        f"Left, a map of H for {count} inputs: a bright diagonal, specks elsewhere. "
        "Right, the sizes of all inputs, falling from "
        f"{size.max():.2f} to {size.min():.2f}."
    )
    return fig


@palette.style()
def one_push(delta: Float[Tensor, " in"], q: int) -> Picture:
    """The move of every weight of a row when weight q is rounded, as bars."""
    fig, ax = plot(
        "weight of the row",
        "moves by",
        title="One weight goes to its tick, and the others make up for it",
        height=280,
        left=90,
    )
    moves = delta.numpy()
    colors = [palette.VERMILION if j == q else palette.BLUE for j in range(len(moves))]
    ax.bar(range(len(moves)), moves, width=0.8, color=colors)
    ax.axhline(0, color=palette.MUTED, lw=0.9)
    left = q > len(moves) / 2  # the words stand on the side with more room
    ax.annotate(
        f"weight {q}, rounded",
        (q, moves[q]),
        (-8 if left else 8, -4 if moves[q] > 0 else 4),
        textcoords="offset points",
        ha="right" if left else "left",
        color=palette.VERMILION,
        va="top" if moves[q] > 0 else "bottom",
    )
    others = np.delete(np.abs(moves), q).max()
    fig.alt = (
        f"Bars for {len(moves)} weights. Weight {q} moves by {moves[q]:.4f} to its "
        f"tick, the others by up to {others:.4f}, up or down."
    )
    return fig


@palette.style()
def near_and_far(
    W: Float[Tensor, "out in"],
    H: Float[Tensor, "in in"],
    nearest: Float[Tensor, "out in"],
    ours: Float[Tensor, "out in"],
) -> Picture:
    """Squared errors of weights and of outputs: GPTQ's as shares of RTN's."""
    a, b = nearest - W, ours - W
    squares = (b.square().sum() / a.square().sum()).item()
    shares = {
        "the weights": squares,
        "the outputs": error_of(b, H) / error_of(a, H),
    }
    fig = Picture(900, 190)
    ax = fig.axes_at(150, 34, 620, 110)
    for y, (name, share) in enumerate(shares.items()):
        ax.barh(y - 0.17, 1, 0.3, color=palette.MUTED)
        ax.barh(y + 0.17, share, 0.3, color=palette.VERMILION)
        ax.text(1.02, y - 0.17, "RTN", color=palette.MUTED, va="center")
        label = f"GPTQ {share:.2f}"
        ax.text(share + 0.02, y + 0.17, label, color=palette.VERMILION, va="center")
        ax.text(-0.02, y, name, va="center", ha="right")
    ax.set(ylim=(1.5, -0.5), yticks=[], xlim=(0, max(1.3, *shares.values())))
    ax.set_xlabel("squared error, RTN's being 1")
    fig.write(150, 16, "Farther from the weights, nearer to the outputs", weight="bold")
    told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    fig.alt = f"GPTQ's squared errors as shares of RTN's: {told}."
    return fig


def live_columns(
    W: Float[Tensor, "out in"], H: Float[Tensor, "in in"]
) -> StepperPicture:
    """The stepper: three rows of W, and the twelve inputs that go together most."""
    return StepperPicture(W, H, bits=2, turn=4)


@palette.style()
def shares_left(shares: Mapping[str, float], title: str) -> Picture:
    """A bar for each way to round: what share of RTN's error is left."""
    fig = Picture(900, 76 + 34 * len(shares))
    ax = fig.axes_at(250, 34, 560, 34 * len(shares) - 6)
    for y, (name, share) in enumerate(shares.items()):
        ax.barh(y, share, 0.62, color=palette.MUTED if y == 0 else palette.VERMILION)
        ax.text(share + 0.012, y, f"{share:.2f}", va="center")
        ax.text(-0.015, y, name, va="center", ha="right")
    ax.set(ylim=(len(shares) - 0.5, -0.5), yticks=[], xlim=(0, 1.1))
    ax.set_xlabel("error of the outputs, RTN's being 1")
    fig.write(250, 16, title, weight="bold")
    told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    fig.alt = f"What is left of RTN's error of the outputs: {told}."
    return fig


def hessians(model: nn.Module, batches: Batches) -> list[tuple[Tensor, Tensor]]:
    """All matrices of a model, each with the H of its inputs, in float32."""
    collected: list[tuple[Tensor, Tensor]] = []

    def keep(W: Tensor, H: Tensor) -> QuantizedTensor:
        """As a method: keep H, and round to nearest."""
        collected.append((W.clone(), H.clone()))
        return quantize_rtn(W, zero_point(4))

    quantize(model, keep, calibration=batches, float_inputs=True, progress=False)
    return collected


def share_left_in_every_matrix(
    model: nn.Module,
    batches: Batches,
    settings: Mapping[str, Options],
    bits: int,
    granularity: Granularity = PER_CHANNEL,
) -> dict[str, list[float]]:
    """For each setting and each matrix what GPTQ leaves of RTN's error, on the text
    that it was calibrated on."""
    grid, left = zero_point(bits), {name: [] for name in settings}
    for W, H in hessians(model, batches):
        rtn = error_of(quantize_rtn(W, grid, granularity).dequantize() - W, H)
        for name, options in settings.items():
            made = quantize_gptq(W, H, grid, granularity, **options)
            left[name].append(error_of(made.dequantize() - W, H) / rtn)
    return left


@palette.style()
def in_every_matrix(left: Mapping[str, Sequence[float]]) -> Picture:
    """A dot for each matrix and setting, and the mean of each setting."""
    fig = Picture(900, 90 + 40 * len(left))
    ax = fig.axes_at(250, 36, 540, 40 * len(left))
    for y, (name, shares) in enumerate(left.items()):
        ax.plot(shares, [y] * len(shares), "o", color=palette.SKY, ms=6, alpha=0.7)
        mean = float(np.mean(shares))
        ax.plot([mean, mean], [y - 0.3, y + 0.3], color=palette.VERMILION, lw=2.5)
        ax.text(1.02, y, f"mean {mean:.2f}", va="center", color=palette.VERMILION)
        ax.text(-0.015, y, name, va="center", ha="right")
    ax.set(ylim=(len(left) - 0.5, -0.5), yticks=[], xlim=(0, 1))
    ax.set_xlabel("error of the outputs, RTN's being 1")
    count = len(next(iter(left.values())))
    fig.write(250, 16, f"Each dot is one of {count} matrices", weight="bold")
    told = ", ".join(f"{name} {np.mean(shares):.2f}" for name, shares in left.items())
    fig.alt = f"What is left of RTN's error in {count} matrices, on average: {told}."
    return fig


def won_back(won: Mapping[str, tuple[float, float, float]]) -> Picture:
    """The share of RTN's added loss that GPTQ wins back, with its interval."""
    return intervals(
        won,
        "share of RTN's added loss that GPTQ wins back",
        references={"nothing": 0.0},
        title="GPTQ beside RTN: same rulers, same bits, same texts",
    )


EDGES = (0, 3, 10, 30, 100, 300, 10**9)  # how often a word was seen


@torch.no_grad()
def word_errors(
    model: nn.Module, batches: Batches, settings: Mapping[str, Options], bits: int
) -> tuple[Int[Tensor, " vocab"], dict[str, list[float]]]:
    """How often calibration saw each word; and for each setting GPTQ's error at the
    words of each frequency, RTN's being 1.

    It is measured in the first block, where the input of a layer is a vector that the
    word alone decides: over its q, k and v.
    """
    vocabulary = model.config.vocab_size
    counts = torch.bincount(
        torch.cat([ids.flatten() for ids in batches]), minlength=vocabulary
    )
    first = dict(list(linear_layers(model).items())[:3])
    words = torch.arange(vocabulary)[:, None]  # each a text of one word
    V = inputs_of(model, next(iter(first)), [words]).float()  # (vocab, in)
    H = (V * counts[:, None]).T @ V
    grid = zero_point(bits)

    def errors(method: Callable[[Tensor], QuantizedTensor]) -> Tensor:
        lost = torch.zeros(vocabulary)
        for W in map(weight_of, first.values()):
            E = method(W).dequantize() - W
            lost += (V @ E.T).square().sum(1)
        return lost

    nearest = errors(lambda W: quantize_rtn(W, grid))
    bins = [(counts >= a) & (counts < b) for a, b in pairwise(EDGES)]
    found = {}
    for name, options in settings.items():
        ours = errors(lambda W, o=options: quantize_gptq(W, H, grid, **o))
        found[name] = [(ours[b].sum() / nearest[b].sum()).item() for b in bins]
    return counts, found


@palette.style()
def by_word(found: Mapping[str, Sequence[float]]) -> Picture:
    """GPTQ's error at a word by how often calibration saw it, a line per setting."""
    fig, ax = plot(
        "times that calibration saw the word",
        "error, RTN's being 1",
        title="Frequent words gain, rare ones hardly",
    )
    names = [f"{a}–{b - 1}" for a, b in pairwise(EDGES[:-1])] + [f"{EDGES[-2]} or more"]
    marks = zip(found.items(), "os^", palette.SERIES, strict=False)
    for (name, shares), mark, color in marks:
        ax.plot(shares, mark + "-", color=color, label=name)
    ax.axhline(1, color=palette.MUTED, ls=(0, (4, 3)), lw=1.2)
    ax.set_xticks(range(len(names)), names)
    ax.set_ylim(0, 1.1)
    ax.legend(loc="lower left", frameon=False)
    told = "; ".join(
        f"{name} from {shares[0]:.2f} (rare words) to {shares[-1]:.2f} (frequent ones)"
        for name, shares in found.items()
    )
    fig.alt = f"GPTQ's error at a word, RTN's being 1: {told}."
    return fig


def direction_errors(
    W: Float[Tensor, "out in"],
    H: Float[Tensor, "in in"],
    settings: Mapping[str, Options],
    bits: int,
    parts: int = 8,
) -> tuple[list[float], dict[str, list[float]]]:
    """The directions of the input in `parts` parts, from hardly used to much used: the
    share of the inputs' power in each, and GPTQ's squared error, RTN's being 1."""
    used, directions = torch.linalg.eigh(H)  # ascending
    grid, found = zero_point(bits), {}

    def along(W_hat: Tensor) -> list[Tensor]:
        return list(((W_hat - W) @ directions).square().sum(0).chunk(parts))

    nearest = along(quantize_rtn(W, grid).dequantize(W.dtype))
    for name, options in settings.items():
        ours = along(quantize_gptq(W, H, grid, **options).dequantize(W.dtype))
        pairs = zip(ours, nearest, strict=True)
        found[name] = [(a.sum() / b.sum()).item() for a, b in pairs]
    return [(x.sum() / used.sum()).item() for x in used.chunk(parts)], found


@palette.style()
def by_direction(
    shares: Sequence[float], found: Mapping[str, Sequence[float]]
) -> Picture:
    """GPTQ's error along the directions of the input, RTN's being 1."""
    fig, ax = plot(
        "directions, with their share of the inputs",
        "squared error, RTN's being 1",
        title="What GPTQ spends",
    )
    marks = zip(found.items(), "os^", palette.SERIES, strict=False)
    for (name, ratios), mark, color in marks:
        ax.plot(ratios, mark + "-", color=color, label=name)
    ax.axhline(1, color=palette.MUTED, ls=(0, (4, 3)), lw=1.2)
    ax.set_yscale("log")
    ax.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", *"125", "10"])
    ax.minorticks_off()
    ratios = np.array(list(found.values()))
    ax.set_ylim(0.8 * ratios.min(), 1.3 * ratios.max())
    ax.set_xticks(range(len(shares)), [f"{share:.1%}" for share in shares])
    ax.legend(frameon=False)
    told = "; ".join(
        f"{name} from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        for name, ratios in found.items()
    )
    fig.alt = (
        "GPTQ's squared error, RTN's being 1, from the directions that the inputs use "
        f"least to those they use most: {told}."
    )
    return fig


def inputs_on_english(
    model: nn.Module, tokenizer: Any, layer: str
) -> tuple[Float[Tensor, "n in"], Float[Tensor, "m in"]]:
    """What flows into a layer while the model reads two halves of some real English, in
    float32. It is the help of Python, about 2,000 words for each half; every second
    piece of it belongs to the other half."""
    words = " ".join(topics[name] for name in sorted(topics)).split()
    pieces = [" ".join(words[i : i + 120]) for i in range(0, 3840, 120)]
    halves = (
        calibration_batches(tokenizer, half, length=60, held_out=False)
        for half in (pieces[::2], pieces[1::2])
    )
    X, X_other = (inputs_of(model, layer, batches).float() for batches in halves)
    return X, X_other


def points_won_back(change: ExamDifference) -> Picture:
    """For each kind of question how many more of 100 answers are right with GPTQ."""
    return intervals(
        {
            name: (found.mean, found.low, found.high)
            for name, found in change.groups().items()
        },
        "right answers of 100, GPTQ minus RTN",
        references={"no difference": 0.0},
        title="What comes back, and what does not: SmolLM2 at 4 bits",
    )


PAIRS = {  # what differs: the keys of the two versions
    "GPTQ, not RTN": ("4 rtn, row", "4 gptq, row"),
    "GPTQ, not RTN, both clipped": ("4 rtn clip, row", "4 gptq clip, row"),
    "GPTQ, not RTN, in groups of 64": ("4 rtn, 64", "4 gptq, 64"),
    "largest first, not in order": ("4 gptq in order, row", "4 gptq, row"),
    "10 % damping, not 1 %": ("4 gptq damping 1 %, row", "4 gptq, row"),
}


def in_pairs(rows: Mapping[str, Row]) -> Table:
    """What changes on SmolLM2 if one thing changes: the loss on its own text, and right
    answers, with intervals. A pair that is not in the table says so."""
    lines = []
    for name, (before, after) in PAIRS.items():
        if {before, after} <= rows.keys():
            a, b = rows[before], rows[after]
            points = compare_exams(a.exam, b.exam).groups()
            found = [points[group] for group in ("capital", "recall")]
            cells = [_interval(compare(a.loss, b.loss), 3)]
            cells += [_interval(difference, 0) for difference in found]
        else:
            cells = ["not measured yet"] * 3
        lines.append([name, *cells])
    head = [
        "what changes",
        "loss (nats per token)",
        "capitals, of 100",
        "recall, of 100",
    ]
    return Table(head, lines)


def _interval(found: Difference, decimals: int) -> str:
    """A difference with its interval: −0.445 [−0.474, −0.417]."""
    mean, low, high = (
        f"{x:+.{decimals}f}".replace("-", "−")
        for x in (found.mean, found.low, found.high)
    )
    return f"{mean} [{low}, {high}]"
