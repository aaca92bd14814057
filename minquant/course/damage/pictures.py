"""The pictures of lesson 04, each named by what it shows.

surprise                a text, coloured by how surprised each model is to read it
layer_error_by_bits     one bit less, four times the error
farthest_apart          the next word, where two models differ most
losses                  loss of a model and of its copies, with the best possible
change_by_document      what each text pays
examples                one question of each kind, and the shares of right answers
by_fame                 facts, by how famous the person is
by_steps_and_distance   sums and recall
wrong_answers           what an obscure person's question gets
live_surprise           a text coloured by surprise, with the model to choose
capitals_by_population  what is left of its capitals, by how many people live there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.almanac import Document
from minquant.almanac.questions import Probe
from minquant.course.damage import figure_documents
from minquant.course.damage.figure_next_words import next_words
from minquant.course.damage.live_surprise import SurprisePicture
from minquant.course.damage.live_surprise import surprise as live_surprise_picture
from minquant.course.damage.surprise import Surprise
from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import intervals
from minquant.course.drawing.figure_levels import accuracy_by_level
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.course.drawing.table import Table
from minquant.measure.evaluate import LayerError, Perplexity, perfect_reader
from minquant.measure.measured import Row
from minquant.measure.probes import Accuracy
from minquant.methods.rtn import quantize_rtn
from minquant.models.calibrate import watching
from minquant.models.text import encode
from minquant.numerics.grids import zero_point
from minquant.numerics.groups import PER_CHANNEL, Granularity, per_group

CUTS = {"row": PER_CHANNEL, **{f"{g}": per_group(g) for g in (64, 32, 16)}}
TENTHS = ["most", *"23456789", "least"]  # of all people, by fame


def nearest(bits: int, cut: Granularity = PER_CHANNEL) -> partial:
    """Round to nearest on zero-point rulers, as a method for `mq.quantize`."""
    return partial(quantize_rtn, grid=zero_point(bits), granularity=cut)


def sentences(text: str, count: int) -> str:
    """The first sentences of a text."""
    return ". ".join(text.split(". ")[:count]) + "."


def surprise(models: Mapping[str, nn.Module], tokenizer: Any, text: str) -> Surprise:
    """The text once for each model, each token coloured by its surprise."""
    return Surprise.of(models, tokenizer, text)


@torch.no_grad()
def inputs_of(
    model: nn.Module, layer: str, tokenizer: Any, text: str
) -> Float[Tensor, "n in"]:
    """What flows into a layer while the model reads a text, a row per token."""
    seen: list[Tensor] = []
    layers = {layer: model.get_submodule(layer)}
    with watching(layers, lambda _, states: seen.append(states)):
        model(input_ids=_ids(tokenizer, text)[None])
    return seen[0].flatten(0, -2)


def _ids(tokenizer: Any, text: str) -> Tensor:
    return encode(tokenizer, [text])[0]


@palette.style()
def layer_error_by_bits(errors: Mapping[int, LayerError]) -> Picture:
    """The relative error of a layer's outputs at each width, on a logarithmic axis."""
    widths = sorted(errors, reverse=True)
    relative = [errors[bits].relative for bits in widths]
    title = "One bit less, four times the error"
    fig, ax = plot("bits of a code", "layer error", title=title, left=100)
    ax.semilogy(widths, relative, "o-", color=palette.VERMILION)
    ax.set_xlim(max(widths) + 0.3, min(widths) - 0.3)
    ax.grid(axis="y", color=palette.HAIRLINE)
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    steps = zip(widths, relative, strict=True)
    told = ", ".join(f"{bits} bits {number(100 * e, digits=2)} %" for bits, e in steps)
    fig.alt = f"Layer error, as a share of the output's power: {told}."
    return fig


@torch.no_grad()
def farthest_apart(
    model: nn.Module, copy: nn.Module, tokenizer: Any, text: str
) -> Picture:
    """The next word's probabilities of both models, where their KL is largest."""
    ids = _ids(tokenizer, text)
    p, q = (m(input_ids=ids[None]).logits[0, :-1].softmax(-1) for m in (model, copy))
    place = int((p * (p.log() - q.log())).sum(-1).argmax())
    words = tokenizer.convert_ids_to_tokens(list(range(p.shape[-1])))
    return next_words(
        words,
        p[place],
        q[place],
        names=("16 bits", "3 bits"),
        prompt=f"… {tokenizer.decode(ids[max(0, place - 7) : place + 1])} …",
        answer=words[ids[place + 1]],
    )


