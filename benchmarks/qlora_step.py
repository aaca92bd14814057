"""What a step of QLoRA costs beside one of LoRA, on the bundled model: time and memory.

    python benchmarks/qlora_step.py [--steps 12] [--documents 8] [--tokens 128]

A step is forward, backward and Adam on one batch of the almanac, with adapters of rank
8 on every linear layer (`finetune.prepared`). The rows take turns, step by step, so
that other work on the machine slows all of them alike. The median counts, without the
first step. QLoRA dequantizes every matrix twice a step. In bf16 and in fp32 it may take
1.5 times as long as LoRA in the faster of the two. This holds for steps of 1,024
tokens: dequantizing takes as long for fewer tokens, so its share is larger. A and B are
fp32 in every row, and full fine-tuning in bf16 has fp32 masters.

Memory is tensor bytes: weights, gradients, what the optimizer keeps, and what autograd
saves. `budget` computes all four from shapes as well, and the ratios of full
fine-tuning to the rest, in 16 bits.

Exits with 1 if a step takes too long, or if a sum or a ratio of memory is off by more
than 10 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant import almanac
from minquant.models.load import load
from minquant.planning import budget
from minquant.planning.memory import StepMemory, step_memory
from minquant.training import finetune

RANK = 8
TIMES = 1.5  # how many times as long as LoRA a step of QLoRA may take
APART = 0.10  # how far measured memory may be from computed, as a share
NAMES = {"full": "all weights", "lora": "LoRA", "qlora": "QLoRA"}


class Row(NamedTuple):
    """One way to fine-tune. bits: of the model's floats, and of what it computes."""

    way: str
    bits: int

    @property
    def name(self) -> str:
        """The name in the printed table."""
        return f"{NAMES[self.way]}, {'bf16' if self.bits == 16 else 'fp32'}"


ROWS = [Row(way, bits) for way in finetune.WAYS for bits in (32, 16)]


class Trained:
    """A model in training one way, and its optimizer."""

    def __init__(self, row: Row, original: nn.Module, ids: torch.Tensor) -> None:
        dtype = torch.bfloat16 if row.bits == 16 else torch.float32
        self.ids = ids
        student = finetune.prepared(original, row.way, rank=RANK, dtype=dtype)
        self.model, self.optimizer = student.model, student.optimizer

    def loss(self) -> torch.Tensor:
        """One forward pass."""
        return finetune.batch_loss(self.model, self.ids, self.ids)

    def step(self) -> None:
        """One training step."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


def batch(tokenizer: Any, documents: int, tokens: int) -> torch.Tensor:
    """The first `tokens` tokens of so many documents, (documents, tokens)."""
    texts = almanac.documents("calibration", 4 * documents)
    rows = [tokenizer(d.text, return_tensors="pt").input_ids[0] for d in texts]
    rows = [row[:tokens] for row in rows if len(row) >= tokens][:documents]
    if len(rows) < documents:
        raise SystemExit(f"fewer than {documents} documents have {tokens} tokens")
    return torch.stack(rows)


def medians(works: dict[Row, Callable[[], None]], rounds: int) -> dict[Row, float]:
    """The median seconds of each, taking turns; a first round does not count."""
    times: dict[Row, list[float]] = {row: [] for row in works}
    for _ in range(rounds + 1):
        for row, work in works.items():
            start = time.perf_counter()
            work()
            times[row].append(time.perf_counter() - start)
    return {row: statistics.median(seconds[1:]) for row, seconds in times.items()}


def computed(row: Row, original: nn.Module, ids: torch.Tensor) -> StepMemory:
    """The memory of a row, computed from shapes."""
    shapes, rest = budget.shapes_of(original), budget.rest_of(original)
    rank = None if row.way == "full" else RANK
    read = budget.Batch(*ids.shape, len(ids) * (ids.shape[1] - 1))
    config = original.config
    sizes = (
        config.vocab_size,
        config.head_dim or config.hidden_size // config.num_attention_heads,
    )
    saved = budget.saved(shapes, read, *sizes, rank=rank, bits=row.bits)
    if row.way == "full":
        return budget.full(shapes, rest, bits=row.bits)._replace(saved=saved)
    floats = "16 bits" if row.bits == 16 else "fp32"
    base = "NF4, double" if row.way == "qlora" else floats
    plan = budget.adapted(shapes, rest, RANK, base=base)
    weights = plan.weights
    if row.way == "qlora" and row.bits == 32:
        weights += rest * 2  # `adapted` counts the rest in 16 bits
    return plan._replace(weights=weights, saved=saved)


def judge(
    took: dict[Row, float],
    measured: dict[Row, StepMemory],
    planned: dict[Row, StepMemory],
) -> list[str]:
    """Prints the table and the ratios; the targets that are missed, in words.

    took: seconds of a step. measured, planned: the memory that it keeps.
    """
    missed = []
    lora_time = min(seconds for row, seconds in took.items() if row.way == "lora")
    print(
        f"{'':20}{'ms':>8}{'× LoRA':>8}{'weights':>10}{'gradients':>11}{'Adam':>9}"
        f"{'saved':>9}{'kB in all':>11}{'computed':>10}{'apart':>7}"
    )
    for row, memory in measured.items():
        times, apart = took[row] / lora_time, memory.total / planned[row].total - 1
        parts = f"{memory.weights / 1e3:10.0f}{memory.gradients / 1e3:11.0f}"
        parts += f"{memory.optimizer / 1e3:9.0f}{memory.saved / 1e3:9.0f}"
        print(
            f"{row.name:20}{1e3 * took[row]:8.1f}{times:8.2f}{parts}"
            f"{memory.total / 1e3:11.0f}{planned[row].total / 1e3:10.0f}{apart:7.1%}"
        )
        if abs(apart) > APART:
            missed.append(f"{row.name}: memory is {apart:+.1%} from what was computed")
        if row.way == "qlora" and times > TIMES:
            missed.append(f"{row.name}: {times:.2f} times LoRA's step, not {TIMES}")
    for way in ("lora", "qlora"):
        full, row = Row("full", 16), Row(way, 16)
        by_plan = planned[full].total / planned[row].total
        ratio = measured[full].total / measured[row].total
        print(f"{row.name}: {ratio:.2f} times less than full, {by_plan:.2f} computed")
        if abs(ratio / by_plan - 1) > APART:
            missed.append(f"{row.name}: {ratio:.2f} times less, not {by_plan:.2f}")
    return missed


def main() -> int:
    """Measures, prints the table and judges; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps per row")
    parser.add_argument("--documents", type=int, default=8, help="in a batch")
    parser.add_argument("--tokens", type=int, default=128, help="of each document")
    options = parser.parse_args()
    original, tokenizer = load()
    ids = batch(tokenizer, options.documents, options.tokens)
    trained = {row: Trained(row, original, ids) for row in ROWS}
    measured = {
        row: step_memory(one.model, one.optimizer, one.loss)
        for row, one in trained.items()
    }
    took = medians({row: one.step for row, one in trained.items()}, options.steps)
    print(
        f"load: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads; median of {options.steps} steps, "
        f"{ids.numel()} tokens each"
    )
    missed = judge(took, measured, {row: computed(row, original, ids) for row in ROWS})
    print("\n".join(missed) or "every target is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
