"""An exam for a model of English: what did it know, and what does it know still?

    before, after = exam(model, tokenizer), exam(small, tokenizer)
    compare_exams(before, after)          # by group, in pairs, with intervals
    compare_exams(before, after).kept()   # of what it knew

`exam_items` holds the questions. A model reads each with its right answer, and two
things are noted:

    right    greedy writing would give exactly this answer, and end the word there
    logp     the log-probability of the answer in nats, whether right or not

`right` is what a user sees, and `logp` moves before it does: it needs fewer questions
to show a difference. Both are compared in pairs, question by question.

Intervals are over facts, drawn again, with all phrasings of a fact together. Where all
facts have the same score a draw says nothing, and the interval is Wilson's. Facts of
one passage, or that look alike, are drawn as if independent.

**What it knew.** Take the questions that a model answered right, quantize it, and ask
them again: some answers were luck, so fewer are right, even if nothing was forgotten.
So what a model knew is judged on one phrasing of a fact, and what is left of it on
another, for the model before and after alike (`kept`).

How it is fast: questions that begin alike, such as all about one passage, share the
keys and values of what they share. The rest goes through in batches of one length, so
nothing is padded, and logits are computed for the answer alone. Lesson 11.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.measure.exam_items import Question, questions
from minquant.measure.intervals import Difference, bootstrap, wilson
from minquant.models.text import encode_prompt

FEW = 100  # a group of fewer facts is called small
_TOKENS = 8192  # in a batch, with the shared tokens of each row


class Score(NamedTuple):
    """A share of right answers, 0 to 1, its interval, and over how many facts.

    >>> Score(0.25, 0.125, 0.375, 50)
    25.0% [12.5%, 37.5%] of 50 facts (few)
    """

    mean: float
    low: float
    high: float
    facts: int

    def __repr__(self) -> str:
        few = " (few)" if self.facts < FEW else ""
        interval = f"[{self.low:.1%}, {self.high:.1%}]"
        return f"{self.mean:.1%} {interval} of {self.facts} facts{few}"


@dataclass(frozen=True, eq=False)
class Exam:
    """How a model answered: which questions right, and the log-probability of the right
    answer to each, in nats."""

    questions: tuple[Question, ...]
    right: Bool[Tensor, " n"]
    logp: Float[Tensor, " n"]

    def groups(self) -> dict[str, Score]:
        """The share of right answers in each group."""
        return self._scores(lambda q: q.group)

    def levels(self, group: str) -> dict[str, Score]:
        """The share of right answers in each level of a group, such as a distance.

        Raises ValueError if there is no such group.
        """
        _check_group(group, self.questions)
        scores = self._scores(lambda q: q.level if q.group == group else "")
        return {level: score for level, score in scores.items() if level}

    def _scores(self, part: Callable[[Question], str]) -> dict[str, Score]:
        found = {}
        for name, rows in _parts(self.questions, part).items():
            sums, counts = _by_fact(self.questions, rows, self.right)
            found[name] = _score(sums, counts)
        return found

    def __repr__(self) -> str:
        lines = [f"{name:10} {score}" for name, score in self.groups().items()]
        return "\n".join(lines)


class Kept(NamedTuple):
    """Of what a model knew by one phrasing: shares right by another, before and after,
    and their difference in points. facts: how many it knew by at least one."""

    before: float
    after: float
    difference: Difference
    facts: int

    def __repr__(self) -> str:
        few = " (few)" if self.facts < FEW else ""
        return (
            f"{self.before:.1%} -> {self.after:.1%}, {self.difference}; "
            f"{self.facts} facts{few}"
        )


@dataclass(frozen=True, eq=False)
class ExamDifference:
    """What changed from one model to another, question by question."""

    before: Exam
    after: Exam
    level: float = 0.95
    seed: int = 0

    def groups(self) -> dict[str, Difference]:
        """The change of the share of right answers in each group, in points."""
        change = self.after.right.double() - self.before.right.double()
        return self._differences(100 * change, "points")

    def nats(self) -> dict[str, Difference]:
        """The change of the right answers' log-probability in each group, in nats per
        answer. Below 0: the right answers became less likely."""
        change = self.after.logp.double() - self.before.logp.double()
        return self._differences(change, "nats/answer")

    def kept(self) -> dict[str, Kept]:
        """What is left of what the first model knew, in each group.

        Over all ordered pairs (i, j) of phrasings of a fact: of the facts that the
        first model knows by phrasing i, the share that each model answers right by
        phrasing j. Groups in which it knew fewer than two facts are left out.
        """
        found = {}
        questions = self.before.questions
        for name, rows in _parts(questions, lambda q: q.group).items():
            table = torch.tensor(
                [
                    _crossed(self.before.right[same], self.after.right[same])
                    for same in _facts(questions, rows)
                ]
            ).double()  # (facts, 3)
            before, after, pairs = table[table[:, 2] > 0].T
            if len(pairs) < 2:
                continue
            mean = 100 * ((after - before).sum() / pairs.sum()).item()
            lost = self._interval(100 * (after - before), pairs)
            found[name] = Kept(
                (before.sum() / pairs.sum()).item(),
                (after.sum() / pairs.sum()).item(),
                Difference(mean, *lost, "points", self.level),
                len(pairs),
            )
        return found

    def _differences(
        self, change: Float[Tensor, " n"], unit: str
    ) -> dict[str, Difference]:
        found = {}
        for name, rows in _parts(self.before.questions, lambda q: q.group).items():
            sums, counts = _by_fact(self.before.questions, rows, change)
            mean = (sums.sum() / counts.sum()).item()
            interval = self._interval(sums, counts)
            found[name] = Difference(mean, *interval, unit, self.level)
        return found

    def _interval(self, sums: Tensor, counts: Tensor) -> tuple[float, float]:
        return bootstrap(sums, counts, level=self.level, seed=self.seed)

    def __repr__(self) -> str:
        nats = self.nats()
        lines = [
            f"{name:10} {points}; {nats[name]}"
            for name, points in self.groups().items()
        ]
        return "\n".join(lines)


def exam(
    model: nn.Module,
    tokenizer: Any,
    asked: Sequence[Question] | None = None,
    *,
    groups: Sequence[str] | None = None,
    progress: bool = True,
) -> Exam:
    """Ask a causal language model the questions of the exam.

    asked: other questions than those of `exam_items`. groups: only these groups.
    Works with any tokenizer that writes a text's beginning the same whatever follows.

    Raises ValueError if a group is unknown, if the model is in training mode or cannot
    read so long a text, or if an answer is no sequence of known tokens after its
    question.
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    asked = tuple(questions() if asked is None else asked)
    for group in groups or ():
        _check_group(group, asked)
    asked = tuple(q for q in asked if groups is None or q.group in groups)
    if not asked:
        raise ValueError("asked is empty; give at least one question")
    rows = [row for i, q in enumerate(asked) for row in _encoded(tokenizer, i, q)]
    _check_context(model, asked, rows)
    # Several answers to a question are several rows: the best of right, the sum of p
    right = torch.zeros(len(asked), dtype=torch.bool)
    logp = torch.full((len(asked),), -torch.inf)
    bar = tqdm(total=len(rows), desc="exam", delay=3, disable=not progress)
    with bar, torch.no_grad(), _contiguous_inputs(model):
        for row, is_right, nats in _answered(model, tokenizer, _batches(asked, rows)):
            right[row.question] |= is_right
            logp[row.question] = logp[row.question].logaddexp(torch.tensor(nats))
            bar.update()
    return Exam(asked, right, logp)


