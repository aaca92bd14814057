"""Probes: as many of each level, never told, and answered right by other means."""

import collections
import functools
import itertools
import re

import pytest
from helpers.derivations import derivation_entropies

from minquant import almanac
from minquant.almanac import language, lexicon, questions
from minquant.almanac.people import ATTRIBUTES, PEOPLE, people
from minquant.almanac.questions import RECALL_LEVELS, probes

N = {"fact": 60, "chain": 40, "recall": 24}
LEVELS = {"fact": range(10), "chain": range(1, 9), "recall": RECALL_LEVELS}


@functools.cache
def asked(kind, seed=0):
    """The probes of a kind, made once for all tests."""
    return probes(kind, N[kind], seed=seed)


@pytest.mark.parametrize("kind", N)
def test_there_are_as_many_probes_of_each_level_in_order(kind):
    levels = [probe.level for probe in asked(kind)]
    each = N[kind] // len(LEVELS[kind])
    assert levels == [level for level in LEVELS[kind] for _ in range(each)]
    assert {probe.kind for probe in asked(kind)} == {kind}


@pytest.mark.parametrize(("kind", "n", "found"), [("fact", 29, 20), ("chain", 15, 8)])
def test_what_does_not_divide_by_the_levels_is_left_out(kind, n, found):
    assert len(probes(kind, n)) == found


@pytest.mark.parametrize("kind", N)
def test_a_seed_gives_the_same_probes_again_and_another_seed_others(kind):
    assert probes(kind, N[kind]) == asked(kind)
    first = {probe.prompt for probe in asked(kind)}
    other = {probe.prompt for probe in probes(kind, N[kind], seed=1)}
    assert len(first & other) < len(first) / 4


@pytest.mark.parametrize("kind", N)
def test_the_answer_is_one_of_the_candidates_and_chance_is_to_draw_it(kind):
    for probe in asked(kind):
        assert len(set(probe.candidates)) == len(probe.candidates)
        assert probe.answer in probe.candidates
        assert probe.chance == 1 / len(probe.candidates)


@pytest.mark.parametrize("kind", N)
def test_a_probe_speaks_the_language_and_fits_the_context_with_its_answer(kind):
    words = set(almanac.vocabulary())
    for probe in asked(kind):
        prompt = probe.prompt.split()
        assert words.issuperset(prompt) and words.issuperset(probe.answer)
        assert words.issuperset(word for each in probe.candidates for word in each)
        said = len(prompt) + probe.working + len(probe.answer)
        assert 1 + said <= almanac.CONTEXT


