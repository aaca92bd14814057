"""A new chapter of the almanac: people nobody has written about, to be learnt.

A bundled model knows the almanac's people. What does it take to teach it new ones? Here
are as many as one likes, with names that are made of the old words (so every word has
its token) but belong to nobody, and with facts drawn as for all others:

    newcomers   n people, whose pairs of first and family name are not in use
    pages       registers of their facts, each in one of the phrasings that may be shown
    questions   every fact, asked once, in the phrasing that no page shows it in

What a page teaches are its *values*, the words that nobody can guess: only there is a
loss. All else (who comes next, in which phrasing) is the choice of whoever wrote the
page, and would be noise. So labels are IGNORED but for the values.

Everything is drawn from a seed: the same seed, the same people and pages. Lesson 09.
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
from minquant.almanac.people import ATTRIBUTES, PEOPLE, Person, people, values
from minquant.almanac.questions import Probe

IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True)
class Page:
    """A register of facts: its words, and at which of them the values stand."""

    words: tuple[str, ...]
    value_at: tuple[int, ...]


def newcomers(n: int, *, seed: int = 0) -> tuple[Person, ...]:
    """People whose names are free: no two words of theirs are a name that is in use.

    Ranks go on after those of the almanac, as nobody has heard of them. Raises
    ValueError if there are not so many free names.

    >>> from minquant.almanac.people import people
    >>> {one.name for one in newcomers(50)} & {one.name for one in people()}
    set()
    """
    names, used = lexicon.names(), {(one.first, one.family) for one in people()}
    firsts = names["she"] + names["he"]
    pairs = [(first, family) for first in firsts for family in names["family"]]
    free = [pair for pair in pairs if pair not in used]
    if not 1 <= n <= len(free):
        raise ValueError(
            f"n is {n}; there are {len(free)} free names, choose 1 or more"
        )
    rng = Random(f"newcomers {seed}")
    ways = [len(lexicon.PHRASINGS[attribute]) for attribute in ATTRIBUTES]
    return tuple(
        Person(
            PEOPLE + i,
            *pair,
            pair[0] in names["she"],
            tuple(rng.choice(values(attribute)) for attribute in ATTRIBUTES),
            tuple(rng.randrange(count) for count in ways),
        )
        for i, pair in enumerate(rng.sample(free, n))
    )


def pages(
    who: Sequence[Person], times: int, *, facts: int = 24, old: int = 0, seed: int = 0
) -> list[Page]:
    """Every fact about these people `times` times, `facts` to a page.

    All facts come once, in any order, before one comes again; each time in a phrasing
    drawn from those that its questions leave. The last page may be shorter. old: facts
    about the almanac's people, drawn evenly, that are mixed into each page: *rehearsal*
    of what should not be forgotten.

    >>> page = pages(newcomers(1), 1, facts=1)[0]
    >>> page.words[0], page.words[-1], page.words.index(".")
    ('Register', '.', 1)
    >>> page.words[page.value_at[0]] in newcomers(1)[0].values
    True
    """
    rng = Random(f"pages {seed}")
    everything = [(one, attribute) for one in who for attribute in ATTRIBUTES]
    told = []
    for _ in range(times):
        rng.shuffle(everything)
        told += [_sentence(*pair, rng) for pair in everything]
    made = []
    for i in range(0, len(told), facts):
        known = [(rng.choice(people()), rng.choice(ATTRIBUTES)) for _ in range(old)]
        some = told[i : i + facts] + [_sentence(*pair, rng) for pair in known]
        if old:
            rng.shuffle(some)
        made.append(_page(some))
    return made


def _sentence(one: Person, attribute: str, rng: Random) -> list[str]:
    """A fact in words; its value is the last but one, before the stop."""
    way = rng.choice(shown_phrasings(one, attribute))
    return way.format(**fact(one, attribute)).split()


def _page(sentences: Sequence[Sequence[str]]) -> Page:
    words, at = lexicon.HEADINGS["register"].split(), []
    for sentence in sentences:
        words += sentence
        at.append(len(words) - 2)
    return Page(tuple(words), tuple(at))


def questions(who: Sequence[Person]) -> list[Probe]:
    """Every fact about these people, for `evaluate.accuracy`, in the phrasing that is
    kept from its pages. That is drawn for each person and attribute: the sentence is
    new, but its phrasing is not, as pages use it of other people. The level is the
    place of the attribute in ATTRIBUTES.

    >>> probe = questions(newcomers(1))[0]
    >>> probe.answer[0] == newcomers(1)[0].values[0], probe.chance
    (True, 0.015625)
    """
    heading, found = lexicon.HEADINGS["register"], []
    for one in who:
        for i, attribute in enumerate(ATTRIBUTES):
            way = lexicon.PHRASINGS[attribute][one.held_out[i]]
            start = way[: way.index("{value}")].format(name=one.name)
            candidates = tuple((value,) for value in values(attribute))
            found.append(
                Probe(
                    prompt=f"{heading} {start}".strip(),
                    answer=(one.values[i],),
                    working=0,
                    kind="fact",
                    level=i,
                    chance=1 / len(candidates),
                    candidates=candidates,
                )
            )
    return found


def batches(
    tokenizer: Any, written: Sequence[Page], size: int
) -> list[tuple[Int[Tensor, "batch t"], Int[Tensor, "batch t"]]]:
    """Pages as token ids and labels, `size` to a batch, in their order.

    BOS stands first. Shorter pages are filled up at the end, where a causal model does
    not see it and no label asks. Labels are ids at the values, and IGNORED elsewhere.
    Raises ValueError if a word is no token of this tokenizer.
    """
    made = []
    for i in range(0, len(written), size):
        some = written[i : i + size]
        longest = 1 + max(len(page.words) for page in some)
        ids = torch.full((len(some), longest), tokenizer.pad_token_id)
        labels = torch.full_like(ids, IGNORED)
        for row, page in enumerate(some):
            tokens = [tokenizer.bos_token, *page.words]
            found = tokenizer.convert_tokens_to_ids(tokens)
            if tokenizer.convert_ids_to_tokens(found) != tokens:
                raise ValueError(
                    "pages hold words that are no tokens of this tokenizer; they need "
                    "a model that speaks the almanac's language: load('almanac')"
                )
            ids[row, : len(found)] = torch.tensor(found)
            at = [1 + place for place in page.value_at]
            labels[row, at] = ids[row, at]
        made.append((ids, labels))
    return made
