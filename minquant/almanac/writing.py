"""How a document is written, and read back: one choice after the other.

The `Writer` draws each choice at random, writes the words it stands for, and adds up
-log p. The `Reader` has the same three methods, and finds the choices that lead to
given words by trying them all, but for those whose words do not come: in the next line,
or, while the writer plans `far` ahead, in the rest of the document. It is the proof
that there is only one such row of choices, so that the writer's sum is the exact -log p
of the text.
"""

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, pairwise
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
LONGEST = 24  # words: no template writes more


@cache
def parts(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A template, cut into runs of plain words and single slots.

    >>> parts("{name} keeps a [animal] .")
    (('{name}', ()), ('', ('keeps', 'a')), ('[animal]', ()), ('', ('.',)))
    """
    cut = re.findall(r"\{\w+\}|\[\w+\]|[^{\[]+", template)
    runs = (("", tuple(p.split())) if p[0] not in "{[" else (p, ()) for p in cut)
    return tuple(run for run in runs if run != ("", ()))


class Writer:
    """Makes the choices of one document at random; `nats` sums up their -log p."""

    far = False  # whether what is chosen now may be written later than the next line

    def __init__(self, rng: Random):
        self.random = rng.random
        self.words: list[str] = []
        self.nats = 0.0

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of the options: all are equally likely, or as likely as their weights."""
        if weights is None:
            self.nats += log(len(options))
            return options[int(self.random() * len(options))]
        sums = list(accumulate(weights))
        i = min(bisect(sums, self.random() * sums[-1]), len(options) - 1)
        self.nats -= log(weights[i] / sums[-1])
        return options[i]

    def person(self, but: Person | None = None) -> Person:
        """Someone, by fame; their first name is not that of `but`."""
        one, left = None, 1.0
        if but is not None:
            left -= fame_of_first_name(but.first)
        while one is None or (but is not None and one.first == but.first):
            rank = bisect(cumulative_fame(), self.random())
            one = people()[min(rank, len(people()) - 1)]
        self.nats -= log(fame()[one.rank] / left)
        return one

    def say(self, template: str, known: dict[str, str] | None = None) -> None:
        """Write a template: {slot} stands in `known`, [class] is a fresh choice."""
        for slot, plain in parts(template):
            if plain:
                self._write(plain)
            elif slot[0] == "{":
                self._write(known[slot[1:-1]].split())
            else:
                options = lexicon.WORDS[slot[1:-1]]
                if slot == "[thing]":  # not the one that the story is about
                    options = [word for word in options if word != known["thing"]]
                self._write((self.pick(options),))

    def _write(self, words: Sequence[str]) -> None:
        self.words.extend(words)


class _Mismatch(Exception):
    """These choices do not lead to these words."""


class _MoreToChoose(Exception):
    """The script ends here: this many ways go on."""


class Reader(Writer):
    """Follows a script of choices, as long as they lead to the given words."""

    def __init__(self, words: Sequence[str], script: Sequence[int]):
        self.given, self.script, self.made = tuple(words), script, 0
        self.words, self.nats = [], 0.0

    def _coming(self) -> tuple[str, ...]:
        at = len(self.words)
        return self.given[at:] if self.far else self.given[at : at + LONGEST]

    def _choose(self, possible: Iterable[int]) -> int:
        if self.made == len(self.script):
            raise _MoreToChoose(list(possible))
        self.made += 1
        return self.script[self.made - 1]

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """The option that the script names, among those whose words come."""
        weights = weights or [1] * len(options)
        i = self._choose(self._possible(options, weights))
        self.nats -= log(weights[i] / sum(weights))
        return options[i]

    def person(self, but: Person | None = None) -> Person:
        """The person that the script names, among those whose name comes."""
        left = 1.0 if but is None else 1.0 - fame_of_first_name(but.first)
        rank = self._choose(self._possible_people(but))
        self.nats -= log(fame()[rank] / left)
        return people()[rank]

    def _possible(self, options: Sequence, weights: Sequence[float]) -> Iterator[int]:
        coming = set(self._coming())
        for i, option in enumerate(options):
            runs = parts(option) if isinstance(option, str) else ()
            if weights[i] and all(coming.issuperset(plain) for _, plain in runs):
                yield i

    def _possible_people(self, but: Person | None) -> Iterator[int]:
        coming = set(pairwise(self._coming()))
        for one in people():
            another = but is None or one.first != but.first
            if another and (one.first, one.family) in coming:
                yield one.rank

    def _write(self, words: Sequence[str]) -> None:
        self.words.extend(words)
        if self.given[len(self.words) - len(words) : len(self.words)] != tuple(words):
            raise _Mismatch


def derivations(write: Callable[[Writer], object], words: Sequence[str]) -> list[float]:
    """The -log p in nats of every row of choices by which `write` gives these words."""
    found, scripts = [], [()]
    while scripts:
        script = scripts.pop()
        reader = Reader(words, script)
        try:
            write(reader)
            if len(reader.words) == len(words):
                found.append(reader.nats)
        except _MoreToChoose as more:
            scripts.extend((*script, i) for i in more.args[0])
        except _Mismatch:
            continue
    return found
