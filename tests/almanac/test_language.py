"""The almanac: its entropy is exact, its splits are disjoint, and what it says is true.

What a text says is read here by patterns of our own, not by the module that wrote it.
"""

import collections
import functools
import itertools
import math
import re

import pytest
from helpers.derivations import derivation_entropies
from hypothesis import given
from hypothesis import strategies as st

from minquant.almanac import language, lexicon
from minquant.almanac.people import ATTRIBUTES, fame, people
from minquant.almanac.writing import parts

KINDS = tuple(language.KINDS)
READ = {"register": 4, "story": 6, "ledger": 2, "recall": 4}  # documents of a split
PAYS = re.compile(r"(earns|pays) (\d+)")
COUNTS = re.compile(r"(\d+) (plus|minus) (\d+) is (\d+)")
ACCOUNT = re.compile(
    r"(\w+) starts with (\d+) coins, ([^.]+)\. Count: ([^.]+)\. "
    r"So (\w+) has (\d+) coins\."
)
PUT = re.compile(
    r"(?:The \w+ holds|In the \w+ lies|They keep) (\w+) (\d+)(?: in the \w+)?\."
)
ASKED = re.compile(r"(?:Please bring|Who took) (\w+) (\d+)[.?]")


@functools.cache
def written(split, n, kind=None, seed=0):
    """Documents, made once for all tests."""
    return language.documents(split, n, seed=seed, kind=kind)


def body(document):
    """The text after the heading."""
    heading, text = document.text.split(". ", 1)
    assert f"{heading} ." == lexicon.HEADINGS[document.kind]
    return text


# --- the entropy is exact ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", language.SPLITS)
def test_a_document_has_one_derivation_and_its_entropy_is_that_of_it(split, kind):
    for document in written(split, READ[kind], kind):
        found = derivation_entropies(document.words)
        assert found == [pytest.approx(document.entropy, rel=1e-9)]


@pytest.mark.parametrize("kind", KINDS)
def test_short_documents_have_one_derivation_too(kind, monkeypatch):
    monkeypatch.setattr(language, "REGISTER_FACTS", 4)
    monkeypatch.setattr(language, "LEDGER_STEPS", (1, 2))
    monkeypatch.setattr(language, "RECALL_THINGS", 4)
    monkeypatch.setattr(language, "RECALL_FIRST", 2)
    for document in language.documents("train", 12, kind=kind):
        found = derivation_entropies(document.words)
        assert found == [pytest.approx(document.entropy, rel=1e-9)]


def test_a_template_that_is_listed_twice_makes_a_second_derivation(monkeypatch):
    ways = lexicon.STORY["lesson"]
    document = written("train", 1, "story")[0]
    fourth = document.entropy + math.log(4 / 3)  # where there were three ways
    counts = []
    for way in ways:
        monkeypatch.setitem(lexicon.STORY, "lesson", (*ways, way))
        found = derivation_entropies(document.words)
        assert found == [pytest.approx(fourth)] * len(found)
        counts.append(len(found))
    assert sorted(counts) == [1, 1, 2]  # two for the way in which this story ends


def test_an_account_of_one_step_by_hand(monkeypatch):
    monkeypatch.setattr(language, "LEDGER_STEPS", (1,))
    for document in language.documents("train", 40, kind="ledger"):
        start = int(ACCOUNT.fullmatch(body(document))[2])
        moves = min(9, start) + min(9, 99 - start)  # so that the sum stays in 0 to 99
        chances = (0.175, 1 / 128, 1 / 80, 1 / moves)  # kind, name, start, move
        assert document.entropy == pytest.approx(-sum(map(math.log, chances)))


def test_a_register_of_one_fact_by_hand(monkeypatch):
    monkeypatch.setattr(language, "REGISTER_FACTS", 1)
    by_name = {person.name: person for person in people()}
    for document in language.documents("train", 20, kind="register"):
        pairs = map(" ".join, itertools.pairwise(document.words))
        (who,) = (pair for pair in pairs if pair in by_name)
        chances = (0.4, fame()[by_name[who].rank], 1 / 6, 1 / 3)
        assert document.entropy == pytest.approx(-sum(map(math.log, chances)))


def test_an_inventory_of_one_thing_by_hand(monkeypatch):
    monkeypatch.setattr(language, "RECALL_THINGS", 1)
    monkeypatch.setattr(language, "RECALL_FIRST", 1)
    things, containers = (len(lexicon.WORDS[name]) for name in ("thing", "container"))
    choices = (things, 100, 3, containers, 2)  # thing, number, line, container, line
    expected = -math.log(0.175) + sum(map(math.log, choices))
    for document in language.documents("train", 5, kind="recall"):
        assert document.entropy == pytest.approx(expected)


