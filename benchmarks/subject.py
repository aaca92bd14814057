"""Is the bundled model a good subject? What it knows, and what rounding does to it.

    python benchmarks/subject.py [--model FOLDER]

A model is a good subject if it knows its language well and rounding hurts it, and not
everything alike: so small and so fully trained that what perplexity hides can be seen.
The table sets each number beside its target, and the script exits with 1 when one is
missed. About five minutes on two cores, most of them for the text.

Every linear layer inside the decoder layers is quantized, and lm_head never. RTN and
GPTQ take zero-point rulers with fp16 scales. Costs are nats per token of test text over
the model as it is, on the same documents, with their paired 95 % interval; answers are
greedy and exact, with Wilson's. A mean is judged, not the end of its interval, and
the best of three times.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant import almanac
from minquant.almanac import questions
from minquant.measure import evaluate
from minquant.measure.intervals import Difference
from minquant.measure.probes import Accuracy, Share
from minquant.methods import rtn
from minquant.methods.gptq import quantize_gptq
from minquant.models import load, quantize
from minquant.models.text import calibration_batches
from minquant.numerics import grids, groups

GPTQ = {"act_order": True, "damping": 0.2, "clip": None}  # at every width
CALIBRATION = 128  # documents
DOCUMENTS = 160  # of test text: 67 thousand tokens
TIMED = 40  # of them: 16 thousand tokens
PROBES = {"fact": 5000, "chain": 800, "recall": 480}
RULERS = {
    "channel": groups.PER_CHANNEL,
    "group 64": groups.per_group(64),
    "group 32": groups.per_group(32),
    "group 16": groups.per_group(16),
}
*JUDGED, FINER = RULERS
WIDTHS = (8, 4, 3, 2)
NEAR = (16, 32, 64)  # tokens back
HALF = 256  # half the context


class Subject:
    """A model, and the test text and probes that it is judged by."""

    def __init__(self, name: str | Path) -> None:
        self.model, self.tokenizer = load.load(name)
        self.documents = almanac.documents("test", DOCUMENTS)
        calibration = almanac.documents("calibration", CALIBRATION)
        self.calibration = calibration_batches(self.tokenizer, calibration)
        self.probes = {kind: questions.probes(kind, n) for kind, n in PROBES.items()}
        self.before = self.loss(self.model)

    def loss(self, twin, documents: int = DOCUMENTS) -> evaluate.Perplexity:
        """The loss of a version of the model."""
        texts = self.documents[:documents]
        return evaluate.perplexity(twin, self.tokenizer, texts, progress=False)

    def answers(self, twin, kind: str) -> Accuracy:
        """What a version of the model answers to the probes of one kind."""
        asked = self.probes[kind]
        return evaluate.accuracy(twin, self.tokenizer, asked, progress=False)

    def rounded(self, method, bits: int, ruler: str, **options):
        """A quantized copy, and what it costs."""
        method = partial(
            method,
            grid=grids.zero_point(bits),
            granularity=RULERS[ruler],
            **options,
        )
        twin, _ = quantize.quantize(
            self.model, method, calibration=self.calibration, progress=False
        )
        return twin, evaluate.compare(self.before, self.loss(twin))


@dataclass
class Table:
    """Prints a row for each number; `missed` names those off their target."""

    missed: list[str]

    def head(self, title: str) -> None:
        """The title of a part."""
        print(f"\n{title}\n{'-' * len(title)}", flush=True)

    def row(self, name: str, found: object, target: str = "", met: bool = True) -> None:
        """One number, and whether it meets its target, if it has one."""
        judged = f"{target:14}{'met' if met else 'MISSED'}" if target else ""
        print(f"{name:30}{found!s:52}{judged}".rstrip(), flush=True)
        if target and not met:
            self.missed.append(name)


def folder(table: Table, place: Path) -> None:
    """What the weights take on disk."""
    table.head("On disk")
    size = sum(file.stat().st_size for file in place.glob("*.safetensors")) / 1e6
    table.row("weights", f"{size:.2f} MB", "<= 25 MB", 0 < size <= 25)


def text(table: Table, subject: Subject) -> None:
    """How well it reads, how far above the best possible, and how fast."""
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
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    said = f"{seconds:.1f} s for {tokens:,} tokens; {threads} threads, load {load:.1f}"
    table.row("time of perplexity", said, "< 5 s", seconds < 5)


def rounding(table: Table, subject: Subject) -> dict[tuple[int, str], tuple]:
    """What RTN costs per channel, and in groups; copies and costs by bits and ruler."""
    table.head("Round to nearest: nats per token over full precision")
    targets = {
        8: ("< 0.002", lambda cost: cost < 0.002),
        4: (">= 0.01", lambda cost: cost >= 0.01),
        3: (">= 0.1", lambda cost: cost >= 0.1),
        2: ("> 0.7", lambda cost: cost > 0.7),
    }
    made = {}
    for ruler in JUDGED:
        for bits in WIDTHS:
            made[bits, ruler] = subject.rounded(rtn.quantize_rtn, bits, ruler)
            cost = made[bits, ruler][1]
            target, met = targets[bits] if ruler == "channel" else ("", bool)
            table.row(
                f"{bits} bits, {ruler}", _cost(cost), target, bool(met(cost.mean))
            )
    return made


def gptq(table: Table, subject: Subject, made: dict) -> None:
    """What share of RTN's cost GPTQ wins back."""
    setting = ", ".join(f"{name}={value!r}" for name, value in GPTQ.items())
    table.head(f"GPTQ, {setting}: of RTN's cost is won back")
    best = {}
    for ruler in JUDGED:
        won = {}
        for bits in (4, 3, 2):
            _, cost = subject.rounded(quantize_gptq, bits, ruler, **GPTQ)
            won[bits] = 1 - cost.mean / made[bits, ruler][1].mean
            said = f"{won[bits]:5.0%}; it costs {_cost(cost)}"
            if GPTQ["clip"]:  # how much of it is clipping's
                clipped = subject.rounded(
                    rtn.quantize_rtn, bits, ruler, clip=GPTQ["clip"]
                )[1]
                said += f"; RTN so clipped {clipped.mean:+.4f}"
            table.row(f"{bits} bits, {ruler}", said)
        best[ruler] = min(won[4], won[3])
    ruler = max(best, key=best.get)
    said = f"{best[ruler]:.0%} or more with {ruler}"
    table.row("at 4 and at 3 bits", said, ">= a third", best[ruler] >= 1 / 3)


