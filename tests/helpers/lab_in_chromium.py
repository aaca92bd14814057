"""A real JupyterLab in a real browser: what a learner sees, driven from Python.

    with lab(folder) as page:               # server, headless chromium, an empty tab
        page.open("02_rounding.ipynb")
        assert page.run_all() == []         # texts of errors and of stderr
        page.press("bits", "ArrowRight")    # the slider with that accessible name
        page.wait_idle()

Server, kernel and browser keep all their files in a temporary folder: nothing of the
user's Jupyter is read or written, no request leaves the machine. Used by the browser
test and by the benchmark of widget latency. Needs Debian's `chromium` and PyPI's
`playwright`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
from photograph import CHROMIUM, CHROMIUM_ARGS

# ipywidgets 8 (noUiSlider) and 7 (jQuery UI)
SLIDERS = ".widget-slider [role=slider], .widget-slider .ui-slider-handle"
PICTURES = ".minquant-picture img"
WORDS = ".minquant-words"
ERRORS = ".minquant-error"

_READY = """() => {
    const app = window.jupyterapp;
    if (!app) return false;
    window.mqAsked ??= (app.restored.then(() => { window.mqRestored = true }), true);
    const w = app.shell.currentWidget;
    return window.mqRestored === true && w?.context?.isReady
        && w.sessionContext.isReady && w.sessionContext.session?.kernel != null; }"""
_IDLE = """(quiet) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
    const prompts = [...document.querySelectorAll('.jp-InputPrompt')];
    const busy = kernel?.status !== 'idle'
        || prompts.some(prompt => prompt.textContent.includes('*'))
        || document.body.innerText.includes('Loading widget...');
    if (busy) { window.mqIdle = null; return false; }
    window.mqIdle ??= performance.now();
    return performance.now() - window.mqIdle > quiet; }"""
_RUN_ALL = """() => { window.mqDone = null;
    window.jupyterapp.commands.execute('notebook:run-all-cells')
        .then(() => { window.mqDone = 'done' }, e => { window.mqDone = String(e) }) }"""
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # every cell is on the page, and every error, not only what is in view
    "notebook-extension/tracker": {"windowingMode": "none"},
}
_TROUBLE = (
    ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], "
    ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error'], " + ERRORS
)


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells. It names its kernel, or JupyterLab asks for one."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
        metadata={"kernelspec": kernel},
    )
    nbformat.write(notebook, path)


class Page:
    """One browser tab with a notebook. `tab` is playwright's Page, for all else.

    complaints: what the page wrote to its console as errors. strangers: addresses
    outside the server that the page asked for.
    """

    def __init__(self, tab, address: str, token: str) -> None:
        self.tab, self.address, self.token = tab, address, token
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", self._hear)
        tab.on("request", self._meet)

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _meet(self, request) -> None:
        local = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        if not request.url.startswith(local):
            self.strangers.append(request.url)

    def open(self, name: str, timeout: float = 60) -> None:
        """Open a notebook of the folder alone in the window; its kernel is ready."""
        self.tab.goto(f"{self.address}/doc/tree/{name}?token={self.token}")
        self.tab.wait_for_function(_READY, timeout=1000 * timeout)
        self.tab.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=1000 * timeout)

    def run_all(self, timeout: float = 120) -> list[str]:
        """Run every cell to its end; the texts of errors, stderr and widget errors."""
        self.tab.evaluate(_RUN_ALL)
        self.tab.wait_for_function("() => window.mqDone", timeout=1000 * timeout)
        self.wait_idle(timeout)
        return self.tab.locator(_TROUBLE).all_inner_texts()

    def wait_idle(self, timeout: float = 60, quiet: float = 0.25) -> None:
        """Wait until the kernel has been idle for `quiet` seconds and no cell waits."""
        self.tab.evaluate("() => { window.mqIdle = null }")
        self.tab.wait_for_function(
            _IDLE, arg=1000 * quiet, timeout=1000 * timeout, polling=50
        )

    def slider(self, name: str, nth: int = 0):
        """The slider with this accessible name (the nth on the page)."""
        return self.tab.locator(
            ", ".join(f"{css}[aria-label='{name}']" for css in SLIDERS.split(", "))
        ).nth(nth)

    def press(self, name: str, key: str = "ArrowRight", times: int = 1) -> None:
        """Move the named slider by keyboard."""
        self.slider(name).focus()
        for _ in range(times):
            self.tab.keyboard.press(key)

    def drag(self, name: str, dx: float, steps: int = 20) -> None:
        """Drag the named slider by dx CSS pixels."""
        handle = self.slider(name)
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.tab.mouse.move(x, y)
        self.tab.mouse.down()
        for step in range(1, steps + 1):
            self.tab.mouse.move(x + dx * step / steps, y)
        self.tab.mouse.up()

    def picture(self, nth: int = 0) -> tuple[str, str]:
        """The nth widget picture on the page: its alt text and its address."""
        image = self.tab.locator(PICTURES).nth(nth)
        return image.get_attribute("alt"), image.get_attribute("src")


@contextmanager
def lab(
    folder: Path, *, python: str = sys.executable, width: int = 1280, height: int = 900
) -> Iterator[Page]:
    """JupyterLab over `folder` and a headless chromium, both gone at the end."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-")))
        address, token = stack.enter_context(_server(folder, home, python))
        tab = stack.enter_context(_browser(home / "chromium", width, height))
        yield Page(tab, address, token)


@contextmanager
def _server(folder: Path, home: Path, python: str) -> Iterator[tuple[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    command = [python, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(
            command,
            env=_settings(home, python),
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_up(server, f"{address}/api/status?token={token}", home)
            yield address, token
        finally:
            server.terminate()  # it shuts its kernels down before it ends
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_up(server: subprocess.Popen, url: str, home: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                log = (home / "server.log").read_text()
                raise RuntimeError(f"JupyterLab did not start:\n{log}") from None
            time.sleep(0.1)


def _settings(home: Path, python: str) -> dict[str, str]:
    """Every folder of Jupyter inside `home`, and in one of them `_SETTINGS`."""
    config = home / "config"
    config.mkdir()
    (config / "jupyter_server_config.py").write_text(
        "c.LabApp.expose_app_in_browser = True\n"
        "c.LabApp.check_for_updates_class = 'jupyterlab.NeverCheckForUpdate'\n"
    )
    for name, values in _SETTINGS.items():
        place = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(values))
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }


@contextmanager
def _browser(profile: Path, width: int, height: int) -> Iterator[object]:
    from playwright.sync_api import sync_playwright  # heavy, and only needed here

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            headless=True,
            executable_path=CHROMIUM,
            args=CHROMIUM_ARGS,
            viewport={"width": width, "height": height},
        )
        try:
            yield context.pages[0]
        finally:
            context.close()
