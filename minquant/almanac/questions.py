"""Questions about the almanac whose right answer is known: probes.

    fact     "Register. Anna Lemov plays the"               one word
    chain    "... starts with 32 coins, earns 5. Count:"    the sum at the end
    recall   a whole passage, then "Please bring lamp"      the number it was put under

A probe looks like a document of its kind, so that a model is asked only for what it has
learnt. Facts are asked in the one phrasing that training never showed for that fact:
the model must know the fact, not the sentence. In a chain the model writes every step
before it gives the sum, so an early slip compounds. Recall passages are documents of
the test split, cut at a question.

Each probe has a level, by which accuracy is split: the decile of fame (0 is the most
famous), the number of steps, or how many tokens back the answer is.
`measure/probes.py` scores them, and lesson 04 reads the scores.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from minquant.almanac import lexicon
from minquant.almanac.language import LEDGER_STEPS, Document, chain, fact, stream
from minquant.almanac.people import ATTRIBUTES, PEOPLE, Person, people, values
from minquant.almanac.writing import Writer, parts

RECALL_LEVELS = (16, 32, 64, 128, 256, 384)  # tokens back, within an eighth


@dataclass(frozen=True)
class Probe:
    """One question. A model continues `prompt`, and must end at `answer`.

    working: how many words it writes before the answer; they do not count. answer: the
    words that come next, all of which must be right. candidates: every answer that the
    language allows. chance: 1 over their number.
    """

    prompt: str
    answer: tuple[str, ...]
    working: int
    kind: str
    level: int
    chance: float
    candidates: tuple[tuple[str, ...], ...]


def probes(kind: str, n: int, *, seed: int = 0) -> list[Probe]:
    """About `n` probes of a kind, equally many of each level.

    Levels are deciles of fame, steps of a chain, or tokens back. The same seed gives
    the same probes.

    Raises ValueError if `kind` is unknown, or `n` is too small for one of each level or
    larger than the number of facts.

    >>> probe = probes("chain", 8)[0]
    >>> probe.level, probe.candidates[:2], len(probe.candidates)
    (1, (('0',), ('1',)), 100)
    """
    if kind not in _MAKERS:
        raise ValueError(f"kind {kind!r} is unknown; choose from {', '.join(_MAKERS)}")
    make, levels = _MAKERS[kind]
    each = n // len(levels)
    if each < 1:
        raise ValueError(f"n is {n}; for one of each level ask for {len(levels)}")
    return make(each, Random(f"probes {kind} {seed}"))


def _facts(each: int, rng: Random) -> list[Probe]:
    """`each` different facts of every decile of fame, in their held-out phrasing."""
    most = PEOPLE // 10 * len(ATTRIBUTES)  # facts in the smallest decile
    if each > most:
        raise ValueError(
            f"n asks for {each} facts of each decile, but not all have more than "
            f"{most}; ask for at most {10 * most}"
        )
    found = []
    for decile in DECILES:
        persons = [person for person in people() if person.decile == decile]
        facts = [(person, attribute) for person in persons for attribute in ATTRIBUTES]
        found += [fact_probe(*pair, decile) for pair in rng.sample(facts, each)]
    return found


def fact_probe(person: Person, attribute: str, level: int) -> Probe:
    """The question for one fact, in its held-out phrasing."""
    held_out = person.held_out[ATTRIBUTES.index(attribute)]
    phrasing = lexicon.PHRASINGS[attribute][held_out]
    known = fact(person, attribute)
    start = phrasing[: phrasing.index("{value}")].format(**known)
    prompt = f"{lexicon.HEADINGS['register']} {start}".strip()
    candidates = tuple((value,) for value in values(attribute))
    return _probe("fact", prompt, known["value"], level, candidates)


def _chains(each: int, rng: Random) -> list[Probe]:
    """`each` chains of every number of steps."""
    return [_chain(steps, rng) for steps in LEDGER_STEPS for _ in range(each)]


def _chain(steps: int, rng: Random) -> Probe:
    """A chain up to "Count :". The model writes the steps, then the sum."""
    writer = Writer(rng)
    writer.say(lexicon.HEADINGS["ledger"])
    (count, _), *working, (end, known) = chain(writer, steps)
    prompt = " ".join([*writer.words, count])
    words_before = sum(_n_words(*line) for line in working)
    words_before += _n_words(end[: end.index("{n}")], known)
    return _probe("chain", prompt, known["n"], steps, NUMBERS, working=words_before)


def _n_words(template: str, known: dict[str, str]) -> int:
    """How many words a template writes if every slot is known."""
    count = 0
    for slot, plain in parts(template):
        count += len(plain or known[slot[1:-1]].split())
    return count


def _recalls(each: int, rng: Random) -> list[Probe]:
    """`each` questions of every distance, from documents of the test split."""
    found: dict[int, list[Probe]] = {level: [] for level in RECALL_LEVELS}
    documents = stream("test", seed=rng.randrange(2**32), kind="recall")
    while any(len(probes_of_level) < each for probes_of_level in found.values()):
        for probe in _questions_in(next(documents)):
            if len(found[probe.level]) < each:
                found[probe.level].append(probe)
    return [probe for level in RECALL_LEVELS for probe in found[level]]


def _questions_in(document: Document) -> Iterator[Probe]:
    """The questions of a recall document whose distance is one of RECALL_LEVELS."""
    words, things = document.words, set(lexicon.WORDS["thing"])
    put_at: dict[str, int] = {}  # where the number of a thing was said first
    for place, word in enumerate(words):
        if word not in things:
            continue
        number_at = place + 1  # "... lamp 42 ...": the number is the next word
        distance = number_at - put_at.setdefault(word, number_at)
        for level in RECALL_LEVELS:
            if abs(distance - level) <= level / 8:
                prompt = " ".join(words[:number_at])
                yield _probe("recall", prompt, words[number_at], level, NUMBERS)


def _probe(
    kind: str,
    prompt: str,
    answer: str,
    level: int,
    candidates: tuple[tuple[str], ...],
    *,
    working: int = 0,
) -> Probe:
    """A probe whose answer is one word."""
    chance = 1 / len(candidates)
    return Probe(prompt, (answer,), working, kind, level, chance, candidates)


DECILES = tuple(range(10))
NUMBERS = tuple((number,) for number in lexicon.NUMBERS)  # what sums and recall answer
_MAKERS: dict[str, tuple[Callable[[int, Random], list[Probe]], tuple[int, ...]]] = {
    "fact": (_facts, DECILES),
    "chain": (_chains, LEDGER_STEPS),
    "recall": (_recalls, RECALL_LEVELS),
}
