"""Invented people in English: what is said of them, and what is asked."""

import pytest
import torch
from helpers import tiny

from minquant.course.qlora import strangers


def test_the_same_seed_gives_the_same_people_and_another_seed_others():
    one, two, other = (strangers.strangers(9, seed=seed) for seed in (3, 3, 4))
    assert one == two != other
    assert len({person.name for person in one}) == 9


def test_no_sentence_says_a_fact_as_its_question_does():
    who = strangers.strangers(20)
    said = strangers.sentences(who, 6)
    assert len(said) == 20 * 4 * 6
    asked = {q.prompt: q.answers for q in strangers.questions(who)}
    assert len(asked) == 80
    assert not asked.keys() & {start for start, _ in said}
    for start, answer in said:  # the answers are those of the questions
        assert any(
            person.name in start and answer.strip() in person.answers.values()
            for person in who
        )


def test_every_fact_has_four_ways_and_twelve_answers():
    for forms, answers in strangers.FACTS.values():
        ways = [form.strip() for form in forms.split("|")]
        assert len(ways) == len(set(ways)) == strangers.WAYS
        assert all(way.count("{}") == 1 for way in ways)
        assert len(set(answers.split())) == 12


def test_only_answers_have_labels():
    tokenizer = tiny.tokenizer()
    said = [("a b c", " d"), ("a", " b")]
    ((ids, labels),) = strangers.batches(tokenizer, said, 2)
    d, b = tokenizer.convert_tokens_to_ids(["d", "b"])
    assert labels.tolist() == [[-100, -100, -100, -100, d], [-100, -100, b, -100, -100]]
    assert torch.equal(ids[labels != -100], labels[labels != -100])
    assert len(strangers.batches(tokenizer, said * 3, 4)) == 2


def test_too_many_people_are_refused():
    with pytest.raises(ValueError, match="n is 0; choose 1 to 400"):
        strangers.strangers(0)
