"""The exam: what is asked, how answers are marked, and what two exams say together."""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from itertools import takewhile

import pytest
import torch
from helpers import tiny

from minquant.measure import exam_items
from minquant.measure.exam import Exam, Score, _goes_on, compare_exams, exam
from minquant.measure.exam_items import Question, questions
from minquant.measure.intervals import wilson
from minquant.methods.rtn import quantize_rtn
from minquant.models.kv_cache import Rounding, rounding
from minquant.models.load import load
from minquant.models.quantize import quantize
from minquant.models.w8a8 import w8a8
from minquant.numerics.grids import zero_point

CHAIN = {"a": "b", "b": "c", "c": "d", "x": "y"}


def question(prompt, *answers, group="word", fact=None, phrasing=0, **more):
    """A question of the tiny language."""
    answers = tuple(f" {answer}" for answer in answers)
    fact = prompt if fact is None else fact
    return Question(group, "all", fact, phrasing, prompt, answers, **more)


def asked_of(model, asked, **options):
    """The exam of a tiny model."""
    tokenizer = tiny.tokenizer(ends=False)
    return exam(model, tokenizer, asked, progress=False, **options)


# --- marking ---


def test_an_answer_is_right_if_greedy_writing_gives_all_of_it():
    asked = [question("a", "b"), question("a", "b c"), question("a", "b d")]
    asked += [question("z a", "c"), question("x", "y")]
    found = asked_of(tiny.Scripted(CHAIN), asked)
    assert found.right.tolist() == [True, True, False, False, True]


def test_logp_is_the_sum_over_the_answers_tokens():
    found = asked_of(tiny.Scripted(CHAIN), [question("a", "b c"), question("a", "c")])
    rest = len(tiny.tokenizer().get_vocab()) - 1  # logits: 1 for the next word, else 0
    right = 1 - math.log(math.e + rest)
    wrong = -math.log(math.e + rest)
    assert found.logp.tolist() == pytest.approx([2 * right, wrong], abs=1e-5)


def test_several_right_answers_count_together():
    model = tiny.model()
    both = asked_of(model, [question("a b", "c", "d e")])
    alone = [asked_of(model, [question("a b", x)]).logp.item() for x in ("c", "d e")]
    assert both.logp.item() == pytest.approx(math.log(sum(map(math.exp, alone))))
    asked = [question("a", "z", "b"), question("a", "y", "z")]
    assert asked_of(tiny.Scripted(CHAIN), asked).right.tolist() == [True, False]