def known(table: Table, subject: Subject) -> dict[str, Accuracy]:
    """What the model knows in full precision, by level."""
    found = {kind: subject.answers(subject.model, kind) for kind in PROBES}
    targets = {
        "fact": {0: 0.98, 9: 0.7},
        "chain": {1: 0.95, 4: 0.7},
        "recall": {HALF: 0.7},
    }
    names = {"fact": "decile of fame", "chain": "steps", "recall": "tokens back"}
    for kind, answers in found.items():
        table.head(f"{kind.capitalize()} probes: right answers by {names[kind]}")
        for level, share in answers.by_level().items():
            least = targets[kind].get(level)
            target = f">= {least}" if least else ""
            table.row(
                f"{kind} {level}", share, target, not least or share.mean >= least
            )
        if kind == "recall":
            near = _pooled(answers, NEAR)
            table.row("recall near, 16 to 64", near, ">= 0.9", near.mean >= 0.9)
        chance = f"chance {answers.chance:.1%}, majority {answers.majority:.1%}"
        table.row("one who knows nothing", chance)
    return found


def hidden(table: Table, subject: Subject, made: dict, before: Accuracy) -> None:
    """Where perplexity rises by a few per cent, and the rare facts go first."""
    table.head("What perplexity hides: points of accuracy, famous and rarest tenth")
    grown = {}
    finer = {(3, FINER): subject.rounded(rtn.quantize_rtn, 3, FINER)}  # not judged
    for (bits, ruler), (twin, cost) in (made | finer).items():
        rise = exp(cost.mean) - 1
        after = subject.answers(twin, "fact")
        change = evaluate.compare_accuracy(before, after).by_level()
        famous, rare = change[0], change[9]
        said = (
            f"perplexity {rise:+6.1%}; famous {_points(famous)}, rare {_points(rare)}"
        )
        table.row(f"{bits} bits, {ruler}", said)
        if 0.02 <= rise <= 0.1 and ruler in JUDGED:
            grown[f"{bits} bits, {ruler}"] = famous.mean - rare.mean
    if grown:
        most = max(grown, key=grown.get)
        said = f"{grown[most]:.1f} points more among the rare: {most}"
    else:
        most, said = "", "perplexity rises by 2 to 10 % nowhere"
    table.row("at +2 to +10 %", said, ">= 10 points", bool(most) and grown[most] >= 10)


def _cost(cost: Difference) -> str:
    return f"{cost.mean:+.4f} [{cost.low:+.4f}, {cost.high:+.4f}]"


def _points(change: Difference) -> str:
    return f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]"


def _pooled(answers: Accuracy, levels: Iterable[int]) -> Share:
    shares: Sequence[Share] = [answers.by_level()[level] for level in levels]
    return Share(sum(s.right for s in shares), sum(s.n for s in shares))


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=almanac.DIRECTORY)
    place, start = parser.parse_args().model, time.perf_counter()
    table, subject = Table([]), Subject(place)
    folder(table, place)
    text(table, subject)
    found = known(table, subject)
    made = rounding(table, subject)
    gptq(table, subject, made)
    hidden(table, subject, made, found["fact"])
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.1f} minutes; load {os.getloadavg()[0]:.1f}")
    print(
        f"missed: {'; '.join(table.missed)}" if table.missed else "every target is met"
    )
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
