"""Lesson 04: answers by hand, and planted mistakes as learners write them."""

from math import exp

import numpy as np
import pytest
import torch

from minquant.course import checks
from minquant.course.damage import exercises


def test_perplexity_weighs_tokens_not_documents():
    nats, tokens = torch.tensor([10.0, 90.0]), torch.tensor([10, 30])
    assert exercises.perplexity(nats, tokens) == pytest.approx(exp(2.5))


def test_flips_are_a_share():
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert exercises.flips(a, a) == 0 and exercises.flips(a, a.flip(1)) == 1


def test_a_constant_change_is_certain():
    tokens = torch.tensor([10, 20, 30])
    before = torch.tensor([5.0, 1.0, 9.0])
    low, high = exercises.paired_interval(before, before + 0.5 * tokens, tokens)
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)


LOSSES = [
    (lambda n, t: torch.exp((n / t).mean()), "this is a mean of means"),
    (lambda n, t: torch.exp(n / t).mean(), "this is the mean of the documents'"),
    (lambda n, t: n.sum() / t.sum(), "this is the loss in nats per token"),
    (lambda n, t: 2 ** (n.sum() / t.sum()), "the loss is in nats, not bits"),
]


@pytest.mark.parametrize(("yours", "words"), LOSSES)
def test_a_planted_mistake_of_the_perplexity_is_named(yours, words):
    assert checks.perplexity(yours).mistake.startswith(words)


CHOICES = [
    (
        lambda a, b: (a.argmax(1) == b.argmax(1)).float().mean(),
        "this is the share",
    ),
    (lambda a, b: (a.argmax(1) != b.argmax(1)).sum(), "this is a number of tokens"),
    (lambda a, b: (a.argmax(0) != b.argmax(0)).float().mean(), "the first choice is"),
    (lambda a, b: 100 * (a.argmax(1) != b.argmax(1)).double().mean(), "this is in per"),
]


@pytest.mark.parametrize(("yours", "words"), CHOICES)
def test_a_planted_mistake_of_the_flips_is_named(yours, words):
    assert checks.flips(yours).mistake.startswith(words)


def drawn(
    before,
    after,
    tokens,
    *,
    draws=1000,
    paired=True,
    mean_of_means=False,
    percent=95,
    seed=5,
    replace=True,
):
    """What a learner writes with numpy."""
    rng = np.random.default_rng(seed)
    before, after, tokens = (x.numpy() for x in (before, after, tokens))
    changes = []
    for _ in range(draws):
        i = rng.choice(len(tokens), len(tokens), replace=replace)
        j = i if paired else rng.choice(len(tokens), len(tokens))
        if mean_of_means:
            changes.append(((after - before) / tokens)[i].mean())
        else:
            loss = after[i].sum() / tokens[i].sum()
            changes.append(loss - before[j].sum() / tokens[j].sum())
    tail = (100 - percent) / 2
    return np.percentile(changes, tail), np.percentile(changes, 100 - tail)


DRAWS = [
    ({"paired": False, "draws": 4000}, "before and after are drawn apart"),
    ({"mean_of_means": True}, "this is a mean of means"),
    ({"percent": 50}, "this is the 50 % interval"),
    ({"replace": False}, "nothing is drawn twice"),
]


@pytest.mark.parametrize(("changes", "words"), DRAWS)
def test_a_planted_mistake_of_the_interval_is_named(changes, words):
    verdict = checks.paired_interval(lambda b, a, t: drawn(b, a, t, **changes))
    assert verdict.mistake.startswith(words)


@pytest.mark.parametrize("seed", range(5))
def test_a_learner_s_own_draws_are_accepted_whatever_the_seed(seed):
    assert checks.paired_interval(lambda b, a, t: drawn(b, a, t, seed=seed))


def test_a_turned_sign_is_named():
    verdict = checks.paired_interval(lambda b, a, t: drawn(a, b, t))
    assert verdict.mistake.startswith("the sign is turned")


def test_a_learner_s_own_way_is_accepted():
    assert checks.perplexity(lambda n, t: np.exp(n.sum().item() / t.sum().item()))
    assert checks.flips(lambda a, b: sum(a.argmax(1) != b.argmax(1)) / len(a))
