"""The small language that the bundled model speaks: an almanac of an invented country.

A document is written by making choices, one after the other, each with a known
probability. No two rows of choices write the same document, so the probability of a
document is the product of theirs, and

    entropy = - sum over the choices of log p(choice)            in nats

is the loss of a perfect reader on it: no model can do better on average. There are
four kinds of document:

    register   facts about people, the famous a thousand times as often as the obscure
    story      two of these people on an errand; their facts stay true
    ledger     coins earned and paid in 1 to 8 steps, each result written out
    recall     things put away, each under a number, and asked for soon or much later

Lesson 04 uses it to measure what one perplexity hides.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from math import log
from pathlib import Path
from random import Random

from minquant.almanac import lexicon
from minquant.almanac.people import ATTRIBUTES, Person
from minquant.almanac.writing import Writer, parts

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
CONTEXT = 512  # tokens: no document is longer, BOS and EOS included
SPLITS = ("train", "calibration", "test")
KINDS = {"register": 0.40, "story": 0.25, "ledger": 0.175, "recall": 0.175}
REGISTER_FACTS = 50
LEDGER_STEPS = (1, 2, 3, 4, 5, 6, 7, 8)
RECALL_THINGS, RECALL_FIRST = 36, 12
_PACKAGE = Path(__file__).parents[1]  # the model's folder is in it, or beside it
_PLACES = (_PACKAGE / "data/almanac", _PACKAGE.parent / "data/almanac")
DIRECTORY = next((place for place in _PLACES if place.exists()), _PLACES[1])


@dataclass(frozen=True)
class Document:
    """One text of the almanac: its kind, its words, and its exact entropy in nats.

    The entropy counts everything that a model predicts after BOS: the words and EOS.
    """

    kind: str
    words: tuple[str, ...]
    entropy: float

    @cached_property
    def text(self) -> str:
        """The words as one text, with no space before a stop."""
        return re.sub(r" ([.,?:])", r"\1", " ".join(self.words))

    @cached_property
    def fingerprint(self) -> int:
        """The document's `fingerprint`."""
        return fingerprint(" ".join(self.words))

    @property
    def split(self) -> str:
        """The document's split, by its fingerprint."""
        return _split_by(self.fingerprint)


def fingerprint(text: str) -> int:
    """A 64-bit hash of the words. Case, spaces and punctuation do not count.

    >>> fingerprint("The lamp,  in the CHEST.") == fingerprint("the lamp in the chest")
    True
    """
    words = " ".join(re.findall(r"\w+", text.lower()))
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big")


def split_of(text: str) -> str:
    """The split that a text belongs to: "train", "calibration" or "test".

    It follows from the fingerprint: 14 in 16 are for training, 1 for calibration, 1 for
    testing. So the splits are disjoint, whoever wrote the text, and a copy of a test
    document is a test document.
    """
    return _split_by(fingerprint(text))


def _split_by(fingerprint: int) -> str:
    return {0: "test", 1: "calibration"}.get(fingerprint % 16, "train")


def documents(
    split: str, n: int, *, seed: int = 0, kind: str | None = None
) -> list[Document]:
    """The first `n` documents of a split, of one kind or of all kinds mixed.

    The same arguments always give the same documents. Raises ValueError if `split` or
    `kind` is unknown.

    >>> documents("test", 1, kind="ledger")[0].text[:35]
    'Ledger. Nusek starts with 22 coins,'
    """
    return list(islice(stream(split, seed=seed, kind=kind), n))