def compare_exams(
    before: Exam, after: Exam, *, level: float = 0.95, seed: int = 0
) -> ExamDifference:
    """The exam of one model minus that of another, in pairs.

    Raises ValueError unless both were asked the same questions in the same order.
    """
    if before.questions != after.questions:
        raise ValueError(
            f"before was asked {len(before.questions)} questions and after "
            f"{len(after.questions)}, not the same in the same order; ask both the same"
        )
    return ExamDifference(before, after, level, seed)


# --- asking ---


class _Row(NamedTuple):
    """A question with one of its answers, in tokens."""

    question: int
    prompt: list[int]
    answer: list[int]


class _Batch(NamedTuple):
    """Rows of one length whose prompts begin with the same tokens."""

    shared: list[int]
    rows: list[_Row]


def _encoded(tokenizer: Any, index: int, question: Question) -> Iterator[_Row]:
    """The rows of one question. Raises ValueError for an answer that is not some
    known tokens after those of the prompt."""
    text = question.context + question.prompt
    prompt = encode_prompt(tokenizer, text)
    for answer in question.answers:
        ids = encode_prompt(tokenizer, text + answer)
        rest = ids[len(prompt) :]
        unknown = tokenizer.unk_token_id is not None and tokenizer.unk_token_id in rest
        if ids[: len(prompt)] != prompt or not rest or unknown:
            seen = tokenizer.convert_ids_to_tokens(ids)[-8:]
            raise ValueError(
                f"asked holds {question.prompt!r} with the answer {answer!r}, which "
                f"this tokenizer does not write as known tokens of its own, but as "
                f"{seen}; ask in another way, or leave out its group"
            )
        yield _Row(index, prompt, rest)


def _check_context(
    model: nn.Module, asked: Sequence[Question], rows: Sequence[_Row]
) -> None:
    room = getattr(model.config, "max_position_embeddings", None)
    longest = max(rows, key=lambda row: len(row.prompt) + len(row.answer))
    tokens = len(longest.prompt) + len(longest.answer)
    if room is not None and tokens > room:
        group = asked[longest.question].group
        raise ValueError(
            f"group {group!r} has a question of {tokens} tokens, but the model has a "
            f"context of {room}; leave it out with groups="
        )


