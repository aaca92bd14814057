"""The live picture of lesson 04: a text coloured by surprise; an average redrawn.

    surprise({"16 bits": original, "3 bits": small}, tokenizer, text, documents)

An average hides which words suffer, and how much of it is chance. The losses are
measured here; `surprise.js` colours the words, and draws documents again one click at a
time, as `measure/intervals.py` does 4000 times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import traitlets
from jaxtyping import Float
from torch import Tensor, nn

from minquant.course.damage.surprise import nats_of
from minquant.course.live.picture import LivePicture
from minquant.measure.evaluate import Perplexity, compare, perplexity
from minquant.models.text import HasText


class SurprisePicture(LivePicture):
    """One text read by several models, and their losses on many documents.

    tokens: the text, piece by piece. nats: for each model its surprise at each piece.
    losses: for each model its `Perplexity`, all on the same documents. The first model
    is the one that the others are compared with.

    Raises ValueError if these do not fit each other.
    """

    script = Path(__file__).with_name("surprise.js")

    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    counts = traitlets.List(traitlets.Int()).tag(sync=True)
    models = traitlets.Dict().tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        nats: Mapping[str, Float[Tensor, ...]],
        losses: Mapping[str, Perplexity],
        name: str | None = None,
    ) -> None:
        if list(nats) != list(losses) or not losses:
            raise ValueError(
                f"nats are of {list(nats)}, losses of {list(losses)}; name the same "
                "models"
            )
        for key, values in nats.items():
            if len(values) != len(tokens):
                raise ValueError(
                    f"nats of {key} are {len(values)}, and tokens {len(tokens)}; give "
                    "one for each"
                )
        name = list(losses)[-1] if name is None else name
        if name not in losses:
            raise ValueError(f"name is {name!r}; choose from {', '.join(losses)}")
        first, *_ = losses.values()
        super().__init__(
            tokens=list(tokens),
            counts=first.document_tokens.tolist(),
            models={
                key: _facts(nats[key], first, loss) for key, loss in losses.items()
            },
            name=name,
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        return (
            f"A text of {len(self.tokens)} tokens, each coloured by how much it "
            f"surprised the model in {self.name}."
        )


def _facts(
    nats: Float[Tensor, " n"], first: Perplexity, loss: Perplexity
) -> dict[str, object]:
    """The numbers of one model: of the first its loss, of others how it rises."""
    if loss is first:
        sums, mean, ends = loss.document_nats, loss.nats, loss.interval()
    else:
        more = compare(first, loss)
        sums = loss.document_nats - first.document_nats
        mean, ends = more.mean, (more.low, more.high)
    low, high = ends
    return {
        "nats": nats.tolist(),
        "sums": sums.tolist(),
        "mean": mean,
        "low": low,
        "high": high,
    }


def surprise(
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    text: str | HasText,
    documents: Sequence[str | HasText],
) -> SurprisePicture:
    """The live picture. models: name to model, the first in full precision."""
    read = {key: nats_of(model, tokenizer, text) for key, model in models.items()}
    losses = {
        key: perplexity(model, tokenizer, documents, progress=False)
        for key, model in models.items()
    }
    pieces, _ = next(iter(read.values()))
    nats = {key: each for key, (_, each) in read.items()}
    return SurprisePicture(pieces, nats, losses)
