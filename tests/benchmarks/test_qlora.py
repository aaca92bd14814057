"""The table of lesson 09: its rows, its comparisons, and that it is not stale."""

import pytest
import torch

from benchmarks import qlora, qlora_step
from minquant.measure.probes import Accuracy
from minquant.planning.memory import StepMemory

NOTHING = Accuracy((), torch.zeros(0, dtype=torch.bool), ())


def made_up(key, right):
    """A row that nothing was trained for: how many new facts of 240 it knows."""
    seed, way = key.split(" ", 1)
    new = "1" * right + "0" * (240 - right)
    return {"key": key, "seed": int(seed), "way": way, "new": new, "old": "10" * 500}


def test_every_seed_has_all_three_ways_and_all_variants():
    keys = qlora.keys()
    assert len(set(keys)) == len(keys)
    for seed in range(qlora.SEEDS):
        assert {f"{seed} full", f"{seed} lora", f"{seed} qlora"} <= set(keys)
        assert {f"{seed} {variant}" for variant in qlora.VARIANTS} <= set(keys)
    assert qlora.SEEDS >= qlora.FEWEST >= 3


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


def test_a_row_in_fp32_has_no_16_bit_number_and_the_others_have(monkeypatch):
    made = []
    monkeypatch.setattr(
        qlora.finetune, "train_", lambda student, _: made.append(student.model) or [0.0]
    )
    monkeypatch.setattr(qlora.evaluate, "accuracy", lambda *a, **k: NOTHING)
    for key in ("0 lora fp32", "0 qlora fp32", "0 lora"):
        qlora.row(key)
    *wide, narrow = ({p.dtype for p in model.parameters()} for model in made)
    assert wide == [{torch.float32}] * 2
    assert narrow == {torch.float32, torch.bfloat16}


def test_the_smallest_rate_that_teaches_enough_is_chosen(monkeypatch, capsys):
    learnt = {0.00025: 3, 0.0005: 9, 0.001: 99, 0.002: 100, 0.004: 99}
    learnt |= {0.0015: 3, 0.003: 97, 0.006: 98, 0.012: 5, 0.024: 99}

    hundred = tuple(qlora.asked(0)[:100])

    def prepared(original, way, *, rate, seed):
        assert seed == qlora.OTHERS not in range(qlora.SEEDS)
        return type("Student", (), {"model": rate})

    def accuracy(rate, *about, **options):
        right = torch.arange(100) < learnt[rate]
        return Accuracy(hundred, right, ("",) * 100)

    monkeypatch.setattr(qlora, "lessons", lambda seed: [])
    monkeypatch.setattr(qlora.finetune, "prepared", prepared)
    monkeypatch.setattr(qlora.finetune, "train_", lambda *a: [0.0] * 5)
    monkeypatch.setattr(qlora.evaluate, "accuracy", accuracy)
    assert qlora.rates() == qlora.finetune.RATES
    chosen = [line for line in capsys.readouterr().out.splitlines() if "chosen" in line]
    assert [line.split()[:2] for line in chosen] == [
        ["full", "0.00100"],
        ["lora", "0.00600"],
        ["qlora", "0.00600"],
    ]


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
    rows |= {
        f"{s} qlora": made_up(f"{s} qlora", 9) | {"old": "1" * 500 + "0" * 500}
        for s in range(3)
    }
    three = qlora.paired(rows, "lora", "qlora", "old")
    one = qlora.paired(
        {k: rows[k] for k in ("0 lora", "0 qlora")}, "lora", "qlora", "old"
    )
    assert three == one and three.mean == 0 and three.low < -3 < 3 < three.high


