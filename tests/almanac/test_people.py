"""The people: nothing about them can be guessed, and fame is Zipf's."""

import collections
import math
from random import Random

import pytest

from minquant.almanac import lexicon
from minquant.almanac.people import (
    ATTRIBUTES,
    PEOPLE,
    cumulative_fame,
    fame,
    fame_of_first_name,
    people,
    values,
)
from minquant.almanac.writing import Writer


def uneven(counts, k):
    """Pearson's chi-square of these counts against an even draw among k, minus its
    mean, in standard deviations."""
    n = sum(counts)
    squares = [(c - n / k) ** 2 for c in counts] + [(n / k) ** 2] * (k - len(counts))
    return (sum(squares) / (n / k) - (k - 1)) / math.sqrt(2 * (k - 1))


def test_everyone_has_a_name_of_their_own():
    assert len({person.name for person in people()}) == PEOPLE == 2048
    assert [person.rank for person in people()] == list(range(PEOPLE))


def test_a_woman_has_the_first_name_of_a_woman():
    names = lexicon.names()
    for person in people():
        assert person.first in names["she" if person.female else "he"]
        assert person.family in names["family"]


def test_people_are_the_same_whenever_they_are_made():
    before = people()
    people.cache_clear()
    assert people() == before and people() is not before


def test_the_first_is_a_thousand_times_as_famous_as_the_last():
    assert fame()[0] / fame()[-1] == pytest.approx(1000, rel=1e-12)
    assert sum(fame()) == pytest.approx(1, rel=1e-12)
    assert list(fame()) == sorted(fame(), reverse=True)


def test_fame_is_a_power_of_the_rank():
    """Zipf: in logarithms a straight line, here from 1 to 1000 over 2048 ranks."""
    slope = math.log(1000) / math.log(2048)
    for rank in (1, 3, 31, 1023):
        assert fame()[0] / fame()[rank] == pytest.approx((rank + 1) ** slope)


def test_running_sums_of_fame_end_at_one():
    assert cumulative_fame()[2] == pytest.approx(sum(fame()[:3]))
    assert cumulative_fame()[-1] == pytest.approx(1, rel=1e-12)


def test_the_fame_of_first_names_adds_up_to_everyone():
    firsts = {person.first for person in people()}
    assert sum(map(fame_of_first_name, firsts)) == pytest.approx(1, rel=1e-12)
    assert fame_of_first_name("Nobody") == 0


def test_people_are_met_as_often_as_they_are_famous():
    writer, n = Writer(Random(3)), 20_000
    met = collections.Counter(writer.person().rank for _ in range(n))
    for ranks in (range(1), range(1, 10), range(10, 200), range(1000, PEOPLE)):
        p = sum(fame()[rank] for rank in ranks)
        error = sum(met[rank] for rank in ranks) / n - p
        assert abs(error) < 4 * math.sqrt(p * (1 - p) / n)


def test_deciles_hold_a_tenth_of_all_people_each_the_most_famous_first():
    sizes = collections.Counter(person.decile for person in people())
    assert list(sizes) == list(range(10)) and set(sizes.values()) == {204, 205}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_the_values_of_an_attribute_are_drawn_evenly(attribute):
    i = ATTRIBUTES.index(attribute)
    counts = collections.Counter(person.values[i] for person in people())
    assert set(counts) <= set(values(attribute))
    assert abs(uneven(counts.values(), len(values(attribute)))) < 4


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_value_tells_nothing_of_fame(attribute):
    """With the ranks halved, the value is as evenly spread in either half."""
    i, half = ATTRIBUTES.index(attribute), PEOPLE // 2
    for part in (people()[:half], people()[half:]):
        counts = collections.Counter(person.values[i] for person in part)
        assert abs(uneven(counts.values(), len(values(attribute)))) < 4


def test_one_value_of_a_person_tells_nothing_of_another():
    pairs = collections.Counter(
        (person.values[1], person.values[3]) for person in people()
    )
    k = len(values(ATTRIBUTES[1])) * len(values(ATTRIBUTES[3]))
    assert abs(uneven(pairs.values(), k)) < 4


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_each_phrasing_is_held_out_of_a_quarter_of_the_facts(attribute):
    i = ATTRIBUTES.index(attribute)
    counts = collections.Counter(person.held_out[i] for person in people())
    assert set(counts) == {0, 1, 2, 3} and abs(uneven(counts.values(), 4)) < 4
