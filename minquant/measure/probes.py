"""What does a model still know? Probes ask, and only the right words count.

    accuracy            greedy answers to `questions.probes`, exact match
    compare_accuracy    two models on the same probes, paired

A probe is a prompt, some words of working that the model writes freely (the steps of a
sum), and an answer of one or more words. Two baselines show what needs no knowledge:

    chance      drawing one of the possible answers
    majority    always giving the most common one

Shares have Wilson intervals; paired differences have bootstrap intervals over probes.
Where no answer changed these have no width: then read the intervals of the shares.
Lesson 04.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.almanac.questions import Probe
from minquant.measure.intervals import Difference, bootstrap, wilson
from minquant.models.text import continue_greedily, encode_prompt

_TOKENS = 8192  # prompts times their length, in one batch


@dataclass(frozen=True)
class Share:
    """How many of n are right. Raises ValueError unless 0 <= right <= n, and n >= 1.

    >>> Share(9, 10)
    90.0% of 10 [59.6%, 98.2%]
    """

    right: int
    n: int

    def __post_init__(self) -> None:
        self.interval()  # it refuses what is no share

    @property
    def mean(self) -> float:
        """The share, 0 to 1."""
        return self.right / self.n

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The Wilson interval of the share, 0 to 1."""
        return wilson(self.right, self.n, level=level)

    def __repr__(self) -> str:
        low, high = self.interval()
        return f"{self.mean:.1%} of {self.n:,} [{low:.1%}, {high:.1%}]"


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Which probes a model answers right, and its answer to each."""

    probes: tuple[Probe, ...]
    correct: Bool[Tensor, " n"]
    answers: tuple[str, ...]

    @property
    def total(self) -> Share:
        """All probes together."""
        return Share(int(self.correct.sum()), len(self.probes))

    @property
    def mean(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.total.mean

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The Wilson interval of `mean`."""
        return self.total.interval(level)

    def by_level(self) -> dict[int, Share]:
        """The share of each level, in order. A level is a fame, a number of steps or a
        distance, by the kind of the probes."""
        return {
            level: Share(int(self.correct[rows].sum()), len(rows))
            for level, rows in _levels(self.probes).items()
        }

    @property
    def chance(self) -> float:
        """The expected share of right answers if each is drawn at random from the
        possible ones."""
        return sum(probe.chance for probe in self.probes) / len(self.probes)

    @property
    def majority(self) -> float:
        """The share of right answers if each is the most common one to its question.

        Two probes ask the same question if they have the same possible answers. The
        most common answer is taken from these very probes, so no guessing does better.
        """
        counts = defaultdict(Counter)
        for probe in self.probes:
            counts[tuple(probe.candidates)][tuple(probe.answer)] += 1
        right = sum(max(counter.values()) for counter in counts.values())
        return right / len(self.probes)

    def __repr__(self) -> str:
        return f"{self.total}; chance {self.chance:.1%}, majority {self.majority:.1%}"


@dataclass(frozen=True, eq=False)
class AccuracyDifference:
    """What changed from one model to another, probe by probe. Differences are in
    points, 1/100 of a share."""

    probes: tuple[Probe, ...]
    change: Tensor  # (n,) of -1, 0 or 1
    level: float = 0.95
    seed: int = 0

    @property
    def total(self) -> Difference:
        """All probes together."""
        return self._difference(self.change)

    def by_level(self) -> dict[int, Difference]:
        """The difference of each level, in order."""
        return {
            level: self._difference(self.change[rows])
            for level, rows in _levels(self.probes).items()
        }

    def _difference(self, change: Tensor) -> Difference:
        points = 100 * change.double()
        low, high = bootstrap(points, level=self.level, seed=self.seed)
        return Difference(points.mean().item(), low, high, "points", self.level)

    def __repr__(self) -> str:
        lost, won = int((self.change < 0).sum()), int((self.change > 0).sum())
        return f"{self.total}; {lost} lost, {won} won of {len(self.probes):,}"


def accuracy(
    model: nn.Module, tokenizer: Any, probes: Sequence[Probe], *, progress: bool = True
) -> Accuracy:
    """Let the model go on after each prompt, and compare the words after the working
    with the answer.

    Prompts of the same length are read together, so there is no padding. The model
    writes `probe.working` + len(`probe.answer`) tokens.

    Raises ValueError if there is no probe, or if a word of an answer is not one token
    of this tokenizer: probes need a model that speaks the almanac's language.
    """
    _check_words(tokenizer, probes)
    prompts = [encode_prompt(tokenizer, probe.prompt) for probe in probes]
    groups = defaultdict(list)  # indices by the lengths of prompt and continuation
    for i, (probe, ids) in enumerate(zip(probes, prompts, strict=True)):
        groups[len(ids), probe.working + len(probe.answer)].append(i)
    answers: dict[int, tuple[str, ...]] = {}
    bar = tqdm(total=len(probes), desc="asking", delay=3, disable=not progress)
    with bar:
        for (length, new), indices in groups.items():
            batch_size = max(1, _TOKENS // (length + new))
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                rows = [prompts[i] for i in batch]
                ids = torch.tensor(rows, device="cpu")  # (batch, length)
                new_ids = continue_greedily(model, ids, new).tolist()  # (batch, new)
                for i, row in zip(batch, new_ids, strict=True):
                    words = tokenizer.convert_ids_to_tokens(row)
                    answers[i] = tuple(words[probes[i].working :])
                bar.update(len(batch))
    correct = [answers[i] == tuple(probe.answer) for i, probe in enumerate(probes)]
    texts = tuple(" ".join(answers[i]) for i in range(len(probes)))
    return Accuracy(tuple(probes), torch.tensor(correct, device="cpu"), texts)


def compare_accuracy(
    a: Accuracy, b: Accuracy, *, level: float = 0.95, seed: int = 0
) -> AccuracyDifference:
    """The accuracy of `b` minus the accuracy of `a`, in points, paired by probe.

    Raises ValueError unless both were asked the same probes in the same order.
    """
    if a.probes != b.probes:
        raise ValueError(
            f"a was asked {len(a.probes)} probes and b {len(b.probes)}, not the same "
            "in the same order; ask both the same list"
        )
    return AccuracyDifference(a.probes, b.correct.int() - a.correct.int(), level, seed)


def _levels(probes: Sequence[Probe]) -> dict[int, list[int]]:
    """The indices of the probes of each level, by level."""
    rows = defaultdict(list)
    for i, probe in enumerate(probes):
        rows[probe.level].append(i)
    return dict(sorted(rows.items()))


def _check_words(tokenizer: Any, probes: Sequence[Probe]) -> None:
    """Raises ValueError if there is no probe, or a word of an answer is no token."""
    if not probes:
        raise ValueError("probes is empty; give at least one")
    known = tokenizer.get_vocab()
    for word in (word for probe in probes for word in probe.answer):
        if word not in known:
            raise ValueError(
                f"probes ask for {word!r}, which is no token of this tokenizer; probes "
                "need a model that speaks the almanac's language: load('almanac')"
            )
