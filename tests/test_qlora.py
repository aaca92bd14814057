"""The table of lesson 09: its rows, its comparisons, and that it is not stale."""

import pytest
import torch

from benchmarks import qlora
from minquant.probes import Accuracy

NOTHING = Accuracy((), torch.zeros(0, dtype=torch.bool), ())


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
    assert qlora.SEEDS >= 3
    for variant in ("full short", "lora short", "qlora short", "qlora attention"):
        assert [k for k in keys if k.endswith(f" {variant}")] == [
            f"{seed} {variant}" for seed in range(qlora.TRIED)
        ]


def test_a_key_of_no_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="key is '9 qlora'; choose one of - 16 bits, "):
        qlora.row("9 qlora")


def test_a_short_row_has_half_of_the_steps_and_rehearsal_longer_pages():
    whole = qlora.lessons(0)
    assert len(qlora.lessons(0, ["short"])) == len(whole) / 2 == 40
    longer = qlora.lessons(0, ["rehearsal"])
    assert len(longer) == len(whole)
    assert longer[0][0].shape[1] > 1.5 * whole[0][0].shape[1]


def test_attention_alone_trains_as_many_numbers_by_the_same_scale(monkeypatch):
    made = {}

    def train(student, batches):
        made[len(made)] = student.model
        return [0.0]

    monkeypatch.setattr(qlora.finetune, "train_", train)
    monkeypatch.setattr(qlora.evaluate, "accuracy", lambda *a, **k: NOTHING)
    rows = [qlora.row(key) for key in ("0 qlora", "0 qlora attention")]
    assert rows[0]["trained"] == rows[1]["trained"]
    every, few = (qlora.adapters.adapters(model) for model in made.values())
    assert {a.scaling for a in [*every.values(), *few.values()]} == {2.0}
    assert set(few) == {name for name in every if "self_attn" in name}


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


def test_old_questions_are_the_same_for_every_seed_and_so_drawn_once():
    rows = {f"{s} lora": made_up(f"{s} lora", 9) for s in range(3)}
    rows |= {f"{s} qlora": made_up(f"{s} qlora", 9) | {"old": "1" * 500 + "0" * 500}
             for s in range(3)}  # fmt: skip
    three = qlora.paired(rows, "lora", "qlora", "old")
    one = qlora.paired({k: rows[k] for k in ("0 lora", "0 qlora")},
                       "lora", "qlora", "old")  # fmt: skip
    assert three == one and three.mean == 0 and three.low < -3 < 3 < three.high


def test_one_seed_is_too_few_for_an_interval():
    rows = {key: made_up(key, 9) for key in ("0 lora", "0 qlora")}
    with pytest.raises(ValueError, match="rows has 1 seeds of 'lora' and 'qlora'"):
        qlora.over_seeds(rows, "lora", "qlora")


def test_the_judge_misses_what_is_not_there_or_too_far_apart(capsys):
    rows = {f"{s} {w}": made_up(f"{s} {w}", 200) | {"untouched": True}
            for s in range(3) for w in ("full", "lora", "qlora")}  # fmt: skip
    assert qlora.judge(rows) == []
    far = rows | {"0 qlora": rows["0 qlora"] | {"new": "0" * 240, "untouched": False}}
    missed = qlora.judge(far)
    assert missed[0] == "0 qlora: a code changed" and len(missed) == 3
    assert "not within ±3 points" in missed[1]
    capsys.readouterr()


def test_the_judge_says_also_how_the_short_rows_compare(capsys):
    rows = {f"{s} {w}": made_up(f"{s} {w}", right) | {"untouched": True}
            for s in range(3) for w, right in (("full", 240), ("lora", 236),
            ("qlora", 236), ("lora short", 72), ("qlora short", 84))}  # fmt: skip
    assert qlora.judge(rows) == []
    lines = capsys.readouterr().out.splitlines()
    (short,) = (line for line in lines if "short" in line)
    assert short.startswith("qlora short − lora short, by people")
    assert "+5.00 points" in short


def test_the_table_in_the_repository_is_whole_and_fresh():
    assert list(qlora.TABLE.load()) == qlora.keys()
    assert qlora.TABLE.is_fresh(), "stale: run python benchmarks/qlora.py"
