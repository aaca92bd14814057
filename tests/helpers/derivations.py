"""Read a document of the almanac back: every row of choices that writes its words.

The `Reader` has the methods of the almanac's `Writer`, and follows a script: which
option to take at each choice. `derivations` tries all scripts, and drops an option as
soon as its words do not come: in the next line, or, for a choice that is made far
ahead, in the rest of the document. One derivation for each document is the proof that
the writer's sum of -log p is the exact -log p of the text.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from math import log
from typing import TypeVar

from minquant.almanac import language
from minquant.almanac.people import Person, fame, fame_of_first_name, people
from minquant.almanac.writing import Writer, parts

T = TypeVar("T")
LONGEST = 24  # words: no template writes more
HEADING = 2  # words: a story makes the choices for all its lines directly after it


class _Mismatch(Exception):
    """These choices do not lead to these words."""


class _MoreToChoose(Exception):
    """The script ends here; these are the options that go on."""


class Reader(Writer):
    """Follows a script of choices, as long as they lead to the given words.

    far_at: after how many words the choices are made far ahead.
    """

    def __init__(
        self, words: Sequence[str], script: Sequence[int], far_at: Collection[int] = ()
    ):
        self.given, self.script, self.far_at = tuple(words), script, far_at
        self.chosen = 0  # options of the script that were taken
        self.words, self.nats = [], 0.0

    def _coming(self) -> tuple[str, ...]:
        at = len(self.words)
        return self.given[at:] if at in self.far_at else self.given[at : at + LONGEST]

    def _choose(self, possible: Iterable[int]) -> int:
        if self.chosen == len(self.script):
            raise _MoreToChoose(list(possible))
        self.chosen += 1
        return self.script[self.chosen - 1]

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """The option that the script names, among those whose words come."""
        weights = weights or [1] * len(options)
        i = self._choose(self._possible(options, weights))
        self.nats -= log(weights[i] / sum(weights))
        return options[i]

    def person(self, but: Person | None = None) -> Person:
        """The person that the script names, among those whose name comes."""
        share = 1.0 if but is None else 1.0 - fame_of_first_name(but.first)
        rank = self._choose(self._possible_people(but))
        self.nats -= log(fame()[rank] / share)
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


def derivations(
    write: Callable[[Writer], object],
    words: Sequence[str],
    *,
    far_at: Collection[int] = (),
) -> list[float]:
    """The -log p in nats of every row of choices by which `write` gives these words.

    far_at: as in `Reader`.
    """
    found, scripts = [], [()]
    while scripts:
        script = scripts.pop()
        reader = Reader(words, script, far_at)
        try:
            write(reader)
            if len(reader.words) == len(words):
                found.append(reader.nats)
        except _MoreToChoose as more:
            scripts.extend((*script, i) for i in more.args[0])
        except _Mismatch:
            continue
    return found


def derivation_entropies(words: Sequence[str]) -> list[float]:
    """The -log p in nats of every derivation of a document: there is exactly one."""
    return derivations(language.write, words, far_at={HEADING})
