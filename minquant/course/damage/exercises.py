"""Exercises of lesson 04: what did quantizing cost, and how sure is that?

    perplexity         exp of the loss per token, over documents of different lengths
    flips              how often two models' first choice differs
    paired_interval    the 95 % interval of a change, by drawing documents again

The interval is drawn at random, so it counts as right if it is within a tenth of its
width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor

from minquant.course.exercises import Exercise
from minquant.measure.evaluate import Perplexity
from minquant.measure.intervals import bootstrap

# --- perplexity ---


def perplexity(nats: Num[Tensor, " d"], tokens: Num[Tensor, " d"]) -> float:
    """exp of all nats over all tokens; nats and tokens are sums over each document."""
    documents = tuple(range(len(nats)))
    return Perplexity(documents, nats, tokens, window=1, stride=1).value


NATS = torch.tensor([230.0, 31.0, 1204.0, 90.5])
TOKENS = torch.tensor([100, 10, 400, 25])

check_perplexity = Exercise(
    name="perplexity",
    task="perplexity(nats, tokens) gives exp of the loss per token; nats and tokens "
    "are sums over each document",
    answer=perplexity,
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
    solution="""\
def perplexity(nats, tokens):
    return (nats.sum() / tokens.sum()).exp()
""",
    inside="minquant.perplexity",
)


# --- flips ---


def flips(
    reference: Float[Tensor, "n vocab"], model: Float[Tensor, "n vocab"]
) -> float:
    """The share of n tokens at which two models' first choice differs."""
    return (reference.argmax(-1) != model.argmax(-1)).float().mean().item()


_GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(12, 5, generator=_GENERATOR)
MOVED = LOGITS + 0.8 * torch.randn(12, 5, generator=_GENERATOR)

check_flips = Exercise(
    name="flips",
    task="flips(reference, model) gives the share, 0 to 1, of n tokens at which the "
    "first choice differs; both are logits (n, vocab)",
    answer=flips,
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
    solution="""\
def flips(reference, quantized):
    return (reference.argmax(-1) != quantized.argmax(-1)).float().mean()
""",
    inside="minquant.kl_and_flips",
)


# --- paired_interval ---


def paired_interval(
    before: Num[Tensor, " d"], after: Num[Tensor, " d"], tokens: Num[Tensor, " d"]
) -> tuple[float, float]:
    """The 95 % interval of the change in nats per token, by drawing documents again."""
    return bootstrap(after - before, tokens)


def _drawn_changes(
    before: Num[Tensor, " d"],
    after: Num[Tensor, " d"],
    tokens: Num[Tensor, " d"],
    *,
    paired: bool = True,
    mean_of_means: bool = False,
    replace: bool = True,
) -> Tensor:
    """The change in nats per token of each draw; one part can be made wrong."""
    generator, d = torch.Generator().manual_seed(1), len(tokens)

    def _draw() -> Tensor:
        if replace:
            return torch.randint(d, (4000, d), generator=generator)
        return torch.stack([torch.randperm(d, generator=generator) for _ in range(500)])

    def _mean(nats: Tensor, drawn: Tensor) -> Tensor:
        if mean_of_means:
            return (nats / tokens)[drawn].mean(1)
        return nats[drawn].sum(1) / tokens[drawn].sum(1)

    drawn = _draw()
    drawn_before = drawn if paired else _draw()
    return _mean(after, drawn) - _mean(before, drawn_before)


def _ends(values: Tensor, tail: float = 0.025) -> tuple[float, float]:
    """Where the values begin and end, without this share of them on each side."""
    shares = torch.tensor([tail, 1 - tail]).double()
    low, high = values.double().quantile(shares).tolist()
    return low, high


LENGTHS = torch.randint(20, 400, (60,), generator=_GENERATOR)
HARD = 1.0 + 0.25 * torch.rand(60, generator=_GENERATOR).double()
WORSE = 0.05 + 0.15 * torch.rand(60, generator=_GENERATOR).double()
WORSE += 40.0 / LENGTHS**1.5
BEFORE, AFTER = HARD * LENGTHS, (HARD + WORSE) * LENGTHS
LOW, HIGH = paired_interval(BEFORE, AFTER, LENGTHS)


def _alike(got: Tensor, want: Tensor) -> bool:
    """Within a tenth of the interval's width: three times what 500 draws scatter."""
    most = 0.1 * (HIGH - LOW)
    return bool(got.isfinite().all() and (got - want).abs().max() < most)


check_paired_interval = Exercise(
    name="paired_interval",
    task="paired_interval(before, after, tokens) gives the low and the high end of the "
    "95 % interval of the change in nats per token, by drawing documents again; all "
    "three are sums over each document",
    answer=paired_interval,
    cases={
        "60 documents": (BEFORE, AFTER, LENGTHS),
        "the other way round": (AFTER, BEFORE, LENGTHS),
    },
    mistakes={
        "before and after are drawn apart; draw documents once for both, so that what "
        "makes a document hard cancels": (
            lambda b, a, t: _ends(_drawn_changes(b, a, t, paired=False))
        ),
        "this is a mean of means; divide the drawn nats by the drawn tokens": (
            lambda b, a, t: _ends(_drawn_changes(b, a, t, mean_of_means=True))
        ),
        "nothing is drawn twice, so every draw is the same; draw with replacement": (
            lambda b, a, t: _ends(_drawn_changes(b, a, t, replace=False))
        ),
        "this is the 50 % interval; leave 2.5 % on each side": (
            lambda b, a, t: _ends(_drawn_changes(b, a, t), tail=0.25)
        ),
        "these are the lowest and the highest draw; leave 2.5 % on each side": (
            lambda b, a, t: _ends(_drawn_changes(b, a, t), tail=0)
        ),
        "this is where documents lie, not their mean; draw them again many times": (
            lambda b, a, t: _ends((a - b) / t)
        ),
        "the sign is turned; the change is after − before": (
            lambda b, a, t: _ends(_drawn_changes(a, b, t))
        ),
        "this is in nats per document; divide by the drawn tokens": (
            lambda b, a, t: _ends(_drawn_changes(b, a, torch.ones_like(t)))
        ),
    },
    outputs=("low", "high"),
    close=_alike,
    solution="""\
def paired_interval(before, after, tokens, draws=4000):
    change = after - before
    rows = torch.randint(len(change), (draws, len(change)))
    means = change[rows].sum(1) / tokens[rows].sum(1)
    means = means.sort().values
    return means[int(0.025 * draws)], means[int(0.975 * draws)]
""",
    inside="minquant.compare",
)
