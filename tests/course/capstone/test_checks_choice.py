"""Lesson 12: planted mistakes about which file to take, as learners write them."""

import math

import pytest

from minquant.course import answers_serving
from minquant.course.capstone.checks_choice import choose


def holds(harms, lines, end=lambda mean, low, high: high):
    return all(end(*harms[measure]) <= lines[measure] for measure in lines)


def loop(candidates, lines, budget, good=holds):
    """What a learner writes: one candidate after the other, the best so far kept."""
    best, least = None, math.inf
    for name, nbytes, harms in candidates:
        if nbytes <= budget and nbytes < least and good(harms, lines):
            best, least = name, nbytes
    return best


def by_size(candidates, lines, budget, good=holds):
    """Or: from small to large, until one passes."""
    for name, nbytes, harms in sorted(candidates, key=lambda row: row[1]):
        if nbytes > budget:
            return None
        if good(harms, lines):
            return name
    return None


def passing(candidates, lines, budget):
    return [row for row in candidates if row[1] <= budget and holds(row[2], lines)]


def with_end(end, way=loop):
    return lambda *given: way(*given, good=lambda h, lines: holds(h, lines, end))


def not_seen(harms, lines):
    for measure, most in lines.items():
        _, low, high = harms[measure]
        if low > 0 and high > most:
            return False
    return True


def strictly(harms, lines):
    return not any(harms[measure][2] >= lines[measure] for measure in lines)


def some(harms, lines):
    return any(harms[measure][2] <= lines[measure] for measure in lines)


def too_soon(harms, lines):
    """It returns in the first round."""
    for measure, most in lines.items():
        return harms[measure][2] <= most


def overwritten(harms, lines):
    for measure, most in lines.items():
        good = harms[measure][2] <= most
    return good


def at_any_size(candidates, lines, budget):
    return loop(candidates, lines, math.inf)


def below(candidates, lines, budget):
    return loop([row for row in candidates if row[1] < budget], lines, budget)


def largest(candidates, lines, budget):
    good = sorted(passing(candidates, lines, budget), key=lambda row: -row[1])
    return good[0][0] if good else None


def mildest(candidates, lines, budget, size=lambda mean, low, high: mean):
    good = passing(candidates, lines, budget)
    harm = {row[0]: sum(size(*ends) for ends in row[2].values()) for row in good}
    return min(harm, key=harm.get) if harm else None


def first(candidates, lines, budget):
    for name, nbytes, harms in candidates:
        if nbytes <= budget and holds(harms, lines):
            return name
    return None


def by_name(candidates, lines, budget):
    good = passing(candidates, lines, budget)
    return sorted(good)[0][0] if good else None


def only_one(candidates, lines, budget, pick=min):
    fitting = [row for row in candidates if row[1] <= budget]
    name, _, harms = pick(fitting, key=lambda row: row[1])
    return name if holds(harms, lines) else None


def anyhow(candidates, lines, budget):
    fitting = [row for row in candidates if row[1] <= budget]
    good = [row for row in fitting if holds(row[2], lines)]
    return min(good or fitting, key=lambda row: row[1])[0]


def unprepared(candidates, lines, budget):
    return min(passing(candidates, lines, budget), key=lambda row: row[1])[0]


def indexed(candidates, lines, budget):
    return sorted(passing(candidates, lines, budget), key=lambda row: row[1])[0][0]


def default(candidates, lines, budget):
    good = passing(candidates, lines, budget)
    return min(good, key=lambda row: row[1], default=None)[0]


