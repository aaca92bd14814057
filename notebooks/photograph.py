"""Photographs of live pictures, for readers of a notebook who have no kernel.

    with camera() as photograph:
        photo = photograph(picture.get_state())      # or a state that a notebook saves
        photo.png, photo.alt, photo.img()

A live picture is drawn by a browser (minquant/course/live/picture.py), so a browser
takes its photograph: Debian's `chromium`, driven by PyPI's `playwright`. The page it
looks at is the picture on a page of its own; nothing is asked of the network.

`add_photographs` puts them into an executed notebook, beside each live picture.
"""

from __future__ import annotations

import base64
import html
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from minquant.course.drawing.figures import SHARPNESS, WIDTH
from minquant.course.drawing.png import encode_png
from minquant.course.live.page import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
VIEW = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"


@dataclass(frozen=True)
class Photograph:
    """A PNG file, its alt text, and its size in CSS pixels."""

    png: bytes
    alt: str
    width: int
    height: int

    def img(self) -> str:
        """An `<img>`, written as `figures.to_img` writes one."""
        return (
            f'<img alt="{html.escape(self.alt)}" width="{self.width}" '
            f'height="{self.height}" style="max-width:100%;height:auto" '
            'decoding="sync" src="data:image/png;base64,'
            f'{base64.b64encode(self.png).decode()}">'
        )


@contextmanager
def camera(width: int = WIDTH) -> Iterator[Callable[[Mapping], Photograph]]:
    """A function from the state of a live picture to its photograph.

    width: of the picture, in CSS pixels. Raises FileNotFoundError if there is no
    chromium; the function raises RuntimeError if a picture does not draw.
    """
    if CHROMIUM is None:
        raise FileNotFoundError("chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # heavy, and only needed here

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_ARGS
        )
        tab = browser.new_page(
            viewport={"width": width + 24, "height": 600},
            device_scale_factor=SHARPNESS,
            color_scheme="light",
            reduced_motion="reduce",
        )
        try:
            yield lambda state: _photograph(tab, Path(folder) / "picture.html", state)
        finally:
            browser.close()


def _photograph(tab: object, file: Path, state: Mapping[str, object]) -> Photograph:
    file.write_text(page(state), encoding="utf-8")
    complaints: list[str] = []
    tab.once("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    drawn = "document.querySelector('.mq-live')?.dataset.drawn || window.failed"
    tab.wait_for_function(drawn, timeout=20_000)
    if complaints or tab.evaluate("window.failed"):
        raise RuntimeError(f"a live picture does not draw: {complaints}")
    root = tab.locator(".mq-live")
    labels = [s.get_attribute("aria-label") for s in root.locator("[role=img]").all()]
    alt = " ".join([*labels, root.locator(".mq-says").inner_text()])
    pixels = Image.open(io.BytesIO(root.screenshot())).convert("RGBA")
    return Photograph(
        encode_png(np.asarray(pixels), small=True),
        " ".join(alt.split()),
        pixels.width // SHARPNESS,
        pixels.height // SHARPNESS,
    )


def add_photographs(
    nb: nbformat.NotebookNode, before: nbformat.NotebookNode | None = None
) -> int:
    """Put beside each live picture of an executed notebook its photograph.

    before: the notebook as it was saved last. Where there is no chromium its
    photographs are kept, and that is printed. Returns how many pictures have one.
    """
    live = list(_live_outputs(nb))
    if not live:
        return 0
    if CHROMIUM is None:
        print("chromium is missing, so the last photographs are kept")
        return _keep(live, before)
    with camera() as photograph:
        for _, _, output, state in live:
            output["data"]["text/html"] = photograph(state).img()
    return len(live)


def _live_outputs(nb: nbformat.NotebookNode) -> Iterator[tuple]:
    """Each live picture: its cell's id, its place there, its output, its state."""
    states = nb.metadata.get("widgets", {}).get(STATES, {}).get("state", {})
    for cell in nb.cells:
        for i, output in enumerate(cell.get("outputs", [])):
            view = output.get("data", {}).get(VIEW)
            state = states.get(view["model_id"], {}).get("state", {}) if view else {}
            if state.get("_model_module") == "anywidget":
                yield cell.id, i, output, state


def _keep(live: list[tuple], before: nbformat.NotebookNode | None) -> int:
    """Copy photographs from the same places of an older notebook."""
    old = {} if before is None else {cell.id: cell for cell in before.cells}
    kept = 0
    for cell, i, output, _ in live:
        outputs = old[cell].get("outputs", []) if cell in old else []
        then = outputs[i].get("data", {}).get("text/html", "") if outputs[i:] else ""
        if "data:image/png" in then:
            output["data"]["text/html"] = then
            kept += 1
    return kept
