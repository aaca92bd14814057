"""Does QLoRA learn as well as 16-bit LoRA? A new chapter, three ways, several seeds.

    python benchmarks/qlora.py                 # the rows that qlora.json does not have
    python benchmarks/qlora.py --only '^0 '    # of these, those whose key fits

A row is a fine-tune of the bundled model: "2 qlora" learns the people of seed 2 by
QLoRA. All rows of a seed learn from the same pages in the same order, in the same
number of steps. Each row holds, raw, which questions were answered right: every new
fact, in the phrasing that was kept from its pages, and a thousand old ones. So any two
can be compared in pairs. "lora" and "qlora" have adapters of rank 8 on all linear
layers. The variants, for the first seeds:

    short        half of the steps: every fact is told 8 times instead of 16
    attention    as many numbers, rank 16, on the attention alone, with the same
                 s = alpha / r
    rehearsal    half of each page is about people of the almanac

"16 bits" and "nf4" are the model before it learns.

The claim: the 95 % interval of the paired difference QLoRA − LoRA lies within ±3
points. It is drawn by people, whose six facts are learnt together, and over seeds
(Student's t), and both are held to it. Exits with 1 when one is missed, or a codes'
byte has changed. Rates were chosen for people of seed 100, who are not in the table.

`stamped` says when rows are thrown away. All rows take four minutes on an idle core.
Lesson 09 reads the table, and computes one row anew: `row(key)`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamped

from minquant import adapters, chapter, evaluate, finetune, model, questions
from minquant.intervals import Difference, bootstrap
from minquant.probes import Accuracy

SEEDS = 6
TRIED = 3  # seeds of the variants
PEOPLE, TIMES, FACTS, PAGES = 40, 16, 24, 2  # to a page; pages to a step
SHORT = 8  # TIMES, of half the steps
OLD = 1000  # questions about the almanac's own people
RANK, ALPHA = 8, 16.0
WITHIN = 3.0  # points
ATTENTION = r"\.self_attn\."
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
BEFORE = {"- 16 bits": "lora", "- nf4": "qlora"}  # untrained adapters change nothing


def keys() -> list[str]:
    """Every row: the model before, then by seed, the variants last."""
    found = [f"{s} {way}" for s in range(SEEDS) for way in finetune.WAYS]
    variants = [f"{way} short" for way in finetune.WAYS]
    variants += ["qlora attention", "qlora rehearsal"]
    found += [f"{s} {variant}" for variant in variants for s in range(TRIED)]
    return [*BEFORE, *found]


@cache
def subject() -> tuple:
    """The model, its tokenizer, and the questions about its own people."""
    return (*model.load(), questions.probes("fact", OLD))


def asked(seed: int) -> list:
    """The questions about the people of a seed."""
    return chapter.questions(chapter.newcomers(PEOPLE, seed=seed))


def lessons(seed: int, variant: Sequence[str] = ()) -> list:
    """What is learnt from, in order: ids and labels of every step."""
    who = chapter.newcomers(PEOPLE, seed=seed)
    times = SHORT if "short" in variant else TIMES
    old = FACTS if "rehearsal" in variant else 0
    written = chapter.pages(who, times, facts=FACTS, old=old, seed=seed)
    return chapter.batches(subject()[1], written, PAGES)


def row(key: str) -> dict:
    """Fine-tune as the key says, and ask: what stands in qlora.json, computed anew.

    Raises ValueError for a key of no row.
    """
    if key not in keys():
        raise ValueError(f"key is {key!r}; choose one of {', '.join(keys())}")
    original, tokenizer, old = subject()
    name, way, *variant = key.split()
    only = ATTENTION if "attention" in variant else None
    seed = int(name) if name.isdigit() else 0
    way = BEFORE.get(key, way)
    more = 2 if only else 1  # as many numbers, elsewhere, and alpha / rank as it was
    student = finetune.prepared(
        original, way, rank=more * RANK, alpha=more * ALPHA, only=only, seed=seed
    )
    frozen, losses = adapters.base_bytes(student.model), []
    start = time.perf_counter()
    if key not in BEFORE:
        losses = finetune.train_(student, lessons(seed, variant))
    took = time.perf_counter() - start
    student.model.eval()
    trained = sum(p.numel() for p in student.model.parameters() if p.requires_grad)
    found = {"key": key, "seed": seed, "way": " ".join(key.split()[1:])}
    found |= {"trained": trained if losses else 0, "seconds": round(took, 1)}
    found["untouched"] = adapters.base_bytes(student.model) == frozen
    found["losses"] = [round(loss, 4) for loss in losses]
    for what, probes in (("new", asked(seed)), ("old", old)):
        answers = evaluate.accuracy(student.model, tokenizer, probes, progress=False)
        found[what] = "".join(str(int(right)) for right in answers.correct)
    return found


def accuracy_of(found: dict, what: str) -> Accuracy:
    """The answers of a row to "new" or "old" questions, right or wrong, without
    words."""
    probes = tuple(asked(found["seed"]) if what == "new" else subject()[2])
    right = torch.tensor([mark == "1" for mark in found[what]])
    return Accuracy(probes, right, ("",) * len(probes))


# --- two ways, over all seeds ---


def paired(rows: dict[str, dict], a: str, b: str, what: str = "new") -> Difference:
    """b − a in points, over every seed that has both; the interval is drawn by people,
    of whom every seed has others, or by the old questions, which are the same ones."""
    change = torch.stack([100 * _change(x, y, what) for x, y in _pairs(rows, a, b)])
    drawn = change.view(-1, 6).mean(1) if what == "new" else change.mean(0)
    return Difference(drawn.mean().item(), *bootstrap(drawn), "points")


def over_seeds(rows: dict[str, dict], a: str, b: str, what: str = "new") -> Difference:
    """b − a in points: the mean over seeds, with Student's interval.

    Raises ValueError for fewer than two seeds that have both.
    """
    means = [100 * _change(x, y, what).mean().item() for x, y in _pairs(rows, a, b)]
    n = len(means)
    if n not in STUDENT:
        raise ValueError(f"rows has {n} seeds of {a!r} and {b!r}; give 2 to 8")
    values = torch.tensor(means, dtype=torch.float64)
    mean, half = values.mean().item(), STUDENT[n] * values.std().item() / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, "points")


def _pairs(rows: dict[str, dict], a: str, b: str) -> list[tuple[dict, dict]]:
    seeds = [s for s in range(SEEDS) if f"{s} {a}" in rows and f"{s} {b}" in rows]
    return [(rows[f"{s} {a}"], rows[f"{s} {b}"]) for s in seeds]


def _change(a: dict, b: dict, what: str) -> torch.Tensor:
    before, after = ([int(mark) for mark in found[what]] for found in (a, b))
    return torch.tensor(after).double() - torch.tensor(before).double()


# --- the table ---


def line(found: dict) -> str:
    """A row in words."""
    shares = [f"{w} {found[w].count('1') / len(found[w]):6.1%}" for w in ("new", "old")]
    last = f"{sum(found['losses'][-5:]) / 5:7.4f}" if found["losses"] else " " * 7
    return (
        f"{found['key']:20}{found['trained']:9,} trained  last losses {last}  "
        f"{'  '.join(shares)}  {found['seconds']:5.1f} s"
    )


TABLE = stamped.Table(Path(__file__), keys, row, line)


DRAWN = {"by people": paired, "by seeds": over_seeds}


def compared(a: str, b: str, name: str, apart: Difference) -> str:
    """A comparison in words."""
    sure = f"[{apart.low:+.2f}, {apart.high:+.2f}]"
    return f"{f'{b} − {a}, {name}':40} {apart.mean:+6.2f} points {sure}"


def judge(rows: dict[str, dict]) -> list[str]:
    """Print the comparisons; what is missed, in words."""
    missed = [f"{key}: a code changed" for key in rows if not rows[key]["untouched"]]
    for a, b in (("lora", "qlora"), ("full", "lora"), ("full", "qlora")):
        if len(_pairs(rows, a, b)) < TRIED:
            missed.append(f"{b} − {a}: fewer than {TRIED} seeds")
            continue
        for name, of in DRAWN.items():
            apart = of(rows, a, b)
            print(compared(a, b, name, apart))
            if a == "lora" and max(-apart.low, apart.high) > WITHIN:
                missed.append(f"{b} − {a}, {name}: not within ±{WITHIN:g} points")
        print(compared(a, b, "old facts", paired(rows, a, b, "old")))
    for a, b in (("lora short", "qlora short"), ("full short", "lora short")):
        if _pairs(rows, a, b):
            print(compared(a, b, "by people", paired(rows, a, b)))
    return missed


if __name__ == "__main__":
    missed = judge(TABLE.run(__doc__))
    print("; ".join(missed) or "every target is met")
    sys.exit(1 if missed else 0)
