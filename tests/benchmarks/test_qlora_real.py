"""The benchmark of lesson 09 on a real model, tried on a tiny one."""

import pytest
import torch
from helpers import tiny

from benchmarks import qlora_real
from minquant.course.qlora import strangers

FORMS = strangers.FACTS.values()


def words():
    """Every word that is said of a stranger."""
    said = [answers for _, answers in FORMS]
    said += [forms.replace("{}", "").replace("|", " ") for forms, _ in FORMS]
    said += [*strangers.FIRST, *strangers.FAMILY, ". : ,"]
    return sorted(set(" ".join(said).replace(":", " : ").split()))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A model of two layers that knows these words, and a table in tmp_path."""
    tokenizer = tiny.tokenizer(words(), ends=False)
    model = tiny.model(vocab_size=len(tokenizer), hidden_size=64)
    monkeypatch.setattr(qlora_real, "subject", lambda: (model, tokenizer))
    old = strangers.questions(strangers.strangers(2, seed=77))
    monkeypatch.setattr(qlora_real, "questions", lambda: old)
    monkeypatch.setattr(qlora_real, "OLD", ("strangers",))
    monkeypatch.setattr(qlora_real, "PEOPLE", 3)
    monkeypatch.setattr(qlora_real, "TIMES", 30)
    monkeypatch.setattr(qlora_real, "SIZE", 12)
    monkeypatch.setattr(qlora_real, "RATE", 0.01)
    return model


def test_every_seed_has_both_ways_and_both_controls():
    keys = qlora_real.keys()
    assert len(set(keys)) == 3 * 4
    assert keys[:4] == ["0 float", "0 nf4", "0 lora", "0 qlora"]
    with pytest.raises(ValueError, match="key is '7 lora'; choose one of 0 float, "):
        qlora_real.row("7 lora")


def test_nobody_who_is_asked_about_as_a_control_is_taught():
    for seed in range(qlora_real.SEEDS):
        taught, others = qlora_real.groups(seed)
        assert len(taught) == len(others) == qlora_real.PEOPLE
        assert not {p.name for p in taught} & {p.name for p in others}


def test_the_taught_know_and_the_controls_do_not(small):
    rows = {key: qlora_real.row(f"0 {key}") for key in qlora_real.WAYS}
    for way in ("lora", "qlora"):
        assert rows[way]["steps"] == len(rows[way]["losses"]) == 30
        assert rows[way]["losses"][-1] < rows[way]["losses"][0] - 1
    mean = {key: torch.tensor(row["new logp"]).mean() for key, row in rows.items()}
    assert mean["lora"] > mean["float"] and mean["qlora"] > mean["nf4"]
    assert rows["float"]["steps"] == 0
    for what, n in (("new", 12), ("others", 12), ("old", 8)):
        assert len(rows["lora"][f"{what} right"]) == n
    qlora_real.judge({f"0 {way}": row for way, row in rows.items()})
    assert "0 lora" in qlora_real.line(rows["lora"])


def test_a_rate_is_chosen_by_both_ways(small, monkeypatch, capsys):
    monkeypatch.setattr(qlora_real, "TRIED", (1e-6, 0.02))
    monkeypatch.setattr(qlora_real, "LEARNT", 2.0)
    assert qlora_real.rates() is None
    monkeypatch.setattr(qlora_real, "LEARNT", 0.0)
    assert qlora_real.rates() == 1e-6
    assert capsys.readouterr().out.count("qlora") == 3
