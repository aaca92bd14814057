"""Files on other platforms: execnb#40.

A page with "−" or "Zoë" cannot be written where text is cp1252 unless the encoding is
given; Windows does not replace a file that is open or mapped.
"""

import ast
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import small_gguf, tiny

import minquant as mq
from minquant.files import gguf
from minquant.files.whole import whole_file
from minquant.models import packed_model
from minquant.training import adapter_files
from minquant.training.adapters import add_adapters_

ROOT = Path(__file__).resolve().parents[2]
OURS = [*ROOT.glob("*.py")]
for place in ("minquant", "benchmarks", "notebooks", "data"):
    OURS += sorted((ROOT / place).rglob("*.py"))
TEXT = {"read_text", "write_text"}
MAYBE_TEXT = {"open", "fdopen", "TemporaryFile", "NamedTemporaryFile"}
PROCESSES = {"run", "Popen", "check_output"}
IDS = torch.arange(4, 24)[None]
symmetric = partial(
    mq.quantize_rtn, grid=mq.symmetric_full(4), granularity=mq.per_group(16)
)


def without_encoding(source):
    """The lines of calls that leave the encoding of a text to the platform."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg for keyword in call.keywords}
        modes = [
            a.value
            for a in [*call.args, *(k.value for k in call.keywords)]
            if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
        # a file is opened by its mode, or by a bare name: all else is another `open`
        text = any(set(m) <= set("rwax+t") for m in modes) and not any(
            "b" in m and set(m) <= set("rwax+b") for m in modes
        )
        bare = name == "open" and isinstance(call.func, ast.Name) and not modes
        if (
            name in TEXT
            or (name in MAYBE_TEXT and (text or bare))
            or (name in PROCESSES and given & {"text", "universal_newlines"})
        ) and "encoding" not in given:
            found.append(call.lineno)
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("p.read_text()", [1]),
        ("p.write_text('a')", [1]),
        ("p.write_text('a', encoding='utf-8')", []),
        ("open(p)", [1]),
        ("open(p, 'w')", [1]),
        ("p.open('a')", [1]),
        ("p.open('wb')", []),
        ("Image.open(p)", []),
        ("tempfile.TemporaryFile('w+')", [1]),
        ("subprocess.run(c, text=True)", [1]),
        ("subprocess.run(c, encoding='utf-8')", []),
    ],
)
def test_the_guard_sees_a_text_without_encoding(line, expected):
    assert without_encoding(line) == expected


@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.relative_to(ROOT)}")
def test_texts_are_utf_8_on_every_platform(path):
    assert without_encoding(path.read_text(encoding="utf-8")) == []


# --- names of files ---


@pytest.fixture(params=["~", "Zoë’s 4 bits", "relative"])
def place(request, tmp_path, monkeypatch):
    """A folder by a name as people give it, and where it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = {"~": "~/out", "relative": "out"}
    name = names.get(request.param, f"{tmp_path / request.param}")
    return name, Path(name).expanduser().absolute()


def test_every_writer_and_reader_takes_such_names(place):
    name, where = place
    network = tiny.model()
    report = mq.quantize_(network, symmetric, progress=False)
    mq.export(network, report, tiny.tokenizer(), f"{name}/folder")
    mq.load_exported_(tiny.model(seed=1), f"{name}/folder")
    assert mq.load(f"{name}/folder", dtype=torch.bfloat16)
    adapted = add_adapters_(tiny.model(), method=None)
    adapter_files.save_adapters(adapted, f"{name}/adapter")
    adapter_files.load_adapters_(tiny.model(), f"{name}/adapter", method=None)
    packed_model.save(mq.pack_(network, report), f"{name}/p.safetensors")
    packed_model.load_(tiny.model(), f"{name}/p.safetensors")
    small, codes = mq.quantize(
        small_gguf.model(),
        partial(symmetric, granularity=mq.per_group(32)),
        progress=False,
    )
    mq.export(small, codes, small_gguf.tokenizer(), f"{name}/g", format="gguf")
    assert mq.load(f"{name}/g/model.gguf")
    found = {path.name for path in where.iterdir()}
    assert found == {"folder", "adapter", "p.safetensors", "g"}


# --- files that are open ---


def test_a_model_may_be_saved_over_the_file_that_it_came_from(tmp_path):
    network = tiny.model()
    mq.pack_(network, mq.quantize_(network, symmetric, progress=False))
    path = tmp_path / "p.safetensors"
    packed_model.save(network, path)
    back = packed_model.load_(tiny.model(seed=1), path)
    packed_model.save(back, path)
    again = packed_model.load_(tiny.model(seed=2), path)
    assert torch.equal(again(IDS).logits, network(IDS).logits)


def mapped(path):
    """Whether this process has a file in its memory (Windows would not replace it)."""
    return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_a_model_keeps_no_file_open(tmp_path):
    network = tiny.model()
    report = mq.quantize_(network, symmetric, progress=False)
    folder = mq.export(network, report, tiny.tokenizer(), tmp_path / "out")
    path = tmp_path / "p.safetensors"
    packed_model.save(mq.pack_(network, report), path)
    kept = [
        mq.load_exported_(tiny.model(seed=1), folder),
        packed_model.load_(tiny.model(seed=1), path),
        mq.load(folder, dtype=torch.bfloat16),
    ]
    assert not mapped(path) and not mapped(folder / "model.safetensors")
    assert kept


def refused(self, target):
    raise PermissionError(13, "Access is denied", f"{self}", None, f"{target}")


def test_a_file_that_cannot_be_replaced_is_named_and_stays(tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    gguf.write(path, {"a": 1}, {})
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", refused)  # as Windows does
    with pytest.raises(ValueError, match="m.gguf cannot be replaced .*take another na"):
        gguf.write(path, {"a": 2}, {})
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_a_folder_that_cannot_take_its_name_is_named(tmp_path, monkeypatch):
    network = tiny.model()
    report = mq.quantize_(network, symmetric, progress=False)
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(ValueError, match="out cannot take its name .*take another"):
        mq.export(network, report, None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_writing_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail():
        with whole_file(path) as there:
            there.write_text("half", encoding="utf-8")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert [*tmp_path.iterdir()] == [path]
