"""The shop window: every exercise by its name, its solution, and no false alarm."""

import html
import inspect
from itertools import combinations

import pytest

from minquant.course import answers, checks
from minquant.course.exercises import Exercise
from minquant.numerics import floats, grids

NAMES = sorted(checks.EXERCISES)


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_passes_its_own_check(name):
    verdict = checks.EXERCISES[name](getattr(answers, name))
    assert verdict, verdict


@pytest.mark.parametrize("name", NAMES)
def test_every_known_mistake_fails_and_is_named_as_itself(name):
    exercise = checks.EXERCISES[name]
    assert len(exercise.mistakes) >= 3
    for words, wrong in exercise.mistakes.items():
        verdict = exercise(wrong)
        assert not verdict
        assert verdict.mistake == words


@pytest.mark.parametrize("name", NAMES)
def test_no_two_mistakes_are_one(name):
    exercise = checks.EXERCISES[name]
    results = {
        words: [exercise._run(wrong, given) for given in exercise.cases.values()]
        for words, wrong in exercise.mistakes.items()
    }
    for one, other in combinations(results, 2):
        pairs = zip(results[one], results[other], strict=True)
        assert any(exercise._compare(a, b) for a, b in pairs), (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_learners_find_every_exercise_by_its_name(name):
    assert isinstance(getattr(checks, name), Exercise)
    assert getattr(checks, name) is checks.EXERCISES[name]
    assert name in checks.__all__


@pytest.mark.parametrize("name", NAMES)
def test_the_task_names_the_arguments_of_the_answer(name):
    names = list(inspect.signature(getattr(answers, name)).parameters)
    assert f"{name}({names[0]}" in checks.EXERCISES[name].task


def test_no_exercise_is_without_an_answer_and_no_answer_without_an_exercise():
    mine = [
        n
        for n, f in vars(answers).items()
        if inspect.isfunction(f) and f.__module__.startswith(answers.__name__)
    ]
    assert sorted(mine) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_the_package_s_own_source(name):
    shown = str(checks.solution(name))
    assert shown.startswith(("# minquant/answers.py\n", "# minquant/answers_"))
    assert f"def {name}(" in shown
    page = checks.solution(name)._repr_html_()
    assert page == f"<pre>{html.escape(shown)}</pre>"


def test_a_solution_goes_down_to_the_functions_that_it_calls():
    shown = str(checks.solution("absmax_row"))
    assert inspect.getsource(inspect.unwrap(grids.absmax)) in shown + "\n"
    shown = str(checks.solution("decode_float"))
    assert "def decode(self, pattern: int)" in shown
    assert floats.__name__.replace(".", "/") in shown


def test_an_unknown_exercise_is_named():
    with pytest.raises(ValueError, match="name 'gptq_row' is no exercise; choose from"):
        checks.solution("gptq_row")
