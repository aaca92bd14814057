"""A new chapter: people whose names are free, pages that teach, questions that ask."""

import pytest
import torch
from helpers.tiny import tokenizer as tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.almanac import chapter, lexicon
from minquant.almanac.language import vocabulary
from minquant.almanac.people import ATTRIBUTES, PEOPLE, people, values

WHO = chapter.newcomers(5, seed=3)
quick = settings(max_examples=15, deadline=None)


@quick
@given(st.integers(1, 300), st.integers(0, 9))
def test_newcomers_bear_names_that_nobody_has(n, seed):
    made = chapter.newcomers(n, seed=seed)
    names = [one.name for one in made]
    assert len(made) == n == len(set(names))
    assert not set(names) & {one.name for one in people()}
    assert made == chapter.newcomers(n, seed=seed)
    for one in made:
        assert one.female == (one.first in lexicon.names()["she"])
        assert all(v in values(a) for v, a in zip(one.values, ATTRIBUTES, strict=True))


def test_all_free_names_can_be_taken_and_not_one_more():
    free = 128 * 128 - PEOPLE
    assert len({one.name for one in chapter.newcomers(free)}) == free
    with pytest.raises(ValueError, match=f"n is {free + 1}; there are {free} free"):
        chapter.newcomers(free + 1)
    with pytest.raises(ValueError, match="n is 0"):
        chapter.newcomers(0)


def test_another_seed_gives_other_people():
    assert chapter.newcomers(5, seed=3) != chapter.newcomers(5, seed=4)


@quick
@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 3))
def test_pages_tell_every_fact_so_many_times(times, facts, seed):
    told = {}
    for page in chapter.pages(WHO, times, facts=facts, seed=seed):
        assert page.words[:2] == ("Register", ".")
        for at in page.value_at:
            told[page.words[at]] = told.get(page.words[at], 0) + 1
            assert page.words[at + 1] == "."
    everyone = [value for one in WHO for value in one.values]
    assert told == {value: times * everyone.count(value) for value in everyone}


def shown(pages):
    """The sentences of pages."""
    text = " ".join(word for page in pages for word in page.words)
    return {sentence.strip() for sentence in text.split(" .")}


def test_a_question_is_never_on_a_page_and_all_its_other_phrasings_are():
    sentences = shown(chapter.pages(WHO, 40))
    probes = chapter.questions(WHO)
    assert len(probes) == 6 * len(WHO)
    for probe in probes:
        asked = probe.prompt.removeprefix("Register . ")
        assert f"{asked} {probe.answer[0]}".strip() not in sentences
    assert len(sentences) >= 3 * len(probes)


def test_a_question_asks_for_the_value_that_the_pages_tell():
    one = WHO[0]
    probe = chapter.questions([one])[ATTRIBUTES.index("town")]
    assert one.name in probe.prompt and probe.answer == (one.values[0],)
    assert probe.level == 0 and probe.chance == 1 / 64
    assert probe.answer in probe.candidates


def test_rehearsal_adds_facts_of_the_almanac_and_takes_none_away():
    (page,) = chapter.pages(WHO[:1], 1, facts=6, old=10, seed=1)
    assert len(page.value_at) == 16
    new = sum(page.words.count(family) for family in {WHO[0].family})
    assert new >= 6
    known = {(one.first, one.family) for one in people()}
    pairs = list(zip(page.words, page.words[1:], strict=False))
    assert sum(pair in known for pair in pairs) >= 10
    assert sum(pair == (WHO[0].first, WHO[0].family) for pair in pairs) == 6


class Words:
    """A tokenizer with a token for every word of the almanac."""

    bos_token, pad_token_id = "<bos>", 0

    def __init__(self):
        self.words = vocabulary()
        self.ids = {word: i for i, word in enumerate(self.words)}

    def convert_tokens_to_ids(self, tokens):
        return [self.ids[token] for token in tokens]

    def convert_ids_to_tokens(self, ids):
        return [self.words[i] for i in ids]


def test_batches_ask_for_the_values_and_for_nothing_else():
    words = Words()
    written = chapter.pages(WHO, 1, facts=7)
    made = chapter.batches(words, written, 2)
    assert sum(len(ids) for ids, _ in made) == len(written) == 5
    asked = []
    for ids, labels in made:
        assert ids.shape == labels.shape
        assert (ids[:, 0] == 1).all()
        at = labels != chapter.IGNORED
        assert torch.equal(labels[at], ids[at])
        assert not at[ids == 0].any()
        asked += words.convert_ids_to_tokens(labels[at].tolist())
    assert asked == [page.words[at] for page in written for at in page.value_at]


def test_a_tokenizer_without_these_words_is_refused():
    with pytest.raises(ValueError, match="no tokens of this tokenizer; they need a"):
        chapter.batches(tiny_tokenizer(), chapter.pages(WHO, 1), 2)
