"""The words of the almanac: each is one token, and no two of a class are the same."""

import re

import pytest
from helpers.derivations import LONGEST

from minquant.almanac import lexicon
from minquant.almanac.writing import parts

TEMPLATES = [
    *lexicon.HEADINGS.values(),
    *lexicon.LEDGER.values(),
    *lexicon.PLACEMENTS,
    *lexicon.QUESTIONS,
    *(t for ways in lexicon.PHRASINGS.values() for t in ways),
    *(t for ways in lexicon.STORY.values() for t in ways),
]
PEOPLE = {"{name}", "{A}", "{B}"}  # slots of two words


def written(template):
    """How many words a template writes."""
    return sum(len(plain) or 1 + (slot in PEOPLE) for slot, plain in parts(template))


@pytest.mark.parametrize("name", lexicon.WORDS)
def test_a_class_lists_each_of_its_words_once(name):
    words = lexicon.WORDS[name]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch("[a-z]+", word) for word in words)


def test_invented_names_are_many_capitalised_and_all_different():
    found = lexicon.names()
    sizes = {"she": 64, "he": 64, "family": 128, "town": 64}
    assert {group: len(names) for group, names in found.items()} == sizes
    everyone = sum(found.values(), ())
    assert len(set(everyone)) == len(everyone)
    assert all(re.fullmatch("[A-Z][a-z]{2,}", name) for name in everyone)


def test_no_name_is_a_word_of_a_sentence():
    plain = {word for t in TEMPLATES for _, run in parts(t) for word in run}
    assert plain.isdisjoint(sum(lexicon.names().values(), ()))


def test_names_are_the_same_whenever_they_are_made():
    before = lexicon.names()
    lexicon.names.cache_clear()
    assert lexicon.names() == before and lexicon.names() is not before


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_word_of_a_template_is_one_token(template):
    for slot, plain in parts(template):
        assert not slot or re.fullmatch(r"\{\w+\}|\[\w+\]", slot)
        assert all(re.fullmatch(r"\w+|[.,?:]", word) for word in plain)


def test_no_template_writes_more_words_than_the_reader_looks_ahead():
    assert max(map(written, TEMPLATES)) <= LONGEST


def test_fresh_choices_are_from_classes_that_exist():
    chosen = {s[1:-1] for t in TEMPLATES for s, _ in parts(t) if s.startswith("[")}
    assert chosen <= set(lexicon.WORDS)


def test_every_fact_is_said_in_four_ways_with_its_value_last():
    assert len(lexicon.PHRASINGS) == 6
    for ways in lexicon.PHRASINGS.values():
        assert len(set(ways)) == 4
        assert all("{name}" in way and way.endswith("{value} .") for way in ways)


def test_what_a_story_plans_it_says():
    """The reader drops what the words do not show: it may, if all of it is shown."""
    told = [lexicon.STORY[beat] for beat in lexicon.BEATS]
    assert set(lexicon.BEATS) == set(lexicon.STORY)
    for plan in ("A", "B", "season", "sky", "road", "thing", "place"):
        assert any(all(f"{{{plan}}}" in t for t in ways) for ways in told), plan


def test_the_weather_of_every_season_is_its_own():
    assert tuple(lexicon.WEATHER) == lexicon.WORDS["season"]
    for sky, road in lexicon.WEATHER.values():
        assert len(set(sky)) == len(set(road)) == 3