def _batches(asked: Sequence[Question], rows: Sequence[_Row]) -> Iterator[_Batch]:
    """Rows that begin alike, of one length, in batches."""
    alike: dict[Any, list[_Row]] = defaultdict(list)
    for row in rows:
        q = asked[row.question]
        alike[q.context or (q.group, q.level, q.phrasing)].append(row)
    for same in alike.values():
        # the last token of a prompt is not shared: its logits are needed
        shared = _common([row.prompt[:-1] for row in same])
        lengths: dict[int, list[_Row]] = defaultdict(list)
        for row in same:
            lengths[len(row.prompt) + len(row.answer)].append(row)
        for length, batch in lengths.items():
            size = max(1, _TOKENS // length)
            for start in range(0, len(batch), size):
                yield _Batch(shared, batch[start : start + size])


def _common(rows: Sequence[list[int]]) -> list[int]:
    """What all rows begin with.

    >>> _common([[1, 2, 3], [1, 2, 4, 5]])
    [1, 2]
    """
    first, last = min(rows), max(rows)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: same.index(False)] if False in same else first


@contextmanager
def _contiguous_inputs(model: nn.Module) -> Iterator[None]:
    """While this lasts, the output layer reads its inputs as one stretch of memory. As
    a slice of all positions they are multiplied row by row, which takes ten times as
    long."""
    find = getattr(model, "get_output_embeddings", None)
    if find is None or find() is None:
        yield
        return
    hook = find().register_forward_pre_hook(lambda _, given: given[0].contiguous())
    try:
        yield
    finally:
        hook.remove()


def _answered(
    model: nn.Module, tokenizer: Any, batches: Iterator[_Batch]
) -> Iterator[tuple[_Row, bool, float]]:
    """Each row; whether greedy writing gives its answer; and the answer's nats."""
    device = next(model.parameters()).device
    read: list[int] = []  # what the cache holds
    cache = None
    for shared, rows in batches:
        if shared and shared != read:
            ids = torch.tensor([shared], device=device)
            out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            read, cache = shared, getattr(out, "past_key_values", None)
        begun = len(shared) if shared and cache is not None else 0
        past = deepcopy(cache) if begun else None
        if past is not None:
            past.batch_repeat_interleave(len(rows))
        unread = [row.prompt[begun:] + row.answer for row in rows]
        keep = 1 + max(len(row.answer) for row in rows)
        out = model(
            input_ids=torch.tensor(unread, device=device),
            past_key_values=past,
            use_cache=past is not None,
            logits_to_keep=keep,
        )
        for row, logits in zip(rows, out.logits, strict=True):
            # at the prompt's last token, and at each of the answer
            logp = logits[-len(row.answer) - 1 :].float().log_softmax(-1).cpu()
            nats = logp[range(len(row.answer)), row.answer].sum().item()
            *greedy, after = logp.argmax(-1).tolist()
            ends = not _goes_on(tokenizer, row.answer, after)
            yield row, greedy == row.answer and ends, nats


def _goes_on(tokenizer: Any, answer: list[int], after: int) -> bool:
    """Whether the token after an answer continues its last word or number."""
    text, longer = (tokenizer.decode(ids) for ids in (answer, [*answer, after]))
    return longer[len(text) :][:1].isalnum()


# --- scoring ---


def _check_group(group: str, asked: Sequence[Question]) -> None:
    known = list(dict.fromkeys(q.group for q in asked))
    if group not in known:
        raise ValueError(f"group {group!r} is unknown; there are {', '.join(known)}")


def _parts(
    asked: Sequence[Question], part: Callable[[Question], str]
) -> dict[str, list[int]]:
    """The indices of the questions in each part, in order."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(asked):
        rows[part(question)].append(i)
    return rows


def _facts(asked: Sequence[Question], rows: Sequence[int]) -> list[list[int]]:
    """The rows of each fact."""
    facts: dict[str, list[int]] = defaultdict(list)
    for i in rows:
        facts[asked[i].fact].append(i)
    return list(facts.values())


def _by_fact(
    asked: Sequence[Question], rows: Sequence[int], values: Tensor
) -> tuple[Float[Tensor, " facts"], Float[Tensor, " facts"]]:
    """The sum of the values of each fact, and how many there are."""
    facts = _facts(asked, rows)
    sums = torch.stack([values[same].double().sum() for same in facts])
    return sums, torch.tensor([float(len(same)) for same in facts]).double()


def _score(sums: Float[Tensor, " facts"], counts: Float[Tensor, " facts"]) -> Score:
    """The share, with its interval over facts."""
    n, shares = len(sums), sums / counts
    mean = (sums.sum() / counts.sum()).item()
    if (shares == shares[0]).all():
        low, high = wilson(round(mean * n), n)
    else:
        low, high = bootstrap(sums, counts)
    return Score(mean, low, high, n)


def _crossed(
    before: Bool[Tensor, " k"], after: Bool[Tensor, " k"]
) -> tuple[int, int, int]:
    """Over ordered pairs of phrasings (i, j) of one fact with `before` right at i: how
    often it is right at j, how often `after` is, and how many pairs there are."""
    known = int(before.sum())
    kept = int((before & after).sum())  # pairs of a phrasing with itself: taken out
    return (
        known * known - known,
        known * int(after.sum()) - kept,
        known * (len(before) - 1),
    )