class Pieces:
    """A tokenizer whose tokens are pieces of text."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, ids):
        return "".join(self.pieces[i] for i in ids)


@pytest.mark.parametrize(
    ("piece", "goes_on"),
    [("9", True), ("th", True), ("é", True), (".", False), (" 9", False), ("", False)],
)
def test_a_word_must_end_where_the_answer_ends(piece, goes_on):
    assert _goes_on(Pieces(" 7", piece), [0], 1) is goes_on


def test_an_answer_whose_word_goes_on_is_wrong(monkeypatch):
    asked, model = [question("a", "b"), question("b", "c")], tiny.Scripted(CHAIN)
    found = []
    monkeypatch.setattr(
        "minquant.measure.exam._goes_on",
        lambda _, answer, after: bool(found.append((answer, after))) or len(found) == 1,
    )
    assert asked_of(model, asked).right.tolist() == [False, True]
    b, c, d = (tiny.tokenizer().get_vocab()[word] for word in "bcd")
    assert found == [([b], c), ([c], d)]  # an answer, and what is most likely then


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_what_questions_share_is_read_once_and_changes_nothing(kind):
    model = tiny.model(kind)
    calls = []
    model.register_forward_pre_hook(
        lambda _, __, given: calls.append(tuple(given["input_ids"].shape)),
        with_kwargs=True,
    )
    context = "a b c d e f g h i j k l"  # longer than the sliding windows
    ends = [" m", " m n", " o p q", " r"]
    asked = [
        replace(question(end, "s", "t u"), context=context, fact=end) for end in ends
    ]
    asked += [question(f"b c {x}", "y", fact=x) for x in "defg"]
    together = asked_of(model, asked)
    assert (1, 13) in calls  # <bos> and the context
    assert (4, 2) in calls  # of b c d: d and its answer, four at once
    alone = [asked_of(model, [q]) for q in asked]
    assert torch.cat([e.logp for e in alone]).allclose(together.logp, atol=1e-4)
    assert torch.equal(torch.cat([e.right for e in alone]), together.right)


def test_a_model_whose_weights_can_be_trained_is_asked_without_gradients():
    asked = [question(f"{x} b", "c", context="a b c d ", fact=x) for x in "opq"]
    model = tiny.model()
    plain = asked_of(model, asked).logp
    found = asked_of(model.requires_grad_(True), asked).logp
    assert torch.equal(found, plain) and not found.requires_grad


def test_a_model_may_be_asked_while_its_cache_or_its_products_are_rounded():
    model = tiny.model()
    asked = [
        question(f"{x} b", "c", context="a b c d e f g h i j k l m n ", fact=x)
        for x in "opqrst"
    ]
    plain = asked_of(model, asked).logp
    with rounding(model, Rounding(8, 8, group=4, window=0), chunk=4):
        cached = asked_of(model, asked).logp
    with rounding(model, Rounding(2, 2, group=4, window=0), chunk=4):
        coarse = asked_of(model, asked).logp
    with w8a8(model, "vector_wise"):
        whole = asked_of(model, asked).logp
    assert (cached - plain).abs().max() < 0.2 and not torch.equal(cached, plain)
    assert (coarse - plain).abs().max() > (cached - plain).abs().max()
    assert (whole - plain).abs().max() < 0.5 and not torch.equal(whole, plain)
    assert torch.equal(asked_of(model, asked).logp, plain)  # and nothing is left behind


def test_groups_can_be_chosen_and_unknown_ones_are_refused():
    asked = [question("a", "b"), question("b", "c", group="other")]
    model = tiny.Scripted(CHAIN)
    assert [q.group for q in asked_of(model, asked, groups=["other"]).questions] == [
        "other"
    ]
    with pytest.raises(
        ValueError, match="group 'maths' is unknown; there are word, oth"
    ):
        asked_of(model, asked, groups=["maths"])
    with pytest.raises(ValueError, match="asked is empty"):
        asked_of(model, [])


def test_an_answer_that_is_no_known_token_is_refused():
    with pytest.raises(
        ValueError, match="asked holds 'a' with the answer ' paris'.*<unk>"
    ):
        asked_of(tiny.model(), [question("a", "paris")])
    with pytest.raises(ValueError, match="with the answer ' '"):
        asked_of(tiny.model(), [question("a", "")])


def test_a_tokenizer_that_joins_question_and_answer_is_refused():
    joined = tiny.tokenizer(["a", "ab", "b"], ends=False)
    asked = [Question("word", "all", "a", 0, "a", ("b",))]
    with pytest.raises(ValueError, match=r"but as \['<bos>', 'ab'\]"):
        exam(tiny.model(), joined, asked, progress=False)


def test_a_text_that_is_too_long_is_refused_with_its_group():
    long = question("c", "d", context="a b " * 40, group="recall")
    with pytest.raises(ValueError, match="group 'recall' has a question of 83 tokens"):
        asked_of(tiny.model(), [question("a", "b"), long])


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        asked_of(tiny.model().train(), [question("a", "b")])


# --- two exams ---


def made_up(right, logp=None, phrasings=2):
    """An exam of made-up marks: `right` in rows of a fact's phrasings."""
    flat = [bool(mark) for row in right for mark in row]
    asked = tuple(
        question("a", "b", fact=f"fact {i // phrasings}", phrasing=i % phrasings)
        for i in range(len(flat))
    )
    logp = torch.zeros(len(flat)) if logp is None else torch.tensor(logp)
    return Exam(asked, torch.tensor(flat), logp)


def test_a_share_is_over_all_questions_and_its_interval_over_facts():
    twice = made_up([[1, 1], [0, 0]] * 20)
    once = made_up([[1], [0]] * 20, phrasings=1)
    score = twice.groups()["word"]
    assert score == once.groups()["word"]  # asking again adds no fact
    assert (score.mean, score.facts) == (0.5, 40)
    assert twice.levels("word") == {"all": score}
    with pytest.raises(ValueError, match="group 'maths' is unknown"):
        twice.levels("maths")


def test_where_all_facts_are_alike_the_interval_is_wilsons():
    assert made_up([[1, 1]] * 9).groups()["word"] == Score(1.0, *wilson(9, 9), 9)


def test_a_group_of_few_facts_says_so():
    assert repr(made_up([[1, 0]] * 30).groups()["word"]).endswith("of 30 facts (few)")
    assert repr(made_up([[1, 0]] * 100).groups()["word"]).endswith("of 100 facts")


def test_differences_are_in_pairs():
    before = made_up([[1, 1], [1, 0], [0, 0]], [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0])
    after = made_up([[1, 0], [0, 0], [0, 0]], [-2.0, -3.0, -4.0, -5.0, -6.0, -7.0])
    changed = compare_exams(before, after)
    points, nats = changed.groups()["word"], changed.nats()["word"]
    assert points.mean == pytest.approx(-100 * 2 / 6) and points.unit == "points"
    assert (nats.mean, nats.low, nats.high) == pytest.approx((-1, -1, -1))
    assert nats.unit == "nats/answer"


def test_what_it_knew_is_judged_on_another_phrasing():
    before = made_up([[1, 1], [1, 0], [0, 0]])
    after = made_up([[1, 0], [1, 1], [1, 1]])
    # known by (0, asked by 1): facts 0 and 1; known by (1, asked by 0): fact 0
    kept = compare_exams(before, after).kept()["word"]
    assert kept.before == pytest.approx(2 / 3)  # right at: 1 0; 1
    assert kept.after == pytest.approx(2 / 3)  # right at: 0 1; 1
    assert kept.facts == 2 and kept.difference.mean == pytest.approx(0)


