"""The pictures of lesson 10, each named by what it shows.

live_word               a word of 32 bits, and a code taken out of it
roofs                   what cards can do at most, in 16 bits and in fewer
speedups                how much faster fewer bits can be, by tokens
live_crossover          time against tokens, with sliders
speeds                  SmolLM2 in llama.cpp and in torch: a table, measured before
under_the_roof          the same numbers on that machine's roofline
this_machine            this machine's bandwidth and peak, measured now
time_by_tokens          one matrix on this machine, in 32, 16 and 4 bits, measured now
tokens_per_second       a model writes a few words, and the clock runs
bytes_and_speeds        several versions of a model: what they hold, how fast they write
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.table import Table
from minquant.course.packing import figure_roofline, machine
from minquant.course.packing.engine_table import measured_engine
from minquant.course.packing.live_crossover import CrossoverPicture
from minquant.course.packing.live_words import WordPicture
from minquant.kernels.packed_words import PackedMatrix
from minquant.models.linear_layers import size
from minquant.models.packed_model import packed_size
from minquant.models.text import continue_greedily
from minquant.planning.roofline import CARDS, Machine, Product

BITS = 4.125  # a code of 4 bits, and a scale of 16 for each 128 weights
# Kernels of others on an A10, from the chart in Marlin's repository (Frantar and others
# 2024): times as fast as 16 bits at 1 and at 16 tokens, one large matrix, groups of 128
PUBLISHED = {
    "Marlin": {1: 3.87, 16: 3.9},
    "exllamav2": {1: 3.77, 16: 0.7},
    "tinygemm": {1: 3.6, 16: 1.4},
    "AWQ": {1: 3.37, 16: 0.3},
    "bitsandbytes": {1: 3.0, 16: 0.4},
}
WAYS = {
    "llama.cpp F16": "llama.cpp, F16",
    "llama.cpp Q8_0": "llama.cpp, Q8_0",
    "llama.cpp Q4_1": "llama.cpp, Q4_1",
    "llama.cpp Q4_0": "llama.cpp, Q4_0",
    "transformers bf16": "PyTorch, bf16",
    "minquant 4 bits": "PyTorch, 4 bits, W_hat first",
}


def live_word(packed: PackedMatrix, row: int, word: int = 0) -> WordPicture:
    """A word of 32 bits, whose codes are taken out one by one."""
    return WordPicture(packed, row, word)


def roofs(names: list[str]) -> Picture:
    """What cards can do at most. Marked: a large matrix, weight-only."""
    one, many = Product(1, 8192, 8192), Product(256, 8192, 8192)
    marks = {
        "1 token, 16 bits": one.intensity(16),
        "1 token, 4 bits": one.intensity(BITS),
        "256 tokens, 4 bits": many.intensity(BITS),
    }
    return figure_roofline.roofs([CARDS[name] for name in names], marks)


def speedups(names: list[str]) -> Picture:
    """How many times as fast as 16 bits, at best, and what others measured."""
    cards = [CARDS[name] for name in names]
    return figure_roofline.speedups(cards, BITS, measured={"A10": PUBLISHED})


def live_crossover(mine: Machine) -> CrossoverPicture:
    """Time against tokens for cards and for this machine."""
    cards = {name: CARDS[name] for name in ("A10", "T4", "H100", "B200")}
    return CrossoverPicture({**cards, mine.name: mine}, bits=BITS)


def speeds() -> Table:
    """SmolLM2's tokens per second, and the bytes that are read for one."""
    engine = measured_engine()
    base = engine.rows["llama.cpp F16"]
    rows = [
        [
            name,
            f"{row.nbytes / 1e6:.0f}",
            f"{row.answer:.1f}",
            f"{row.answer / base.answer:.2f}",
            f"{row.prompt:.0f}",
            f"{row.prompt / base.prompt:.2f}",
        ]
        for key, name in WAYS.items()
        for row in [engine.rows[key]]
    ]
    head = ["", "MB per token", "answer, tokens/s", "× F16", "prompt, tokens/s"]
    return Table([*head, "× F16"], rows)


def under_the_roof() -> Picture:
    """The speeds of the table on the roofline of the machine that measured them."""
    return figure_roofline.engine_points(measured_engine(), WAYS)


def this_machine() -> Machine:
    """What this machine reads and computes per second, measured in two seconds."""
    return machine.this_machine()


@palette.style()
def time_by_tokens(mine: Machine, side: int = 2048) -> Picture:
    """Milliseconds of one product on this machine, by tokens."""
    times = machine.product_seconds(side)
    fig, ax = plot(
        "tokens at a time",
        "milliseconds",
        title=f"A matrix of {side} × {side} on {mine.name}",
        height=400,
        left=90,
    )
    tokens, words = machine.TOKENS, []
    for (name, measured), color, sign in zip(
        times.items(), palette.SERIES, "osD^", strict=False
    ):
        ms = [1000 * measured[n] for n in tokens]
        ax.plot(tokens, ms, f"{sign}-", color=color, label=name)
        words.append(f"{name}: {ms[0]:.2f} ms at 1 token, {ms[-1]:.1f} at 256")
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(tokens, [f"{n}" for n in tokens])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    ax.set_ylim(top=40 * ax.get_ylim()[1] / 10)
    ax.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    fig.alt = f"Measured times by tokens. {'; '.join(words)}."
    return fig


def tokens_per_second(model: nn.Module, tokenizer: Any, tokens: int = 8) -> float:
    """How fast a model continues a few words, after one try to warm up."""
    ids = torch.tensor([tokenizer("The weather")["input_ids"]])
    continue_greedily(model, ids, 2)
    start = time.perf_counter()
    continue_greedily(model, ids, tokens)
    return tokens / (time.perf_counter() - start)


def bytes_and_speeds(models: Mapping[str, nn.Module], tokenizer: Any) -> Table:
    """What versions of a model hold, and how fast they write; the first has 16 bits."""
    rows, base = [], None
    for name, model in models.items():
        held = packed_size(model) if base else size(model)
        speed = tokens_per_second(model, tokenizer)
        base = base or speed
        row = [name, f"{held.total / 1e6:.1f}", f"{speed:.1f}", f"{speed / base:.2f}"]
        rows.append(row)
    return Table(["", "MB", "tokens/s", f"× {next(iter(models))}"], rows)
