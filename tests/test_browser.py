"""Lesson 02 as a learner has it: JupyterLab, a browser, and a slider that is moved."""

import os
import re
import shutil

import build
import lab_in_chromium
import pytest

MOVED = """([board, then]) => {
    const now = document.querySelectorAll('.minquant-dashboard')[board];
    const source = now.querySelector('.minquant-picture img').src;
    const words = now.querySelector('.minquant-words').innerText;
    return source !== then[0] && words !== then[1] }"""


def need_chromium():
    """Skip where there is no browser; on the machine that judges, fail."""
    if lab_in_chromium.CHROMIUM is None:
        reason = "chromium is missing: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class Board:
    """The first widget of a page that has this slider: what it shows."""

    def __init__(self, page, slider):
        boards = page.tab.locator(".minquant-dashboard")
        holds = [bool(b.get_by_label(slider).count()) for b in boards.all()]
        self.page, self.slider, self.nth = page, slider, holds.index(True)
        self.box = boards.nth(self.nth)

    def shows(self):
        """The address of its picture, and its words, which state the error."""
        source = self.box.locator(lab_in_chromium.PICTURES).get_attribute("src")
        return [source, self.box.locator(lab_in_chromium.WORDS).inner_text()]

    def after(self, move):
        """What it shows when the move has been drawn: another picture, other words."""
        before = self.shows()
        move()
        self.page.tab.wait_for_function(MOVED, arg=[self.nth, before], timeout=20_000)
        self.page.wait_idle()
        return self.shows()


def error(shown):
    """The number that the words under the picture give as the error."""
    return float(re.search(r"Error[^\d]*([\d.]+(?:e[-+]?\d+)?)", shown[1])[1])


@pytest.mark.browser
def test_a_learner_runs_lesson_02_and_moves_its_slider_by_key_and_by_mouse(
    tmp_path, monkeypatch
):
    need_chromium()
    for name, value in build.OFFLINE.items():
        monkeypatch.setenv(name, value)
    (lesson,) = build.HERE.glob("02_*.ipynb")
    shutil.copy(lesson, tmp_path)  # JupyterLab saves what it runs
    with lab_in_chromium.lab(tmp_path) as page:
        page.open(lesson.name)
        assert page.run_all() == []
        board = Board(page, "bits")
        first = board.shows()
        by_key = board.after(lambda: page.press("bits", "ArrowLeft"))
        assert error(by_key) > error(first), "a bit less, and no larger error"
        by_mouse = board.after(lambda: page.drag("bits", 60))
        assert error(by_mouse) < error(by_key), "bits more, and no smaller error"
        assert by_key[0].startswith("data:image/png")
        assert len({first[0], by_key[0], by_mouse[0]}) == 3
        assert page.tab.locator(lab_in_chromium.ERRORS).count() == 0
        assert page.strangers == []


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_without_a_browser_it_is_skipped_but_never_where_it_counts(
    monkeypatch, ci, outcome
):
    monkeypatch.setattr(lab_in_chromium, "CHROMIUM", None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install chromium"):
        need_chromium()