def test_luck_does_not_look_like_loss():
    """Two models that know nothing and guess: of what the first got right, the second
    gets half right, and yet nothing was lost."""
    generator = torch.Generator().manual_seed(0)
    guesses = torch.rand(2, 4000, 3, generator=generator) < 0.5
    before, after = (made_up(g.tolist(), phrasings=3) for g in guesses)
    naive = after.right[before.right].float().mean().item()
    assert naive == pytest.approx(0.5, abs=0.02)  # from 1: seems a great loss
    kept = compare_exams(before, after).kept()["word"]
    assert kept.difference.low < 0 < kept.difference.high
    assert abs(kept.difference.mean) < 2


def test_a_group_of_which_nothing_was_known_has_nothing_to_lose():
    before, after = made_up([[0, 0], [0, 0]]), made_up([[1, 1], [1, 1]])
    assert compare_exams(before, after).kept() == {}


def test_exams_of_other_questions_cannot_be_compared():
    with pytest.raises(ValueError, match="before was asked 4 questions and after 2"):
        compare_exams(made_up([[1, 1], [1, 0]]), made_up([[1, 1]]))


# --- the questions ---


def facts_of(group):
    """The phrasings of each fact of a group."""
    found = defaultdict(list)
    for q in questions():
        if q.group == group:
            found[q.fact].append(q)
    return found


GROUPS = list(dict.fromkeys(q.group for q in questions()))


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_a_hundred_facts_each_in_all_phrasings(group):
    facts = facts_of(group)
    row = f"    {group:10}"
    (line,) = (x for x in exam_items.__doc__.splitlines() if x.startswith(row))
    *_, n, phrasings = line.split()
    assert len(facts) == int(n) >= 100
    for same in facts.values():
        assert [q.phrasing for q in same] == list(range(int(phrasings)))
        assert len({q.context + q.prompt for q in same}) == len(same)


def test_no_question_comes_twice_and_no_answer_stands_twice():
    asked = Counter(q.context + q.prompt for q in questions())
    assert max(asked.values()) == 1
    assert all(len(set(q.answers)) == len(q.answers) for q in questions())


def test_the_examples_are_not_asked():
    """What all prompts of a phrasing begin with holds the examples, and none of the
    questions with its answer."""
    alike = defaultdict(list)
    for q in questions():
        if q.group not in ("recall", "form"):
            alike[q.group, q.level.split()[0], q.level[-5:], q.phrasing].append(q)
    assert len(alike) > 40
    for same in alike.values():
        columns = zip(*(q.prompt for q in same), strict=False)
        said = "".join(c[0] for c in takewhile(lambda c: len(set(c)) == 1, columns))
        assert len(said) > 13
        for q in same:
            asked = q.prompt[len(said) :]
            assert not any(f"{asked}{answer}" in said for answer in q.answers), q


def test_things_of_a_passage_are_said_once_with_their_number():
    for same in facts_of("recall").values():
        thing = same[0].fact.split(": ")[1]
        for q in same:
            assert q.context.count(thing) == 1
            assert f"the {thing} is{q.answers[0]}." in q.context


@pytest.fixture(scope="module")
def smollm2():
    return load("smollm2")


def test_a_real_tokenizer_finds_every_answer_and_the_distances_said(smollm2):
    _, tokenizer = smollm2
    for q in questions():
        text = q.context + q.prompt
        ids = tokenizer(text)["input_ids"]
        for answer in q.answers:
            more = tokenizer(text + answer)["input_ids"]
            assert more[: len(ids)] == ids and len(more) > len(ids)
            assert tokenizer.decode(more[len(ids) :]) == answer
        if q.group == "recall":
            said = q.context.index(f"is{q.answers[0]}.")
            before = tokenizer(q.context[: said + 2])["input_ids"]
            back = len(ids) - len(before)
            wanted = int(q.level.split()[0])
            assert abs(back - wanted) <= 35 + wanted / 80, (q.fact, back)


def test_a_real_model_knows_some_answers_and_a_ruined_one_none(smollm2):
    model, tokenizer = smollm2
    asked = [q for q in questions() if q.group in ("capital", "form")]
    asked = [q for q in asked if q.phrasing == 0][::16]
    found = exam(model, tokenizer, asked, progress=False)
    assert found.groups()["form"].mean > 0.8
    known = {q.fact for q, right in zip(asked, found.right, strict=True) if right}
    assert known
    two_bits = partial(quantize_rtn, grid=zero_point(2))
    ruined, _ = quantize(model, two_bits, progress=False)
    lost = compare_exams(found, exam(ruined, tokenizer, asked, progress=False))
    assert lost.groups()["form"].mean < -50 and lost.nats()["capital"].mean < -2
