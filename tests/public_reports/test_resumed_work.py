"""A long quantization that was interrupted goes on; and what could not be written in
the end is refused at the beginning.

AutoGPTQ#765: hours of work on a large model are lost when another process takes the
memory. ModelCloud/GPTQModel#3057 adds a way to go on, bound to model and settings.
intel/neural-compressor#1778: a crash between quantizing and saving loses everything.
intel/auto-round#388: a group size that the format cannot hold is an AssertionError in
the exporter, after the work is done; #410 asks for a check beforehand.
ggml-org/llama.cpp#3521: a disk that is full leaves a file that looks finished.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import tiny
from helpers.fixture import as_learners_have_it

import minquant as mq
from minquant.models import report_folder
from minquant.serving import compress as module
from minquant.serving.compress import compress

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "minquant", "almanac", "--bits", "4"]
COMMAND += ["--group-size", "32", "--damping", "0.1"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TEXTS = [*tiny.texts_of("calibration", 12), *tiny.texts_of("test", 6)]


def contents(folder):
    """Every file of a folder, by name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model in a folder."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model(intermediate_size=64).save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    return place


# --- AutoGPTQ#765: interrupted work ---


def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    run = partial(subprocess.run, env=ENVIRONMENT, check=True, capture_output=True)
    run([*COMMAND, "--out", tmp_path / "whole"])
    out, work = tmp_path / "again", tmp_path / ".again-partial"
    chance = random.Random(765)
    before = -1
    for _ in range(4):
        process = subprocess.Popen(
            [*COMMAND, "--out", out, "--resume"],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        goal = before + chance.randint(1, 5)  # files, of 14
        while process.poll() is None and len(list(work.rglob("*.*"))) < goal:
            time.sleep(0.005)
        time.sleep(chance.random() / 5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = len(list(work.rglob("*.safetensors")))
        assert done >= before or out.exists()  # what was done stays done
        before = done
    if not out.exists():  # else it was quicker than we
        run([*COMMAND, "--out", out, "--resume"])
        assert not work.exists()
    assert contents(out) == contents(tmp_path / "whole")


def interrupted_at(k, monkeypatch):
    """From now on the k-th file that is written whole is the last: then comes Ctrl-C.
    The files that were written."""
    written, write = [], report_folder.write_whole

    def stops(path, data):
        write(path, data)
        written.append(path.name)
        if len(written) == k:
            raise KeyboardInterrupt

    for place in (report_folder, module):
        monkeypatch.setattr(place, "write_whole", stops)
    return written


@pytest.mark.parametrize("method", ["gptq", "rtn"])
def test_after_ctrl_c_at_any_file_it_goes_on_and_does_nothing_twice(
    method, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "LENGTH", 30)
    call = partial(compress, folder, method=method, progress=False)
    with monkeypatch.context() as patch:
        all_files = interrupted_at(0, patch)
        whole = contents(call(out=tmp_path / "whole").folder)
    assert len(all_files) > 10
    for k in range(1, len(all_files) + 1):
        out = tmp_path / f"out {k}"
        with monkeypatch.context() as patch:
            first = interrupted_at(k, patch)
            with pytest.raises(KeyboardInterrupt):
                call(out=out)
        assert not out.exists()
        with monkeypatch.context() as patch:
            then = interrupted_at(0, patch)
            assert contents(call(out=out, resume=True).folder) == whole
        assert first + then == all_files
        assert not out.with_name(f".{out.name}-partial").exists()


def test_ctrl_c_while_the_folder_is_written_leaves_none(folder, tmp_path, monkeypatch):
    call = partial(compress, folder, out=tmp_path / "out", text=TEXTS, progress=False)
    for name in ("export", "card"):
        with monkeypatch.context() as patch:

            def stops(*_, **__):
                raise KeyboardInterrupt

            patch.setattr(module, name, stops)
            with pytest.raises(KeyboardInterrupt):
                call(method="rtn", resume=True)
        assert [path.name for path in tmp_path.iterdir()] == [".out-partial"]
    assert "README.md" in contents(call(method="rtn", resume=True).folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def begun(folder, out, monkeypatch):
    """An interrupted call."""
    with monkeypatch.context() as patch:
        interrupted_at(4, patch)
        with pytest.raises(KeyboardInterrupt):
            compress(folder, out=out, text=TEXTS, damping=0.1, progress=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "awq", "damping": None}, "method 'gptq', and now it is 'awq'"),
        ({"bits": 8}, "bits 4, and now it is 8"),
        ({"group_size": 16}, "group_size 32, and now it is 16"),
        ({"damping": 0.2}, "damping 0.1, and now it is 0.2"),
        ({"damping": None}, "damping 0.1, and now it is None"),
        ({"text": TEXTS[1:]}, "text '.*, and now it is"),
        ({"text": None}, "text '.*, and now it is 'that the model wrote itself"),
    ],
)
def test_other_settings_do_not_go_on(change, words, folder, tmp_path, monkeypatch):
    begun(folder, tmp_path / "out", monkeypatch)
    before = contents(tmp_path)
    same = {"text": TEXTS, "damping": 0.1, "progress": False, "resume": True}
    if change.get("method") == "awq":
        monkeypatch.setattr(module, "_check_foldable", lambda model: None)
    with pytest.raises(ValueError, match=words):
        compress(folder, out=tmp_path / "out", **{**same, **change})
    assert contents(tmp_path) == before


