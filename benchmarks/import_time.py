"""What `import minquant` costs beside `import torch`.

    python benchmarks/import_time.py [--times 5]

Each import runs in a fresh interpreter, in turn, so that what else the machine does
falls on all alike; the median counts, without the interpreter's own start. The first
round, which reads from disk, is not counted. Exits with 1 when minquant, or its modules
that quantize a model, cost more than 0.3 s over torch. The last rows have no target:
figures bring matplotlib, widgets ipywidgets.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = 0.3  # seconds over `import torch`
TORCH = "import torch"
JUDGED = (TORCH, "import minquant", "from minquant import load, quantize_rtn")
BESIDE = (
    "from minquant.course.drawing import figures",
    "from minquant.course.live import dashboard",
)
_CLOCK = (
    "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
)


def once(line: str) -> float:
    """Seconds that this line takes in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _CLOCK.format(line)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout)


def medians(lines: Sequence[str], times: int) -> dict[str, float]:
    """Each line's median seconds, over `times` rounds after one that is not counted."""
    rounds = [{line: once(line) for line in lines} for _ in range(times + 1)]
    return {line: statistics.median(r[line] for r in rounds[1:]) for line in lines}


def within(torch: float, ours: float) -> bool:
    """Whether an import of ours costs no more over torch's than is allowed."""
    return ours - torch <= ALLOWED


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="interpreters per row")
    times = parser.parse_args().times
    took = medians([*JUDGED, *BESIDE], times)
    print(
        f"load: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; median of {times}"
    )
    print(f"{'':34}{'seconds':>9}{'over torch':>12}{'allowed':>9}")
    for line, seconds in took.items():
        allowed = f"{ALLOWED:9.2f}" if line in JUDGED[1:] else ""
        print(f"{line:34}{seconds:9.2f}{seconds - took[TORCH]:+12.2f}{allowed}")
    met = all(within(took[TORCH], took[line]) for line in JUDGED)
    print("every target is met" if met else "a target is missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
