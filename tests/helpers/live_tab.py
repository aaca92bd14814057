"""A live picture in a real browser, on a page of its own: no Jupyter, no server.

    with live_tabs(folder) as open_picture:
        tab = open_picture(picture)                # a LivePicture, or its state
        tab.press("bits", "ArrowLeft")             # a control, by its label
        tab.says()                                 # the sentence below the picture

`strangers` are the addresses that a page asked for, its own file apart; `complaints`
are its errors. Needs Debian's `chromium` and PyPI's `playwright`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from photograph import CHROMIUM, CHROMIUM_ARGS

from minquant.course.live.page import page
from minquant.course.live.picture import LivePicture

SETTLED = """async () => { for (let i = 0; i < 3; i++)
    await new Promise(done => requestAnimationFrame(() => setTimeout(done))) }"""


class LiveTab:
    """One page with one picture. `tab` is playwright's Page, for all else."""

    def __init__(self, tab, file: Path) -> None:
        self.tab, self.complaints, self.strangers = tab, [], []
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", lambda said: self.complaints.append(said.text))
        tab.on("request", self._meet)
        tab.goto(file.as_uri())
        tab.wait_for_function(
            "document.querySelector('.mq-live')?.dataset.drawn || window.failed"
        )
        self.settle()

    def _meet(self, request) -> None:
        if not request.url.startswith(("file:", "blob:", "data:")):
            self.strangers.append(request.url)

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.tab.evaluate(SETTLED)

    def press(self, label: str, key: str, times: int = 1) -> None:
        """Reach a control by its label, and press a key on it."""
        button = self.tab.get_by_role("button", name=label, exact=True)
        self.tab.get_by_label(label, exact=True).or_(button).first.focus()
        for _ in range(times):
            self.tab.keyboard.press(key)
        self.settle()

    def says(self) -> str:
        """The sentence below the picture."""
        return self.tab.locator(".mq-says").inner_text()

    def get(self, name: str) -> object:
        """A value of the model."""
        return self.tab.evaluate("name => model.get(name)", name)

    def put(self, **values: object) -> None:
        """Set values of the model, as Python would."""
        for name, value in values.items():
            self.tab.evaluate("([n, v]) => model.set(n, v)", [name, value])
        self.settle()

    def call(self, function: str, *arguments: object) -> object:
        """Call what the picture's module exports."""
        code = "([name, args]) => picture[name](...args)"
        return self.tab.evaluate(code, [function, list(arguments)])

    def tab_through(self) -> list[str]:
        """The names of all controls, in the order in which Tab reaches them."""
        self.tab.evaluate("document.activeElement.blur()")
        names = []
        for _ in range(40):
            self.tab.keyboard.press("Tab")
            name = self.tab.evaluate("""() => { const now = document.activeElement;
                return now === document.body ? null : now.ariaLabel
                    ?? now.labels?.[0]?.textContent ?? now.textContent }""")
            if name is None:
                return names
            names.append(name)
        raise AssertionError(f"Tab does not leave the picture: {names}")


@contextmanager
def live_tabs(folder: Path) -> Iterator[Callable[..., LiveTab]]:
    """A function that opens pictures, all in one browser. Files go into `folder`."""
    from playwright.sync_api import sync_playwright  # heavy, and only needed here

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_ARGS
        )

        def open_picture(
            picture: LivePicture | Mapping[str, object],
            width: int = 924,
            **options: object,
        ) -> LiveTab:
            live = isinstance(picture, LivePicture)
            file = folder / f"{len(list(folder.iterdir()))}.html"
            file.write_text(page(picture.get_state() if live else picture))
            options = {"reduced_motion": "reduce"} | options
            view = {"width": width, "height": 800}
            return LiveTab(browser.new_page(viewport=view, **options), file)

        try:
            yield open_picture
        finally:
            browser.close()
