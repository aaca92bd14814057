"""A table of rows that take long to compute: kept, stamped, and never half written.

    table = Table(Path(__file__), keys, row, line)
    table.fill()                # the rows that are missing, each saved when it is done

A script says which rows there are (`keys`), how one is computed (`row`) and what it
says in a line (`line`); its table is the file of the same name that ends in .json. The
stamp holds hashes of the bundled model and of all code that a row comes from: the
script, and the modules of the package that it imports, comments and docstrings aside.
Rows of another stamp are thrown away. This is no script itself: sweep.py and qlora.py
use it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Row = dict[str, object]
Rows = dict[str, Row]


@dataclass(frozen=True)
class Table:
    """The table of a script. keys: of its rows, in order. row: computes the one of a
    key. line: says a row in words."""

    script: Path
    keys: Callable[[], list[str]]
    row: Callable[[str], Row]
    line: Callable[[Row], str]

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self.script.with_suffix(".json")

    def stamp(self) -> dict[str, str]:
        """Hashes of the model and of the code."""
        if str(ROOT / "notebooks") not in sys.path:
            sys.path.append(str(ROOT / "notebooks"))
        import build

        source = self.script.read_text(encoding="utf-8")
        code = [build.code_of(source), *build.code_behind(source)]
        return {
            "model": build.digest(path.read_bytes() for path in build.model_files()),
            "code": build.digest(text.encode() for text in code),
        }

    def load(self) -> Rows:
        """The rows that are there, by key, whatever their stamp; none without a file.

        >>> Table(Path("nothing.py"), list, dict, str).load()
        {}
        """
        return {found["key"]: found for found in self._kept()["rows"]}

    def is_fresh(self) -> bool:
        """Whether the table was made by the model and the code as they are."""
        return self._kept()["stamp"] == self.stamp()

    def _kept(self) -> dict:
        if not self.path.exists():
            return {"stamp": None, "rows": []}
        return json.loads(self.path.read_text(encoding="utf-8"))

    def save(self, rows: Rows, mark: dict[str, str]) -> None:
        """Write the table, a row on a line in the order of its keys, at one stroke."""
        kept = [rows[key] for key in self.keys() if key in rows]
        lines = ",\n".join(json.dumps(found, ensure_ascii=False) for found in kept)
        text = f'{{"stamp": {json.dumps(mark)},\n"rows": [\n{lines}\n]}}\n'
        aside = self.path.with_suffix(".part")
        aside.write_text(text, encoding="utf-8")
        aside.replace(self.path)

    def fill(self, only: str = "") -> Rows:
        """Compute the rows that are missing, and print those whose key has `only`."""
        mark = self.stamp()
        rows = self.load() if self._kept()["stamp"] == mark else {}
        for key in (key for key in self.keys() if re.search(only, key)):
            if key not in rows:
                rows[key] = self.row(key)
                self.save(rows, mark)
            print(self.line(rows[key]), flush=True)
        return rows

    def run(self, about: str) -> Rows:
        """The command line of a script: fill the table, and say what that took."""
        parser = argparse.ArgumentParser(description=about.splitlines()[0])
        parser.add_argument("--only", default="", help="a regular expression for keys")
        start = time.perf_counter()
        rows = self.fill(parser.parse_args().only)
        minutes, load = (time.perf_counter() - start) / 60, os.getloadavg()[0]
        missing = len(set(self.keys()) - set(rows))
        print(f"\n{minutes:.1f} minutes; load {load:.1f}; {missing} missing")
        return rows
