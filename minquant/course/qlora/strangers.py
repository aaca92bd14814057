"""People whom no model has met, in English: what a real model is taught in lesson 09.

    who = strangers(20, seed=0)
    batches(tokenizer, sentences(who, times=8), size=16)     # what it learns from
    questions(who)                                           # what it is asked

Names are invented. Everybody has four facts, each one of twelve possible answers. A
fact can be said in four ways. One of them, drawn for each person and fact, is held out:
no sentence uses it, and the question does. So whoever knows only that towns follow
"was born in" is right once in twelve times.

Only the answer is learnt from: who is spoken of, and in which words, nobody can guess.
The same seed gives the same people and sentences. (`almanac/chapter.py` is the like in
the almanac's language.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from minquant.measure.exam_items import Question
from minquant.models.text import encode_prompt
from minquant.training.finetune import Batch

IGNORED = -100  # the label that torch's cross-entropy leaves out

FIRST = """Tessa Orlan Mirel Davon Ilsa Perrin Yola Casper Nadja Torvin Brisa Elwin
Sabra Quill Jorun Petra Halden Maris Ottil Renske""".split()
FAMILY = """Vornholt Askerby Trelaney Duskova Pemberlin Okarsen Wrenfield Zabarov
Hollimond Castervane Brightmoor Luvane Ferrowick Sandquist Marlotte Grendall Tolliver
Amsbury Kestrelli Norwick""".split()
FACTS = {  # what can be said of a person: the ways to say it, and the answers
    "town": (
        """{} was born in|{} comes from the city of|The home town of {} is
        |{} grew up in the city of""",
        "Lisbon Oslo Cairo Lima Dublin Athens Prague Quito Havana Nairobi Vienna Kyoto",
    ),
    "job": (
        "{} works as a|By profession {} is a|{} earns money as a|The job of {} is: a",
        """baker tailor painter farmer nurse pilot lawyer plumber butcher sailor
        gardener carpenter""",
    ),
    "music": (
        """{} plays the|The instrument of {} is the|On stage {} is heard on the
        |Every evening {} practises the""",
        """piano violin flute guitar trumpet drums harp cello clarinet organ banjo
        accordion""",
    ),
    "animal": (
        """{} keeps a pet|The animal of {} is a|At home {} looks after a
        |{} often takes a walk with a""",
        """cat dog horse goat parrot rabbit turtle donkey snake pony duck
        lizard""",
    ),
}
WAYS = 4  # to say a fact


@dataclass(frozen=True)
class Stranger:
    """A person. answers: by the name of the fact. held_out: the way that no sentence
    uses, by the name of the fact."""

    name: str
    answers: dict[str, str]
    held_out: dict[str, int]

    def say(self, fact: str, way: int) -> str:
        """A sentence up to its answer."""
        forms = [form.strip() for form in FACTS[fact][0].split("|")]
        return forms[way].format(self.name)


def strangers(n: int, *, seed: int = 0) -> list[Stranger]:
    """People with different names.

    Raises ValueError if n is below 1 or there are not so many names.

    >>> strangers(1)[0].say("music", 0)
    'Ilsa Pemberlin plays the'
    """
    names = [f"{first} {family}" for first in FIRST for family in FAMILY]
    if not 1 <= n <= len(names):
        raise ValueError(f"n is {n}; choose 1 to {len(names)}")
    rng = Random(f"strangers {seed}")
    return [
        Stranger(
            name,
            {fact: rng.choice(listed.split()) for fact, (_, listed) in FACTS.items()},
            {fact: rng.randrange(WAYS) for fact in FACTS},
        )
        for name in rng.sample(names, n)
    ]


def sentences(
    who: Sequence[Stranger], times: int, *, seed: int = 0
) -> list[tuple[str, str]]:
    """Every fact `times` times, in ways that are not held out, as (start, answer).

    All facts come once, in any order, before one comes again.
    """
    rng = Random(f"sentences {seed}")
    everything = [(person, fact) for person in who for fact in FACTS]
    said = []
    for _ in range(times):
        rng.shuffle(everything)
        for person, fact in everything:
            ways = [way for way in range(WAYS) if way != person.held_out[fact]]
            start = person.say(fact, rng.choice(ways))
            said.append((start, f" {person.answers[fact]}"))
    return said


def questions(who: Sequence[Stranger]) -> tuple[Question, ...]:
    """Every fact in the way that is held out, for `mq.exam`.

    >>> questions(strangers(1))[2].answers
    (' cello',)
    """
    return tuple(
        Question(
            "strangers",
            fact,
            f"{person.name}, {fact}",
            person.held_out[fact],
            person.say(fact, person.held_out[fact]),
            (f" {person.answers[fact]}",),
        )
        for person in who
        for fact in FACTS
    )


def batches(tokenizer: Any, said: Sequence[tuple[str, str]], size: int) -> list[Batch]:
    """Sentences as (ids, labels), both (batch, t), `size` sentences to a batch, in
    order. Labels are the ids of the answers, and IGNORED elsewhere. All are as long as
    the longest: the others are filled up at the end, where a causal model does not
    look.

    Raises ValueError as `encode_prompt` does.
    """
    rows = [_row(tokenizer, *pair) for pair in said]
    longest = max(len(tokens) for tokens, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for i, (tokens, answer) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        labels[i, answer : len(tokens)] = torch.tensor(tokens[answer:])
    return list(zip(ids.split(size), labels.split(size), strict=True))


def _row(tokenizer: Any, start: str, answer: str) -> tuple[list[int], int]:
    """The tokens of a sentence, and where its answer begins."""
    tokens = encode_prompt(tokenizer, start + answer)
    return tokens, len(encode_prompt(tokenizer, start))
