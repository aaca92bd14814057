"""The people of the almanac's country: who they are, and how famous.

Each person has a name of two words and one value for each of six attributes, drawn
evenly and independently, so nobody can guess a fact that they have not seen. How often
a person is written about follows Zipf's law: the most famous comes up 1000 times as
often as the least. So one model knows some facts by heart and has hardly met others.
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
    """A name, a rank by fame (0 is the most famous), and a value for each attribute.

    held_out: for each attribute, the index of the phrasing that training never shows.
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
    """All values that an attribute can have.

    >>> len(values("town")), len(values("year"))
    (64, 99)
    """
    invented = {"town": lexicon.names()["town"], "year": lexicon.NUMBERS[1:]}
    return invented.get(attribute) or lexicon.WORDS[attribute]


@cache
def people() -> tuple[Person, ...]:
    """Everyone, from the most to the least famous."""
    rng, names = Random(2), lexicon.names()
    firsts = names["she"] + names["he"]
    pairs = [(first, family) for first in firsts for family in names["family"]]
    chosen = rng.sample(pairs, PEOPLE)
    return tuple(draw_person(rng, rank, *pair) for rank, pair in enumerate(chosen))


def draw_person(rng: Random, rank: int, first: str, family: str) -> Person:
    """A person of this rank and name, with values and held-out phrasings at random."""
    return Person(
        rank,
        first,
        family,
        female=first in lexicon.names()["she"],
        values=tuple(rng.choice(values(attribute)) for attribute in ATTRIBUTES),
        held_out=tuple(
            rng.randrange(len(lexicon.PHRASINGS[attribute])) for attribute in ATTRIBUTES
        ),
    )


@cache
def fame() -> tuple[float, ...]:
    """The probability of each person, by rank.

    It is proportional to (rank + 1) ** -s, with the s that makes the first person 1000
    times as likely as the last (Zipf, Human Behavior and the Principle of Least
    Effort, 1949).

    >>> round(fame()[0] / fame()[-1])
    1000
    """
    weights = [(rank + 1) ** (-3 / log10(PEOPLE)) for rank in range(PEOPLE)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


@cache
def cumulative_fame() -> tuple[float, ...]:
    """Running sums of `fame`, to draw a person with."""
    return tuple(accumulate(fame()))


@cache
def fame_of_first_name(first: str) -> float:
    """The probability of all people with this first name together."""
    return sum(fame()[person.rank] for person in people() if person.first == first)
