"""The writer's sum of -log p by hand, and the reader that finds each row of choices."""

import math
from random import Random

import pytest
from helpers.derivations import LONGEST, Reader, derivations
from hypothesis import given
from hypothesis import strategies as st

from minquant.almanac import lexicon
from minquant.almanac.people import fame, fame_of_first_name, people
from minquant.almanac.writing import Writer, parts


class Rigged(Random):
    """Gives these numbers in turn."""

    def __init__(self, *numbers):
        self.numbers = iter(numbers)

    def random(self):
        return next(self.numbers)


def written(write, seed=0):
    """What a function writes: the words, and the writer's sum."""
    writer = Writer(Random(seed))
    write(writer)
    return writer.words, writer.nats


# --- the writer ---


def test_a_template_is_cut_into_plain_words_and_slots():
    assert parts("the {thing} .") == (("", ("the",)), ("{thing}", ()), ("", (".",)))
    assert parts("Count :") == (("", ("Count", ":")),)
    assert parts("{A}[mood]") == (("{A}", ()), ("[mood]", ()))


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_one_of_k_costs_log_k(k, number):
    writer = Writer(Rigged(number))
    assert writer.pick(range(k)) == int(number * k)
    assert writer.nats == math.log(k)


def test_weights_are_chances_up_to_a_factor():
    for number, chosen, chance in (
        (0.0, "a", 0.25),
        (0.24, "a", 0.25),
        (0.26, "b", 0.75),
    ):
        writer = Writer(Rigged(number))
        assert writer.pick("ab", (1, 3)) == chosen
        assert writer.nats == pytest.approx(-math.log(chance))


def test_what_has_no_weight_is_never_picked():
    writer = Writer(Random(0))
    assert {writer.pick("abc", (1, 0, 1)) for _ in range(200)} == {"a", "c"}


def test_a_person_costs_the_logarithm_of_their_fame():
    writer = Writer(Rigged(0.0, 1 - 1e-12))
    assert writer.person() is people()[0]
    assert writer.nats == pytest.approx(-math.log(fame()[0]))
    assert writer.person() is people()[-1]
    assert writer.nats == pytest.approx(-math.log(fame()[0]) - math.log(fame()[-1]))


def test_a_second_person_has_another_first_name_and_the_fame_of_those_left():
    first = people()[0]
    other = next(p for p in people() if p.first != first.first)
    number = sum(fame()[: other.rank]) + fame()[other.rank] / 2
    writer = Writer(Rigged(0.0, 0.0, number))  # the first is drawn twice again
    assert writer.person(but=first) is other
    left = 1 - fame_of_first_name(first.first)
    assert writer.nats == pytest.approx(-math.log(fame()[other.rank] / left))


def test_what_is_left_after_one_person_adds_up_to_one():
    first = people()[0]
    left = 1 - fame_of_first_name(first.first)
    others = (fame()[p.rank] / left for p in people() if p.first != first.first)
    assert sum(others) == pytest.approx(1)


def test_known_slots_are_free_and_fresh_ones_cost_a_choice():
    writer = Writer(Rigged(0.0))
    writer.say("The {thing} is [mood] .", {"thing": "old lamp"})
    assert writer.words == ["The", "old", "lamp", "is", "glad", "."]
    assert writer.nats == math.log(len(lexicon.WORDS["mood"]))


def test_a_fresh_thing_is_never_the_one_that_is_known():
    writer = Writer(Random(0))
    for _ in range(1000):
        writer.say("[thing]", {"thing": "lamp"})
    assert set(writer.words) == set(lexicon.WORDS["thing"]) - {"lamp"}
    k = len(lexicon.WORDS["thing"]) - 1
    assert writer.nats == pytest.approx(1000 * math.log(k))


# --- the reader ---


def two_coins(w):
    """Two fair coins and one that falls on its head nine times in ten."""
    for weights in (None, None, (9, 1)):
        w.say(w.pick(("head .", "tail ."), weights))


def test_the_reader_finds_the_sum_of_a_row_of_coins_by_hand():
    words = "head . tail . tail .".split()
    assert derivations(two_coins, words) == [pytest.approx(math.log(4) + math.log(10))]


@given(st.integers(0, 2**32))
def test_the_reader_finds_what_the_writer_summed(seed):
    words, nats = written(two_coins, seed)
    assert derivations(two_coins, words) == [pytest.approx(nats)]


def test_two_templates_that_write_the_same_are_two_derivations():
    def ambiguous(w):
        w.say(w.pick(("a [mood] {x} .", "a [mood] b .", "a glad b .")), {"x": "b"})

    k = len(lexicon.WORDS["mood"])
    found = derivations(ambiguous, "a glad b .".split())
    assert sorted(found) == pytest.approx([math.log(3)] + [math.log(3 * k)] * 2)
    proud = derivations(ambiguous, "a proud b .".split())
    assert proud == pytest.approx([math.log(3 * k)] * 2)


def test_a_choice_that_writes_nothing_makes_as_many_derivations():
    def undecided(w):
        w.pick(range(7))
        w.say("a .")

    assert derivations(undecided, ["a", "."]) == pytest.approx([math.log(7)] * 7)


@pytest.mark.parametrize("words", ["", "head .", "head . tail . tail . head .", "x"])
def test_words_that_cannot_be_written_have_no_derivation(words):
    assert derivations(two_coins, words.split()) == []


def test_the_probabilities_of_all_that_can_be_written_add_up_to_one():
    def three(w):
        k = w.pick((1, 2))
        for _ in range(k):
            w.say(w.pick(("a", "b", "c")))

    ways = [[a] for a in "abc"] + [[a, b] for a in "abc" for b in "abc"]
    sums = [derivations(three, words) for words in ways]
    assert sum(math.exp(-nats) for (nats,) in sums) == pytest.approx(1)


def test_people_are_read_back_by_name():
    def pair(w):
        a = w.person()
        w.say("{name}", {"name": a.name})
        w.say("and {name}", {"name": w.person(but=a).name})

    for seed in range(5):
        words, nats = written(pair, seed)
        found = derivations(pair, words, far_at=range(len(words)))
        assert found == [pytest.approx(nats)]


def test_what_is_written_beyond_the_next_line_is_read_back_if_planned_far():
    def late(w):
        known = {"x": w.pick(("lamp", "key"))}
        for _ in range(LONGEST):
            w.say("on")
        w.say("{x}", known)

    words = ["on"] * LONGEST + ["key"]
    assert derivations(late, words, far_at={0}) == [pytest.approx(math.log(2))]
    assert derivations(late, words) == []


def test_the_reader_drops_only_choices_that_lead_nowhere(monkeypatch):
    """Without any look ahead it finds the same, only later."""

    def line(w):
        number = w.pick(lexicon.NUMBERS)
        w.say(w.pick(lexicon.PLACEMENTS), {"thing": "key", "number": number})

    words, nats = written(line)
    quick = derivations(line, words)
    monkeypatch.setattr(Reader, "_possible", lambda self, o, w: range(len(o)))
    assert derivations(line, words) == quick == [pytest.approx(nats)]
