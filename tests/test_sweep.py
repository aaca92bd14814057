"""The table of lesson 11: its rows, how it is kept, and that it is not stale."""

import json

import pytest

from benchmarks import sweep


def made_up(key):
    """A row that nothing was measured for."""
    return {"key": key, "bits": float(key.split()[0]), "text": "Zoë said ."}


def test_every_width_stands_with_every_method_and_no_key_comes_twice():
    keys = sweep.keys()
    assert keys[0] == "16 float" and len(set(keys)) == len(keys)
    for bits in sweep.WIDTHS:
        methods = {
            key.split(" ", 1)[1] for key in keys if float(key.split()[0]) == bits
        }
        assert {"rtn", "rtn channel", "gptq", "awq"} <= methods
    assert {"4 nf4", "4 mixed", "3 mixed", "1.58 qat"} <= set(keys)


def test_the_widest_come_first():
    keys = sweep.keys()
    widths = [float(key.split()[0]) for key in keys]
    assert widths == sorted(widths, reverse=True)


def test_a_key_of_no_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="key is '7 rtn'; choose one of 16 float, 8 "):
        sweep.version("7 rtn")


def test_what_is_saved_is_loaded_in_order_whatever_was_computed_first(tmp_path):
    path = tmp_path / "sweep.json"
    rows = {key: made_up(key) for key in ("2 rtn", "16 float", "4 gptq")}
    sweep.save(rows, path, {"model": "m", "code": "c"})
    assert list(sweep.load(path)) == ["16 float", "4 gptq", "2 rtn"]
    assert sweep.load(path) == rows
    assert len(path.read_text().splitlines()) == 2 + len(rows) + 1
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.json"]


def test_a_table_is_stale_once_the_model_or_the_code_is_another(tmp_path):
    path, mark = tmp_path / "sweep.json", sweep.stamp()
    assert sweep.load(path) == {} and not sweep.is_fresh(path)
    sweep.save({}, path, mark)
    assert sweep.is_fresh(path)
    for part in ("model", "code"):
        sweep.save({}, path, {**mark, part: "0"})
        assert not sweep.is_fresh(path)


def test_the_table_in_the_repository_is_whole_and_fresh():
    if not sweep.TABLE.exists():
        pytest.skip("benchmarks/sweep.json is not made yet: python benchmarks/sweep.py")
    assert list(sweep.load()) == sweep.keys()
    assert json.loads(sweep.TABLE.read_text())["stamp"] == sweep.stamp(), (
        "stale: run python benchmarks/sweep.py"
    )
