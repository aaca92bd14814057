"""What SmolLM2 loses: a table of a real model in a hundred versions, measured before.

    rows = measured()
    rows["4 gptq, row"].exam                                 # an `Exam`
    compare(rows["float"].loss, rows["4 gptq, row"].loss)    # as two models of your own

Each version takes minutes to make and to measure, so `benchmarks/real.py` did it once
and kept the table; this file reads it. What a row gives is what `perplexity`,
`kl_and_flips` and `exam` give for a model, so rows are compared in pairs like models.

Keys say the bits, the method, and what shares a ruler: "4 gptq, row", "3 rtn, 64".
Others are "float", llama.cpp's types such as "Q4_0", "format NF4 at 4.5", "w8a8
vector-wise", "cache in 4 bits". Lessons 00 to 11 draw from it.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minquant.measure.evaluate import Divergence, Perplexity
from minquant.measure.exam import Exam
from minquant.measure.exam_items import questions

_PACKAGE = Path(__file__).parents[1]  # the table is in it, or beside it
_PLACES = (_PACKAGE / "data/smollm2", _PACKAGE.parent / "data/smollm2")
TABLE = next((p for p in _PLACES if p.exists()), _PLACES[1]) / "measured.json"


@dataclass(frozen=True, eq=False)
class Row:
    """A version of SmolLM2, as measured.

    key: its name in the table. bits_per_weight: all that is stored, counted; of a
    cache, bits per number. weight_error: Σ (W_hat − W)² / Σ W² over all matrices, or
    None where inputs or the cache are rounded. record: the row as it stands in the
    file.
    """

    key: str
    record: dict[str, Any]
    documents: dict[str, dict[str, list[int]]]

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight."""
        return self.record["bits_per_weight"]

    @property
    def weight_error(self) -> float | None:
        """The squared error of the weights, as a share of their squares."""
        return self.record["weight_error"]

    @property
    def loss(self) -> Perplexity:
        """The loss on test text that the model wrote itself."""
        return self.loss_on("own")

    def loss_on(self, text: str) -> Perplexity:
        """The loss on "own" text, or on "topics", the help of Python.

        Raises ValueError for another text.
        """
        prints, tokens = self._read(text)
        nats = torch.tensor(self.record[text]["documents"]["nats"]).double()
        window = int(tokens.max()) + 2  # each document was read in one piece
        return Perplexity(prints, nats, tokens, window, window)

    @property
    def divergence(self) -> Divergence:
        """KL and flips from the float model, on test text that it wrote itself."""
        return self.divergence_on("own")

    def divergence_on(self, text: str) -> Divergence:
        """KL and flips on "own" text or on "topics".

        Raises ValueError for another text.
        """
        _, tokens = self._read(text)
        sums = (self.record[text]["documents"][what] for what in ("kl", "flip"))
        return Divergence(*(torch.tensor(x).double() for x in sums), tokens)

    @property
    def tail(self) -> tuple[float, float, float]:
        """The KL that one token in a thousand exceeds, and its interval."""
        return tuple(self.record["own"]["tail"])

    @property
    def exam(self) -> Exam:
        """How it answered the questions of the exam."""
        right = torch.tensor([mark == "1" for mark in self.record["exam_right"]])
        return Exam(questions(), right, self._logp())

    def _logp(self) -> Tensor:
        return (
            -torch.tensor([int(x) for x in self.record["exam_centinats"].split()]) / 100
        )

    def _read(self, text: str) -> tuple[tuple[int, ...], Tensor]:
        if text not in self.documents:
            raise ValueError(
                f"text is {text!r}; choose one of {', '.join(self.documents)}"
            )
        read = self.documents[text]
        return tuple(read["fingerprints"]), torch.tensor(read["tokens"])

    def __repr__(self) -> str:
        return (
            f"{self.key}: {self.bits_per_weight:.2f} bits, {self.loss.nats:.4f} "
            f"nats/token, KL {self.divergence.kl:.4f}"
        )


class Rows(dict[str, Row]):
    """Rows by their keys; a key that is not there is answered with those like it."""

    def __missing__(self, key: str) -> Row:
        words = set(str(key).replace(",", "").split())
        alike = sorted(
            self, key=lambda k: -len(words & set(k.replace(",", "").split()))
        )
        near = ", ".join(map(repr, alike[:5]))
        raise KeyError(f"there is no row {key!r}; near it are {near}")


@cache
def measured(table: Path = TABLE) -> Rows:
    """The rows of the table, by key.

    Raises FileNotFoundError if there is no table.
    """
    if not table.is_file():
        raise FileNotFoundError(
            f"{table} is not there; python benchmarks/real.py measures it anew"
        )
    kept = json.loads(table.read_text(encoding="utf-8"))
    return Rows({r["key"]: Row(r["key"], r, kept["documents"]) for r in kept["rows"]})
