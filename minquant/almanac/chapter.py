"""A new chapter of the almanac: people nobody has written about, to be learnt.

The bundled model knows the almanac's people. What does it take to teach it new ones?
This module makes as many as we like. Their names are new pairs of old words, so every
word has a token, and their facts are drawn as for everybody else:

    newcomers   n people, whose pairs of first and family name are not in use
    pages       registers of their facts, in the phrasings that training may show
    questions   every fact, asked once, in its held-out phrasing

A page teaches its *values*, the words that nobody can guess. Everything else on it (who
comes next, in which phrasing) is the writer's choice, and would be noise in the loss.
So the label is IGNORED at every word but the values.

The same seed gives the same people and pages. Lesson 09.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from minquant.almanac import lexicon
from minquant.almanac.language import fact, shown_phrasings
from minquant.almanac.people import ATTRIBUTES, PEOPLE, Person, draw_person, people
from minquant.almanac.questions import Probe, fact_probe

IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True)
class Page:
    """A register of facts: its words, and the places of the values among them."""

    words: tuple[str, ...]
    value_at: tuple[int, ...]


def newcomers(n: int, *, seed: int = 0) -> tuple[Person, ...]:
    """People whose names nobody in the almanac has.

    Nobody has heard of them, so their ranks come after those of the almanac. Raises
    ValueError if n is below 1 or there are not so many free names.

    >>> from minquant.almanac.people import people
    >>> {person.name for person in newcomers(50)} & {person.name for person in people()}
    set()
    """
    names = lexicon.names()
    used = {(person.first, person.family) for person in people()}
    firsts = names["she"] + names["he"]
    pairs = [(first, family) for first in firsts for family in names["family"]]
    free = [pair for pair in pairs if pair not in used]
    if not 1 <= n <= len(free):
        raise ValueError(
            f"n is {n}; there are {len(free)} free names, choose 1 or more"
        )
    rng = Random(f"newcomers {seed}")
    chosen = rng.sample(free, n)
    return tuple(draw_person(rng, PEOPLE + i, *pair) for i, pair in enumerate(chosen))


def pages(
    who: Sequence[Person], times: int, *, facts: int = 24, old: int = 0, seed: int = 0
) -> list[Page]:
    """Every fact about these people, `times` times, with `facts` facts to a page.

    All facts come once, in any order, before one comes again, each time in a phrasing
    drawn from those that are not held out. The last page may be shorter. old: how many
    facts about the almanac's people are mixed into each page, drawn evenly, as a
    *rehearsal* of what should not be forgotten.

    >>> page = pages(newcomers(1), 1, facts=1)[0]
    >>> page.words[0], page.words[-1], page.words.index(".")
    ('Register', '.', 1)
    >>> page.words[page.value_at[0]] in newcomers(1)[0].values
    True
    """
    rng = Random(f"pages {seed}")
    everything = [(person, attribute) for person in who for attribute in ATTRIBUTES]
    sentences = []
    for _ in range(times):
        rng.shuffle(everything)
        sentences += [_sentence(*pair, rng) for pair in everything]
    written = []
    for i in range(0, len(sentences), facts):
        known = [(rng.choice(people()), rng.choice(ATTRIBUTES)) for _ in range(old)]
        rehearsed = [_sentence(*pair, rng) for pair in known]
        on_page = sentences[i : i + facts] + rehearsed
        if rehearsed:
            rng.shuffle(on_page)
        written.append(_page(on_page))
    return written


def _sentence(person: Person, attribute: str, rng: Random) -> list[str]:
    """The words of a fact. Its value is the last word before the stop."""
    phrasing = rng.choice(shown_phrasings(person, attribute))
    return phrasing.format(**fact(person, attribute)).split()


def _page(sentences: Sequence[Sequence[str]]) -> Page:
    words = lexicon.HEADINGS["register"].split()
    value_at = []
    for sentence in sentences:
        words += sentence
        value_at.append(len(words) - 2)
    return Page(tuple(words), tuple(value_at))


def questions(who: Sequence[Person]) -> list[Probe]:
    """Every fact about these people in its held-out phrasing, for `evaluate.accuracy`.

    Which phrasing is held out is drawn for each person and attribute, so pages use the
    same phrasing of other people: the sentence is new to the model, its form is not.
    The level is the place of the attribute in ATTRIBUTES.

    >>> probe = questions(newcomers(1))[0]
    >>> probe.answer[0] == newcomers(1)[0].values[0], probe.chance
    (True, 0.015625)
    """
    return [
        fact_probe(person, attribute, level)
        for person in who
        for level, attribute in enumerate(ATTRIBUTES)
    ]


def batches(
    tokenizer: Any, written: Sequence[Page], size: int
) -> list[tuple[Int[Tensor, "batch t"], Int[Tensor, "batch t"]]]:
    """Pages as (ids, labels), both (batch, t), with `size` pages to a batch, in order.

    Each page begins with BOS, and shorter pages are padded at the end, where a causal
    model does not look. Labels are the ids at the values, and IGNORED elsewhere.
    Raises ValueError if a word is no token of this tokenizer.
    """
    result = []
    for start in range(0, len(written), size):
        group = written[start : start + size]
        longest = 1 + max(len(page.words) for page in group)
        ids = torch.full((len(group), longest), tokenizer.pad_token_id, device="cpu")
        labels = torch.full_like(ids, IGNORED)
        for row, page in enumerate(group):
            tokens = [tokenizer.bos_token, *page.words]
            token_ids = tokenizer.convert_tokens_to_ids(tokens)
            if tokenizer.convert_ids_to_tokens(token_ids) != tokens:
                raise ValueError(
                    "pages hold words that are no tokens of this tokenizer; they need "
                    "a model that speaks the almanac's language: load('almanac')"
                )
            ids[row, : len(token_ids)] = torch.tensor(token_ids, device="cpu")
            value_at = [1 + place for place in page.value_at]  # after BOS
            labels[row, value_at] = ids[row, value_at]
        result.append((ids, labels))
    return result
