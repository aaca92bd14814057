"""Guesses and passed exercises are kept, in one file that is whole or not there."""

import json

import pytest

import minquant as mq
from minquant import checks
from minquant.course import progress


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """Where progress is kept."""
    path = tmp_path / "progress.json"
    monkeypatch.setenv(progress.PLACE, str(path))
    return path


def test_a_guess_is_kept_and_comes_back_beside_the_answer(file):
    assert mq.predict("one bit less", 1.5).text == "Noted: 1.5."
    assert json.loads(file.read_text())["guesses"] == {"one bit less": 1.5}
    shown = mq.reveal("one bit less", 2.3359, "times")
    assert repr(shown) == "You said 1.5 times; it is 2.34 times."
    assert "<details>" not in shown._repr_html_()


def test_without_a_guess_nothing_is_written_and_the_answer_is_folded(file):
    assert mq.predict("one bit less", None) is None
    assert not file.exists()
    page = mq.reveal("one bit less", 2.3359, "times")._repr_html_()
    assert page.startswith("<details>")
    assert "2.34 times" in page


def test_no_guess_leaves_an_earlier_one():
    mq.predict("word", "ruined")
    mq.predict("word", None)
    assert "You said ruined; it is a little." in repr(mq.reveal("word", "a little"))


def test_a_guess_is_a_number_or_a_word():
    with pytest.raises(TypeError, match="guess is a list; write a number"):
        mq.predict("one bit less", [1])


def test_what_a_learner_writes_is_no_html():
    mq.predict("word", "<b>")
    assert "<b>" not in mq.reveal("word", "a")._repr_html_()


def test_an_exercise_that_passes_is_kept_once_and_one_that_fails_is_not(file):
    answer = checks.dequantize.answer
    assert checks.dequantize(answer)
    assert checks.dequantize(answer)
    assert not checks.scale_and_zero(lambda w, bits: (1, 0))
    assert mq.progress()["passed"] == ["dequantize"]
    mq.clear_progress()
    assert not file.exists()
    assert mq.progress() == {"passed": [], "guesses": {}}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"passed": 1, "guesses": {}}'])
def test_a_file_that_is_not_ours_is_left_as_it_is(file, text):
    file.write_text(text)
    for call in (mq.progress, lambda: mq.predict("a", 1)):
        with pytest.raises(ValueError, match="does not hold the progress of a course"):
            call()
    verdict = checks.dequantize(checks.dequantize.answer)  # a check never raises
    assert verdict
    assert "not kept" in repr(verdict)
    assert file.read_text() == text


def test_outside_a_notebook_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(progress.PLACE)
    monkeypatch.setattr(progress.sys, "modules", {})
    monkeypatch.chdir(tmp_path)
    mq.predict("one bit less", 1.5)
    assert list(tmp_path.iterdir()) == []
