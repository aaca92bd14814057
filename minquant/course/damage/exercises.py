"""Exercises of lesson 04: perplexity, first choices that flip, and how sure one is.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
The interval is drawn at random, so it counts as right within a tenth of its width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Num
from torch import Tensor

from minquant.course import answers
from minquant.course.exercises import Exercise
from minquant.measure import evaluate, intervals
from minquant.measure.evaluate import Perplexity

NATS = torch.tensor([230.0, 31.0, 1204.0, 90.5])
TOKENS = torch.tensor([100, 10, 400, 25])

perplexity = Exercise(
    name="perplexity",
    task="perplexity(nats, tokens) gives exp of the loss per token; nats and tokens "
    "are sums over each document",
    answer=answers.perplexity,
    cases={
        "4 documents, short and long": (NATS, TOKENS),
        "2 documents": (torch.tensor([4.0, 60.0]), torch.tensor([10, 30])),
    },
    mistakes={
        "this is a mean of means, in which a short document weighs as much as a long "
        "one; divide all nats by all tokens": lambda n, t: (n / t).mean().exp(),
        "this is the mean of the documents' perplexities; take exp once, at the end": (
            lambda n, t: (n / t).exp().mean()
        ),
        "this is the loss in nats per token; perplexity is exp of it": (
            lambda n, t: n.sum() / t.sum()
        ),
        "the loss is in nats, not bits: exp, not a power of 2": (
            lambda n, t: 2 ** (n.sum() / t.sum())
        ),
        "this is 1 over the perplexity; the loss is −log p already": (
            lambda n, t: (-n.sum() / t.sum()).exp()
        ),
        "divide by the number of tokens, not of documents": lambda n, t: n.mean().exp(),
    },
    outputs=("the perplexity",),
    shows=(answers.perplexity, Perplexity.nats, Perplexity.value),
)

_GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(12, 5, generator=_GENERATOR)
MOVED = LOGITS + 0.8 * torch.randn(12, 5, generator=_GENERATOR)

flips = Exercise(
    name="flips",
    task="flips(reference, model) gives the share, 0 to 1, of n tokens at which the "
    "first choice differs; both are logits (n, vocab)",
    answer=answers.flips,
    cases={
        "12 tokens, 5 words": (LOGITS, MOVED),
        "the same predictions": (LOGITS, LOGITS.clone()),
    },
    mistakes={
        "this is the share that stayed; count those that differ": (
            lambda a, b: (a.argmax(-1) == b.argmax(-1)).float().mean()
        ),
        "this is a number of tokens; divide by how many there are": (
            lambda a, b: (a.argmax(-1) != b.argmax(-1)).sum()
        ),
        "the first choice is along the last axis, the vocabulary": (
            lambda a, b: (a.argmax(0) != b.argmax(0)).float().mean()
        ),
        "this is in percent; give a share": (
            lambda a, b: 100 * (a.argmax(-1) != b.argmax(-1)).float().mean()
        ),
        "compare which word comes first (argmax), not how high it scores": (
            lambda a, b: (a.amax(-1) != b.amax(-1)).float().mean()
        ),
    },
    outputs=("the share",),
    shows=(answers.flips, evaluate._divergence),
)

LENGTHS = torch.randint(20, 400, (60,), generator=_GENERATOR)
HARD = 1.0 + 0.25 * torch.rand(60, generator=_GENERATOR).double()
WORSE = (
    0.05 + 0.15 * torch.rand(60, generator=_GENERATOR).double() + 40.0 / LENGTHS**1.5
)
BEFORE, AFTER = HARD * LENGTHS, (HARD + WORSE) * LENGTHS


def _interval(
    before: Num[Tensor, " d"],
    after: Num[Tensor, " d"],
    tokens: Num[Tensor, " d"],
    *,
    paired: bool = True,
    mean_of_means: bool = False,
    tail: float = 0.025,
    replace: bool = True,
    of: Callable | None = None,
) -> tuple[float, float]:
    """Drawing documents again, with one part to be made wrong."""
    generator, d = torch.Generator().manual_seed(1), len(tokens)

    def _draw() -> Tensor:
        if replace:
            return torch.randint(d, (4000, d), generator=generator)
        return torch.stack([torch.randperm(d, generator=generator) for _ in range(500)])

    def _mean(nats: Tensor, rows: Tensor) -> Tensor:
        if mean_of_means:
            return (nats / tokens)[rows].mean(1)
        return nats[rows].sum(1) / tokens[rows].sum(1)

    rows = _draw()
    means = _mean(after, rows) - _mean(before, rows if paired else _draw())
    if of is not None:
        return of(means)
    low, high = (
        means.double().quantile(torch.tensor([tail, 1 - tail]).double()).tolist()
    )
    return low, high


def _spread(b: Tensor, a: Tensor, t: Tensor) -> tuple[float, float]:
    """Where 95 % of the documents lie, not where the mean does."""
    low, high = ((a - b) / t).double().quantile(torch.tensor([0.025, 0.975]).double())
    return float(low), float(high)


def _alike(got: Tensor, want: Tensor) -> bool:
    """Within a tenth of the interval's width: three times what 500 draws scatter."""
    return bool(got.isfinite().all() and (got - want).abs().max() < 0.1 * WIDTH)


WIDTH = float(torch.tensor(answers.paired_interval(BEFORE, AFTER, LENGTHS)).diff())

paired_interval = Exercise(
    name="paired_interval",
    task="paired_interval(before, after, tokens) gives the low and the high end of the "
    "95 % interval of the change in nats per token, by drawing documents again; all "
    "three are sums over each document",
    answer=answers.paired_interval,
    cases={
        "60 documents": (BEFORE, AFTER, LENGTHS),
        "the other way round": (AFTER, BEFORE, LENGTHS),
    },
    mistakes={
        "before and after are drawn apart; draw documents once for both, so that what "
        "makes a document hard cancels": (
            lambda b, a, t: _interval(b, a, t, paired=False)
        ),
        "this is a mean of means; divide the drawn nats by the drawn tokens": (
            lambda b, a, t: _interval(b, a, t, mean_of_means=True)
        ),
        "nothing is drawn twice, so every draw is the same; draw with replacement": (
            lambda b, a, t: _interval(b, a, t, replace=False)
        ),
        "this is the 50 % interval; leave 2.5 % on each side": (
            lambda b, a, t: _interval(b, a, t, tail=0.25)
        ),
        "these are the lowest and the highest draw; leave 2.5 % on each side": (
            lambda b, a, t: _interval(
                b, a, t, of=lambda m: (float(m.min()), float(m.max()))
            )
        ),
        "this is where documents lie, not their mean; draw them again many times": (
            _spread
        ),
        "the sign is turned; the change is after − before": (
            lambda b, a, t: _interval(a, b, t)
        ),
        "this is in nats per document; divide by the drawn tokens": (
            lambda b, a, t: _interval(b, a, torch.ones_like(t))
        ),
    },
    outputs=("low", "high"),
    close=_alike,
    shows=(answers.paired_interval, evaluate.compare, intervals.bootstrap),
)

EXERCISES = (perplexity, flips, paired_interval)