def stream(split: str, *, seed: int = 0, kind: str | None = None) -> Iterator[Document]:
    """The documents of a split, without end. Raises as `documents` does."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; choose from {', '.join(SPLITS)}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; choose from {', '.join(KINDS)}")
    rng = Random(f"{split} {seed} {kind}")
    while True:
        writer = Writer(rng)
        written = write(writer, kind)
        document = Document(written, tuple(writer.words), writer.nats)
        if document.split == split:
            yield document


def write(w: Writer, kind: str | None = None) -> str:
    """Writes one document, of this kind or of any; returns its kind."""
    if kind is None:
        kind = _choose_kind(w)
    else:  # a reader does not know the kind beforehand, so it counts all the same
        w.nats -= log(KINDS[kind])
    _BODIES[kind](w)
    return kind


def _choose_kind(w: Writer) -> str:
    kind_of = {lexicon.HEADINGS[kind]: kind for kind in KINDS}
    return kind_of[w.pick(tuple(kind_of), tuple(KINDS.values()))]


def _register(w: Writer) -> None:
    """Facts about people, each in a phrasing that is not held out."""
    w.say(lexicon.HEADINGS["register"])
    for _ in range(REGISTER_FACTS):
        person = w.person()
        attribute = ATTRIBUTES[w.pick(range(len(ATTRIBUTES)))]
        w.say(w.pick(shown_phrasings(person, attribute)), fact(person, attribute))


def shown_phrasings(person: Person, attribute: str) -> tuple[str, ...]:
    """The phrasings of this fact that documents use: all but the held-out one."""
    phrasings = lexicon.PHRASINGS[attribute]
    held_out = person.held_out[ATTRIBUTES.index(attribute)]
    return phrasings[:held_out] + phrasings[held_out + 1 :]


def fact(person: Person, attribute: str) -> dict[str, str]:
    """What fills the slots of a phrasing: the name and the value."""
    return {"name": person.name, "value": person.values[ATTRIBUTES.index(attribute)]}


def _story(w: Writer) -> None:
    """Two people, one lost thing, and the weather of one season."""
    w.say(lexicon.HEADINGS["story"])
    a = w.person()
    b = w.person(but=a)
    known = _slots_of("A", a) | _slots_of("B", b)
    known["season"] = w.pick(lexicon.WORDS["season"])
    skies, roads = lexicon.WEATHER[known["season"]]
    known["sky"] = w.pick(skies)
    known["road"] = w.pick(roads)
    known["thing"] = w.pick(lexicon.WORDS["thing"])
    known["place"] = w.pick(lexicon.WORDS["place"])
    for beat in lexicon.BEATS:
        w.say(w.pick(lexicon.STORY[beat]), known)


def _slots_of(role: str, person: Person) -> dict[str, str]:
    """The slots of one person of a story: {A}, {A_first}, {A_he}, {A_town}, ..."""
    he, him, his = ("she", "her", "her") if person.female else ("he", "him", "his")
    slots = {"first": person.first, "he": he, "him": him, "his": his}
    slots |= {"He": he.capitalize(), "His": his.capitalize()}
    slots |= dict(zip(ATTRIBUTES, person.values, strict=True))
    return {role: person.name} | {f"{role}_{slot}": slots[slot] for slot in slots}


def _ledger(w: Writer) -> None:
    """One chain of each number of steps, in any order."""
    w.say(lexicon.HEADINGS["ledger"])
    left = list(LEDGER_STEPS)
    while left:
        steps = w.pick(left)
        left.remove(steps)
        for line, known in chain(w, steps):
            w.say(line, known)


def chain(w: Writer, steps: int) -> list[tuple[str, dict[str, str]]]:
    """Writes the question of a chain, and returns the answer that follows from it.

    The answer comes as templates with what fills their slots: first the working, last
    the result. Sums stay within 0 to 99.
    """
    first = w.pick(lexicon.names()["she"] + lexicon.names()["he"])
    total = w.pick(range(10, 90))
    w.say(lexicon.LEDGER["start"], {"first": first, "n": str(total)})
    lines = [(lexicon.LEDGER["count"], {})]
    for step in range(steps):
        moves = [n for n in range(-9, 10) if n != 0 and 0 <= total + n < 100]
        move = w.pick(moves)
        before, total = total, total + move
        deed, sign = ("earn", "plus") if move > 0 else ("pay", "minus")
        known = {"a": str(before), "n": str(abs(move)), "b": str(total)}
        stop = "." if step == steps - 1 else ","
        w.say(f"{lexicon.LEDGER[deed]} {stop}", known)
        lines.append((f"{lexicon.LEDGER[sign]} {stop}", known))
    return [*lines, (lexicon.LEDGER["end"], {"first": first, "n": str(total)})]


def inventory(w: Writer, things: int | None = None) -> None:
    """Things are put away under numbers, and each is asked for once, soon or late.

    things: how many; None is RECALL_THINGS. Fewer make an easier text.
    """
    w.say(lexicon.HEADINGS["recall"])
    if things is None:
        things = RECALL_THINGS
    first = min(RECALL_FIRST, things // 2)  # put away before the first question
    unused, waiting = list(lexicon.WORDS["thing"]), []
    to_store = to_ask = things
    while to_ask:
        must_store = to_store > things - first or not waiting
        if to_store and (must_store or w.pick((True, False), (to_store, to_ask))):
            thing = w.pick(unused)
            unused.remove(thing)
            stored = {"thing": thing, "number": w.pick(lexicon.NUMBERS)}
            waiting.append(stored)
            w.say(w.pick(lexicon.PLACEMENTS), stored)
            to_store -= 1
        else:
            asked = w.pick(waiting)
            waiting.remove(asked)
            w.say(w.pick(lexicon.QUESTIONS), asked)
            to_ask -= 1


_BODIES = dict(zip(KINDS, (_register, _story, _ledger, inventory), strict=True))


def vocabulary() -> list[str]:
    """The tokens: PAD, BOS and EOS, then every word of the language once, sorted."""
    groups = [*lexicon.PHRASINGS.values(), *lexicon.STORY.values(), lexicon.QUESTIONS]
    groups += [lexicon.HEADINGS.values(), lexicon.LEDGER.values(), lexicon.PLACEMENTS]
    words = set()
    for templates in groups:
        for template in templates:
            for _, plain in parts(template):
                words.update(plain)
    words.update("she he her him his She He Her His , .".split(), lexicon.NUMBERS)
    words.update(*lexicon.WORDS.values(), *lexicon.names().values())
    for skies, roads in lexicon.WEATHER.values():
        words.update(skies, roads)
    return [PAD, BOS, EOS, *sorted(words)]