@pytest.mark.parametrize(
    ("kind", "n", "message"),
    [
        ("riddle", 8, "kind 'riddle' is unknown; choose from fact, chain, recall"),
        ("fact", 9, "n is 9; for one of each level ask for 10"),
        ("chain", 7, "n is 7; for one of each level ask for 8"),
        ("recall", 0, "n is 0; for one of each level ask for 6"),
        ("fact", -20, "n is -20; for one of each level ask for 10"),
        ("fact", 20_000, "n asks for 2000 facts of each decile, .+ at most 12240"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(kind, n, message):
    with pytest.raises(ValueError, match=message):
        probes(kind, n)


# --- facts ---


@functools.cache
def facts():
    """For every sentence of a fact in its held-out phrasing: the rank and the value."""
    found = {}
    for person in people():
        for i, attribute in enumerate(ATTRIBUTES):
            template = lexicon.PHRASINGS[attribute][person.held_out[i]]
            value = person.values[i]
            sentence = template.format(name=person.name, value=value)
            found[sentence] = person.rank, value
    return found


def test_a_fact_is_asked_in_its_held_out_phrasing_and_its_answer_is_true():
    for probe in asked("fact"):
        heading, sentence = probe.prompt.split(" . ")
        (answer,) = probe.answer
        assert heading == "Register" and probe.working == 0
        rank, value = facts()[f"{sentence} {answer} ."]
        assert value == answer and 10 * rank // PEOPLE == probe.level


def test_facts_are_all_different_and_of_every_attribute():
    assert len({probe.prompt for probe in asked("fact")}) == N["fact"]
    of = {values: a for a in ATTRIBUTES for values in [questions.values(a)]}
    kinds = collections.Counter(
        of[tuple(value for (value,) in probe.candidates)] for probe in asked("fact")
    )
    assert set(kinds) == set(ATTRIBUTES)


def test_the_sentence_of_a_fact_never_stands_in_training():
    sentences = {f"{p.prompt.split(' . ')[1]} {p.answer[0]} ." for p in asked("fact")}
    told = " ".join(
        " ".join(d.words) for d in almanac.documents("train", 100, kind="register")
    )
    assert not any(sentence in told for sentence in sentences)
    assert all(probe.answer[0] not in probe.prompt.split() for probe in asked("fact"))


def test_every_fact_of_a_decile_can_be_asked_at_once():
    n = 204 * len(ATTRIBUTES)  # the smaller deciles have 204 people
    found = probes("fact", 10 * n)
    assert len({probe.prompt for probe in found}) == len(found) == 10 * n
    with pytest.raises(ValueError, match="asks for 1225 facts .+ at most 12240"):
        probes("fact", 10 * n + 10)


# --- chains ---

START = re.compile(r"Ledger \. (\w+) starts with (\d+) coins , (.+) \. Count :")


def worked(prompt):
    """The working of a chain by other means: its words, and the result."""
    first, total, deeds = START.fullmatch(prompt).groups()
    total, said = int(total), []
    for deed in deeds.split(" , "):
        verb, n = deed.split()
        after = total + int(n) * {"earns": 1, "pays": -1}[verb]
        sign = {"earns": "plus", "pays": "minus"}[verb]
        said.append(f"{total} {sign} {n} is {after}")
        total = after
    return f"{' , '.join(said)} . So {first} has".split(), str(total)


def test_a_chain_has_as_many_steps_as_its_level():
    for probe in asked("chain"):
        deeds = START.fullmatch(probe.prompt)[3]
        assert len(deeds.split(" , ")) == probe.level


def test_the_answer_of_a_chain_is_the_sum_and_its_working_all_words_before():
    for probe in asked("chain"):
        words, total = worked(probe.prompt)
        assert probe.answer == (total,) and probe.working == len(words)


def test_prompt_working_and_answer_are_a_ledger_of_the_language(monkeypatch):
    for probe in asked("chain")[:15]:  # those of three steps and fewer
        words, total = worked(probe.prompt)
        monkeypatch.setattr(language, "LEDGER_STEPS", (probe.level,))
        whole = [*probe.prompt.split(), *words, total, "coins", "."]
        assert len(derivation_entropies(whole)) == 1


def test_a_chain_can_end_at_any_number_of_the_language():
    candidates = asked("chain")[0].candidates
    assert candidates == tuple((str(n),) for n in range(100))


# --- recall ---

PUT = re.compile(r"(?:holds|lies|keep) (\w+) (\d+)")
QUESTION = re.compile(r"(?:Please bring|Who took) (\w+)$")


def test_the_answer_of_a_recall_probe_is_the_number_the_thing_was_put_under():
    for probe in asked("recall"):
        thing = QUESTION.search(probe.prompt)[1]
        put = [number for one, number in PUT.findall(probe.prompt) if one == thing]
        assert put == list(probe.answer) and probe.working == 0


def test_the_answer_lies_as_many_tokens_back_as_the_level_says():
    for probe in asked("recall"):
        words = probe.prompt.split()
        number = words.index(words[-1]) + 1
        assert words[number] == probe.answer[0]
        back = len(words) - number  # from the word to say to where it stands
        assert abs(back - probe.level) <= probe.level / 8


def test_levels_of_distance_do_not_overlap():
    for near, far in itertools.pairwise(RECALL_LEVELS):
        assert near * 9 / 8 < far * 7 / 8


def test_recall_is_asked_from_documents_of_the_test_split(monkeypatch):
    taken, stream = [], questions.stream

    def watched(split, **options):
        for document in stream(split, **options):
            taken.append(document)
            yield document

    monkeypatch.setattr(questions, "stream", watched)
    found = probes("recall", 6)
    assert {document.split for document in taken} == {"test"}
    starts = {" ".join(document.words) for document in taken}
    assert all(any(s.startswith(p.prompt) for s in starts) for p in found)


def test_a_thing_may_be_put_under_any_number():
    assert {len(probe.candidates) for probe in asked("recall")} == {100}
    assert len({probe.answer for probe in asked("recall")}) > len(RECALL_LEVELS)
