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
from typing import Any

import torch
from torch import nn

from minquant.course.drawing import palette
from minquant.models.text import encode

DARKEST = 6.0  # nats: no darker from here on
MARKED = 3.0  # nats: one chance in twenty


@dataclass(frozen=True)
class Surprise:
    """The tokens of a text, and each model's surprise at each, in nats.

    The first token has none if nothing came before it. Marks for the beginning and the
    end of a text are read and not shown.
    """

    tokens: list[str]
    nats: dict[str, list[float]]

    @classmethod
    @torch.no_grad()
    def of(cls, models: Mapping[str, nn.Module], tokenizer: Any, text: str) -> Surprise:
        """Let each model read the text."""
        ids = encode(tokenizer, [text])[0]
        special = set(tokenizer.all_special_ids)
        nats = {}
        for name, model in models.items():
            log_p = model(input_ids=ids[None]).logits[0, :-1].float().log_softmax(-1)
            each = -log_p.gather(1, ids[1:, None])[:, 0]
            nats[name] = [0.0, *each.tolist()]
        shown = [i for i, one in enumerate(ids) if int(one) not in special]
        # What a token adds to the text: some tokenizers put the space into the token.
        starts = [tokenizer.decode(ids[:n]) for n in range(len(ids) + 1)]
        tokens = [
            after[len(before) :] if after.startswith(before) else tokenizer.decode(one)
            for before, after, one in zip(starts, starts[1:], ids, strict=False)
        ]
        return cls(
            [tokens[i] for i in shown],
            {name: [each[i] for i in shown] for name, each in nats.items()},
        )

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


def _word(token: str, surprise: float) -> str:
    """One token on its ground; black or white, whatever reads better on it."""
    share = min(surprise / DARKEST, 1.0)
    red, green, blue = (int(palette.VERMILION[i : i + 2], 16) for i in (1, 3, 5))
    ground = [round(255 + share * (part - 255)) for part in (red, green, blue)]
    ink = palette.INK if share < 0.75 else palette.PAPER
    line = "underline" if surprise > MARKED else "none"
    look = f"background:rgb{tuple(ground)};color:{ink};text-decoration:{line}"
    return (
        f'<span style="{look}" title="{surprise:.2f} nats">{html.escape(token)}</span>'
    )
