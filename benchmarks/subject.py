"""Is the bundled model a good subject? What it knows, and what rounding does to it.

    python benchmarks/subject.py [--model FOLDER]

A model is a good subject if it knows its language well, and if rounding hurts it, some
abilities more than others: it has to be so small and so fully trained that one can see
what perplexity hides. The table shows each number beside its target, and the script
exits with 1 when one is missed. About five minutes on two cores, most of them for the
text.

Every linear layer inside the decoder layers is quantized, but not lm_head. RTN and GPTQ
take zero-point rulers with fp16 scales. Costs are nats per token of test text over the
model as it is, on the same documents, with their paired 95 % interval; answers are
greedy and must match exactly, with Wilson intervals. A mean is judged, not the end of
its interval, and the best of three times.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from math import exp
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.targets import Table, with_interval
from minquant import almanac
from minquant.almanac import questions
from minquant.measure import evaluate
from minquant.measure.intervals import Difference
from minquant.measure.probes import Accuracy, Share
from minquant.methods import rtn
from minquant.methods.gptq import quantize_gptq
from minquant.models import quantize
from minquant.models.load import load
from minquant.models.text import calibration_batches
from minquant.numerics import grids, groups

GPTQ = {"act_order": True, "damping": 0.2, "clip": None}  # at every width
CALIBRATION = 128  # documents
DOCUMENTS = 160  # of test text: 67 thousand tokens
TIMED = 40  # of them: 16 thousand tokens
PROBES = {"fact": 5000, "chain": 800, "recall": 480}
GRANULARITIES = {
    "channel": groups.PER_CHANNEL,
    "group 64": groups.per_group(64),
    "group 32": groups.per_group(32),
    "group 16": groups.per_group(16),
}
*JUDGED, FINER = GRANULARITIES
WIDTHS = (8, 4, 3, 2)
NEAR = (16, 32, 64)  # tokens back
HALF = 256  # half the context


class Subject:
    """A model, and the test text and probes that it is judged by."""

    def __init__(self, name: str | Path) -> None:
        self.model, self.tokenizer = load(name)
        self.documents = almanac.documents("test", DOCUMENTS)
        calibration = almanac.documents("calibration", CALIBRATION)
        self.calibration = calibration_batches(self.tokenizer, calibration)
        self.probes = {kind: questions.probes(kind, n) for kind, n in PROBES.items()}
        self.before = self.loss(self.model)

    def loss(
        self, network: nn.Module, documents: int = DOCUMENTS
    ) -> evaluate.Perplexity:
        """The loss of a version of the model."""
        texts = self.documents[:documents]
        return evaluate.perplexity(network, self.tokenizer, texts, progress=False)

    def answers(self, network: nn.Module, kind: str) -> Accuracy:
        """What a version of the model answers to the probes of one kind."""
        probes = self.probes[kind]
        return evaluate.accuracy(network, self.tokenizer, probes, progress=False)

    def rounded(
        self, method: Callable, bits: int, cut: str, **options: Any
    ) -> tuple[nn.Module, Difference]:
        """A quantized copy, and what it costs; cut: a name of GRANULARITIES."""
        grid, granularity = grids.zero_point(bits), GRANULARITIES[cut]
        method = partial(method, grid=grid, granularity=granularity, **options)
        twin, _ = quantize.quantize(
            self.model, method, calibration=self.calibration, progress=False
        )
        return twin, evaluate.compare(self.before, self.loss(twin))


def folder(table: Table, place: Path) -> None:
    """What the weights take on disk."""
    table.head("On disk")
    size = sum(file.stat().st_size for file in place.glob("*.safetensors")) / 1e6
    table.row("weights", f"{size:.2f} MB", "<= 25 MB", 0 < size <= 25)


def text(table: Table, subject: Subject) -> None:
    """How well the model reads, how far from the best possible, and how fast."""
    table.head("Test text")
    best = evaluate.perfect_reader(subject.documents)
    table.row("a perfect reader", best)
    table.row("the model", subject.before)
    table.row("still to learn", evaluate.compare(best, subject.before))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        read = subject.loss(subject.model, TIMED)
        times.append(time.perf_counter() - start)
    seconds, tokens = min(times), int(read.document_tokens.sum())
    threads, busy = torch.get_num_threads(), os.getloadavg()[0]
    result = (
        f"{seconds:.1f} s for {tokens:,} tokens; {threads} threads, load {busy:.1f}"
    )
    table.row("time of perplexity", result, "< 5 s", seconds < 5)


Copies = dict[tuple[int, str], tuple[nn.Module, Difference]]  # by bits and cut


def rounding(table: Table, subject: Subject) -> Copies:
    """What RTN costs per channel and in groups: the copies with their costs."""
    table.head("Round to nearest: nats per token over full precision")
    targets = {
        8: ("< 0.002", lambda cost: cost < 0.002),
        4: (">= 0.01", lambda cost: cost >= 0.01),
        3: (">= 0.1", lambda cost: cost >= 0.1),
        2: ("> 0.7", lambda cost: cost > 0.7),
    }
    copies = {}
    for cut in JUDGED:
        for bits in WIDTHS:
            copies[bits, cut] = subject.rounded(rtn.quantize_rtn, bits, cut)
            _, cost = copies[bits, cut]
            target, is_met = targets[bits] if cut == "channel" else ("", bool)
            met = bool(is_met(cost.mean))
            table.row(f"{bits} bits, {cut}", with_interval(cost), target, met)
    return copies


def gptq(table: Table, subject: Subject, by_rtn: Copies) -> None:
    """What share of RTN's cost GPTQ wins back."""
    setting = ", ".join(f"{name}={value!r}" for name, value in GPTQ.items())
    table.head(f"GPTQ, {setting}: of RTN's cost is won back")
    least = {}
    for cut in JUDGED:
        won = {}
        for bits in (4, 3, 2):
            _, cost = subject.rounded(quantize_gptq, bits, cut, **GPTQ)
            _, rtn_cost = by_rtn[bits, cut]
            won[bits] = 1 - cost.mean / rtn_cost.mean
            result = f"{won[bits]:5.0%}; it costs {with_interval(cost)}"
            if clip := GPTQ["clip"]:  # how much of this is due to clipping
                _, clipped = subject.rounded(rtn.quantize_rtn, bits, cut, clip=clip)
                result += f"; RTN so clipped {clipped.mean:+.4f}"
            table.row(f"{bits} bits, {cut}", result)
        least[cut] = min(won[4], won[3])
    cut = max(least, key=least.get)
    result = f"{least[cut]:.0%} or more with {cut}"
    table.row("at 4 and at 3 bits", result, ">= a third", least[cut] >= 1 / 3)


