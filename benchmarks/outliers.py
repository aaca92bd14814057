"""What outlier channels do to a model in 8-bit integers, and how each method helps.

    python benchmarks/outliers.py [--model FOLDER]

Outlier channels are planted, since so small a model has none: the float model computes
the same before and after. Then all its linear layers multiply in 8-bit integers (W8A8),
in the ways of `minquant/models/w8a8.py`. Costs are nats per token of test text over
full precision, on the same documents, with their paired 95 % interval. The last part
times GPTQ on the whole model: processor seconds, summed over all cores, and beside them
the seconds that passed. The script exits with 1 when a target is missed. It judges a
mean, not the end of its interval, and the best of three times.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.targets import Table, with_interval
from minquant import almanac
from minquant.measure import evaluate
from minquant.measure.intervals import Difference
from minquant.methods.gptq import quantize_gptq
from minquant.methods.smoothquant import quantize_smooth_shared
from minquant.models import folds, quantize
from minquant.models.load import load
from minquant.models.text import calibration_batches
from minquant.models.w8a8 import OutlierCounts, w8a8
from minquant.numerics import grids

CALIBRATION = 64  # documents
DOCUMENTS = 40  # of test text: 16 thousand tokens
CHANNELS, SIZE = 6, 60.0  # what is planted
THRESHOLDS = (0.0, 1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 60.0, torch.inf)
WAYS = {
    "absmax": {"kind": "absmax"},
    "vector-wise": {"kind": "vector_wise"},
    "LLM.int8(), 16-bit outliers": {"kind": "llm_int8"},
    "LLM.int8(), int8 outliers": {"kind": "llm_int8", "outlier_weights": "int8"},
}


class Subject:
    """A model with its text, and what it costs to round it."""

    def __init__(self, name: str | Path) -> None:
        self.plain, self.tokenizer = load(name)
        texts = almanac.documents("calibration", CALIBRATION)
        self.calibration = calibration_batches(self.tokenizer, texts)
        self.documents = almanac.documents("test", DOCUMENTS)
        self.before = self.loss(self.plain)

    def loss(self, network: nn.Module) -> evaluate.Perplexity:
        """The loss of a version of the model."""
        return evaluate.perplexity(
            network, self.tokenizer, self.documents, progress=False
        )

    def cost(
        self, network: nn.Module, **options: Any
    ) -> tuple[Difference, dict[str, OutlierCounts]]:
        """What W8A8 costs, and the outliers of each layer; options: as for `w8a8`."""
        with w8a8(network, **options) as counts:
            cost = evaluate.compare(self.before, self.loss(network))
        return cost, counts


def total(counts: Iterable[OutlierCounts]) -> OutlierCounts:
    """The outliers of all layers together."""
    together = OutlierCounts()
    for layer in counts:
        together.inputs += layer.inputs
        together.large += layer.large
        together.split += layer.split
    return together


def shares(counts: OutlierCounts) -> str:
    """The share of inputs that are large, and that are multiplied in floats."""
    return f"values {counts.values:7.3%}, columns {counts.columns:7.2%}"


def ways(table: Table, subject: Subject, planted: nn.Module) -> None:
    """All ways of W8A8, without and with planted outliers."""
    table.head("W8A8 as the model is: nats per token over full precision")
    costs = {}
    for name, options in WAYS.items():
        costs[name], _ = subject.cost(subject.plain, **options)
        table.row(name, with_interval(costs[name], 5))
    table.head("W8A8 with planted outliers")
    moved = evaluate.compare(subject.before, subject.loss(planted))
    met = abs(moved.mean) < 1e-4
    table.row("in floats", with_interval(moved, 5), "< 0.0001", met)
    limit = 1.2 * costs["vector-wise"].mean + 0.001
    targets = {
        "absmax": (">= 0.05", lambda cost: cost >= 0.05),
        "LLM.int8(), 16-bit outliers": (f"<= {limit:.5f}", lambda cost: cost <= limit),
    }
    for name, options in WAYS.items():
        cost, _ = subject.cost(planted, **options)
        target, is_met = targets.get(name, ("", bool))
        table.row(name, with_interval(cost, 5), target, bool(is_met(cost.mean)))


def smoothed(table: Table, subject: Subject, planted: nn.Module) -> None:
    """SmoothQuant, with its scales beside the codes and folded."""
    for alpha in (0.5, 0.75):
        method = partial(quantize_smooth_shared, alpha=alpha)
        twin, report = quantize.quantize(
            planted, method, calibration=subject.calibration, progress=False
        )
        cost, _ = subject.cost(twin, kind="smooth", report=report)
        table.row(f"SmoothQuant, alpha {alpha}", with_interval(cost, 5))
    left = folds.fold_(twin, report).left
    cost, _ = subject.cost(twin, kind="vector_wise")
    table.row(f"the last, folded ({len(left)} left)", with_interval(cost, 5))


def sweep(table: Table, subject: Subject, planted: nn.Module) -> None:
    """Thresholds of LLM.int8(), from everything in floats to nothing."""
    table.head("LLM.int8() with planted outliers: cost and outliers, by threshold")
    for threshold in THRESHOLDS:
        cost, counts = subject.cost(planted, kind="llm_int8", threshold=threshold)
        outliers = shares(total(counts.values()))
        table.row(f"threshold {threshold:g}", f"{cost.mean:+.5f}; {outliers}")
    _, counts = subject.cost(planted, kind="llm_int8")
    table.head("Outliers of each layer with a threshold of 6")
    for name, layer in counts.items():
        table.row(name.removeprefix("model.layers."), shares(layer))


def timed(table: Table, subject: Subject) -> None:
    """The whole model by GPTQ."""
    table.head("Quantizing the whole model")
    method = partial(
        quantize_gptq, grid=grids.zero_point(4), act_order=True, damping=0.1
    )
    times = []
    for _ in range(3):
        start = time.process_time(), time.perf_counter()
        quantize.quantize(
            subject.plain, method, calibration=subject.calibration, progress=False
        )
        end = time.process_time(), time.perf_counter()
        times.append((end[0] - start[0], end[1] - start[1]))
    (seconds, clock), threads = min(times), torch.get_num_threads()
    result = f"{seconds:.2f} s; {clock:.2f} s by the clock, {threads} threads"
    table.row(f"GPTQ, {CALIBRATION} documents", result, "< 5 s", seconds < 5)


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=almanac.DIRECTORY)
    table, subject = Table(), Subject(parser.parse_args().model)
    planted, channels = folds.plant_outliers(
        subject.plain, subject.calibration, channels=CHANNELS, size=SIZE
    )
    table.row("full precision", subject.before)
    table.row("planted channels", ", ".join(map(str, channels)))
    ways(table, subject, planted)
    smoothed(table, subject, planted)
    sweep(table, subject, planted)
    timed(table, subject)
    return table.verdict()


if __name__ == "__main__":
    sys.exit(main())