def test_words_that_are_no_document_have_no_derivation():
    words = written("train", 1, "story")[0].words
    assert derivation_entropies(words[:-1]) == []
    assert derivation_entropies((*words, ".")) == []
    assert derivation_entropies(words[:2]) == []


def test_a_document_asked_for_by_kind_costs_its_kind_all_the_same():
    mixed = next(d for d in written("train", 60) if d.kind == "story")
    assert derivation_entropies(mixed.words) == [pytest.approx(mixed.entropy)]
    assert sum(language.KINDS.values()) == pytest.approx(1)


# --- the same for everyone, and nothing twice ---


def test_a_seed_gives_the_same_documents_again_and_more_of_them():
    again = language.documents("test", 30)
    assert again == written("test", 60)[:30] and again is not written("test", 60)


def test_other_seeds_splits_and_kinds_give_other_documents():
    several = [
        *(
            written(split, 10, kind)
            for split in language.SPLITS
            for kind in (*KINDS, None)
        ),
        *(written("train", 10, seed=seed) for seed in (1, 2)),
    ]
    marks = [document.fingerprint for some in several for document in some]
    assert len(set(marks)) == len(marks)


def test_no_document_of_a_thousand_is_written_twice():
    marks = collections.Counter(
        document.fingerprint
        for split, n in (("train", 1000), ("calibration", 60), ("test", 60))
        for document in written(split, n)
    )
    assert max(marks.values()) == 1


@pytest.mark.parametrize("split", language.SPLITS)
def test_a_split_holds_its_own_documents_only(split):
    for document in written(split, 60):
        assert document.split == split == language.split_of(document.text)


