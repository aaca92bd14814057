"""A text coloured by surprise: the darker a word, the less the model expected it.

    16 bits   The capital of France is [Paris] .
    3 bits    The capital of France is [Paris] .        <- darker here

Surprise is −ln p, in nats, of the probability that the model gave to the word that
came. Colour is never alone: a word above 3 nats, one chance in twenty, is underlined,
and a line of text counts these. Lesson 04.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minquant.course.drawing import palette
from minquant.models.text import HasText, encode

DARKEST = 6.0  # nats: no darker from here on
INTENSE = 0.6  # of the colour, at most
MARKED = 3.0  # nats: one chance in twenty


@dataclass(frozen=True)
class Surprise:
    """The tokens of a text, and each model's surprise at each, in nats."""

    tokens: list[str]
    nats: dict[str, list[float]]

    @classmethod
    def of(
        cls, models: Mapping[str, nn.Module], tokenizer: Any, text: str | HasText
    ) -> Surprise:
        """Let each model read the text."""
        read = {name: nats_of(m, tokenizer, text) for name, m in models.items()}
        tokens, _ = next(iter(read.values()))
        return cls(tokens, {name: nats.tolist() for name, (_, nats) in read.items()})

    def __repr__(self) -> str:
        return "\n".join(self._counted(name) for name in self.nats)

    def _repr_html_(self) -> str:
        rows = [
            f'<p style="margin:8px 0 2px"><b>{html.escape(self._counted(name))}</b></p>'
            f'<p style="margin:0;line-height:1.9">{self._text(nats)}</p>'
            for name, nats in self.nats.items()
        ]
        return f'<div style="max-width:900px">{"".join(rows)}</div>'

    def _counted(self, name: str) -> str:
        nats = self.nats[name]
        mean = sum(nats) / max(1, len(nats))
        many = sum(surprise > MARKED for surprise in nats)
        return (
            f"{name}: {mean:.2f} nats per token, {many} of {len(nats)} tokens above "
            f"{MARKED:g} nats"
        )

    def _text(self, nats: list[float]) -> str:
        return "".join(
            _word(token, surprise)
            for token, surprise in zip(self.tokens, nats, strict=True)
        )


@torch.no_grad()
def nats_of(
    model: nn.Module, tokenizer: Any, text: str | HasText
) -> tuple[list[str], Float[Tensor, " n"]]:
    """The tokens of a text as it shows them, and the model's surprise at each.

    Marks of its beginning and end are read, and left out here. So is the first token if
    nothing comes before it: nobody was asked for it.
    """
    ids = encode(tokenizer, [text])[0]
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
    nats = F.cross_entropy(logits, ids[1:], reduction="none")
    # What a token adds to the text: some tokenizers put the space into the token.
    texts = [tokenizer.decode(ids[:end].tolist()) for end in range(1, len(ids) + 1)]
    pieces = [after[len(before) :] for before, after in pairwise(texts)]
    marks = set(tokenizer.all_special_ids)
    shown = [i for i, token in enumerate(ids[1:].tolist()) if token not in marks]
    return [pieces[i] for i in shown], nats[shown]


def _word(token: str, surprise: float) -> str:
    """One token on its ground, which is never so dark that ink cannot be read on it."""
    share = INTENSE * min(surprise / DARKEST, 1.0)
    red, green, blue = (int(palette.VERMILION[i : i + 2], 16) for i in (1, 3, 5))
    ground = [round(255 + share * (part - 255)) for part in (red, green, blue)]
    line = "underline" if surprise > MARKED else "none"
    look = f"background:rgb{tuple(ground)};color:{palette.INK};text-decoration:{line}"
    return (
        f'<span style="{look}" title="{surprise:.2f} nats">{html.escape(token)}</span>'
    )
