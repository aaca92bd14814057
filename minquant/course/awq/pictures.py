"""The pictures of lesson 07, each named by what it shows.

inputs_of           what flows into every matrix of a model while it reads
columns             the size of each column's inputs, and of its weights
of_one_percent      for each matrix, what 1 % of its columns carry of the error
one_percent         the same numbers, as a picture
scaled_up           who gains and who pays if a column is multiplied by s
one_column          the same in a real matrix
shared_values       which inputs of o_proj come from one output of v_proj
won_by_scales       what the scales win back of the damage, with intervals
on_smollm2          AWQ beside RTN and GPTQ on SmolLM2, from the measured table
live_strength       the strength that moves
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import isfinite, nan
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from minquant.course.awq.live_strength import StrengthPicture, order
from minquant.course.awq.salience import OnePercent, column_errors
from minquant.course.awq.salience import one_percent as one_percent_of
from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import intervals
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.drawing.table import Table
from minquant.measure.evaluate import Perplexity, compare
from minquant.measure.intervals import won_back
from minquant.measure.measured import Row
from minquant.models import calibrate
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.text import HasText, encode
from minquant.numerics.grids import zero_point

Inputs = dict[str, Float[Tensor, "n in"]]


@torch.no_grad()
def inputs_of(
    model: nn.Module, tokenizer: Any, texts: Sequence[str | HasText]
) -> Inputs:
    """What flows into each linear layer while the model reads the texts, by the name
    of the layer: X (n, in), a row per token, in float32."""
    seen: dict[str, list[Tensor]] = {}
    layers = linear_layers(model)

    def see(name: str, states: Tensor) -> None:
        seen.setdefault(name, []).append(states.flatten(0, -2).float())

    with calibrate.watching(layers, see):
        for ids in encode(tokenizer, texts):
            model(input_ids=ids[None])
    return {name: torch.cat(rows) for name, rows in seen.items()}


@palette.style()
def columns(W: Float[Tensor, "out in"], X: Float[Tensor, "n in"]) -> Picture:
    """The mean |x| of each column's inputs, the largest first, and the mean |w| of the
    same columns, both as multiples of their medians."""
    place = order(X)
    sizes = {
        "its inputs, mean |x|": X.abs().mean(0)[place],
        "its weights, mean |w|": W.detach().abs().float().mean(0)[place],
    }
    fig, ax = plot(
        "columns, those with the largest inputs first",
        "times the median",
        title="The columns of a matrix: what they hold, and what they meet",
        left=76,
    )
    words = []
    looks = zip("os", (palette.SKY, palette.BLUE), strict=True)
    for (name, values), (mark, color) in zip(sizes.items(), looks, strict=True):
        times = (values / _median(values)).tolist()
        ax.plot(range(1, len(times) + 1), times, mark, ms=4, color=color, label=name)
        words.append(f"{name}: the largest is {max(times):.1f} times the median")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.yaxis.set_minor_formatter(_some)
    ax.tick_params(axis="y", which="both", length=4, pad=4)
    ax.legend(loc="upper right")
    fig.alt = f"{len(place)} columns of a matrix. {'; '.join(words)}."
    return fig


def _some(x: float, _: object) -> str:
    """The name of a tick between two powers of ten: of 2 and 5 times them."""
    return f"{x:g}" if f"{x:e}"[0] in "25" else ""


def _median(values: Float[Tensor, " n"]) -> float:
    """The median of what is not 0; 1 if all is."""
    some = values[values > 0]
    return some.median().item() if len(some) else 1.0


def of_one_percent(
    model: nn.Module, inputs: Inputs, bits: int = 3
) -> dict[str, OnePercent]:
    """For each linear layer, how much of RTN's error goes if 1 % of its columns stay in
    floats; zero-point rulers, one per row. NaN for an expert that no token reached."""
    found = dict.fromkeys(linear_layers(model), OnePercent(1.0, nan, nan))
    for name, X in inputs.items():
        W = weight_of(model.get_submodule(name))
        found[name] = one_percent_of(W, X, zero_point(bits))
    return found


@palette.style()
def one_percent(found: Mapping[str, OnePercent]) -> Picture:
    """A pair of dots for each matrix: what 1 % of its columns carry of the error, by
    how uneven its inputs are."""
    measured = {n: each for n, each in found.items() if isfinite(each.by_inputs)}
    fig, ax = plot(
        "largest mean |x| of a column, over the median",
        "share of the error that goes",
        title="1 % of the columns kept: what it saves, a pair of dots for each matrix",
        left=90,
    )
    spreads = [each.spread for each in measured.values()]
    chosen = {
        "chosen by their inputs": [each.by_inputs for each in measured.values()],
        "chosen by their weights": [each.by_weights for each in measured.values()],
    }
    looks = zip("ox", (palette.SKY, palette.BLUE), strict=True)
    for (name, shares), (mark, color) in zip(chosen.items(), looks, strict=True):
        ax.plot(spreads, shares, mark, ms=6, color=color, label=name)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.xaxis.set_minor_formatter(_some)
    ax.tick_params(axis="x", which="both", length=4, pad=4)
    ax.set_ylim(min(-0.03, *map(min, chosen.values())) if spreads else -0.03, 1.03)
    ax.yaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %")
    ax.legend(loc="upper left")
    words = [
        f"{name} the median is {_middle(shares):.0%}"
        for name, shares in chosen.items()
        if shares
    ]
    fig.alt = (
        f"{len(measured)} matrices, by how uneven their inputs are. If 1 % of the "
        f"columns stay in floats, this share of RTN's error goes: {'; '.join(words)}."
    )
    if silent := len(found) - len(measured):
        note = f"not shown: {silent} of {len(found)} matrices, which have no error"
        ax.text(0.98, 0.03, note, transform=ax.transAxes, ha="right")
        fig.alt += f" {note}."
    return fig


def _middle(shares: Sequence[float]) -> float:
    return sorted(shares)[len(shares) // 2]


@palette.style()
def scaled_up(errors: Mapping[float, Float[Tensor, " three"]]) -> Picture:
    """The RMSE of a protected weight, and of another in its row, by the factor s."""
    tried = list(errors)
    protected, other = ([e[i].item() for e in errors.values()] for i in (1, 2))
    fig, ax = plot(
        "s",
        "RMSE, in steps of 1",
        title="Divided by s, until the scaled weight sets the ruler",
        left=80,
        right=180,
    )
    lines = {
        "the others": (other, palette.VERMILION, "s-"),
        "protected": (protected, palette.GREEN, "o-"),
        "0.29 / s": ([12**-0.5 / s for s in tried], palette.MUTED, ":"),
    }
    for name, (values, color, look) in lines.items():
        ax.plot(tried, values, look, color=color)
        _name(ax, tried[-1], values[-1], name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(tried, [f"{s:g}" for s in tried])
    ax.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.minorticks_off()
    fig.alt = "; ".join(
        f"s = {s:g}: protected {number(p, digits=2)}, others {number(o, digits=2)}"
        for s, p, o in zip(tried, protected, other, strict=True)
    )
    return fig


def _name(ax: Axes, x: float, y: float, text: str) -> None:
    """The name of a line, beside its end."""
    ax.annotate(text, (x, y), (8, 0), textcoords="offset points", va="center")


@palette.style()
def one_column(
    W: Float[Tensor, "out in"],
    X: Float[Tensor, "n in"],
    column: int,
    tried: Mapping[float, Float[Tensor, "out in"]],
) -> Picture:
    """What scaling one column by s leaves of RTN's error: in this column, in all
    others, and in the outputs.

    tried: W_hat for each s, of which the first is RTN.
    """
    W = W.detach()
    outputs = [(X @ (V - W).T).square().mean().item() for V in tried.values()]
    own = [column_errors(W, V, X) for V in tried.values()]
    whole = outputs[0]
    parts = {
        "the outputs": ([e / whole for e in outputs], palette.INK, "o-"),
        "this column": ([e[column].item() / whole for e in own], palette.GREEN, "o-"),
        "all others": (
            [(e.sum() - e[column]).item() / whole for e in own],
            palette.VERMILION,
            "s-",
        ),
    }
    fig, ax = plot(
        "s, for one column",
        "share of RTN's error",
        title="One column protected: it gains, the others pay",
        left=90,
    )
    for name, (values, color, look) in parts.items():
        ax.plot(list(tried), values, look, color=color, label=name)
    ax.set_xscale("log")
    ax.set_xticks(list(tried), [f"{s:g}" for s in tried])
    ax.minorticks_off()
    ax.set_ylim(0)
    ax.yaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    ax.legend(loc="upper left")
    fig.alt = "; ".join(
        f"s = {s:g}: {', '.join(f'{n} {v[i]:.0%}' for n, (v, *_) in parts.items())}"
        for i, s in enumerate(tried)
    )
    return fig


@palette.style()
def shared_values(query_heads: int, value_heads: int) -> Picture:
    """Who makes the inputs of o_proj: each value head is read by several query heads,
    so each output of v_proj makes several inputs of o_proj."""
    fig = Picture(900, 250)
    ax = fig.axes_at(150, 20, 730, 210, xlim=(0, query_heads), ylim=(3.1, -0.1))
    ax.set_axis_off()
    share = query_heads // value_heads
    colors = (palette.BLUE, palette.VERMILION, palette.VIOLET, palette.SKY)
    for v in range(value_heads):
        color = colors[v % len(colors)]
        middle = (v + 0.5) * share
        _box(ax, middle - 0.45, 0, 0.9, f"v {v + 1}", color)
        for q in range(v * share, (v + 1) * share):
            ax.plot([middle, q + 0.5], [0.55, 1.2], color=color, lw=1.6)
            ax.plot([q + 0.5, q + 0.5], [1.75, 2.4], color=color, lw=1.6)
            _box(ax, q + 0.12, 1.2, 0.76, f"q {q + 1}", color)
            _box(ax, q + 0.02, 2.4, 0.96, "64 inputs", color)
    fig.write(140, 38, f"{value_heads} value heads", ha="right")
    fig.write(140, 120, f"{query_heads} query heads", ha="right")
    fig.write(140, 203, "inputs of o_proj", ha="right")
    fig.alt = (
        f"{value_heads} value heads above {query_heads} query heads. Each value head "
        f"is read by {share} query heads, and each of these makes 64 inputs of o_proj. "
        f"So one output of v_proj makes {share} inputs of o_proj."
    )
    return fig


def _box(ax: Axes, x: float, y: float, width: float, text: str, color: str) -> None:
    """A box with a word in it."""
    looks = {"fill": False, "edgecolor": color, "lw": 1.6}
    ax.add_patch(Rectangle((x, y), width, 0.55, **looks))
    ax.text(x + width / 2, y + 0.28, text, ha="center", va="center")


def won_by_scales(pairs: Mapping[str, tuple[Perplexity, ...]]) -> Picture:
    """What share of a damage the scales win back, with intervals.

    pairs: by name, the loss of the model before, of the version without scales, and of
    the version with them.
    """
    return intervals(
        {
            name: won_back(*(loss.document_nats for loss in losses))
            for name, losses in pairs.items()
        },
        "share of the damage that the scales win back",
        references={"nothing": 0.0, "all": 1.0},
        title="What AWQ's scales win back; all else is the same",
    )


ENDS = {  # of a ruler, and the rows of the measured table: RTN, AWQ, GPTQ
    "whole ruler": ("rtn", None, "gptq"),
    "searched, for the weights": ("rtn clip", "awq clip", "gptq clip"),
    "searched, for the outputs": ("rtn output clip", "awq output clip", None),
}


def on_smollm2(rows: Mapping[str, Row]) -> Table:
    """What RTN, AWQ and GPTQ add to the loss of SmolLM2, in nats per token, and the
    share of RTN's damage that AWQ's scales win back under the same search for the ends.
    Shown are the settings of which the table has at least two methods."""
    base = rows["float"].loss
    lines = []
    for bits, ruler in product((4, 3), ("row", "64")):
        for ends, methods in ENDS.items():
            keys = [m and f"{bits} {m}, {ruler}" for m in methods]
            if len(set(keys) & set(rows)) < 2:  # nothing to compare
                continue
            added = [_added(rows, base, key) for key in keys]
            shared = "a row" if ruler == "row" else f"{ruler} weights"
            won = _won(rows, base, *keys[:2])
            lines.append([str(bits), shared, ends, *added, won])
    head = ["bits", "one ruler for", "its ends", "RTN", "AWQ", "GPTQ", "AWQ wins back"]
    return Table(head, lines)


def _added(rows: Mapping[str, Row], base: Perplexity, key: str | None) -> str:
    """What a version adds to the loss."""
    if key is None:
        return "–"
    if key not in rows:
        return "not measured yet"
    return f"{compare(base, rows[key].loss).mean:+.3f}"


def _won(
    rows: Mapping[str, Row], base: Perplexity, worse: str | None, better: str | None
) -> str:
    """The share of a damage that is won back, with its interval."""
    if worse is None or better is None or not {worse, better} <= set(rows):
        return "–"
    losses = (base, rows[worse].loss, rows[better].loss)
    share, low, high = won_back(*(loss.document_nats for loss in losses))
    return f"{share:.0%} [{low:.0%}, {high:.0%}]"


def live_strength(
    layers: Mapping[str, tuple[Float[Tensor, ...], Float[Tensor, ...]]], **start: Any
) -> StrengthPicture:
    """Matrices with their inputs under AWQ's scales, the strength to choose."""
    return StrengthPicture(layers, **start)
