"""What a step of QLoRA costs beside one of LoRA, on the bundled model: time and memory.

    python benchmarks/qlora_step.py [--steps 12] [--documents 8] [--tokens 128]

A step is forward, backward and AdamW on one batch of the almanac, with adapters of rank
8 on every linear layer. The rows take turns, step by step, so that what else the
machine does falls on all alike; the median counts, and the first step does not. QLoRA
dequantizes every matrix twice a step, and is allowed 1.5 times the time of LoRA, the
faster of fp32 and bf16. A and B are fp32 in every row: they are the master weights.

Memory is tensor bytes: weights, gradients, Adam's moments, and what autograd saves. The
first three are computed as well, from shapes alone; what is saved depends on the
activations, which QLoRA shares with LoRA of the same dtype, and so it is held to that.
Exits with 1 when the time, or a sum by more than 10 %, is missed.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant import adapters, almanac, anatomy, lora, model
from minquant.memory import StepMemory, step_memory

RANK = 8
TIMES = 1.5  # of LoRA's time that QLoRA may take
APART = 0.10  # by which memory may miss the arithmetic
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # codes, scales, and the scales' scales


class Row(NamedTuple):
    """One way to fine-tune."""

    name: str
    dtype: torch.dtype  # of the model's floats, and so of what it computes
    quantized: bool
    adapted: bool = True


ROWS = (
    Row("all weights, fp32", torch.float32, False, False),
    Row("LoRA, fp32", torch.float32, False),
    Row("LoRA, bf16", torch.bfloat16, False),
    Row("QLoRA, fp32", torch.float32, True),
    Row("QLoRA, bf16", torch.bfloat16, True),
)


class Trained:
    """A model in training one way, and its optimizer."""

    def __init__(self, row: Row, original, ids: torch.Tensor) -> None:
        self.row, self.ids = row, ids
        self.model = copy.deepcopy(original).to(row.dtype).train()
        if row.adapted:
            method = lora.nf4 if row.quantized else None
            adapters.add_adapters_(self.model, rank=RANK, method=method)
            parameters = adapters.trainable(self.model)
        else:
            parameters = list(self.model.requires_grad_(True).parameters())
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def loss(self) -> torch.Tensor:
        """One forward pass."""
        return self.model(input_ids=self.ids, labels=self.ids).loss

    def step(self) -> None:
        """One training step."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


def batch(tokenizer, documents: int, tokens: int) -> torch.Tensor:
    """The first tokens of so many documents, all of one length."""
    texts = almanac.documents("calibration", 4 * documents)
    rows = [tokenizer(d.text, return_tensors="pt").input_ids[0] for d in texts]
    rows = [row[:tokens] for row in rows if len(row) >= tokens][:documents]
    if len(rows) < documents:
        raise SystemExit(f"fewer than {documents} documents have {tokens} tokens")
    return torch.stack(rows)


def medians(works: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Each one's median seconds, taking turns, after a first round that is not kept."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in took.items()}


def computed(row: Row, original, saved: int) -> StepMemory:
    """What the row should take, from the original's shapes; `saved` is given."""
    layers = anatomy.linear_layers(original).values()
    linear = sum(layer.weight.numel() for layer in layers)
    rest = sum(p.numel() for p in original.parameters()) - linear
    thin = RANK * sum(sum(layer.weight.shape) for layer in layers)
    size = row.dtype.itemsize
    weights = rest * size + linear * (NF4_BITS / 8 if row.quantized else size)
    learnt = 4 * thin if row.adapted else (linear + rest) * size
    weights += 4 * thin if row.adapted else 0
    return StepMemory(round(weights), learnt, 2 * learnt, saved)


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps per row")
    parser.add_argument("--documents", type=int, default=8, help="in a batch")
    parser.add_argument("--tokens", type=int, default=128, help="of each document")
    given = parser.parse_args()
    original, tokenizer = model.load()
    ids = batch(tokenizer, given.documents, given.tokens)
    trained = {row.name: Trained(row, original, ids) for row in ROWS}
    memory = {
        name: step_memory(one.model, one.optimizer, one.loss)
        for name, one in trained.items()
    }
    works = {name: one.step for name, one in trained.items()}
    took = medians(works, given.steps)
    lora_time = min(took[row.name] for row in ROWS if row.adapted and not row.quantized)
    print(
        f"load: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads; median of {given.steps} steps, "
        f"{ids.numel()} tokens each"
    )
    print(
        f"{'':20}{'ms':>8}{'× LoRA':>8}{'weights':>10}{'gradients':>11}{'Adam':>9}"
        f"{'saved':>9}{'kB in all':>11}{'computed':>10}{'apart':>7}"
    )
    missed = []
    for row in ROWS:
        name, seconds, kept = row.name, took[row.name], memory[row.name]
        alike = memory[name.replace("QLoRA", "LoRA")].saved
        expected = computed(row, original, alike)
        apart = kept.total / expected.total - 1
        print(
            f"{name:20}{1e3 * seconds:8.1f}{seconds / lora_time:8.2f}"
            f"{kept.weights / 1e3:10.0f}{kept.gradients / 1e3:11.0f}"
            f"{kept.optimizer / 1e3:9.0f}{kept.saved / 1e3:9.0f}"
            f"{kept.total / 1e3:11.0f}{expected.total / 1e3:10.0f}{apart:7.1%}"
        )
        if abs(apart) > APART:
            missed.append(f"{name}: memory is {apart:+.1%} from what was computed")
    best = min(took[row.name] for row in ROWS if row.quantized) / lora_time
    if best > TIMES:
        missed.append(f"QLoRA takes {best:.2f} times LoRA's step; {TIMES} are allowed")
    print("\n".join(missed) or "every target is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
