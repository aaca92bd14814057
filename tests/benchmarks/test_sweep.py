"""The table of lesson 11: its rows, and that it is not stale."""

import pytest

from benchmarks import sweep


def test_every_width_stands_with_every_method_and_no_key_comes_twice():
    keys = sweep.keys()
    assert keys[0] == "16 float" and len(set(keys)) == len(keys)
    for bits in sweep.WIDTHS:
        methods = {
            key.split(" ", 1)[1] for key in keys if float(key.split()[0]) == bits
        }
        assert {"rtn", "rtn channel", "gptq", "awq"} <= methods
    assert {"4 nf4", "4 mixed gptq", "3 mixed rtn", "1.58 qat"} <= set(keys)


def test_the_widest_come_first():
    keys = sweep.keys()
    widths = [float(key.split()[0]) for key in keys]
    assert widths == sorted(widths, reverse=True)


def test_a_key_of_no_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="key is '7 rtn'; choose one of 16 float, 8 "):
        sweep.version("7 rtn")


def test_the_table_in_the_repository_is_whole_and_fresh():
    assert list(sweep.TABLE.load()) == sweep.keys()
    assert sweep.TABLE.is_fresh(), "stale: run python benchmarks/sweep.py"