def test_another_model_does_not_go_on(folder, tmp_path, monkeypatch):
    begun(folder, tmp_path / "out", monkeypatch)
    other = tiny.model(intermediate_size=64, seed=1)
    other.save_pretrained(tmp_path / "other")
    tiny.tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="is a report with model '"):
        compress(
            tmp_path / "other",
            out=tmp_path / "out",
            text=TEXTS,
            damping=0.1,
            resume=True,
            progress=False,
        )


def test_begun_work_is_neither_lost_nor_taken_up_unasked(folder, tmp_path, monkeypatch):
    begun(folder, tmp_path / "out", monkeypatch)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"was begun before.*--resume"):
        compress(folder, out=tmp_path / "out", text=TEXTS, damping=0.1)
    assert contents(tmp_path) == before


def test_a_report_of_a_model_goes_on_without_compress(tmp_path):
    """The same for mq.quantize alone, here with a method that fails half-way."""
    method = partial(mq.quantize_rtn, grid=mq.absmax(4), granularity=mq.per_group(16))
    settings = {"method": "rtn", "bits": 4}
    calls = []

    def fails(W):
        calls.append(W)
        if len(calls) == 9:
            raise MemoryError
        return method(W)

    for attempt in (fails, fails):
        report = mq.ReportFolder(tmp_path / "work", tiny.model(), settings)
        with contextlib.suppress(MemoryError):
            _, done = mq.quantize(tiny.model(), attempt, report=report, progress=False)
    assert len(calls) == 15  # one of 14 was tried twice
    _, expected = mq.quantize(tiny.model(), method, progress=False)
    assert done.keys() == expected.keys()
    for name, q in expected.items():
        assert done[name].codes.equal(q.codes) and done[name].scales.equal(q.scales)


# --- llama.cpp#3521: a full disk ---


def test_a_disk_that_is_full_leaves_no_half_file(folder, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    call = partial(compress, folder, out=tmp_path / "out", text=TEXTS, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(report_folder.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            call(method="rtn")
    assert [path.name for path in tmp_path.iterdir()] == [".out-partial"]
    assert (call(method="rtn", resume=True).folder / "model.safetensors").is_file()


# --- auto-round#388, #410: asked before ---

SETTINGS = [
    (mq.symmetric_full(4), mq.per_group(16)),
    (mq.symmetric_full(4), mq.per_group(32)),
    (mq.absmax(8), mq.PER_CHANNEL),
    (mq.symmetric_full(3), mq.per_group(32)),
    (mq.zero_point(4), mq.per_group(32)),
    (mq.NF4, mq.per_group(32)),
    (mq.symmetric_full(4), mq.PER_TENSOR),
    (mq.TERNARY, mq.per_group(16)),
]


@pytest.mark.parametrize("format", ["compressed-tensors", "gguf"])
@pytest.mark.parametrize(("grid", "granularity"), SETTINGS)
@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_the_answer_beforehand_is_what_happens_in_the_end(
    kind, grid, granularity, format, tmp_path
):
    from helpers import small_gguf

    pairs = kind == "Llama"
    model = small_gguf.model() if pairs else tiny.model("GPT2")
    tokenizer = small_gguf.tokenizer() if pairs else tiny.tokenizer()
    method = partial(mq.quantize_rtn, grid=grid, granularity=granularity)
    small, report = mq.quantize(model, method, progress=False)

    def answer(function, *arguments):
        try:
            function(*arguments, format=format)
        except ValueError as problem:
            return str(problem)
        return "written"

    beforehand = answer(mq.check_export, model, tokenizer, grid, granularity)
    assert beforehand == answer(mq.export, small, report, tokenizer, tmp_path / "out")
    assert (tmp_path / "out").exists() == (beforehand == "written")


def test_a_group_size_that_does_not_fit_is_said_beforehand():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    with pytest.raises(
        ValueError, match="group_size 32 does not divide in_features 48"
    ):
        mq.check_export(model, tokenizer, mq.symmetric_full(4), mq.per_group(32))


def test_a_number_that_the_dtype_does_not_hold_is_said_beforehand():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    model.model.norm.weight[3] = 7e4
    ruler = mq.symmetric_full(4), mq.per_group(16)
    with pytest.raises(ValueError, match="norm.weight with numbers up to 70000"):
        mq.check_export(model, tokenizer, *ruler)
    with as_learners_have_it(), pytest.raises(ValueError, match="format is 'onnx'"):
        mq.check_export(model, tokenizer, *ruler, format="onnx")
