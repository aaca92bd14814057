"""Lessons as a learner has them: JupyterLab, a browser, and a widget that is moved."""

import contextlib
import os
import shutil

import build
import pytest
from helpers import lab_in_chromium

SLIDERS = lab_in_chromium.SLIDERS.split(", ")
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
    """The first widget of a page that has this control: what it shows."""

    def __init__(self, page, slider):
        boards = page.tab.locator(".minquant-dashboard")
        holds = [bool(b.get_by_label(slider).count()) for b in boards.all()]
        self.page, self.slider, self.nth = page, slider, holds.index(True)
        self.box = boards.nth(self.nth)

    def shows(self):
        """The address of its picture, and its words, which state the error."""
        source = self.box.locator(lab_in_chromium.PICTURES).get_attribute("src")
        return [source, self.box.locator(lab_in_chromium.WORDS).inner_text()]

    def change(self):
        """A step of its slider by key; of a menu another entry."""
        sliders = [f"{css}[aria-label='{self.slider}']" for css in SLIDERS]
        found = self.box.locator(", ".join(sliders))
        if found.count():
            found.first.focus()
            self.page.tab.keyboard.press("ArrowRight")
        else:
            menu = self.box.get_by_label(self.slider).first
            menu.select_option(index=int(menu.evaluate("m => m.selectedIndex")) - 1)

    def after(self, move):
        """What it shows when the move has been drawn: another picture, other words."""
        before = self.shows()
        move()
        self.page.tab.wait_for_function(MOVED, arg=[self.nth, before], timeout=60_000)
        self.page.wait_idle()
        return self.shows()


@contextlib.contextmanager
def running(number, folder, monkeypatch):
    """The page of a lesson that has run from top to bottom, without trouble."""
    need_chromium()
    for name, value in build.OFFLINE.items():
        monkeypatch.setenv(name, value)
    (lesson,) = build.HERE.glob(f"{number}_*.ipynb")
    shutil.copy(lesson, folder)  # JupyterLab saves what it runs
    with lab_in_chromium.lab(folder) as page:
        page.open(lesson.name)
        assert page.run_all(timeout=300) == []
        yield page
        assert page.tab.locator(lab_in_chromium.ERRORS).count() == 0
        assert page.strangers == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("number", "control"),
    [("11", "bits"), ("12", "facts")],
)
def test_a_lesson_runs_and_its_widget_is_changed(
    number, control, tmp_path, monkeypatch
):
    with running(number, tmp_path, monkeypatch) as page:
        board = Board(page, control)
        moved = board.after(board.change)
        assert moved[0].startswith("data:image/png")


SAYS = "document.querySelector('.mq-says')?.textContent ?? ''"


@pytest.mark.browser
def test_a_learner_runs_lesson_02_and_moves_its_ruler_by_key_and_by_mouse(
    tmp_path, monkeypatch
):
    with running("02", tmp_path, monkeypatch) as page:
        ruler = page.tab.locator(".mq-live").first
        ruler.scroll_into_view_if_needed()
        page.tab.wait_for_function(f"({SAYS}).includes('15 ticks')")
        bits = ruler.get_by_label("bits", exact=True)
        bits.focus()
        page.tab.keyboard.press("ArrowLeft")
        page.tab.wait_for_function(f"({SAYS}).includes('7 ticks')")
        box = bits.bounding_box()
        right, middle = box["x"] + box["width"] - 2, box["y"] + box["height"] / 2
        page.tab.mouse.click(right, middle)
        page.tab.wait_for_function(f"({SAYS}).includes('255 ticks')")
        assert page.complaints == []


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
