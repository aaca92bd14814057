"""The site, as `make site` made it: every link, every live picture, every page in a
browser. Where the site was not made these tests are skipped, but not in CI."""

import os
import re
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "dist/site"
PAGES = sorted(SITE.glob("*.html"))
NARROW = 390  # CSS pixels, a phone
READ = {"preload": False}  # axe would look for imported styles in the wrong place

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not PAGES and "CI" not in os.environ, reason="no site here: make site"
    ),
]


class Page(HTMLParser):
    """What a page leads to and loads, and the places in it."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.places = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.targets += [found[k] for k in ("href", "src") if found.get(k)]
        self.places |= {found[k] for k in ("id", "name") if found.get(k)}


def test_the_site_was_made_of_all_lessons():
    lessons = {path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert lessons <= {path.stem for path in PAGES}
    assert sum(f.stat().st_size for f in SITE.rglob("*") if f.is_file()) < 25e6


def test_every_link_and_image_leads_somewhere():
    pages = {path: Page(path) for path in PAGES}
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            url = urlsplit(target)
            if url.scheme in ("http", "https", "mailto", "data", "javascript"):
                continue
            there = (path.parent / unquote(url.path)).resolve() if url.path else path
            found = there.is_file()
            if found and url.fragment and there in pages:
                found = unquote(url.fragment) in pages[there].places
            if not found:
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)', text)
        loaded += re.findall(
            r'<link[^>]+rel="stylesheet"[^>]+href="(https?:[^"]+)', text
        )
        assert loaded == [], path.name


# --- in a browser ---


@pytest.fixture(scope="module")
def browser():
    from photograph import CHROMIUM, CHROMIUM_ARGS
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        assert "CI" not in os.environ, "the browser test needs chromium"
        pytest.skip("no chromium here")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)


@pytest.fixture(scope="module")
def address():
    """The site, served by this machine to itself."""
    handler = partial(SimpleHTTPRequestHandler, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def tab(browser, address):
    """An empty tab. Fails if a page complains, or asks for anything from elsewhere."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    trouble = []
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("console", lambda m: m.type == "error" and trouble.append(m.text))
    ours = (address, "file:", "blob:", "data:")
    tab.on("request", lambda r: r.url.startswith(ours) or trouble.append(r.url))
    yield tab
    tab.close()
    assert trouble == []


def pictures(tab):
    """The places of the live pictures in a page, each drawn."""
    tab.wait_for_function(
        """() => [...document.querySelectorAll('[id^="picture-"]')]
            .every(e => e.picture && e.querySelector('.mq-live')?.dataset.drawn)"""
    )
    return tab.locator('[id^="picture-"]').all()


ALL_PAGES = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])


def drawn_again(tab, picture, act):
    """Whether something makes a picture draw itself anew, and what it shows differs."""
    look = "e => [e.querySelector('.mq-live').dataset.drawn, e.innerText, e.innerHTML]"
    count, words, sheet = picture.evaluate(look)
    act()
    tab.wait_for_function(
        "([e, n]) => Number(e.querySelector('.mq-live').dataset.drawn) > Number(n)",
        arg=[picture.element_handle(), count],
    )
    _, new_words, new_sheet = picture.evaluate(look)
    return (new_words, new_sheet) != (words, sheet)


def pressed(slider, key):
    """Press a key some times: two places of a slider may stand for one number."""
    for _ in range(4):
        slider.press(key)


@ALL_PAGES
def test_every_live_picture_moves_by_key_and_by_mouse(tab, path):
    """From the disk: no server is needed."""
    tab.goto(path.as_uri())
    for picture in pictures(tab):
        picture.scroll_into_view_if_needed()
        for slider in picture.locator('input[type="range"]').all():
            if not slider.is_visible() or slider.is_disabled():
                continue
            share = "e => (e.value - e.min) / (e.max - e.min)"
            key = "ArrowLeft" if slider.evaluate(share) > 0.5 else "ArrowRight"
            slider.focus()
            assert drawn_again(tab, picture, partial(pressed, slider, key))
            far = 0.1 if slider.evaluate(share) > 0.5 else 0.9
            box = slider.bounding_box()
            place = {"x": far * box["width"], "y": box["height"] / 2}
            assert drawn_again(tab, picture, partial(slider.click, position=place))
        assert picture.locator(".mq-says").first.inner_text().strip()


@ALL_PAGES
def test_a_page_fits_a_phone_and_axe_finds_nothing_serious(tab, address, path):
    from axe_playwright_python.sync_playwright import Axe

    tab.goto(f"{address}/{path.name}")
    pictures(tab)
    serious = {
        violation["id"]: [node["target"] for node in violation["nodes"]][:3]
        for violation in Axe().run(tab, options=READ).response["violations"]
        if violation["impact"] in ("serious", "critical")
    }
    assert serious == {}
    tab.set_viewport_size({"width": NARROW, "height": 800})
    tab.wait_for_timeout(300)
    assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_a_word_is_found(tab, address):
    tab.goto(f"{address}/search.html?q=absmax")
    tab.wait_for_selector("#search-results li a")
    assert tab.locator("#search-results li a").count() >= 2
