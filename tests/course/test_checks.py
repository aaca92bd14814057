"""The shop window: every exercise by its name, its solution, and no false alarm."""

import html
import inspect
import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from textwrap import dedent

import pytest
import torch

import minquant
from minquant import course
from minquant.course import checks
from minquant.course.exercises import Exercise

ROOT = Path(__file__).resolve().parents[2]

NAMES = sorted(checks.all_exercises())
LESSONS = list(checks._lessons())
HELPERS = {"wrong_roundings"}  # of lesson 02, which lesson 03 uses too


def answer_to(name):
    """The function of that name in the file in which the exercise stands."""
    exercise = getattr(checks, name)
    (lesson,) = [m for m in LESSONS if any(x is exercise for x in vars(m).values())]
    return getattr(lesson, name)


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_passes_its_own_check(name):
    verdict = getattr(checks, name)(answer_to(name))
    assert verdict, verdict


@pytest.mark.parametrize("name", NAMES)
def test_every_known_mistake_fails_and_is_named_as_itself(name):
    exercise = getattr(checks, name)
    assert len(exercise.mistakes) >= 3
    for words, wrong in exercise.mistakes.items():
        verdict = exercise(wrong)
        assert not verdict
        assert verdict.mistake == words


@pytest.mark.parametrize("name", NAMES)
def test_no_two_mistakes_are_one(name):
    exercise = getattr(checks, name)
    results = {
        words: [exercise._run(wrong, given) for given in exercise.cases.values()]
        for words, wrong in exercise.mistakes.items()
    }
    for one, other in combinations(results, 2):
        pairs = zip(results[one], results[other], strict=True)
        assert any(exercise._compare(a, b) for a, b in pairs), (one, other)


# --- how exercises are found ---


@pytest.mark.parametrize("name", NAMES)
def test_learners_find_every_exercise_by_its_name(name):
    assert isinstance(getattr(checks, name), Exercise)
    assert getattr(checks, name) is checks.all_exercises()[name]
    assert name in dir(checks)


@pytest.mark.parametrize("name", NAMES)
def test_the_task_names_the_arguments_of_the_answer(name):
    names = list(inspect.signature(answer_to(name)).parameters)
    assert f"{name}({names[0]}" in getattr(checks, name).task


def test_no_exercise_is_without_an_answer_and_no_answer_without_an_exercise():
    public = [
        name
        for lesson in LESSONS
        for name, function in vars(lesson).items()
        if inspect.isfunction(function)
        and function.__module__ == lesson.__name__
        and not name.startswith("_")
    ]
    assert sorted({*public} - HELPERS) == NAMES
    assert len(public) == len(NAMES) + len(HELPERS)


def test_all_lessons_with_exercises_are_found():
    names = {lesson.__name__.split(".")[2] for lesson in LESSONS}
    assert len(names) == len(LESSONS) >= 13 and {"start", "capstone"} <= names


def test_no_lesson_is_imported_before_an_exercise_is_asked_for():
    code = """
        import sys
        from minquant import checks
        from minquant.course.checks import solution
        assert not [name for name in sys.modules if name.endswith(".exercises")]
        assert "torch" not in sys.modules
        checks.gap
        assert "minquant.course.floats.exercises" in sys.modules
        assert "matplotlib" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", dedent(code)], check=True)


@pytest.fixture
def add_lesson(tmp_path, monkeypatch):
    """A way to give the course another lesson: its name, and what its file says."""
    monkeypatch.setattr(course, "__path__", [*course.__path__, str(tmp_path)])
    checks.all_exercises.cache_clear()

    def _add(lesson, text):
        (tmp_path / lesson).mkdir()
        (tmp_path / lesson / "__init__.py").write_text("")
        (tmp_path / lesson / "exercises.py").write_text(dedent(text))

    yield _add
    checks.all_exercises.cache_clear()
    for name in [*sys.modules]:
        if name.startswith(f"{course.__name__}.added"):
            monkeypatch.delitem(sys.modules, name)


def test_a_new_lesson_needs_no_line_in_the_registry(add_lesson):
    add_lesson(
        "added_twice",
        """
        from minquant.course.exercises import Exercise
        from minquant.course.start.exercises import check_model_bytes

        def twice(x):
            return 2 * x

        check_twice = Exercise("twice", "twice(x)", twice, {"one": (1,)}, {})
        """,
    )
    assert checks.twice(lambda x: x + x)
    assert "twice" in dir(checks)
    assert sorted(checks.all_exercises()) == sorted([*NAMES, "twice"])


def test_two_exercises_of_one_name_are_an_error(add_lesson):
    add_lesson(
        "added_gap",
        """
        from minquant.course.exercises import Exercise

        check_gap = Exercise("gap", "gap(x)", abs, {"one": (1,)}, {})
        """,
    )
    with pytest.raises(ValueError, match="two exercises have the name 'gap', in ") as e:
        checks.flips  # noqa: B018
    assert "minquant.course.added_gap.exercises" in str(e.value)
    assert "minquant.course.floats.exercises" in str(e.value)


def test_a_name_that_is_no_exercise_says_which_are():
    listed = ", ".join(NAMES)
    with pytest.raises(AttributeError, match="name 'gptq_row' is no exercise; ") as e:
        checks.gptq_row  # noqa: B018
    assert str(e.value).endswith(listed)
    with pytest.raises(ValueError, match="name 'gptq_row' is no exercise; choose from"):
        checks.solution("gptq_row")
    assert not hasattr(checks, "__path__")


# --- solutions ---


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_plain_pytorch_and_passes_the_check(name):
    exercise = getattr(checks, name)
    lines = [line for line in exercise.solution.splitlines() if line.strip()]
    assert 2 <= len(lines) <= 14
    assert all(len(line) <= 88 for line in lines)
    assert "minquant" not in exercise.solution and "mq." not in exercise.solution
    names = {"torch": torch, "math": math}
    exec(exercise.solution, names)
    verdict = exercise(names[name])
    assert verdict, verdict


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_says_where_the_package_does_it(name):
    *_, last = str(checks.solution(name)).splitlines()
    place = re.fullmatch(r"# in the package: (?:(mq\.)?(\w+), )?(\S+\.py)", last)
    door, thing, file = place.groups()
    path = ROOT / file
    path = path if path.is_file() else path.with_suffix("") / "__init__.py"
    assert path.is_file()
    if thing:
        assert re.search(rf"(def|class) {thing}\b", path.read_text(encoding="utf-8"))
    if door:
        assert hasattr(minquant, thing)


def test_a_solution_shows_as_code():
    page = checks.solution("gap")._repr_html_()
    assert page == f"<pre>{html.escape(str(checks.solution('gap')))}</pre>"