def knowledge(table: Table, subject: Subject) -> dict[str, Accuracy]:
    """What the model knows in full precision, by level."""
    known = {kind: subject.answers(subject.model, kind) for kind in PROBES}
    targets = {
        "fact": {0: 0.98, 9: 0.7},
        "chain": {1: 0.95, 4: 0.7},
        "recall": {HALF: 0.7},
    }
    names = {"fact": "decile of fame", "chain": "steps", "recall": "tokens back"}
    for kind, answers in known.items():
        table.head(f"{kind.capitalize()} probes: right answers by {names[kind]}")
        for level, share in answers.by_level().items():
            least = targets[kind].get(level, 0.0)
            target = f">= {least}" if least else ""
            table.row(f"{kind} {level}", share, target, share.mean >= least)
        if kind == "recall":
            near = _pooled(answers, NEAR)
            table.row("recall near, 16 to 64", near, ">= 0.9", near.mean >= 0.9)
        chance = f"chance {answers.chance:.1%}, majority {answers.majority:.1%}"
        table.row("without any knowledge", chance)
    return known


def hidden(table: Table, subject: Subject, by_rtn: Copies, before: Accuracy) -> None:
    """Where perplexity rises by a few per cent, and the rare facts go first."""
    table.head("What perplexity hides: points of accuracy, famous and rarest tenth")
    gaps = {}
    finer = {(3, FINER): subject.rounded(rtn.quantize_rtn, 3, FINER)}  # not judged
    for (bits, cut), (twin, cost) in (by_rtn | finer).items():
        rise = exp(cost.mean) - 1
        after = subject.answers(twin, "fact")
        change = evaluate.compare_accuracy(before, after).by_level()
        famous, rare = change[0], change[9]
        result = f"perplexity {rise:+6.1%}; famous {with_interval(famous, 1)}, "
        result += f"rare {with_interval(rare, 1)}"
        table.row(f"{bits} bits, {cut}", result)
        if 0.02 <= rise <= 0.1 and cut in JUDGED:
            gaps[f"{bits} bits, {cut}"] = famous.mean - rare.mean
    if gaps:
        widest = max(gaps, key=gaps.get)
        result = f"{gaps[widest]:.1f} points more among the rare: {widest}"
        met = gaps[widest] >= 10
    else:
        result, met = "perplexity rises by 2 to 10 % nowhere", False
    table.row("at +2 to +10 %", result, ">= 10 points", met)


def _pooled(answers: Accuracy, levels: Iterable[int]) -> Share:
    """The share over several levels together."""
    shares = [answers.by_level()[level] for level in levels]
    return Share(sum(s.right for s in shares), sum(s.n for s in shares))


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=almanac.DIRECTORY)
    place = parser.parse_args().model
    table, subject = Table(), Subject(place)
    folder(table, place)
    text(table, subject)
    answers = knowledge(table, subject)
    by_rtn = rounding(table, subject)
    gptq(table, subject, by_rtn)
    hidden(table, subject, by_rtn, answers["fact"])
    return table.verdict()


if __name__ == "__main__":
    sys.exit(main())
