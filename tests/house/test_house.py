"""The house: its rooms, who may import whom, and what stands at the front door."""

import ast
import collections
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build
import pytest
import torch

import minquant as mq
from minquant.numerics.bits import pack

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "minquant"
ROOMS = sorted(place.parent.name for place in PACKAGE.glob("*/__init__.py"))
FILES = sorted(PACKAGE.rglob("*.py"))
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def lint_imports(folder):
    """The exit status of import-linter in a folder, and what it prints."""
    tool = Path(sys.executable).with_name("lint-imports")
    command = [tool, "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


# --- rooms ---


def test_there_are_few_rooms_and_nothing_lies_between_them():
    assert 10 <= len(ROOMS) <= 12
    loose = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert loose == set(ROOMS)


def test_the_front_page_shows_the_rooms():
    shown = re.findall(r"^\| \[`(\w+)/`\]\(minquant/(\w+)\)", PAGE, re.MULTILINE)
    assert sorted(shown) == [(room, room) for room in ROOMS]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_page_that_names_each_of_its_files(room):
    page = (PACKAGE / room / "README.md").read_text(encoding="utf-8")
    inside = {
        path.name if path.is_file() else f"{path.name}/"
        for path in (PACKAGE / room).iterdir()
        if path.name not in ("__init__.py", "README.md", "__pycache__")
    }
    named = re.findall(r"^\| \[`([\w./]+)`\]", page, re.MULTILINE)
    assert sorted(named) == sorted(inside)


def test_the_rooms_import_one_way():
    status, printed = lint_imports(ROOT)
    assert status == 0, printed
    assert "4 kept, 0 broken" in printed


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("numerics/bits.py", "from minquant.methods import rtn", "A room imports"),
        ("files/__init__.py", "from minquant.methods import rtn", "A room imports"),
        ("layers/lora.py", "import triton", "Only kernels"),
        ("measure/probes.py", "import transformers", "Only models and serving"),
        ("models/load.py", "import ipywidgets", "Only the course"),
    ],
)
def test_an_import_that_runs_up_is_seen(tmp_path, file, line, broken):
    shutil.copytree(PACKAGE, tmp_path / "minquant")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "minquant" / file).open("a", encoding="utf-8") as place:
        place.write(f"\n\ndef later():\n    {line}\n")
    status, printed = lint_imports(tmp_path)
    assert status == 1
    assert re.search(rf"{broken}.* BROKEN", printed), printed


# --- the front door ---


def test_every_name_at_the_front_door_leads_to_what_it_says():
    assert len(mq.__all__) == len(set(mq.__all__)) > 40
    for module, names in mq.NAMES.items():
        place = importlib.import_module(f"minquant.{module}")
        for name in names.split():
            assert getattr(mq, name) is getattr(place, name)
    assert mq.checks.solution and mq.almanac.documents


def test_a_name_that_is_not_there_says_which_are():
    with pytest.raises(
        AttributeError, match="minquant has no 'quantise'; it has .*load"
    ):
        mq.quantise  # noqa: B018


def test_completion_offers_the_public_names_alone():
    assert dir(mq) == mq.__all__


def test_the_packages_page_lists_the_front_door():
    page = (ROOT / "docs/package.md").read_text(encoding="utf-8")
    table = page.partition("## The front door\n")[2].partition("\n## ")[0]
    listed = re.findall(r"`mq\.(\w+)`", table)
    assert sorted(listed) == mq.__all__


# --- files ---


def test_nothing_is_written_twice():
    bodies = collections.defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 3:
                body = ast.dump(ast.Module(node.body, []))
                bodies[body].append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert len(bodies) > 500
    assert [names for names in bodies.values() if len(names) > 1] == []


def test_the_stamps_find_every_module():
    modules = [path.relative_to(PACKAGE).with_suffix("").parts for path in FILES]
    dotted = [".".join(p for p in parts if p != "__init__") for parts in modules]
    assert [build.file_of(name) for name in dotted] == FILES
    assert build.closure(dotted) == set(dotted)


def test_shapes_are_types_while_tests_run():
    with pytest.raises(Exception, match="Type-check error"):
        pack(torch.ones(8), 4)  # floats, where whole numbers are asked for
