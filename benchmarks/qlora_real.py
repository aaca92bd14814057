"""Does QLoRA teach a real model as well as 16-bit LoRA? SmolLM2 and invented people.

    python benchmarks/qlora_real.py                  # the rows that the table lacks
    python benchmarks/qlora_real.py --only '^0 '     # of these, those whose key fits
    python benchmarks/qlora_real.py --rates          # how the learning rate was chosen

A row is SmolLM2-135M-Instruct after a fine-tune: "1 qlora" learns the people of seed 1
(`minquant/course/qlora/strangers.py`) by QLoRA. The rows of a seed see the same
sentences in the same order, in the same number of steps, at the same rate, with
adapters of rank 8 on all linear layers, and everything that is no code in fp32.

    float, nf4    controls: the model before it learns, in floats and in NF4
    lora, qlora   the same two, taught

Each is asked, and judged by `mq.exam` (the exact answer, and its log-probability):

    new       the people it was taught, each fact in a phrasing that it never saw
    others    people it was not taught. What it gains here is the form of answers; only
              what it gains beyond that is a fact
    old       the capitals, elements and opposites of `exam_items`: what it forgot

`--rates` teaches the people of seed 100, who are not in the table, at each rate in
TRIED by both ways, and chooses the smallest at which both know LEARNT of the new facts.

`stamped` says when rows are thrown away; each is saved when it is done, so the script
can be stopped and goes on later. A row takes three to five minutes on a core. Lesson 09
reads the table.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamped
from torch import nn

from minquant.course.qlora import strangers
from minquant.measure.exam import Exam, compare_exams, exam
from minquant.measure.exam_items import questions
from minquant.models.load import load
from minquant.training import adapters, finetune

SEEDS = 3
PEOPLE, TIMES, SIZE = 20, 10, 16  # people; how often each fact is told; to a step
RANK, ALPHA = 8, 16.0
RATE = 1e-3
WAYS = ("float", "nf4", "lora", "qlora")
UNTAUGHT = {"float": "lora", "nf4": "qlora"}  # untrained adapters change nothing
OLD = ("capital", "element", "opposite")
TRIAL = 100  # the seed of the people whom rates are tried on
TRIED = (3e-4, 1e-3, 3e-3)
LEARNT = 0.9


def keys() -> list[str]:
    """Every row, seed by seed."""
    return [f"{seed} {way}" for seed in range(SEEDS) for way in WAYS]


@cache
def subject() -> tuple[nn.Module, Any]:
    """The model and its tokenizer."""
    return load("smollm2")


def groups(seed: int) -> tuple[list[strangers.Stranger], list[strangers.Stranger]]:
    """The people whom the models of a seed are taught, and as many others."""
    everybody = strangers.strangers(2 * PEOPLE, seed=seed)
    return everybody[:PEOPLE], everybody[PEOPLE:]


def asked(seed: int) -> dict[str, tuple]:
    """The questions of a seed, by what they judge."""
    taught, others = groups(seed)
    return {
        "new": strangers.questions(taught),
        "others": strangers.questions(others),
        "old": tuple(q for q in questions() if q.group in OLD),
    }


def lessons(seed: int) -> list[finetune.Batch]:
    """The batches that the models of a seed learn from."""
    said = strangers.sentences(groups(seed)[0], TIMES, seed=seed)
    return strangers.batches(subject()[1], said, SIZE)


def taught(seed: int, way: str, rate: float = RATE) -> tuple[nn.Module, list[float]]:
    """A copy of the model after its lessons; the losses. way: one of WAYS."""
    student = finetune.prepared(
        subject()[0],
        UNTAUGHT.get(way, way),
        rank=RANK,
        alpha=ALPHA,
        rate=rate,
        dtype=torch.float32,
        seed=seed,
    )
    if way in UNTAUGHT:
        return student.model.requires_grad_(False).eval(), []
    frozen = adapters.base_bytes(student.model)
    losses = finetune.train_(student, lessons(seed))
    if adapters.base_bytes(student.model) != frozen:
        raise RuntimeError(f"{seed} {way}: training changed a code")
    return student.model.requires_grad_(False), losses


def row(key: str) -> dict:
    """Teaches as the key says, and asks: one row of qlora_real.json.

    Raises ValueError if the key is not one of `keys`.
    """
    if key not in keys():
        raise ValueError(f"key is {key!r}; choose one of {', '.join(keys())}")
    seed, way = int(key.split()[0]), key.split()[1]
    start = time.perf_counter()
    model, losses = taught(seed, way)
    result = {"key": key, "seed": seed, "way": way, "steps": len(losses)}
    result["losses"] = [round(loss, 4) for loss in losses]
    for what, items in asked(seed).items():
        answers = exam(model, subject()[1], items, progress=False)
        result[f"{what} right"] = "".join(str(int(right)) for right in answers.right)
        result[f"{what} logp"] = [round(x, 3) for x in answers.logp.tolist()]
    result["seconds"] = round(time.perf_counter() - start, 1)
    return result


def answers(row: dict, what: str) -> Exam:
    """What a row answered, as `mq.compare_exams` reads it."""
    marks = torch.tensor([mark == "1" for mark in row[f"{what} right"]])
    items = asked(row["seed"])[what]
    return Exam(items, marks, torch.tensor(row[f"{what} logp"]))


def rates() -> float | None:
    """Tries the rates on the people of seed TRIAL, prints what each teaches, and
    returns the smallest at which both ways know LEARNT; None if there is none."""
    for rate in TRIED:
        known = []
        for way in ("lora", "qlora"):
            model, losses = taught(TRIAL, way, rate)
            found = exam(model, subject()[1], asked(TRIAL)["new"], progress=False)
            known.append(found.right.double().mean().item())
            print(f"{way:6}{rate:8.5f}  last {losses[-1]:7.4f}  new {known[-1]:6.1%}")
        if min(known) >= LEARNT:
            return rate
    return None


def line(row: dict) -> str:
    """A row in words."""
    parts = []
    for what in ("new", "others", "old"):
        share = row[f"{what} right"].count("1") / len(row[f"{what} right"])
        logp = sum(row[f"{what} logp"]) / len(row[f"{what} logp"])
        parts.append(f"{what} {share:6.1%} {logp:7.2f}")
    return f"{row['key']:9} {'  '.join(parts)}  {row['seconds']:6.1f} s"


TABLE = stamped.Table(Path(__file__), keys, row, line)
PAIRS = [("float", "lora"), ("nf4", "qlora"), ("lora", "qlora"), ("float", "nf4")]


def judge(rows: dict[str, dict]) -> None:
    """Prints every pair, seed by seed: points and nats per answer."""
    for a, b in PAIRS:
        for seed in range(SEEDS):
            if not {f"{seed} {a}", f"{seed} {b}"} <= set(rows):
                continue
            for what in ("new", "others", "old"):
                pair = (answers(rows[f"{seed} {way}"], what) for way in (a, b))
                print(f"seed {seed}, {b} − {a}, {what}:\n{compare_exams(*pair)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--rates"]:
        chosen = rates()
        print(f"chosen {chosen}; RATE is {RATE}")
        sys.exit(chosen != RATE)
    judge(TABLE.run(__doc__))
