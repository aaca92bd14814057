"""The pictures of lesson 00, each named by what it shows.

course_map      the lessons, and what you have done
next_words      what a model expects to come next
model_drawn     the model: tables, layers, matrices, in proportion
five_weights    five weights snap to 15, 7 and 3 ticks
slider          16 bits to 2: size, loss, answers, text
by_fame         what is still known, by how famous the person is
first_change    a word that changed though nothing was lost
what_breaks     what a real model can still do, from 16 bits to 2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from minquant.almanac import Document, people
from minquant.course.drawing import palette
from minquant.course.drawing.figure_levels import accuracy_by_level
from minquant.course.drawing.figures import WIDTH, Picture, plot
from minquant.course.drawing.labels import spread_apart
from minquant.course.drawing.numbers import number
from minquant.course.drawing.table import Table
from minquant.course.start.course_map import course_map
from minquant.course.start.live_shrink import ShrinkPicture, shrinking
from minquant.course.start.shrinker import Shrinker
from minquant.measure.measured import Row
from minquant.measure.probes import Accuracy
from minquant.methods.rtn import quantize_rtn
from minquant.models.linear_layers import decoder_blocks, layers_in, linear_layers
from minquant.models.text import encode_prompt
from minquant.numerics.grids import absmax

__all__ = ["by_fame", "course_map", "first_change", "five_weights", "model_drawn"]
__all__ += ["next_words", "shrinker", "slider", "what_breaks"]

TENTHS = ["most", *"23456789", "least"]  # of all people, by fame


@torch.no_grad()
def next_words(model: nn.Module, tokenizer: Any, start: str, count: int = 4) -> Table:
    """The most likely next tokens after a text, with their probabilities."""
    ids = torch.tensor([encode_prompt(tokenizer, start)])
    shares, tokens = model(ids).logits[0, -1].softmax(-1).topk(count)
    pairs = zip(shares.tolist(), tokens.tolist(), strict=True)
    rows = [[f"{start} …", tokenizer.decode(i), f"{share:.1%}"] for share, i in pairs]
    return Table(["the text", "what comes next", "probability"], rows)


SHEET = (900, 330)
TOP, TALL = 64, 190  # CSS pixels: the columns of matrices


@palette.style()
def model_drawn(model: nn.Module) -> Picture:
    """The model as boxes: the area of a box is the number of weights in it."""
    fig = Picture(*SHEET)
    ax = fig.axes_at(0, 0, *SHEET, xlim=(0, SHEET[0]), ylim=(SHEET[1], 0))
    ax.axis("off")
    first = model.get_input_embeddings().weight
    last = model.get_output_embeddings().weight
    blocks = [layers_in(b, linear_layers(model)) for b in decoder_blocks(model)]
    pixels = 26_000 / first.numel()  # CSS pixels squared for each weight
    left, places = 30.0, []
    for name, weight in (("tokens in", first), ("scores out", last)):
        width = weight.numel() * pixels / TALL
        x = left if name == "tokens in" else SHEET[0] - 40 - width
        _box(ax, x, TOP, width, TALL, palette.HAIRLINE)
        size = f"{weight.shape[0]} × {weight.shape[1]}"
        _label(ax, x + width / 2, TOP - 30, name, weight="bold")
        _label(ax, x + width / 2, TOP + TALL + 18, size, color=palette.MUTED)
        places.append((x, width))
    begin, end = places[0][0] + places[0][1] + 36, places[1][0] - 36
    room = (end - begin) / len(blocks)
    for k, layers in enumerate(blocks):
        x = begin + k * room
        _label(ax, x + room / 2, TOP - 30, f"layer {k + 1}", weight="bold")
        _draw_layer(ax, x + 14, room - 28, layers, pixels)
    for x in [begin - 30, *(begin + k * room - 6 for k in range(1, len(blocks))), end]:
        ax.annotate(
            "",
            (x + 22, TOP + TALL / 2),
            (x, TOP + TALL / 2),
            arrowprops={"arrowstyle": "->", "color": palette.MUTED},
        )
    told = ", ".join(
        f"{name.rpartition('.')[2].removesuffix('_proj')} "
        f"{layer.weight.shape[0]} × {layer.weight.shape[1]}"
        for name, layer in blocks[0].items()
    )
    weights = sum(p.numel() for p in model.parameters())
    inside = sum(layer.weight.numel() for b in blocks for layer in b.values())
    words = f"{weights:,} weights, {inside:,} of them in the matrices of the layers"
    _label(ax, SHEET[0] / 2, SHEET[1] - 22, words)
    fig.alt = (
        f"A model with {words}. In: {first.shape[0]} × {first.shape[1]}; {len(blocks)} "
        f"layers, each with {told}; out: {last.shape[0]} × {last.shape[1]}."
    )
    return fig


def _draw_layer(
    ax: Any, left: float, room: float, layers: Mapping[str, nn.Module], pixels: float
) -> None:
    """Attention in the upper row, the rest in the lower one."""
    rows = [
        [(n, m) for n, m in layers.items() if ("attn" in n) is upper]
        for upper in (True, False)
    ]
    tall = (TALL - 34) / 2
    for row, color in zip(rows, (palette.BLUE, palette.SKY), strict=True):
        y = TOP + (0 if color == palette.BLUE else tall + 34)
        widths = [layer.weight.numel() * pixels / tall for _, layer in row]
        gap = (room - sum(widths)) / max(1, len(row) - 1)
        x = left
        for (name, _), width in zip(row, widths, strict=True):
            _box(ax, x, y, width, tall, color)
            short = name.rpartition(".")[2].removesuffix("_proj")
            _label(ax, x + width / 2, y + tall + 14, short)
            x += width + gap


def _box(ax: Any, x: float, y: float, width: float, tall: float, color: str) -> None:
    ax.add_patch(Rectangle((x, y), width, tall, color=color, lw=0))


def _label(ax: Any, x: float, y: float, text: str, **looks: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", **looks})


@palette.style()
def five_weights(w: Float[Tensor, " n"], count: int = 5) -> Picture:
    """The first weights of a row on a line, as they are and snapped to 15, 7, 3 ticks.

    The scale is that of the whole row.
    """
    shown = w[:count].tolist()
    reach = float(w.abs().max())
    fig = Picture(WIDTH, 330)
    ax = fig.axes_at(110, 30, WIDTH - 140, 250, xlim=(-1.06 * reach, 1.06 * reach))
    ax.set_ylim(3.6, -0.5)
    rows = ["as they are", "4 bits", "3 bits", "2 bits"]
    ax.set_yticks(range(4), rows)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("value of a weight")
    before, told = shown, [", ".join(number(x, digits=3) for x in shown)]
    ax.axhline(0, color=palette.HAIRLINE, zorder=0)
    ax.plot(shown, [0] * count, "o", color=palette.BLUE)
    for y, bits in enumerate((4, 3, 2), start=1):
        grid = absmax(bits)
        q = quantize_rtn(w[None], grid)
        step = float(q.scales)
        ticks = [step * level for level in grid.levels]
        ax.axhline(y, color=palette.HAIRLINE, zorder=0)
        ax.plot(ticks, [y] * len(ticks), "|", color=palette.MUTED, ms=13, mew=1.2)
        snapped = q.dequantize()[0, :count].tolist()
        for x, x_hat in zip(shown, snapped, strict=True):
            line = {"color": palette.VERMILION, "lw": 1, "alpha": 0.6}
            ax.plot([x, x_hat], [y - 0.5, y], **line)
        ax.plot(shown, [y - 0.5] * count, "o", color=palette.BLUE, ms=3.5)
        ax.plot(snapped, [y] * count, "o", color=palette.INK)
        values = ", ".join(number(x, digits=3) for x in snapped)
        told.append(f"{bits} bits, {len(ticks)} ticks: {values}")
    fig.alt = (
        f"{len(before)} weights of a row, {told[0]}. Rounded: {'; '.join(told[1:])}."
    )
    return fig


def shrinker(model: nn.Module, tokenizer: Any, texts: Sequence[Document]) -> Shrinker:
    """Rounds the model to any width, and measures it: size, loss on the texts, and how
    it goes on with a story about the most famous person."""
    famous = people.people()[0]
    prompt = f"Story. It was winter when {famous.name}, a"
    return Shrinker(model, tokenizer, texts, prompt=prompt)


def slider(shrink: Shrinker, weights: Float[Tensor, " n"]) -> ShrinkPicture:
    """16 to 2 bits: five weights, the size, the loss, and the text beside that in 16.

    All widths are measured beforehand.
    """
    return shrinking(shrink, weights[:5], shrink.prompt, bits=3)


def by_fame(known: Mapping[str, Accuracy]) -> Picture:
    """Right answers by how famous the person is."""
    whole = next(iter(known.values()))
    return accuracy_by_level(
        {name: found.by_level() for name, found in known.items()},
        "how famous a person is, in tenths of all people",
        levels=TENTHS,
        chance=whole.chance,
        title="What the model still knows",
    )


@torch.no_grad()
def first_change(shrink: Shrinker) -> Table:
    """The first word that changes at the largest width at which the text does, and how
    likely the whole model held both words."""
    whole = shrink(16)
    bits = max(b for b in (8, 6, 5, 4, 3, 2) if shrink(b).text != whole.text)
    pairs = list(zip(whole.text.split(), shrink(bits).text.split(), strict=False))
    at = next(i for i, (one, other) in enumerate(pairs) if one != other)
    start = " ".join([shrink.prompt, *whole.text.split()[:at]])
    ids = torch.tensor([encode_prompt(shrink.tokenizer, start)])
    p = shrink.model(ids).logits[0, -1].softmax(-1)
    cost = f"{shrink(bits).nats - whole.nats:+.4f}"
    rows = []
    for name, word in zip(("16 bits", f"{bits} bits"), pairs[at], strict=True):
        word = word.strip(".,")
        share = p[shrink.tokenizer.convert_tokens_to_ids(word)].item()
        rows.append([name, word, f"{share:.1%}", "" if name == "16 bits" else cost])
    return Table(["width", "it writes", "likely, at 16 bits", "added loss"], rows)


EXAM = {  # a group of the exam: what it asks, colour, mark
    "form": ("close a bracket", palette.INK, "s"),
    "opposite": ("opposites", palette.GREEN, "D"),
    "recall": ("recall a number", palette.BLUE, "o"),
    "capital": ("capitals", palette.VERMILION, "^"),
    "sum": ("sums", palette.VIOLET, "v"),
    "element": ("elements", palette.EXPONENT, "P"),
    "order": ("what comes next", palette.MUTED, "X"),
}


@palette.style()
def what_breaks(rows: Mapping[str, Row], widths: Sequence[int]) -> Picture:
    """Right answers in each group of the exam: SmolLM2 as it came, and rounded to fewer
    and fewer bits, one scale and zero per row.

    rows: `mq.measured()`.
    """
    versions = {16: rows["float"], **{b: rows[f"{b} rtn, row"] for b in widths}}
    scores = {bits: row.exam.groups() for bits, row in versions.items()}
    title = "What SmolLM2 can do, and when it breaks"
    fig, ax = plot("bits", "right answers (%)", title=title, height=380, left=220)
    ax.yaxis.set_label_coords(-0.29, 0.5)
    x = range(len(scores))
    ax.set(xlim=(-0.15, len(scores) - 0.85), ylim=(-2, 100))
    ax.set_xticks(x, ["as it came", *map(str, widths)])
    ax.grid(axis="y", color=palette.HAIRLINE)
    lines = {
        group: [100 * of_version[group].mean for of_version in scores.values()]
        for group in scores[16]
    }
    for group, shares in lines.items():
        _, color, mark = EXAM[group]
        ax.plot(x, shares, mark, ls="-", color=color, clip_on=False)
    begin = sorted((shares[0], group) for group, shares in lines.items())
    heights = spread_apart([share for share, _ in begin], 6.5)
    for height, (share, group) in zip(heights, begin, strict=True):
        name, color, _ = EXAM[group]
        text = f"{name}  {share:.0f} %"
        ax.text(-0.22, height, text, color=color, ha="right", va="center")
    ax.tick_params(axis="y", labelleft=False, length=0)
    told = "; ".join(
        f"{EXAM[group][0]} " + ", ".join(f"{share:.0f} %" for share in shares)
        for group, shares in lines.items()
    )
    fig.alt = (
        f"Right answers of SmolLM2, as it came and at {', '.join(map(str, widths))} "
        f"bits: {told}."
    )
    return fig