CHOICES = [
    (with_end(lambda mean, low, high: mean), "it looks at the mean"),
    (with_end(lambda mean, low, high: mean, by_size), "it looks at the mean"),
    (with_end(lambda mean, low, high: low), "it looks at low"),
    (lambda *given: loop(*given, good=not_seen), "an interval that reaches 0"),
    (lambda *given: loop(*given, good=strictly), "a high end exactly on the line"),
    (lambda *given: by_size(*given, good=some), "one line that holds is enough"),
    (lambda *given: loop(*given, good=too_soon), "only the first line decides"),
    (lambda *given: loop(*given, good=overwritten), "only the last line decides"),
    (lambda *given: loop(*given, good=lambda *_: True), "the lines are not looked at"),
    (at_any_size, "the budget is forgotten"),
    (below, "a file of exactly the budget fits"),
    (largest, "it takes the largest that passes"),
    (mildest, "it takes the one that harms least"),
    (
        lambda *given: mildest(*given, lambda *ends: max(ends)),
        "it takes the one that h",
    ),
    (first, "it takes the first that passes"),
    (by_name, "min() or sorted() compares tuples"),
    (only_one, "it looks at the smallest only"),
    (lambda *given: only_one(*given, max), "it looks at the largest that fits only"),
    (anyhow, "where none passes it gives one all the same"),
    (unprepared, "where none passes there is no smallest"),
    (indexed, "where none passes there is no smallest"),
    (default, "where none passes there is no smallest"),
]


@pytest.mark.parametrize(("yours", "words"), CHOICES)
def test_a_planted_mistake_of_the_choice_is_named(yours, words):
    assert choose(yours).mistake.startswith(words)


@pytest.mark.parametrize("yours", [loop, by_size])
def test_a_learner_s_own_way_to_choose_is_accepted(yours):
    verdict = choose(yours)
    assert verdict, verdict


def test_the_answer_passes_and_is_shown_first():
    assert choose(answers_serving.choose)
    assert choose.shows[0] is answers_serving.choose and len(choose.shows) == 2


def test_a_wrong_name_is_shown_beside_the_right_one():
    said = repr(choose(largest))
    assert "✗ room for all: the name is '8-bit', should be '4-bit B'" in said
    assert "✓ nothing holds both lines" in said
    assert "the name is '3-bit A', should be None" in repr(choose(anyhow))


def test_a_mistake_that_is_not_the_only_one_is_named_before_what_raises():
    def mean_and_unprepared(candidates, lines, budget):
        good = [
            (nbytes, name)
            for name, nbytes, harms in candidates
            if nbytes <= budget and all(harms[m][0] <= lines[m] for m in lines)
        ]
        return min(good)[1]

    assert choose(mean_and_unprepared).mistake.startswith("it looks at the mean")


def unfinished(candidates, lines, budget):
    """A function with no body yet."""
    raise NotImplementedError


@pytest.mark.parametrize(
    "yours", [None, ..., lambda *given: None, lambda *given: ..., unfinished]
)
def test_a_stub_is_left_alone(yours):
    assert not choose(yours).attempted


def test_what_gives_none_only_where_it_should_not_is_judged():
    verdict = choose(lambda *given: loop(*given) if given[2] > 900 else None)
    assert verdict.attempted and not verdict
    assert "should be None" not in repr(verdict)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda row: row, "it raised TypeError: it gave a tuple; give a candidate's"),
        (lambda row: row[1], "it gave a int; give a candidate's name, or None"),
    ],
)
def test_what_is_no_name_is_told_to_be_one(result, said):
    def whole(candidates, lines, budget):
        return result(min(passing(candidates, lines, budget), key=lambda row: row[1]))

    assert said in repr(choose(whole))


def test_what_sorts_the_list_that_it_was_given_is_told_to_work_on_a_copy():
    def in_place(candidates, lines, budget):
        candidates.sort(key=lambda row: row[1])
        return by_size(candidates, lines, budget)

    verdict = choose(in_place)
    assert "it changes its argument; work on a copy" in repr(verdict)
    assert verdict.mistake == "" and choose(loop)  # the cases are as they were


def test_what_only_raises_is_no_known_mistake():
    verdict = choose(lambda *given: 1 // 0)
    assert verdict.attempted and not verdict and verdict.mistake == ""
    assert "it raised ZeroDivisionError" in repr(verdict)


def test_a_result_instead_of_a_function_is_explained():
    assert "give the function itself: checks.choose(choose)" in repr(choose("4-bit A"))


def test_no_two_candidates_of_a_case_are_of_one_size():
    for candidates, _, _ in choose.cases.values():
        assert len({nbytes for _, nbytes, _ in candidates}) == len(candidates)


def test_intervals_lie_around_their_means():
    for candidates, _, _ in choose.cases.values():
        for _, _, harms in candidates:
            assert all(low < mean < high for mean, low, high in harms.values())
