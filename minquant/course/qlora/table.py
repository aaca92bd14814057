"""The table of benchmarks/qlora.py, read: 60 fine-tunes of the almanac's model.

runs = learnt()                          # by key: "3 qlora" is seed 3, by QLoRA
runs["3 qlora"].new                      # which of the 240 new facts it knows
change(runs, "lora", "qlora")            # QLoRA − LoRA, in points, in pairs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import minquant
from minquant.measure.intervals import Difference, bootstrap

STUDENT = 2.571  # 95 % of Student's t lie within, for six
SEEDS = 6
FACTS = 6  # of a person


@dataclass(frozen=True, eq=False)
class Run:
    """One fine-tune. new, old: which questions it answers right. losses: in nats per
    value, a number for each step."""

    new: Bool[Tensor, " n"]
    old: Bool[Tensor, " m"]
    losses: Float[Tensor, " steps"]
    trained: int


def learnt() -> dict[str, Run]:
    """All rows of the table, by key; "- 16 bits" and "- nf4" have not learnt yet."""
    root = Path(minquant.__file__).parents[1]
    text = (root / "benchmarks" / "qlora.json").read_text(encoding="utf-8")
    return {
        row["key"]: Run(
            _marks(row["new"]),
            _marks(row["old"]),
            torch.tensor(row["losses"], dtype=torch.float64),
            row["trained"],
        )
        for row in json.loads(text)["rows"]
    }


def _marks(text: str) -> Bool[Tensor, " n"]:
    return torch.tensor([mark == "1" for mark in text])


def known(runs: Mapping[str, Run], way: str, what: str = "new") -> float:
    """The share of questions answered right, over all seeds. what: new or old."""
    return _stacked(runs, way, what).mean().item()


def change(runs: Mapping[str, Run], a: str, b: str, what: str = "new") -> Difference:
    """b − a in points of all questions, in pairs; drawn again are people (new) or
    questions (old, the same for all seeds)."""
    apart = 100 * (_stacked(runs, b, what) - _stacked(runs, a, what))
    drawn = apart.view(-1, FACTS).mean(1) if what == "new" else apart.mean(0)
    return Difference(drawn.mean().item(), *bootstrap(drawn), "points")


def change_by_seed(
    runs: Mapping[str, Run], a: str, b: str, what: str = "new"
) -> Difference:
    """b − a in points, with Student's interval: six seeds are six samples."""
    apart = 100 * (_stacked(runs, b, what) - _stacked(runs, a, what)).mean(1)
    half = STUDENT * apart.std().item() / sqrt(SEEDS)
    mean = apart.mean().item()
    return Difference(mean, mean - half, mean + half, "points")


def _stacked(
    runs: Mapping[str, Run], way: str, what: str
) -> Float[Tensor, "seeds questions"]:
    """1 where an answer is right. A model that has not learnt stands for every seed."""
    keys = [way if way in runs else f"{seed} {way}" for seed in range(SEEDS)]
    return torch.stack([getattr(runs[key], what) for key in keys]).double()
