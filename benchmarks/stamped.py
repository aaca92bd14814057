"""A table of rows that take long to compute: kept, stamped, and never half written.

    table = Table(Path(__file__), keys, row, line)
    table.fill()                # the rows that are missing, each saved when it is done

A script says which rows there are (`keys`), how to compute one (`row`) and how to print
one (`line`). Its table is the .json file of the same name. The stamp holds hashes of
the bundled model and of the code behind a row: the script, and the modules of the
package that it imports, without comments and docstrings. Rows with another stamp are
thrown away. sweep.py, qlora.py and real.py use this.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from minquant.files.whole import whole_file

Row = dict[str, object]
Rows = dict[str, Row]


def stamps() -> ModuleType:
    """notebooks/build.py, which finds the code behind a script."""
    if str(ROOT / "notebooks") not in sys.path:
        sys.path.append(str(ROOT / "notebooks"))
    import build

    return build


def write_table(path: Path, about: dict[str, object], rows: Sequence[Row]) -> None:
    """Writes a table as JSON, completely or not at all: what is said of it, and its
    rows, each on a line."""
    head = "".join(
        f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items()
    )
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    with whole_file(path) as place:
        text = f'{{{head}"rows": [\n{lines}\n]}}\n'
        place.write_text(text, encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class Table:
    """The table of a script.

    keys: the keys of its rows, in order. row: computes the row of a key. line: a row in
    words.
    """

    script: Path
    keys: Callable[[], list[str]]
    row: Callable[[str], Row]
    line: Callable[[Row], str]

    @property
    def path(self) -> Path:
        """The file of the table."""
        return self.script.with_suffix(".json")

    def stamp(self) -> dict[str, str]:
        """Hashes of the model and of the code."""
        build = stamps()
        source = self.script.read_text(encoding="utf-8")
        code = [build.code_of(source), *build.code_behind(source)]
        return {
            "model": build.digest(path.read_bytes() for path in build.model_files()),
            "code": build.digest(text.encode() for text in code),
        }

    def load(self) -> Rows:
        """The rows in the file, by key, whatever the stamp; none if there is no file.

        >>> Table(Path("nothing.py"), list, dict, str).load()
        {}
        """
        return {row["key"]: row for row in self._kept()["rows"]}

    def is_fresh(self) -> bool:
        """Whether the table was made with the model and the code as they are now."""
        return self._kept()["stamp"] == self.stamp()

    def _kept(self) -> dict:
        if not self.path.exists():
            return {"stamp": None, "rows": []}
        return json.loads(self.path.read_text(encoding="utf-8"))

    def about(self) -> dict[str, object]:
        """What the file says beside the stamp and the rows."""
        return {}

    def save(self, rows: Rows, stamp: dict[str, str]) -> None:
        """Writes the table completely or not at all, each row on a line, in order."""
        ordered = [rows[key] for key in self.keys() if key in rows]
        write_table(self.path, {"stamp": stamp, **self.about()}, ordered)

    def fill(self, only: str = "") -> Rows:
        """Computes the rows that are missing, prints each row, and returns them all.

        only: a regular expression; other keys are neither computed nor printed.
        """
        stamp = self.stamp()
        rows = self.load() if self._kept()["stamp"] == stamp else {}
        for key in self.keys():
            if not re.search(only, key):
                continue
            if key not in rows:
                rows[key] = self.row(key)
                self.save(rows, stamp)
            print(self.line(rows[key]), flush=True)
        return rows

    def run(self, about: str) -> Rows:
        """The command line of a script: fills the table, and prints the time."""
        parser = argparse.ArgumentParser(description=about.splitlines()[0])
        parser.add_argument("--only", default="", help="a regular expression for keys")
        start = time.perf_counter()
        rows = self.fill(parser.parse_args().only)
        minutes, load = (time.perf_counter() - start) / 60, os.getloadavg()[0]
        missing = len(set(self.keys()) - set(rows))
        print(f"\n{minutes:.1f} minutes; load {load:.1f}; {missing} missing")
        return rows
