"""A live picture in JupyterLab: it moves without the kernel, and Python hears of it."""

import os

import pytest
from helpers import lab_in_chromium

NOTEBOOK = """
import torch
from minquant.course.rounding.live_ruler import ruler
picture = ruler(torch.linspace(-1, 0.9, 32))
picture
"""
SAYS = "document.querySelector('.mq-says')?.textContent"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The notebook, run, and what its page sends to the kernel from then on."""
    if lab_in_chromium.CHROMIUM is None:
        reason = "chromium is missing: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    cells = NOTEBOOK, "print(picture.bits, picture.keep)", "None"
    lab_in_chromium.write_notebook(tmp_path / "ruler.ipynb", *cells)
    with lab_in_chromium.lab(tmp_path) as page:
        page.sent = []

        def hear(socket):
            socket.on("framesent", lambda frame: page.sent.append(str(frame)))

        page.tab.on("websocket", hear)
        page.open("ruler.ipynb")
        assert page.run_all() == []
        page.tab.wait_for_function(SAYS)
        yield page
        assert page.strangers == []


def run_cell(page, number, text=None):
    """Run one cell again, after typing into it, and give its output."""
    cell = page.tab.locator(".jp-CodeCell").nth(number)
    cell.locator(".cm-content").click()
    if text is not None:
        page.tab.keyboard.press("Control+a")
        page.tab.keyboard.type(text)
    page.tab.keyboard.press("Control+Enter")
    page.wait_idle()
    return "".join(cell.locator(".jp-OutputArea-output").all_inner_texts()).strip()


@pytest.mark.browser
def test_it_moves_without_the_kernel_and_python_hears_of_it(page):
    assert "15 ticks" in page.tab.evaluate(SAYS)
    bits = page.tab.get_by_label("bits", exact=True)
    bits.focus()
    page.wait_idle()
    page.sent.clear()
    page.tab.keyboard.press("ArrowRight")
    page.tab.wait_for_function(f"{SAYS}.includes('31 ticks')")
    reach = page.tab.get_by_label("ruler’s reach")
    reach.focus()
    for _ in range(10):
        page.tab.keyboard.press("ArrowLeft")
    page.tab.wait_for_function(f"{SAYS}.includes('clipped')")
    asked = [frame for frame in page.sent if "comm_msg" in frame]
    assert asked == [], "the kernel is asked while a slider moves"

    assert run_cell(page, 1) == "5 0.9"
    assert [frame for frame in page.sent if "comm_msg" in frame] != []
    run_cell(page, 2, "picture.bits = 2")
    page.tab.wait_for_function(f"{SAYS}.includes('3 ticks')")
    assert bits.input_value() == "2"
    assert page.complaints == []
