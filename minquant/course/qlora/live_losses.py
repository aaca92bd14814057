"""The live picture of lesson 09: the loss falls, in three ways to train.

    losses(learnt())                      # the last line of a cell

The curves are those of benchmarks/qlora.json. `losses.js` averages and smooths them,
and follows them step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.course.qlora.table import SEEDS, Run

WORDS = 976  # of the almanac: an even guess costs log(WORDS) nats
ALL = "all six"
NAMES = {"full": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
WINDOW = 5  # steps that are averaged


class LossesPicture(LivePicture):
    """The losses of runs with as many steps each.

    curves: by way, for each seed a loss at every step. known: by way, for each seed the
    share of new facts known at the end. seed: ALL, or "group 1" and so on. at: a
    step.

    Raises ValueError if the curves are not all of one length, or for another seed.
    """

    script = Path(__file__).with_name("losses.js")

    curves = traitlets.Dict().tag(sync=True)
    known = traitlets.Dict().tag(sync=True)
    names = traitlets.Dict().tag(sync=True)
    guess = traitlets.Float().tag(sync=True)
    seed = traitlets.Unicode().tag(sync=True)
    at = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        curves: Mapping[str, Sequence[Sequence[float]]],
        known: Mapping[str, Sequence[float]],
        *,
        seed: str = ALL,
        at: int = 20,
    ) -> None:
        lengths = {len(row) for rows in curves.values() for row in rows}
        if len(lengths) != 1:
            raise ValueError(f"curves have {lengths} steps; give as many of each")
        n = len(next(iter(curves.values())))
        seeds = [ALL, *(f"group {i}" for i in range(1, n + 1))]
        if seed not in seeds:
            raise ValueError(f"seed is {seed!r}; choose from {', '.join(seeds)}")
        super().__init__(
            curves={way: [list(row) for row in rows] for way, rows in curves.items()},
            known={way: list(shares) for way, shares in known.items()},
            names=NAMES,
            guess=log(WORDS),
            seed=seed,
            at=at,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        ends = [
            f"{NAMES[way]} ends at {smoothed(torch.tensor(rows).mean(0))[-1]:.2f}"
            for way, rows in self.curves.items()
        ]
        first = max(row[0] for rows in self.curves.values() for row in rows)
        return f"The loss falls from {first:.0f} nats: {', '.join(ends)}."


def smoothed(row: Float[Tensor, " steps"]) -> list[float]:
    """At each step the mean of the last WINDOW losses, of fewer at the beginning."""
    return [row[max(0, i + 1 - WINDOW) : i + 1].mean().item() for i in range(len(row))]


def losses(runs: Mapping[str, Run]) -> LossesPicture:
    """The live picture of all seeds of the table."""
    rows = {way: [runs[f"{seed} {way}"] for seed in range(SEEDS)] for way in NAMES}
    return LossesPicture(
        {way: [run.losses.tolist() for run in of] for way, of in rows.items()},
        {
            way: [run.new.double().mean().item() for run in of]
            for way, of in rows.items()
        },
    )
