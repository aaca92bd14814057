"""The pictures of lesson 13, each named by what it shows.

first_bytes        the first bytes of a file, field by field
contents           what a file spends its bytes on
live_block         one block: a half byte, and the weight that it is
bill               what each type stores for a weight
mixture            which matrix gets which type in a mix such as Q4_K_M
rounded_twice      what rounding once more changes, in the file's blocks and in others
cost               what versions of SmolLM2 lost, as measured before
visit              what broken files say, and how wrong they are
broken_weights     one block of a sound file and of broken ones
own_texts          text that SmolLM2 wrote itself
inputs_of          what a layer reads while the model reads such text
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn

from minquant.course.damage.pictures import inputs_of as read_by
from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import intervals
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.drawing.table import Table
from minquant.course.gguf import mixture as mixes
from minquant.course.gguf.live_block import BlockPicture
from minquant.course.gguf.live_block import block as live_block
from minquant.course.gguf.museum import opened
from minquant.files.gguf import Gguf, GgufTensor
from minquant.files.gguf_blocks import block_type
from minquant.measure.evaluate import perplexity
from minquant.measure.measured import TABLE, Row
from minquant.models.text import documents_from, generate

__all__ = ["BlockPicture", "live_block"]

SHADES = (palette.BAND, palette.HIGHLIGHT, palette.WASH)


def own_texts(split: str, count: int) -> list[str]:
    """The first texts of a split, which SmolLM2 wrote itself (data/smollm2).

    Raises ValueError for an unknown split.
    """
    path = TABLE.with_name("sampled.txt")
    return documents_from(path, split=split, words=150)[:count]


def inputs_of(
    model: nn.Module, layer: str, tokenizer: Any, split: str, count: int = 2
) -> Float[Tensor, "n in"]:
    """What flows into a layer while the model reads texts of a split, a token a row."""
    texts = own_texts(split, count)
    return torch.cat([read_by(model, layer, tokenizer, text) for text in texts])


# --- the file ---


class Field(NamedTuple):
    """Bytes that belong together, and what they say."""

    name: str
    start: int
    length: int
    value: str


def fields(data: bytes) -> Iterator[Field]:
    """The fields at the start of a file, as far as the bytes go; the first setting must
    be a text, as it usually is."""

    def whole(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], "little")

    yield Field("magic", 0, 4, data[:4].decode())
    yield Field("version", 4, 4, f"{whole(4, 4)}")
    yield Field("how many tensors", 8, 8, f"{whole(8, 8)}")
    yield Field("how many settings", 16, 8, f"{whole(16, 8)}")
    at = 24
    yield Field("length of a name", at, 8, f"{whole(at, 8)}")
    length, at = whole(at, 8), at + 8
    yield Field("the name", at, length, data[at : at + length].decode())
    at += length
    yield Field("its type: text", at, 4, f"{whole(at, 4)}")
    yield Field("length of its value", at + 4, 8, f"{whole(at + 4, 8)}")
    length, at = whole(at + 4, 8), at + 12
    yield Field("the value", at, length, data[at : at + length].decode())


@palette.style()
def first_bytes(path: str | Path) -> Picture:
    """The first settings of a file as bytes, in hexadecimal, each field explained."""
    with Path(path).open("rb") as file:
        data = file.read(256)
    found = list(fields(data))
    end = found[-1].start + found[-1].length
    rows = -(-end // 16)
    fig = Picture(height=max(28 * rows, 26 * len(found)) + 20)
    ax = fig.axes_at(0, 0, *fig.size)
    ax.set_axis_off()
    ax.set_xlim(0, fig.size[0])
    ax.set_ylim(fig.size[1], 0)
    for k, field in enumerate(found):
        shade = SHADES[k % len(SHADES)]
        for at in range(field.start, field.start + field.length):
            x, y = 12 + at % 16 * 33, 12 + at // 16 * 28
            ax.add_patch(Rectangle((x, y), 33, 24, fc=shade, ec="none"))
            ax.text(x + 16.5, y + 12, f"{data[at]:02x}", ha="center", va="center")
        y = 12 + 26 * k
        ax.add_patch(Rectangle((560, y), 18, 20, fc=shade, ec="none"))
        size = f"{field.length} bytes" if field.length > 1 else "1 byte"
        ax.text(588, y + 10, f"{field.name}: {field.value}", va="center")
        ax.text(888, y + 10, size, va="center", ha="right", color=palette.MUTED)
    told = ", ".join(f"{f.name} {f.value}" for f in found)
    fig.alt = f"The first {end} bytes of the file in hexadecimal. They say: {told}."
    return fig


PARTS = ("embedding", "matrices in the blocks", "norms", "settings and tokenizer")


@palette.style()
def contents(path: str | Path, file: Gguf) -> Picture:
    """What a file spends its bytes on, and how many that is for each weight."""
    sizes, counts = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    kinds: dict[str, set[str]] = {part: set() for part in PARTS}
    for name, tensor in file.tensors.items():
        part = "embedding" if "blk." not in name else "matrices in the blocks"
        part = "norms" if len(tensor.shape) == 1 else part
        sizes[part] += tensor.nbytes
        counts[part] += int(torch.tensor(tensor.shape).prod())
        kinds[part].add(tensor.type)
    total = Path(path).stat().st_size
    sizes["settings and tokenizer"] = total - sum(sizes.values())
    weights = sum(counts.values())
    fig, ax = plot(
        "megabytes",
        "",
        title=f"{total / 1e6:.1f} MB for {weights / 1e6:.1f} million weights",
        left=190,
        right=300,
        height=220,
    )
    told = []
    for k, part in enumerate(PARTS):
        size, count = sizes[part] / 1e6, counts[part]
        ax.barh(k, size, 0.6, color=palette.BLUE)
        label = f"{size:.1f} MB" if size >= 0.95 else f"{1000 * size:.0f} kB"
        if count:
            each = f"{8e6 * size / count:.3g} bits for each weight"
            label += f", {'/'.join(sorted(kinds[part]))}: {each}"
        ax.text(size + 0.6, k, label, va="center")
        told.append(f"{part} {label}")
    ax.set_yticks(range(len(PARTS)), PARTS)
    ax.set_ylim(len(PARTS) - 0.5, -0.5)
    ax.set_xlim(0, 1.02 * max(sizes.values()) / 1e6)
    fig.alt = f"What the file holds. {'; '.join(told)}."
    return fig


# --- types ---

STORED = {  # bytes of a block: codes, scales and minimums of 32 or 16, numbers of 256
    "Q8_0": (32, 2, 0),
    "Q6_K": (192, 16, 2),
    "Q4_1": (16, 4, 0),
    "Q4_K": (128, 12, 4),
    "Q4_0": (16, 2, 0),
}
WHAT = ("codes", "their scales and minimums", "fp16 numbers of the super-block")


@palette.style()
def bill() -> Picture:
    """What each type stores for a weight, in bits."""
    fig, ax = plot(
        "bits per weight",
        "",
        title="What a weight takes",
        left=70,
        right=70,
        height=290,
    )
    told = []
    for k, (name, stored) in enumerate(STORED.items()):
        weights, left = block_type(name).weights, 0.0
        for part, color in zip(
            stored, (palette.BLUE, palette.VERMILION, palette.INK), strict=True
        ):
            bits = 8 * part / weights
            ax.barh(k, bits, 0.6, left=left, color=color)
            left += bits
        ax.text(left + 0.08, k, f"{left:g}", va="center")
        told.append(f"{name} {left:g}")
    ax.set_yticks(range(len(STORED)), list(STORED))
    ax.set_ylim(len(STORED) - 0.4, -1.3)
    ax.set_xlim(0, 9)
    colors = (palette.BLUE, palette.VERMILION, palette.INK)
    handles = [Patch(fc=c, label=w) for c, w in zip(colors, WHAT, strict=True)]
    ax.legend(handles=handles, ncols=3, loc="upper left", columnspacing=1.2)
    fig.alt = f"Bits per weight of each type: {', '.join(told)}."
    return fig


TYPE_SHADES = {
    "Q4_K": palette.BAND,
    "Q5_K": palette.SKY,
    "Q6_K": palette.BLUE,
    "Q8_0": palette.INK,
}


@palette.style()
def mixture(*names: str, blocks: int = 32) -> Picture:
    """Which matrix of each block gets which type, for one mix or several."""
    fig = Picture(height=16 + 202 * len(names))
    told = []
    for k, name in enumerate(names):
        types = mixes.mixture(name, blocks)
        ax = fig.axes_at(110, 34 + 202 * k, 620, 126)
        _grid(ax, types, blocks)
        bits = mixes.bits_per_weight(name, blocks, mixes.LLAMA_8B)
        around = f"embedding {types['token_embd'][0]}, output {types['output'][0]}"
        ax.set_title(f"{name}: {bits:.2f} bits per weight in all ({around})")
        if k == len(names) - 1:
            ax.set_xlabel("block")
        share = sum(t != types["attn_q"][0] for t in types["ffn_down"])
        told.append(f"{name}: {share} of {blocks} ffn_down in a larger type")
    used = sorted(
        {t for n in names for c in mixes.mixture(n, blocks).values() for t in c}
    )
    handles = [Patch(fc=TYPE_SHADES[t], label=t) for t in used]
    fig.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.98, 0.93))
    fig.alt = f"The type of each matrix in {blocks} blocks. {'; '.join(told)}."
    return fig


def _grid(ax: Axes, types: Mapping[str, Sequence[str]], blocks: int) -> None:
    for row, matrix in enumerate(mixes.MATRICES):
        for i, kind in enumerate(types[matrix]):
            ax.add_patch(
                Rectangle((i, row), 0.92, 0.86, fc=TYPE_SHADES[kind], ec="none")
            )
    ax.set_xlim(0, blocks)
    ax.set_ylim(len(mixes.MATRICES), 0)
    ax.set_yticks([r + 0.43 for r in range(len(mixes.MATRICES))], mixes.MATRICES)
    ax.set_xticks([i + 0.46 for i in range(0, blocks, 4)], range(0, blocks, 4))
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)


@palette.style()
def rounded_twice(errors: Mapping[str, float]) -> Picture:
    """The error of rounding once more, for each ruler, as a share of the weights."""
    fig, ax = plot(
        "error of the second rounding (% of the weights)",
        "",
        title="The weights were rounded before",
        left=230,
        right=70,
        height=60 + 34 * len(errors),
    )
    for k, error in enumerate(errors.values()):
        ax.barh(k, 100 * error, 0.6, color=palette.VERMILION)
        ax.text(100 * error + 0.15, k, f"{100 * error:.2g} %", va="center")
    ax.set_yticks(range(len(errors)), list(errors))
    ax.set_ylim(len(errors) - 0.5, -0.5)
    ax.set_xlim(0, 118 * max(errors.values()))
    told = ", ".join(f"{name} {100 * e:.2g} %" for name, e in errors.items())
    fig.alt = f"The error of rounding SmolLM2's weights a second time: {told}."
    return fig


def cost(rows: Mapping[str, Row], keys: Sequence[str]) -> Picture:
    """How far the predictions of versions of SmolLM2 moved, with 95 % intervals."""
    found = {key: rows[key].divergence for key in keys}
    return intervals(
        {key: (d.kl, *d.interval()) for key, d in found.items()},
        "KL from the file as it was (nats per token)",
        references={"0": 0.0},
        title="What each version cost",
    )


# --- the museum ---


def visit(
    files: Mapping[str, Gguf],
    tokenizer: Any,
    prompt: str,
    texts: Sequence[str],
    tokens: int = 14,
) -> Table:
    """How each file goes on with the prompt, and its loss on texts."""
    rows = []
    for name, file in files.items():
        model = opened(file)
        loss = perplexity(model, tokenizer, texts, progress=False).nats
        said = generate(model, tokenizer, prompt, tokens)
        rows.append([name, f"{loss:.1f}", said.replace("\n", "⏎")])
    return Table(["file", "nats per token", f"“{prompt} …”"], rows)


@palette.style()
def broken_weights(
    file: Gguf, broken: Mapping[str, Gguf], name: str, row: int = 0
) -> Picture:
    """One block of a tensor: as it is in the sound file, and as each broken one has it.

    name: of the tensor. row: the row whose first block is shown.
    """
    fig = Picture(height=24 + 112 * len(broken))
    sound = _block(file.tensors[name], row)
    top = 1.1 * float(
        max(_block(f.tensors[name], row).abs().max() for f in (file, *broken.values()))
    )
    told = []
    for k, (fault, other) in enumerate(broken.items()):
        ax = fig.axes_at(60, 28 + 112 * k, 820, 74)
        seen = _block(other.tensors[name], row)
        ax.axhline(0, color=palette.HAIRLINE, lw=0.8)
        ax.vlines(range(32), sound, seen, color=palette.VERMILION, lw=1)
        ax.plot(range(32), sound, "o", color=palette.BLUE, ms=5, label="meant")
        ax.plot(range(32), seen, "x", color=palette.VERMILION, ms=6, label="read")
        ax.set_title(fault)
        ax.set_ylim(-top, top)
        ax.set_xticks([] if k < len(broken) - 1 else range(0, 32, 4))
        moved = number((seen - sound).abs().mean(), digits=2)
        told.append(f"{fault}: moved by {moved} on average")
        if k == 0:
            ax.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    fig.alt = f"The first 32 weights of a row of {name}. {'; '.join(told)}."
    return fig


def _block(tensor: GgufTensor, row: int) -> Float[Tensor, " 32"]:
    rows = GgufTensor(tensor.type, (1, tensor.shape[1]), tensor.data[row : row + 1])
    return rows.dequantize()[0, :32]
