"""From a key press to new pixels: how fast the rounding widget answers in JupyterLab.

    python benchmarks/widget_latency.py [--presses 30] [--target 100]

Starts JupyterLab and a headless chromium, opens a notebook with the rounding widget,
presses an arrow key on a slider again and again, and measures in the page the time from
the key press to the frame that shows the new picture. Prints a table and exits with 1
when a median is above the target, which holds for an idle machine: the load is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from lab_in_chromium import ERRORS, Page, lab, write_notebook  # noqa: E402

CELL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import torch
from minquant.widget_rounding import rounding
W = torch.distributions.StudentT(4.0).sample((192, 128)) * 0.03
widget = rounding(W)
widget
"""
WATCH = """() => {
    window.mqTimes = []; let pressed = null;
    document.addEventListener('keydown', e => { pressed = e.timeStamp }, true);
    new MutationObserver(async () => {
        const image = document.querySelector('.minquant-picture img');
        const start = pressed;
        if (!image || start === null) return;
        pressed = null;
        await image.decode();
        requestAnimationFrame(() => setTimeout(() => {
            window.mqTimes.push(performance.now() - start) }));
    }).observe(document.querySelector('.minquant-picture'),
               {childList: true, subtree: true}); }"""


def measure(page: Page, name: str, presses: int) -> list[float]:
    """Milliseconds from key press to pixels, for each press on the named slider."""
    page.tab.evaluate("() => { window.mqTimes = [] }")
    page.slider(name).focus()
    keys = ["ArrowRight"] * 2 + ["ArrowLeft"] * 2
    for i in range(presses):
        page.tab.keyboard.press(keys[i % len(keys)])
        page.tab.wait_for_function(f"() => window.mqTimes.length === {i + 1}")
        page.wait_idle(quiet=0.05)
    return page.tab.evaluate("() => window.mqTimes")


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=30)
    parser.add_argument("--target", type=float, default=100, help="milliseconds")
    options = parser.parse_args()
    late = False
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    print(f"{'slider':10} {'median ms':>10} {'90 % ms':>9} {'max ms':>8}")
    with tempfile.TemporaryDirectory() as folder:
        write_notebook(Path(folder) / "latency.ipynb", CELL)
        with lab(Path(folder)) as page:
            page.open("latency.ipynb")
            if errors := page.run_all():
                raise SystemExit("\n".join(errors))
            page.tab.evaluate(WATCH)
            for name in ("bits", "weight", "row"):
                measure(page, name, 4)  # warm up
                times = sorted(measure(page, name, options.presses))
                median = statistics.median(times)
                late |= median > options.target
                tail = times[int(0.9 * len(times))]
                print(f"{name:10} {median:10.1f} {tail:9.1f} {times[-1]:8.1f}")
            if errors := page.tab.locator(ERRORS).all_inner_texts():
                raise SystemExit("\n".join(errors))
    print(f"target {options.target:.0f} ms: {'missed' if late else 'met'}")
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
