"""What the table of SmolLM2 says, in pairs and with intervals. Needs no model.

    python benchmarks/real_summary.py

It reads data/smollm2/measured.json, which real.py makes, and prints

1. what each version still knows of what the float model knew,
2. versions at equal settings in pairs: what the better method wins back of the loss,
   and of the log-probability of right answers,
3. which cheap number tells best what the exam lost.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant.measure.evaluate import compare
from minquant.measure.exam import Exam, compare_exams
from minquant.measure.intervals import DRAWS, Difference, won_back
from minquant.measure.measured import Row, measured

WIDTHS = (8, 6, 5, 4, 3, 2)
GROUPS = ("row", "64")
Rows = dict[str, Row]


def facts_of(exam: Exam, group: str) -> Tensor:
    """The mean −log p of the right answers of each fact of a group."""
    sums: dict[str, list[float]] = {}
    for question, logp in zip(exam.questions, exam.logp.tolist(), strict=True):
        if question.group == group:
            sums.setdefault(question.fact, []).append(-logp)
    return torch.tensor([sum(x) / len(x) for x in sums.values()]).double()


PAIRS = (
    *((f"{{b}} {m}, {{g}}", "{b} rtn, {g}") for m in ("gptq", "rtn clip")),
    *((f"{{b}} {m}, {{g}}", "{b} rtn clip, {g}") for m in ("gptq clip", "awq clip")),
    ("{b} awq output clip, {g}", "{b} rtn output clip, {g}"),
    ("{b} gptq, {g}", "{b} gptq in order, {g}"),
    ("{b} gptq, {g}", "{b} gptq damping 1 %, {g}"),
)


def pairs() -> list[tuple[str, str]]:
    """Keys at equal settings: a better method, and the one it is compared with. Where
    one is not in the table, the pair is left out."""
    found = [
        (better.format(b=b, g=g), base.format(b=b, g=g))
        for b in WIDTHS
        for g in GROUPS
        for better, base in PAIRS
    ]
    found += [(f"{b} gptq, 32 symmetric", f"{b} rtn, 32 symmetric") for b in WIDTHS]
    for ruler in ("symmetric", "signed"):
        found += [(f"4 {m}, 32 {ruler}", "Q4_0") for m in ("rtn", "gptq")]
    found += [(f"4 {m}, 32 signed", f"4 {m}, 32 symmetric") for m in ("rtn", "gptq")]
    return [*found, ("5 gptq, 32 symmetric", "Q5_0"), ("Q4_0", "Q4_1")]


def say(share: tuple[float, float, float]) -> str:
    """A share with its interval."""
    return "{:4.0%} [{:.0%}, {:.0%}]".format(*share)


def compare_rows(rows: Rows) -> None:
    """Print pairs at equal settings: loss, and what is left of what was known."""
    base = rows["float"]
    print("\nLoss on own text, and how much of it the first wins back; the same for")
    print("−log p of right answers; and right answers, the first minus the second\n")
    for better, worse in pairs():
        if better not in rows or worse not in rows:
            continue
        a, b = rows[worse], rows[better]
        change = compare(a.loss, b.loss)
        nats = [row.loss.document_nats for row in (base, a, b)]
        print(f"{better}  against  {worse}")
        print(f"    loss {change}; won back {say(won_back(*nats))}")
        points = compare_exams(a.exam, b.exam).groups()
        for group, difference in points.items():
            share = won_back(*(facts_of(r.exam, group) for r in (base, a, b)))
            print(f"    {group:10}{difference}; log p won back {say(share)}")


def kept_rows(rows: Rows) -> None:
    """Print what each row still knows of what the float model knew."""
    print("\nOf what the float model knew by one phrasing, right by another\n")
    for key, row in rows.items():
        print(key)
        kept = compare_exams(rows["float"].exam, row.exam).kept()
        for group, of_group in kept.items():
            print(f"    {group:10}{of_group}")


# --- does the tail tell? ---

CHEAP = {  # numbers that need no exam
    "mean KL": lambda row: row.divergence.kl,
    "KL, one in 1000": lambda row: row.tail[0],
    "flips": lambda row: row.divergence.flips,
    "loss, own text": lambda row: row.loss.nats,
    "loss, topics": lambda row: row.loss_on("topics").nats,
    "weight error": lambda row: row.weight_error,
}


def ranks(x: Tensor) -> Tensor:
    """The rank of each number, from 0; equal numbers share their mean rank."""
    return (x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1) - 1) / 2


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's: the correlation of the ranks."""
    return torch.corrcoef(torch.stack([ranks(x), ranks(y)]))[0, 1].item()


def correlations(cheap: dict[str, Tensor], lost: Tensor) -> dict[str, tuple]:
    """The rank correlation of each cheap number with what was lost, its interval over
    rows, and the `Difference` from that of the first number, in pairs."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(len(lost), (DRAWS // 4, len(lost)), generator=generator)
    ends = torch.tensor([0.025, 0.975])
    drawn = {
        name: torch.tensor([rank_correlation(x[d], lost[d]) for d in draws])
        for name, x in cheap.items()
    }
    first = next(iter(cheap))
    found = {}
    for name, x in cheap.items():
        low, high = drawn[name].nanquantile(ends).tolist()
        apart = drawn[name] - drawn[first]
        value = rank_correlation(x, lost)
        mean = value - rank_correlation(cheap[first], lost)
        difference = Difference(mean, *apart.nanquantile(ends).tolist(), "of rank")
        found[name] = (value, low, high), difference
    return found


def tail_tells(rows: Rows) -> dict[str, dict[str, tuple]]:
    """For all rows of rounded weights, and for those in between (a loss of 0.02 to 1
    nat): how well each cheap number ranks what the exam lost, in nats of the right
    answers and in right answers, mean over groups."""
    base = rows["float"].loss.nats
    weights = [row for row in rows.values() if row.weight_error]
    between = [row for row in weights if 0.02 <= row.loss.nats - base <= 1]
    found = {}
    for name, chosen in (("all", weights), ("in between", between)):
        if len(chosen) < 5:
            continue
        cheap = {k: torch.tensor([f(r) for r in chosen]) for k, f in CHEAP.items()}
        exams = [row.exam for row in chosen]
        groups = [exam.groups() for exam in exams]
        nats = [
            mean([facts_of(exam, group).mean().item() for group in scores])
            for exam, scores in zip(exams, groups, strict=True)
        ]
        wrong = [-mean([s.mean for s in scores.values()]) for scores in groups]
        for what, lost in (("nats", nats), ("right answers", wrong)):
            title = f"{name} {len(chosen)} rows, exam in {what}"
            found[title] = correlations(cheap, torch.tensor(lost))
    return found


def summary(rows: Rows) -> None:
    """Print what the table says."""
    kept_rows(rows)
    compare_rows(rows)
    print("\nDoes the tail tell? Rank correlation with what the exam lost, [95 %], and")
    print("the difference from that of the first line")
    for title, found in tail_tells(rows).items():
        print(f"\n{title}")
        for name, ((value, low, high), difference) in found.items():
            print(f"    {name:18}{value:5.2f} [{low:.2f}, {high:.2f}]  {difference}")


if __name__ == "__main__":
    summary(measured())
