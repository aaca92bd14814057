"""How a document is written: one choice after the other.

The `Writer` draws each choice at random, writes the words that the choice stands for,
and adds up -log p. Only one row of choices writes a given document (the tests read
documents back to check this), so the sum is the exact -log p of the text.
"""

import re
from bisect import bisect
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import log
from random import Random
from typing import TypeVar

from minquant.almanac import lexicon
from minquant.almanac.people import (
    Person,
    cumulative_fame,
    fame,
    fame_of_first_name,
    people,
)

T = TypeVar("T")


@cache
def parts(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A template, cut into slots and runs of plain words: pairs (slot, words), of which
    one is empty.

    >>> parts("{name} keeps a [animal] .")
    (('{name}', ()), ('', ('keeps', 'a')), ('[animal]', ()), ('', ('.',)))
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for part in re.findall(r"\{\w+\}|\[\w+\]|[^{\[]+", template):
        if part[0] in "{[":
            found.append((part, ()))
        elif words := part.split():
            found.append(("", tuple(words)))
    return tuple(found)


class Writer:
    """Makes the choices of one document at random; `nats` sums up their -log p."""

    def __init__(self, rng: Random) -> None:
        self.random = rng.random
        self.words: list[str] = []
        self.nats = 0.0

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of the options, all equally likely or as likely as their weights."""
        if weights is None:
            self.nats += log(len(options))
            return options[int(self.random() * len(options))]
        sums = list(accumulate(weights))
        i = min(bisect(sums, self.random() * sums[-1]), len(options) - 1)
        self.nats -= log(weights[i] / sums[-1])
        return options[i]

    def person(self, but: Person | None = None) -> Person:
        """A person, drawn by fame, whose first name is not that of `but`."""
        chosen, share = None, 1.0  # of all fame, the share that can be drawn
        if but is not None:
            share -= fame_of_first_name(but.first)
        while chosen is None or (but is not None and chosen.first == but.first):
            rank = bisect(cumulative_fame(), self.random())
            chosen = people()[min(rank, len(people()) - 1)]
        self.nats -= log(fame()[chosen.rank] / share)
        return chosen

    def say(self, template: str, known: dict[str, str] | None = None) -> None:
        """Writes a template. A {slot} is looked up in `known`, a [class] is drawn."""
        for slot, plain in parts(template):
            if plain:
                self._write(plain)
            elif slot[0] == "{":
                self._write(known[slot[1:-1]].split())
            else:
                options = lexicon.WORDS[slot[1:-1]]
                if slot == "[thing]":  # never the one that the story is about
                    options = [word for word in options if word != known["thing"]]
                self._write((self.pick(options),))

    def _write(self, words: Sequence[str]) -> None:
        self.words.extend(words)
