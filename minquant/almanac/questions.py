"""What one can ask of the almanac: probes, whose right answer is known.

    fact     "Register. Anna Lemov plays the"               one word
    chain    "... starts with 32 coins, earns 5. Count:"    the sum at the end of it
    recall   a whole passage, then "Please bring lamp"      the number it was put under

A probe stands in text that looks like a document of its kind, so that a model is asked
only for what it has learnt. Facts are asked in the one phrasing that training never
showed for that fact: the model must know it, not the sentence. Chains are asked for
their end, after the model has written every step itself, so an early slip compounds.
Recall passages are documents of the test split, cut at a question.

Each probe has a level, by which accuracy is split: the decile of fame (0 the most
famous), the number of steps, or how many tokens back the answer lies. `probes.py`
scores them; lesson 04 reads the scores.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from minquant.almanac import lexicon
from minquant.almanac.language import LEDGER_STEPS, Document, chain, fact, stream
from minquant.almanac.people import ATTRIBUTES, PEOPLE, people, values
from minquant.almanac.writing import Writer, parts

RECALL_LEVELS = (16, 32, 64, 128, 256, 384)  # tokens back, within an eighth


@dataclass(frozen=True)
class Probe:
    """One question. A model goes on after `prompt`: first `working` words that do not
    count, then the words of `answer`, all of them.

    candidates: every answer that the language allows; chance: 1 over their number.
    """

    prompt: str
    answer: tuple[str, ...]
    working: int
    kind: str
    level: int
    chance: float
    candidates: tuple[tuple[str, ...], ...]


def probes(kind: str, n: int, *, seed: int = 0) -> list[Probe]:
    """About `n` probes of a kind, as many of each level as of any other; always the
    same for a seed. Levels: deciles of fame, steps of a chain, tokens back.

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
    most = PEOPLE // 10 * len(ATTRIBUTES)  # what the smaller deciles have
    if each > most:
        raise ValueError(
            f"n asks for {each} facts of each decile, but not all have more than "
            f"{most}; ask for at most {10 * most}"
        )
    found = []
    for level in DECILES:
        ranks = range(-(-level * PEOPLE // 10), -(-(level + 1) * PEOPLE // 10))
        pairs = [(rank, attribute) for rank in ranks for attribute in ATTRIBUTES]
        found += [_fact(*pair, level) for pair in rng.sample(pairs, each)]
    return found


def _fact(rank: int, attribute: str, level: int) -> Probe:
    person = people()[rank]
    way = lexicon.PHRASINGS[attribute][person.held_out[ATTRIBUTES.index(attribute)]]
    known = fact(person, attribute)
    start = way[: way.index("{value}")].format(**known)
    candidates = tuple((value,) for value in values(attribute))
    prompt = f"{lexicon.HEADINGS['register']} {start}".strip()
    return _probe("fact", prompt, (known["value"],), 0, level, candidates)


def _chains(each: int, rng: Random) -> list[Probe]:
    """`each` chains of every number of steps."""
    candidates = tuple((number,) for number in lexicon.NUMBERS)
    found = []
    for level in LEDGER_STEPS:
        for _ in range(each):
            writer = Writer(rng)
            writer.say(lexicon.HEADINGS["ledger"])
            (count, _), *steps, (end, known) = chain(writer, level)
            prompt = " ".join([*writer.words, count])
            said = [word for step in steps for word in _words(*step)]
            before = _words(end[: end.index("{n}")], known)
            working = len(said) + len(before)
            answer = (known["n"],)
            found.append(_probe("chain", prompt, answer, working, level, candidates))
    return found


def _words(template: str, known: dict[str, str]) -> list[str]:
    """The words of a template of which every slot is known."""
    return [
        word
        for slot, plain in parts(template)
        for word in (plain or known[slot[1:-1]].split())
    ]


def _recalls(each: int, rng: Random) -> list[Probe]:
    """`each` questions of every distance, from documents of the test split."""
    found: dict[int, list[Probe]] = defaultdict(list)
    documents = stream("test", seed=rng.randrange(2**32), kind="recall")
    while sum(map(len, found.values())) < each * len(RECALL_LEVELS):
        document = next(documents)
        for level, probe in _asked(document):
            if len(found[level]) < each:
                found[level].append(probe)
    return [probe for level in RECALL_LEVELS for probe in found[level]]


def _asked(document: Document) -> Iterator[tuple[int, Probe]]:
    """Every question of a recall document that lies at one of the levels."""
    candidates = tuple((number,) for number in lexicon.NUMBERS)
    words, put = document.words, {}
    things = set(lexicon.WORDS["thing"])
    for place, word in enumerate(words):
        if word not in things:
            continue
        number = place + 1  # "... lamp 42 ...": where its number stands
        if word not in put:
            put[word] = number
        for level in RECALL_LEVELS:
            if abs(number - put[word] - level) <= level / 8:
                prompt, answer = " ".join(words[:number]), (words[number],)
                yield level, _probe("recall", prompt, answer, 0, level, candidates)


def _probe(kind, prompt, answer, working, level, candidates) -> Probe:
    chance = 1 / len(candidates)
    return Probe(prompt, answer, working, kind, level, chance, candidates)


DECILES = tuple(range(10))
_MAKERS: dict[str, tuple[Callable[[int, Random], list[Probe]], tuple[int, ...]]] = {
    "fact": (_facts, DECILES),
    "chain": (_chains, LEDGER_STEPS),
    "recall": (_recalls, RECALL_LEVELS),
}