def test_what_was_lost_is_held_against_the_model_before_it_learnt():
    before = made_up("0 x", 9) | {"key": "- 16 bits", "old": "1" * 1000}
    rows = {"- 16 bits": before}
    rows |= {f"{s} full": made_up(f"{s} full", 9) for s in range(3)}  # half of the old
    for of in qlora.DRAWN.values():
        assert of(rows, "- 16 bits", "full", "old").mean == pytest.approx(-50)
    assert qlora.paired(rows, "- 16 bits", "full", "old").low < -52
    assert qlora.over_seeds(rows, "- 16 bits", "full", "old").low == pytest.approx(-50)


def test_one_seed_is_too_few_for_an_interval():
    rows = {key: made_up(key, 9) for key in ("0 lora", "0 qlora")}
    with pytest.raises(ValueError, match="rows has 1 seeds of 'lora' and 'qlora'"):
        qlora.over_seeds(rows, "lora", "qlora")


def test_the_judge_misses_what_is_not_there_or_too_far_apart(capsys):
    rows = {
        f"{s} {w}": made_up(f"{s} {w}", 200) | {"untouched": True}
        for s in range(3)
        for w in ("full", "lora", "qlora")
    }
    assert qlora.judge(rows) == []
    far = rows | {"0 qlora": rows["0 qlora"] | {"new": "0" * 240, "untouched": False}}
    missed = qlora.judge(far)
    assert missed[0] == "0 qlora: a code changed" and len(missed) == 3
    assert "not within ±3 points" in missed[1]
    capsys.readouterr()


def test_the_judge_says_also_how_the_short_rows_compare(capsys):
    rows = {
        f"{s} {w}": made_up(f"{s} {w}", right) | {"untouched": True}
        for s in range(3)
        for w, right in (
            ("full", 240),
            ("lora", 236),
            ("qlora", 236),
            ("lora short", 72),
            ("qlora short", 84),
        )
    }
    assert qlora.judge(rows) == []
    lines = capsys.readouterr().out.splitlines()
    short = [line for line in lines if "short" in line]
    assert short[0].startswith("qlora short − lora short, new, by people")
    assert short[1].startswith("qlora short − lora short, new, by seeds")
    assert all("+5.00 points" in line for line in short) and len(short) == 2


def judged_step(capsys, **changes):
    """What the judge of qlora_step misses in made-up rows, and what it prints."""
    took = dict.fromkeys(qlora_step.ROWS, 1.0)
    plan = {row: StepMemory(4, 3, 2, 1) for row in qlora_step.ROWS}
    found = dict(plan)
    took |= changes.get("took", {})
    found |= changes.get("found", {})
    return qlora_step.judge(took, found, plan), capsys.readouterr().out


def test_each_dtype_of_a_qlora_step_is_held_to_the_faster_lora(capsys):
    half, whole = qlora_step.Row("qlora", 16), qlora_step.Row("qlora", 32)
    assert judged_step(capsys, took={half: 1.5, whole: 1.5})[0] == []
    for slow, name in ((half, "bf16"), (whole, "fp32")):
        missed, _ = judged_step(capsys, took={slow: 1.51})
        assert missed == [f"QLoRA, {name}: 1.51 times LoRA's step, not 1.5"]
    slow_lora = {qlora_step.Row("lora", 16): 9.0, half: 1.6}
    assert len(judged_step(capsys, took=slow_lora)[0]) == 1  # fp32 is the faster


def test_memory_of_a_step_is_held_to_the_plan_in_sum_and_in_ratio(capsys):
    row = qlora_step.Row("qlora", 16)
    missed, printed = judged_step(capsys, found={row: StepMemory(4, 3, 2, 3)})
    assert missed == [
        "QLoRA, bf16: memory is +20.0% from what was computed",
        "QLoRA, bf16: 0.83 times less, not 1.00",
    ]
    assert "QLoRA, bf16: 0.83 times less than full, 1.00 computed" in printed


def test_the_table_in_the_repository_is_whole_and_fresh():
    assert list(qlora.TABLE.load()) == qlora.keys()
    assert qlora.TABLE.is_fresh(), "stale: run python benchmarks/qlora.py"