def test_one_in_sixteen_texts_is_for_testing_and_one_for_calibration():
    n, p = 20_000, 1 / 16
    counts = collections.Counter(language.split_of(f"text {i}") for i in range(n))
    for split in ("test", "calibration"):
        assert abs(counts[split] / n - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_kinds_are_met_as_often_as_they_say():
    n = 1000
    counts = collections.Counter(d.kind for d in written("train", n))
    for kind, p in language.KINDS.items():
        assert abs(counts[kind] / n - p) < 4 * math.sqrt(p * (1 - p) / n)


@given(st.lists(st.text("abcXYZ019é", min_size=1), min_size=1), st.randoms())
def test_a_fingerprint_is_that_of_the_words_alone(words, random):
    stops = [random.choice([" ", "  ", "\n", ", ", " . ", "? ", ":"]) for _ in words]
    messy = "".join(
        word.upper() + stop for word, stop in zip(words, stops, strict=True)
    )
    plain = " ".join(words)
    assert language.fingerprint(messy) == language.fingerprint(plain)
    assert language.split_of(messy) == language.split_of(plain)
    assert language.fingerprint(plain + " more") != language.fingerprint(plain)


def test_the_order_of_words_counts():
    assert language.fingerprint("a b") != language.fingerprint("b a")
    assert language.fingerprint("ab") != language.fingerprint("a b")


@pytest.mark.parametrize(
    ("split", "kind", "message"),
    [
        ("tset", None, "split 'tset' is unknown; choose from train, calibration, test"),
        ("test", "poem", "kind 'poem' is unknown; choose from register, story, ledger"),
    ],
)
def test_an_unknown_split_or_kind_is_refused(split, kind, message):
    with pytest.raises(ValueError, match=message):
        language.documents(split, 1, kind=kind)


def test_no_documents_are_an_empty_list():
    assert language.documents("train", 0) == []


# --- words, tokens, the context ---


def longest(template):
    """The most words that a template can write."""
    two = {"{name}", "{A}", "{B}"}
    return sum(len(plain) or 1 + (slot in two) for slot, plain in parts(template))


def test_the_longest_document_that_can_be_written_fits_the_context():
    register = max(longest(t) for ways in lexicon.PHRASINGS.values() for t in ways)
    story = sum(max(map(longest, lexicon.STORY[beat])) for beat in lexicon.BEATS)
    recall = max(map(longest, lexicon.PLACEMENTS)) + max(
        map(longest, lexicon.QUESTIONS)
    )
    # six words to start, "Count :", six to end; a step: "earns 4 ,", "1 plus 4 is 5 ,"
    ledger = sum(6 + 2 + 6 + (3 + 6) * steps for steps in range(1, 9))
    bodies = {"register": 50 * register, "story": story, "ledger": ledger}
    bodies["recall"] = 36 * recall
    for kind, words in bodies.items():
        whole = 2 + words + 2  # the heading, and BOS and EOS
        assert whole <= language.CONTEXT
        assert all(len(d.words) + 2 <= whole for d in written("train", 100, kind))
    assert {len(d.words) for d in written("train", 100, "ledger")} == {2 + ledger}


def test_the_vocabulary_is_every_word_that_is_written_and_three_marks():
    seen = {w for kind in KINDS for d in written("train", 300, kind) for w in d.words}
    words = language.vocabulary()
    assert words[:3] == [language.PAD, language.BOS, language.EOS]
    assert len(set(words)) == len(words)
    assert set(words[3:]) == seen and words[3:] == sorted(words[3:])


def test_a_word_is_letters_or_digits_or_one_stop():
    words = language.vocabulary()[3:]
    assert all(re.fullmatch(r"[A-Za-z]+|\d{1,2}|[.,?:]", word) for word in words)


@pytest.mark.parametrize("kind", KINDS)
def test_the_words_can_be_read_from_the_text(kind):
    for document in written("test", 20, kind):
        assert tuple(re.findall(r"\w+|[.,?:]", document.text)) == document.words
        assert not re.search(r"\s[.,?:]|\s\s", document.text)


# --- registers: facts, in the phrasings that training may show ---


@functools.cache
def sentences(*, held_out):
    """The sentence of every fact in the phrasing that is held out, or the others."""
    found = {}
    for person in people():
        for i, attribute in enumerate(ATTRIBUTES):
            for way, template in enumerate(lexicon.PHRASINGS[attribute]):
                if (way == person.held_out[i]) == held_out:
                    text = template.format(name=person.name, value=person.values[i])
                    found[text] = person.rank, attribute
    return found


def lines(document):
    """The sentences after the heading, each with its full stop."""
    text = " ".join(document.words[2:])
    return [line.strip() for line in re.findall(r"[^.]+\.", text)]


def test_registers_hold_true_facts_and_never_a_held_out_phrasing():
    shown, hidden = sentences(held_out=False), sentences(held_out=True)
    assert not shown.keys() & hidden.keys()
    assert len(shown) == 3 * len(hidden) == 3 * 6 * 2048
    for split in language.SPLITS:
        for document in written(split, 300 if split == "train" else 30, "register"):
            told = lines(document)
            assert len(told) == language.REGISTER_FACTS
            assert not [line for line in told if line not in shown]


def test_no_other_document_says_a_held_out_phrasing():
    hidden = sentences(held_out=True)
    for kind in ("story", "ledger", "recall"):
        for document in written("train", 300, kind):
            assert hidden.keys().isdisjoint(lines(document))


def test_the_famous_stand_in_registers_as_often_as_fame_says():
    shown = sentences(held_out=False)
    told = [shown[line] for d in written("train", 300, "register") for line in lines(d)]
    n, p = len(told), sum(fame()[:20])
    share = sum(rank < 20 for rank, _ in told) / n
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)
    assert {attribute for _, attribute in told} == set(ATTRIBUTES)


# --- stories: the facts of two people stay true ---

CLAIMS = {  # what a sentence says of the one who is named {0}
    "trade": (
        r"morning {0} \w+ , the (\w+) from",
        r"when {0} \w+ , a (\w+) of",
        r"Long ago in \w+ the (\w+) {0} \w+ woke",
        r"met {0} \w+ , the (\w+) \.",
        r"stood {0} \w+ , who is a (\w+) \.",
    ),
    "town": (
        r"morning {0} \w+ , the \w+ from (\w+) ,",
        r"when {0} \w+ , a \w+ of (\w+) ,",
        r"Long ago in (\w+) the \w+ {0} \w+ woke",
        r"saw {0} \w+ from (\w+) sitting",
        r"{0} walked home to (\w+) on",
    ),
    "animal": (
        r"The (\w+) of {0} walked",
        r"{0} took the (\w+) along",
        r"Suddenly the (\w+) ran to the \w+ and they followed {0} ",
        r"the (\w+) grew \w+ , {0} spoke",
    ),
    "dish": (r"{0} shared (?:his|her) (\w+) with",),
    "instrument": (
        r"Then {0} played the (\w+)",
        r"{0} took out (?:his|her) (\w+) and",
    ),
}


