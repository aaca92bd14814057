"""Tables of rows that take long: how they are kept, and when they are thrown away."""

import json

import build
import pytest

from benchmarks.stamped import Table

SOURCE = "from minquant.numerics import bits\n\nx = 1  # a comment\n"


@pytest.fixture
def table(tmp_path):
    """A table of three rows, whose script imports one module of the package."""
    script = tmp_path / "squares.py"
    script.write_text(SOURCE)
    computed = []

    def row(key):
        computed.append(key)
        return {"key": key, "square": int(key) ** 2, "text": "Zoë said ."}

    made = Table(script, lambda: ["3", "1", "2"], row, lambda found: found["key"])
    object.__setattr__(made, "computed", computed)
    return made


def test_it_is_filled_in_the_order_of_its_keys_a_row_on_a_line(table, capsys):
    rows = table.fill()
    assert capsys.readouterr().out.split() == ["3", "1", "2"]
    assert table.load() == rows and list(table.load()) == ["3", "1", "2"]
    assert len(table.path.read_text(encoding="utf-8").splitlines()) == 2 + 3 + 1
    left = {path.name for path in table.path.parent.iterdir()}
    assert left == {"squares.py", "squares.json"}


def test_only_what_is_missing_is_computed(table):
    assert list(table.fill("1|3")) == ["3", "1"]
    assert set(table.fill()) == {"3", "1", "2"}
    assert table.computed == ["3", "1", "2"]


def test_what_was_computed_before_an_error_is_kept(table):
    def failing(key):
        if key == "1":
            raise RuntimeError("no power")
        return {"key": key}

    broken = Table(table.script, table.keys, failing, table.line)
    with pytest.raises(RuntimeError, match="no power"):
        broken.fill()
    assert list(table.load()) == ["3"] and table.is_fresh()


def test_a_table_is_stale_once_the_model_or_the_code_is_another(table):
    assert table.load() == {} and not table.is_fresh()
    mark = table.stamp()
    table.save({}, mark)
    assert table.is_fresh()
    for part in ("model", "code"):
        table.save({}, {**mark, part: "0"})
        assert not table.is_fresh()


def test_rows_of_another_stamp_are_thrown_away(table):
    table.fill()
    table.script.write_text(SOURCE.replace("x = 1", "x = 2"))
    table.fill()
    assert table.computed == ["3", "1", "2"] * 2


def test_comments_make_no_table_stale(table):
    table.fill()
    table.script.write_text(SOURCE.replace("a comment", "another"))
    assert table.is_fresh()


def test_the_code_of_imported_modules_is_in_the_stamp(table):
    before = table.stamp()
    table.script.write_text(SOURCE.replace("bits", "groups"))
    other = table.stamp()
    assert other["code"] != before["code"] and other["model"] == before["model"]


@pytest.mark.parametrize("name", ["qlora", "sweep"])
def test_the_tables_of_the_benchmarks_rest_on_the_package_and_the_model(name):
    source = (build.ROOT / f"benchmarks/{name}.py").read_text(encoding="utf-8")
    assert len(build.code_behind(source)) > 10 and build.model_files()


def test_the_command_line_says_what_is_missing(table, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["squares.py", "--only", "2"])
    assert list(table.run("Squares.\n\nAll of them.")) == ["2"]
    assert capsys.readouterr().out.splitlines()[-1].endswith("; 2 missing")
    assert json.loads(table.path.read_text(encoding="utf-8"))["stamp"] == table.stamp()
