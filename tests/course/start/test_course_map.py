"""The map of the course: the lessons that there are, and what a learner has done."""

import anatomy
import pytest

import minquant as mq
from minquant.course import checks, progress
from minquant.course.start.course_map import LESSONS, course_map


def test_it_shows_the_lessons_that_there_are():
    titles = {path.stem: anatomy.title(path) for path in anatomy.lessons()}
    here = {
        lesson.notebook: f"{k:02} · {lesson.title}" for k, lesson in enumerate(LESSONS)
    }
    assert here == titles


def test_every_lesson_has_exercises():
    names = [name for lesson in LESSONS for name in checks.exercises_of(lesson.folder)]
    assert sorted(names) == sorted(checks.all_exercises())


def test_what_passed_is_on_the_map(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.PLACE, str(tmp_path / "progress.json"))
    assert "02 Rounding: 0 of 4 exercises" in repr(course_map())
    assert checks.dequantize(checks.dequantize.answer)
    assert "02 Rounding: 1 of 4 exercises" in repr(course_map())
    page = course_map()._repr_html_()
    assert "●○○○" in page and '<a href="02_rounding.ipynb">Rounding</a>' in page
    mq.clear_progress()
    assert "●" not in course_map()._repr_html_()


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.folder)
def test_it_says_what_each_lesson_shows(lesson):
    assert lesson.picture
