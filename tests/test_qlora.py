"""The table of lesson 09: its rows, its comparisons, and that it is not stale."""

import json

import pytest

from benchmarks import qlora


def made_up(key, right):
    """A row that nothing was trained for: how many new facts of 240 it knows."""
    seed, way = key.split(" ", 1)
    new = "1" * right + "0" * (240 - right)
    return {"key": key, "seed": int(seed), "way": way, "new": new, "old": "10" * 500}


def test_every_seed_has_all_three_ways_and_some_have_the_variants():
    keys = qlora.keys()
    assert len(set(keys)) == len(keys)
    for seed in range(qlora.SEEDS):
        assert {f"{seed} full", f"{seed} lora", f"{seed} qlora"} <= set(keys)
    assert qlora.SEEDS >= 3 and "2 qlora attention" in keys


def test_a_key_of_no_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="key is '9 qlora'; choose one of - 16 bits, "):
        qlora.row("9 qlora")


def test_differences_are_paired_and_in_points():
    rows = {f"{s} lora": made_up(f"{s} lora", 120) for s in range(3)}
    rows |= {f"{s} qlora": made_up(f"{s} qlora", 120 + 12 * s) for s in range(3)}
    by_people = qlora.paired(rows, "lora", "qlora")
    assert by_people.mean == pytest.approx(5) and by_people.low > 0
    by_seeds = qlora.over_seeds(rows, "lora", "qlora")
    assert by_seeds.mean == pytest.approx(5)
    half = 4.303 * 5 / 3**0.5  # the deviation of 0, 5 and 10 is 5
    assert by_seeds.high - by_seeds.mean == pytest.approx(half)
    assert qlora.paired(rows, "lora", "qlora", "old").mean == 0


def test_one_seed_is_too_few_for_an_interval():
    rows = {key: made_up(key, 9) for key in ("0 lora", "0 qlora")}
    with pytest.raises(ValueError, match="rows has 1 seeds of 'lora' and 'qlora'"):
        qlora.over_seeds(rows, "lora", "qlora")


def test_what_is_saved_is_loaded_in_order_and_goes_stale(tmp_path):
    path, mark = tmp_path / "qlora.json", qlora.stamp()
    rows = {key: made_up(key, 5) for key in ("1 qlora", "0 full")}
    qlora.save(rows, path, mark)
    assert list(qlora.load(path)) == ["0 full", "1 qlora"] and qlora.is_fresh(path)
    qlora.save(rows, path, {**mark, "model": "0"})
    assert not qlora.is_fresh(path)


def test_the_judge_misses_what_is_not_there_or_too_far_apart(capsys):
    rows = {f"{s} {w}": made_up(f"{s} {w}", 200) | {"untouched": True}
            for s in range(3) for w in ("full", "lora", "qlora")}  # fmt: skip
    assert qlora.judge(rows) == []
    far = rows | {"0 qlora": rows["0 qlora"] | {"new": "0" * 240, "untouched": False}}
    missed = qlora.judge(far)
    assert missed[0] == "0 qlora: a code changed" and len(missed) == 3
    assert "not within ±3 points" in missed[1]
    capsys.readouterr()


def test_the_table_in_the_repository_is_whole_and_fresh():
    if not qlora.TABLE.exists():
        pytest.skip("benchmarks/qlora.json is not made yet: python benchmarks/qlora.py")
    assert list(qlora.load()) == qlora.keys()
    assert json.loads(qlora.TABLE.read_text())["stamp"] == qlora.stamp(), (
        "stale: run python benchmarks/qlora.py"
    )
