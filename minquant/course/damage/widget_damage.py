"""The damage dashboard: choose bits and rulers, and see four measures.

    damage(measure, whole)        # the last line of a cell

`measure(bits, ruler)` is any function that gives a `Damage`; `Damager` is one for a
model. Each way is measured when it is first asked for, and remembered; all that were
tried stay in the picture. Notebook 04 shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from minquant.almanac.questions import Probe
from minquant.course.damage.figure_damage import Damage, DamagePicture, Key, describe
from minquant.course.drawing.figure_intervals import Measured
from minquant.course.live.controls import choice, integer
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import paragraph
from minquant.measure.evaluate import compare, kl_and_flips, layer_error, perplexity
from minquant.measure.probes import Share, accuracy
from minquant.methods import rtn
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.quantize import quantize
from minquant.models.text import HasText
from minquant.numerics import grids
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, Granularity, per_group

RULERS = {
    "a tensor": PER_TENSOR,
    "a row": PER_CHANNEL,
    "128 weights": per_group(128),
    "64 weights": per_group(64),
    "32 weights": per_group(32),
    "16 weights": per_group(16),
}


class Damager:
    """Measures a model rounded to nearest: called with bits and a name of RULERS.

    documents: test text for KL and loss. probes: name to the probes to ask, or none.
    layer, X: the name of a linear layer and its inputs (n, in), for the layer error.
    whole: the shares of right answers in full precision.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        documents: Sequence[str | HasText],
        *,
        layer: str,
        X: Float[Tensor, "n in"],
        probes: Mapping[str, Sequence[Probe]] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.documents = model, tokenizer, list(documents)
        self.layer, self.X, self.probes = layer, X, dict(probes or {})
        self.W = weight_of(linear_layers(model)[layer])
        self.before = perplexity(model, tokenizer, self.documents, progress=False)
        self.whole = self._ask(model)

    def __call__(self, bits: int, ruler: str) -> Damage:
        """Quantize a copy of the model, and measure it."""
        twin, report = quantize(
            self.model, _method(bits, RULERS[ruler]), progress=False
        )
        divergence = kl_and_flips(
            self.model, twin, self.tokenizer, self.documents, progress=False
        )
        after = perplexity(twin, self.tokenizer, self.documents, progress=False)
        cost = compare(self.before, after)
        codes = sum(q.codes.numel() for q in report.values())
        W_hat = report[self.layer].dequantize()
        return Damage(
            bits_per_weight=8 * sum(q.nbytes for q in report.values()) / codes,
            layer_error=layer_error(self.W, W_hat, self.X).relative,
            kl=Measured(divergence.kl, *divergence.interval()),
            loss=Measured(cost.mean, cost.low, cost.high),
            probes=self._ask(twin),
        )

    def _ask(self, model: nn.Module) -> dict[str, Share]:
        return {
            name: accuracy(model, self.tokenizer, asked, progress=False).total
            for name, asked in self.probes.items()
        }


def _method(bits: int, ruler: Granularity) -> partial:
    return partial(rtn.quantize_rtn, grid=grids.zero_point(bits), granularity=ruler)


def damage(
    measure: Callable[[int, str], Damage],
    whole: Mapping[str, Share] | None = None,
    *,
    rulers: Sequence[str] = tuple(RULERS),
    start: Key = (4, "a row"),
) -> Dashboard:
    """The widget. measure: a `Damager`, or any function of bits and a ruler's name.

    whole: shares of right answers in full precision, by name (default: those of a
    `Damager`). rulers: which names the menu offers. start: bits and ruler at first.

    Raises ValueError if start has a ruler that the menu does not offer.
    """
    whole = getattr(measure, "whole", {}) if whole is None else whole
    if start[1] not in rulers:
        raise ValueError(f"start is {start!r}; choose a ruler of {', '.join(rulers)}")
    picture, tried = DamagePicture(rulers, whole), {}

    def _draw(bits: int, ruler: str) -> Frame:
        key = bits, ruler
        if key not in tried:
            tried[key] = measure(bits, ruler)
        picture.update(key, tried)
        return Frame(picture.fig, paragraph(describe(key, tried[key], whole)))

    return Dashboard(
        _draw,
        {
            "bits": integer("bits", start[0], 2, 8, lazy=True),
            "ruler": choice("one for", start[1], list(rulers)),
        },
    )
