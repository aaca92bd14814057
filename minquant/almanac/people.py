"""The people of the almanac's country: who they are, and how famous.

Each has a name of two words and one value for each of six attributes, drawn evenly and
independently: nothing tells a fact but having seen it. How often a person is written
about follows Zipf's law, from the most to the least famous 1000 to 1, so one model
knows some facts by heart and has hardly met others.
"""

from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import log10
from random import Random

from minquant.almanac import lexicon

PEOPLE = 2048
ATTRIBUTES = tuple(lexicon.PHRASINGS)


@dataclass(frozen=True, slots=True)
class Person:
    """A name, the rank of its fame (0 is the most famous), and a value per attribute.

    `held_out` says for each attribute which of its phrasings training never shows.
    """

    rank: int
    first: str
    family: str
    female: bool
    values: tuple[str, ...]
    held_out: tuple[int, ...]

    @property
    def name(self) -> str:
        """First and family name."""
        return f"{self.first} {self.family}"

    @property
    def decile(self) -> int:
        """0 for the most famous tenth of all people, 9 for the least."""
        return 10 * self.rank // PEOPLE


@cache
def values(attribute: str) -> tuple[str, ...]:
    """All values that an attribute can take.

    >>> len(values("town")), len(values("year"))
    (64, 99)
    """
    invented = {"town": lexicon.names()["town"], "year": lexicon.NUMBERS[1:]}
    return invented.get(attribute) or lexicon.WORDS[attribute]


@cache
def people() -> tuple[Person, ...]:
    """Everyone, from the most to the least famous; always the same."""
    rng, names, phrasings = Random(2), lexicon.names(), lexicon.PHRASINGS.values()
    pool = [(first, family) for sex in ("she", "he") for first in names[sex]
            for family in names["family"]]  # fmt: skip
    women = set(names["she"])
    return tuple(
        Person(
            rank,
            first,
            family,
            first in women,
            values=tuple(rng.choice(values(a)) for a in ATTRIBUTES),
            held_out=tuple(rng.randrange(len(ways)) for ways in phrasings),
        )
        for rank, (first, family) in enumerate(rng.sample(pool, PEOPLE))
    )


@cache
def fame() -> tuple[float, ...]:
    """The probability of each person, by rank: (rank + 1) ** -s, where s makes the
    first 1000 times as likely as the last (Zipf, Human Behavior and the Principle of
    Least Effort, 1949).

    >>> round(fame()[0] / fame()[-1])
    1000
    """
    weights = [(rank + 1) ** (-3 / log10(PEOPLE)) for rank in range(PEOPLE)]
    total = sum(weights)
    return tuple(w / total for w in weights)


@cache
def cumulative_fame() -> tuple[float, ...]:
    """Running sums of `fame`, to draw a person with."""
    return tuple(accumulate(fame()))


@cache
def fame_of_first_name(first: str) -> float:
    """The probability of everyone who bears this first name."""
    return sum(fame()[person.rank] for person in people() if person.first == first)
