"""Measured numbers beside their targets, printed row by row, and a verdict at the end.

    table = Table()
    table.head("GPTQ")
    table.row("won back at 4 bits", "38%", ">= 33%", met=True)
    sys.exit(table.verdict())

This is no script itself: outliers.py, recovered.py, subject.py and whole_model.py print
with it.
"""

from __future__ import annotations

import os
import time

from minquant.measure.intervals import Difference


class Table:
    """Prints a row for each number, and keeps the names of rows off their target."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        self.start = time.perf_counter()

    def head(self, title: str) -> None:
        """Print the title of a part."""
        print(f"\n{title}\n{'-' * len(title)}", flush=True)

    def row(self, name: str, value: object, target: str = "", met: bool = True) -> None:
        """Print a number, and whether it meets its target, if it has one."""
        judged = f"{target:18}{'met' if met else 'MISSED'}" if target else ""
        print(f"{name:38}{value!s:52}{judged}".rstrip(), flush=True)
        if target and not met:
            self.missed.append(name)

    def verdict(self) -> int:
        """Print the time and the targets that were missed: 1 if there are any, else 0,
        for sys.exit."""
        minutes = (time.perf_counter() - self.start) / 60
        print(f"\n{minutes:.1f} minutes; load {os.getloadavg()[0]:.1f}")
        missed = "; ".join(self.missed)
        print(f"missed: {missed}" if missed else "every target is met")
        return 1 if missed else 0


def with_interval(cost: Difference, digits: int = 4) -> str:
    """A difference and its interval, with so many digits after the point."""
    mean, low, high = (f"{x:+.{digits}f}" for x in (cost.mean, cost.low, cost.high))
    return f"{mean} [{low}, {high}]"
