"""SmolLM2 in llama.cpp and in torch: the times that `benchmarks/engine.py` kept.

    engine = measured_engine()
    engine.rows["llama.cpp Q4_0"].answer        # tokens per second, one after another
    engine.rows["llama.cpp Q4_0"].prompt        # tokens per second, read all at once
    engine.machine                              # what that machine reads and computes

The file says on which machine, with which versions, by which command.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from minquant.planning.roofline import Machine

_PACKAGE = Path(__file__).parents[2]  # the table is in it, or beside it
_PLACES = (_PACKAGE / "data/smollm2", _PACKAGE.parent / "data/smollm2")
TABLE = next((p for p in _PLACES if p.exists()), _PLACES[1]) / "engine.json"


class Speed(NamedTuple):
    """Tokens per second, medians. nbytes: read for each token of an answer."""

    nbytes: int
    prompt: float
    answer: float


@dataclass(frozen=True)
class Engine:
    """The table. weights: of the model's layers, and of its output matrix.

    about: machine, versions, command, date and load. tokens: of the prompt.
    """

    machine: Machine
    rows: dict[str, Speed]
    layers: int
    output: int
    tokens: int
    about: str


@cache
def measured_engine() -> Engine:
    """The table in the file. Raises FileNotFoundError if it is not there."""
    kept = json.loads(TABLE.read_text(encoding="utf-8"))
    peak = dict(kept["peak"])
    rows = {
        row["key"]: Speed(
            row["bytes"],
            kept["prompt"] / statistics.median(row["prompt_s"]),
            kept["answer"] / statistics.median(row["answer_s"]),
        )
        for row in kept["rows"]
    }
    versions = ", ".join(f"{k} {v}" for k, v in kept["versions"].items())
    return Engine(
        Machine(kept["machine"], kept["bandwidth"], peak.pop("fp32"), narrow=peak),
        rows,
        kept["weights"]["layers"],
        kept["weights"]["output"],
        kept["prompt"],
        f"{kept['machine']}; {versions}; {kept['command']}; {kept['date']}, load "
        f"{kept['load']}",
    )
