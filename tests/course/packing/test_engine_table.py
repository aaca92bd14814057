"""The table of speeds: what the file says, and how it is made."""

import json

import pytest

from benchmarks import engine as script
from minquant.course.packing import engine_table
from minquant.course.packing.pictures import WAYS
from minquant.planning.roofline import Machine

MACHINE = Machine("this CPU", 3e10, 1e11, narrow={"bf16": 2e11, "int8": 8e11})
ROWS = [{"key": "a", "bytes": 9, "prompt_s": [1, 2, 8], "answer_s": [4, 3.2, 1]}]


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A table that the script wrote, as the lesson reads it."""
    pytest.importorskip("xllamacpp", reason="its version is saved")
    monkeypatch.setattr(script, "SAVED", tmp_path / "engine.json")
    monkeypatch.setattr(engine_table, "TABLE", tmp_path / "engine.json")
    script.write(ROWS, MACHINE, {"layers": 5, "output": 2})
    return engine_table.measured_engine.__wrapped__()


def test_a_speed_is_the_median_of_all_times(saved):
    assert saved.rows == {"a": (9, script.PROMPT / 2, script.ANSWER / 3.2)}
    assert (saved.layers, saved.output, saved.tokens) == (5, 2, script.PROMPT)


def test_the_table_says_on_what_and_how_it_was_measured(saved):
    assert saved.machine.bandwidth == 3e10
    assert saved.machine.peak == 1e11
    assert saved.machine.narrow == {"bf16": 2e11, "int8": 8e11}
    for word in ("2 threads", "torch", "xllamacpp", "benchmarks/engine.py", "load"):
        assert word in saved.about


def test_the_committed_table_has_what_the_lesson_shows():
    kept = json.loads(engine_table.TABLE.read_text(encoding="utf-8"))
    assert set(WAYS) <= {row["key"] for row in kept["rows"]}
    assert {"command", "date", "machine", "versions", "load"} <= set(kept)
    engine = engine_table.measured_engine()
    for row in engine.rows.values():  # nothing is faster than its roof
        assert row.nbytes * row.answer < engine.machine.bandwidth
        rate = 2 * engine.layers * row.prompt
        assert rate < max(engine.machine.peak, *engine.machine.narrow.values())