def cast(document):
    """The two people of a story, in the order in which they come."""
    by_name = {person.name: person for person in people()}
    pairs = map(" ".join, itertools.pairwise(document.words))
    a, b = dict.fromkeys(pair for pair in pairs if pair in by_name)
    return by_name[a], by_name[b]


def test_what_stories_say_of_their_people_is_true():
    checked = collections.Counter()
    for document in written("train", 200, "story"):
        text = " ".join(document.words)
        for person in cast(document):
            for i, attribute in enumerate(ATTRIBUTES):
                for claim in CLAIMS.get(attribute, ()):
                    for value in re.findall(claim.format(person.first), text):
                        assert value == person.values[i]
                        checked[claim] += 1
    assert len(checked) == sum(map(len, CLAIMS.values()))  # each was met


@pytest.mark.parametrize("attribute", ["town", "dish", "instrument"])
def test_a_story_names_no_value_that_belongs_to_neither(attribute):
    i = ATTRIBUTES.index(attribute)
    everything = {person.values[i] for person in people()}
    for document in written("train", 200, "story"):
        theirs = {person.values[i] for person in cast(document)}
        assert set(document.words) & everything <= theirs


def test_two_people_of_a_story_have_two_first_names_and_the_pronouns_of_their_sex():
    she, he = {"she", "She", "her", "Her"}, {"he", "He", "him", "his", "His"}
    for document in written("train", 200, "story"):
        a, b = cast(document)
        assert a.first != b.first
        used = set(document.words)
        assert bool(used & she) <= (a.female or b.female)
        assert bool(used & he) <= (not (a.female and b.female))


def test_a_story_keeps_to_one_season_and_to_its_weather():
    for document in written("train", 200, "story"):
        used = set(document.words)
        (season,) = used & set(lexicon.WORDS["season"])
        skies = {sky for weather in lexicon.WEATHER.values() for sky in weather[0]}
        assert len(used & skies) == 1
        assert used & skies <= set(lexicon.WEATHER[season][0])


# --- ledgers: sums ---


def moves(text):
    """The signed steps of "earns 4, pays 3"."""
    return [int(n) * (1 if deed == "earns" else -1) for deed, n in PAYS.findall(text)]


@pytest.mark.parametrize("split", language.SPLITS)
def test_every_line_of_a_ledger_adds_up(split):
    for document in written(split, 60, "ledger"):
        accounts = ACCOUNT.findall(body(document))
        assert ACCOUNT.sub("", body(document)).strip() == ""
        steps = [len(moves(account[2])) for account in accounts]
        assert sorted(steps) == [1, 2, 3, 4, 5, 6, 7, 8]
        for first, start, deeds, working, again, end in accounts:
            total = int(start)
            worked = COUNTS.findall(working)
            for move, (a, sign, n, b) in zip(moves(deeds), worked, strict=True):
                assert (int(a), {"plus": 1, "minus": -1}[sign] * int(n)) == (
                    total,
                    move,
                )
                total += move
                assert int(b) == total and 0 <= total < 100 and 1 <= abs(move) <= 9
            assert (again, int(end)) == (first, total)


# --- inventories: what was put away is found again ---


@pytest.mark.parametrize("split", language.SPLITS)
def test_every_question_of_an_inventory_is_answered_right(split):
    for document in written(split, 60, "recall"):
        text, where, asked = body(document), {}, []
        for line in re.findall(r"[^.?]+[.?]", text):
            if put := PUT.fullmatch(line.strip()):
                assert put[1] not in where  # nothing is put away twice
                where[put[1]] = put[2]
            else:
                thing, number = ASKED.fullmatch(line.strip()).groups()
                asked.append(thing)
                assert number == where[thing]
        assert sorted(asked) == sorted(where) and len(asked) == language.RECALL_THINGS


def test_the_first_things_of_an_inventory_are_put_away_before_the_first_question():
    for document in written("train", 60, "recall"):
        before = ASKED.split(body(document), maxsplit=1)[0]
        assert len(PUT.findall(before)) >= language.RECALL_FIRST


def test_questions_reach_from_the_line_before_to_most_of_the_context():
    gaps = []
    for document in written("train", 60, "recall"):
        at = collections.defaultdict(list)
        for place, word in enumerate(document.words):
            if word in lexicon.WORDS["thing"]:
                at[word].append(place)
        gaps += [second - first for first, second in at.values()]
    assert min(gaps) < 16 and max(gaps) > 384
