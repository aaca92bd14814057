"""Probes: right and wrong by script, shares by level, baselines by hand."""

import pytest
import torch
from helpers import tiny

from minquant.almanac.questions import Probe
from minquant.measure.probes import Accuracy, Share, accuracy, compare_accuracy

CHAIN = {"a": "b", "b": "c", "c": "d", "x": "y"}


def probe(prompt, answer, *, working=0, level=0, candidates=(("b",), ("c",), ("d",))):
    """A probe whose answer is among three."""
    return Probe(
        prompt=prompt,
        working=working,
        answer=tuple(answer.split()),
        kind="fact",
        level=level,
        chance=1 / 3,
        candidates=candidates,
    )


def test_a_model_that_is_right_on_every_probe_has_accuracy_1():
    asked = [probe("a", "b"), probe("b", "c"), probe("z a", "b c"), probe("x", "y")]
    found = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), asked)
    assert found.mean == 1.0 and found.correct.all()
    assert found.answers == ("b", "c", "b c", "y")


def test_a_wrong_word_anywhere_in_the_answer_is_wrong():
    asked = [probe("a", "c"), probe("a", "b d"), probe("a", "c c"), probe("a", "b c d")]
    found = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), asked)
    assert found.correct.tolist() == [False, False, False, True]
    assert found.interval() == Share(1, 4).interval()


def test_the_working_is_free_and_only_the_words_after_it_count():
    asked = [
        probe("a", "d", working=2),
        probe("a", "b", working=2),
        probe("a", "c", working=1),
    ]
    found = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), asked)
    assert found.correct.tolist() == [True, False, True]


def test_batched_by_length_a_model_answers_as_when_asked_alone():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    asked = [probe(text, "a") for text in tiny.texts_of("test", 12)]
    asked += [probe(text, "a b", working=3) for text in tiny.texts_of("train", 12)]
    alone = [accuracy(model, tokenizer, [p]).answers[0] for p in asked]
    assert list(accuracy(model, tokenizer, asked).answers) == alone


def test_levels_stand_in_order_with_their_own_shares():
    asked = [
        probe("a", "b", level=7),
        probe("b", "c", level=0),
        probe("a", "c", level=7),
    ]
    levels = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), asked).by_level()
    assert levels == {0: Share(1, 1), 7: Share(1, 2)} and list(levels) == [0, 7]


def test_chance_and_majority_as_counted_by_hand():
    towns, years = (("b",), ("c",)), (("d",), ("e",), ("f",), ("g",))
    asked = [probe("a", "b", candidates=towns)] * 3 + [
        probe("a", "c", candidates=towns)
    ]
    asked += [probe("a", word, candidates=years) for word in "defg"]
    found = Accuracy(tuple(asked), torch.zeros(8, dtype=torch.bool), ("",) * 8)
    assert found.majority == (3 + 1) / 8  # three of four towns, one of four years
    assert found.chance == pytest.approx(1 / 3)
    assert found.mean == 0.0


def test_of_two_models_the_points_lost_and_won_are_paired_by_probe():
    asked = [probe("a", "b", level=i % 2) for i in range(40)]
    words = ("",) * 40
    a = Accuracy(tuple(asked), torch.arange(40) < 30, words)
    b = Accuracy(tuple(asked), torch.arange(40) >= 20, words)  # loses 20, wins 10
    found = compare_accuracy(a, b)
    assert found.total.mean == pytest.approx(-25.0) and found.total.unit == "points"
    assert found.total.low < -25 < found.total.high
    assert "20 lost, 10 won of 40" in repr(found)
    assert {k: d.mean for k, d in found.by_level().items()} == {0: -25.0, 1: -25.0}
    same = compare_accuracy(a, a)
    assert (same.total.mean, same.total.low, same.total.high) == (0, 0, 0)


def test_different_probes_do_not_compare():
    a = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), [probe("a", "b")])
    b = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), [probe("b", "c")])
    with pytest.raises(ValueError, match="ask both the same list"):
        compare_accuracy(a, b)


def test_probes_need_a_model_that_speaks_their_language():
    with pytest.raises(ValueError, match="'Qum', which is no token of this tokenizer"):
        accuracy(tiny.model(), tiny.tokenizer(), [probe("a", "b Qum")])
    with pytest.raises(ValueError, match="probes is empty"):
        accuracy(tiny.model(), tiny.tokenizer(), [])


def test_a_share_says_its_number_and_its_interval():
    assert repr(Share(10, 10)) == "100.0% of 10 [72.2%, 100.0%]"
    found = accuracy(tiny.Scripted(CHAIN), tiny.tokenizer(), [probe("a", "b")])
    assert repr(found).endswith("; chance 33.3%, majority 100.0%")