def losses(
    before: Perplexity, after: Mapping[int, Perplexity], texts: Sequence[Document]
) -> Picture:
    """Loss with its interval, of the model and of its copies of 3 bits and more."""
    rows = {"16 bits": before}
    rows |= {f"{bits} bits": loss for bits, loss in after.items() if bits > 2}
    return intervals(
        {name: (loss.nats, *loss.interval()) for name, loss in rows.items()},
        "loss (nats per token)",
        references={"the best possible": perfect_reader(texts).nats},
        title="The loss of the model and of its copies",
    )


def change_by_document(
    before: Perplexity, after: Perplexity, texts: Sequence[Document]
) -> Picture:
    """The change of the loss of each text, against its loss before."""
    return figure_documents.change_by_document(
        before, after, [text.kind for text in texts], title="Each dot is a text"
    )


def examples(
    asked: Mapping[str, Sequence[Probe]], known: Mapping[str, Accuracy]
) -> Table:
    """One question of each kind with its answer, and the share of right answers."""
    rows = []
    for kind, probes in asked.items():
        i = len(probes) // 4
        start, said = probes[i].prompt, known[kind].answers[i]
        start = start if len(start) < 72 else f"… {start[-60:]}"
        share = f"{known[kind].mean:.0%} of {len(probes):,}"
        rows.append([kind, start, " ".join(probes[i].answer), said, share])
    return Table(["kind", "question", "right", "model says", "it knows"], rows)


def by_fame(facts: Mapping[str, Accuracy]) -> Picture:
    """Right answers by how famous the person is; the first is the whole model."""
    whole = next(iter(facts.values()))
    return accuracy_by_level(
        {name: found.by_level() for name, found in facts.items()},
        "how famous the person is, in tenths of all people",
        levels=TENTHS,
        chance=whole.chance,
        title="What it still knows",
    )


def by_steps_and_distance(
    known: Mapping[str, Accuracy], chain: Accuracy, recall: Accuracy
) -> Table:
    """Right answers to sums by their steps, and to recall by its distance, with 95 %
    intervals (Wilson's)."""
    rows = []
    for kind, found, unit in (("chain", chain, "steps"), ("recall", recall, "tokens")):
        whole = known[kind].by_level()
        for level, share in found.by_level().items():
            if level in (1, 2, 4, 8, 16, 64, 384):
                low, high = share.interval()
                name = f"{level} {unit}" if level > 1 else "1 step"
                shares = f"{whole[level].mean:.0%}", f"{share.mean:.0%}"
                rows.append([kind, name, *shares, f"{low:.0%} to {high:.0%}"])
    return Table(["kind", "", "16 bits", "3 bits", "95 % interval"], rows)


def wrong_answers(
    asked: Sequence[Probe], known: Accuracy, now: Accuracy, count: int
) -> Table:
    """Questions about obscure people that only the whole model answers rightly."""
    rows = []
    for probe, was, said in zip(asked, known.answers, now.answers, strict=True):
        if probe.level >= 7 and (was,) == probe.answer != (said,):
            start = probe.prompt.removeprefix("Register . ")
            rows.append([f"{start} …", was, said])
    return Table(["question", "16 bits", "3 bits"], rows[:count])


def live_surprise(
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    text: str,
    texts: Sequence[Document],
) -> SurprisePicture:
    """The text coloured by surprise, with the model to choose; below, how the loss
    rises over many texts, and how far luck may have moved that."""
    return live_surprise_picture(models, tokenizer, text, texts)


class _Level(NamedTuple):
    """A score, as `accuracy_by_level` takes it."""

    mean: float
    low: float
    high: float

    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        return self.low, self.high


def capitals_by_population(
    rows: Mapping[str, Row], versions: Mapping[str, str]
) -> Picture:
    """Capitals that are right, by quarters of the countries by population: SmolLM2 as
    it came, and versions.

    rows: `mq.measured()`. versions: name to key of a row.
    """

    def levels(key: str) -> dict[int, _Level]:
        scores = rows[key].exam.levels("capital").values()
        return {i: _Level(s.mean, s.low, s.high) for i, s in enumerate(scores)}

    named = {"as it came": "float", **versions}
    return accuracy_by_level(
        {name: levels(key) for name, key in named.items()},
        "countries by population",
        levels=["largest quarter", "second", "third", "smallest quarter"],
        title="Whose capital does SmolLM2 still know?",
    )
