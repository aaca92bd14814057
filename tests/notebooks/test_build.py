"""The notebook tool: it executes, finds trouble, and stamps."""

import ast
from pathlib import Path
from textwrap import dedent

import anatomy
import build
import nbformat
import pytest

from minquant.course.drawing.figures import Picture, to_img, to_png

PLACE = Path("02_rounding.ipynb")


def notebook(*cells):
    """A notebook of code cells."""
    made = [nbformat.v4.new_code_cell(dedent(cell).strip()) for cell in cells]
    return nbformat.v4.new_notebook(cells=made)


def executed(*cells):
    nb = notebook(*cells)
    build.execute(nb)
    return nb


# --- executing ---


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1 / 0", "cell 0: ZeroDivisionError: division by zero"),
        ("import warnings; warnings.warn('old')", "cell 0: UserWarning: old"),
        ("import sys; print('x', file=sys.stderr)", "cell 0 writes to stderr: x"),
        ("import os; os.getcwd()", "cell 0 shows what holds on one machine: "),
        ("object()", "cell 0 shows what holds on one machine: at 0x"),
        (
            """
            import ipywidgets
            out = ipywidgets.Output()
            display(out)
            with out:
                raise KeyError("lost")
            """,
            "a widget's output: KeyError: 'lost'",
        ),
        (
            """
            import ipywidgets
            ipywidgets.interact(lambda n: 1 / n, n=(0, 0));
            """,
            "a widget's output: ZeroDivisionError: division by zero",
        ),
        (
            """
            from minquant.course.live.dashboard import Dashboard, Frame
            from minquant.course.drawing.figures import Picture
            from minquant.course.live.controls import integer
            draw = lambda n: Frame(Picture(alt=f"{1 / n}"))
            board = Dashboard(draw, {"n": integer("n", 1, 0, 1)})
            board.set(n=0)
            board
            """,
            "a widget shows an error: ",
        ),
        (
            """
            import ipywidgets
            ipywidgets.FloatProgress()
            """,
            "a progress bar, with its times",
        ),
    ],
)
def test_no_trouble_goes_unseen(cell, said):
    (found,) = build.trouble(executed(cell))
    assert found.startswith(said)


def test_a_good_notebook_has_no_trouble():
    nb = executed("import ipywidgets", "2 + 2", "ipywidgets.IntSlider()")
    assert list(build.trouble(nb)) == []
    assert [cell.execution_count for cell in nb.cells] == [1, 2, 3]
    assert nb.cells[1].outputs[0].data["text/plain"] == "4"


def test_notebooks_run_offline_where_their_files_are():
    nb = executed(
        "import os; print(os.environ['HF_HUB_OFFLINE'], os.path.basename(os.getcwd()))"
    )
    assert nb.cells[0].outputs[0].text == "1 notebooks\n"


def test_two_runs_of_the_same_code_are_the_same_file():
    cells = "import ipywidgets", "ipywidgets.HBox([ipywidgets.IntSlider()])"
    first, second = (
        nbformat.writes(build.calm(executed(*cells), "twice")) for _ in range(2)
    )
    ids = [cell["id"] for cell in nbformat.reads(first, 4).cells]
    for mine, its in zip(ids, nbformat.reads(second, 4).cells, strict=True):
        second = second.replace(its["id"], mine)  # new cells have new ids
    assert first == second


def test_a_run_is_saved_with_its_stamp_and_its_seconds(tmp_path, capsys):
    path = tmp_path / "00_sum.ipynb"
    nbformat.write(notebook("2 + 2"), path)
    assert build.run([path])
    assert capsys.readouterr().out.split()[::2] == ["00_sum.ipynb", "s"]
    nb = nbformat.read(path, 4)
    assert build.stale(nb) == []
    assert nb.cells[-1].outputs[0].data["text/plain"] == "4"


def test_a_run_that_failed_is_not_stamped(tmp_path, capsys):
    path = tmp_path / "00_sum.ipynb"
    nbformat.write(notebook("1 / 0"), path)
    assert not build.run([path])
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert build.stale(nbformat.read(path, 4)) == ["cells", "package", "data"]


# --- the stamp ---

PLAIN = """
def f(x):
    return f"{x!r} {{}}" + ("a"
        "b")
class A:
    pass
"""
DRESSED = '''"""A module."""

def f(x):  # a comment
    """Says what it does."""

    return f"{x!r} {{}}" + ("a" "b")


class A:
    """A class."""
    pass
'''


def test_comments_docstrings_and_spaces_are_no_code():
    assert build.code_of(PLAIN) == build.code_of(DRESSED)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("x = 1", "x = 2"),
        ("x = 'a'", "x = 'b'"),
        ("x = ['a']", "x = ['a', 'b']"),
        ("f('a')", "f('b')"),
        ("return_(\n'a')", "return_(\n'b')"),
    ],
)
def test_code_is_code(before, after):
    assert build.code_of(before) != build.code_of(after)


BITS, CONFIG = "minquant/bits.py", "data/almanac/config.json"


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small package with a model beside it, instead of ours."""
    package, model = tmp_path / "minquant", tmp_path / "data/almanac"
    for folder in (package, model, tmp_path / "notebooks"):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "bits.py").write_text("A = 1\n")
    (package / "rtn.py").write_text("from minquant import bits\n")
    (package / "widgets.py").write_text("from minquant.rtn import bits\nA = 1\n")
    (package / "models").mkdir()
    (package / "models/__init__.py").write_text("")
    loads = "def load():\n    from minquant import bits\n"
    (package / "models/load.py").write_text(loads)
    (model / "config.json").write_text("{}")
    (tmp_path / "table.csv").write_text("1")
    for module in (anatomy, build):
        monkeypatch.setattr(module, "HERE", tmp_path / "notebooks")
    monkeypatch.setattr(build, "PACKAGE", package)
    monkeypatch.setattr(build, "MODEL", model)
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "file", "text", "changed"),
    [
        ("from minquant import rtn", BITS, "A = 2", ["package"]),
        ("import minquant.rtn", BITS, "A = 2", ["package"]),
        (
            "from minquant.models.load import load",
            BITS,
            "A = 2",
            ["package"],
        ),
        ("from minquant import rtn", BITS, "# new\nA = 1", []),
        ("from minquant import rtn", "minquant/widgets.py", "A = 2", []),
        ("1", "minquant/__init__.py", "A = 1", ["package"]),
        (
            "from minquant.models import load",
            "data/almanac/config.json",
            "[]",
            ["data"],
        ),
        ("from minquant import rtn", CONFIG, "[]", []),
        ("open('../table.csv')", "table.csv", "2", ["data"]),
        ("%matplotlib inline\n1", "table.csv", "2", []),
    ],
)
def test_a_notebook_is_stale_when_what_it_was_run_on_changed(
    house, cell, file, text, changed
):
    nb = notebook(cell)
    nb.metadata["minquant"] = build.stamp(nb)
    assert build.stale(nb) == []
    (house / file).write_text(text)
    assert build.stale(nb) == changed


@pytest.mark.parametrize(
    "code", ["from minquant import ruler", "import minquant.rulers"]
)
def test_an_import_that_leads_nowhere_is_an_error_and_not_a_stamp(house, code):
    with pytest.raises(ValueError, match=r"minquant.rulers? is in no file of "):
        build.stamp(notebook(code))


def test_a_package_in_the_package_is_found_with_the_files_above_it(house):
    room = house / "minquant/room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "door.py").write_text("from minquant.room import key\n")
    (room / "key.py").write_text("")
    tree = ast.parse("from minquant.room.door import handle")
    assert build.closure(build.imported(tree)) == {"", "room", "room.door", "room.key"}


def test_a_name_of_the_front_door_leads_to_its_module(house):
    (house / "minquant/__init__.py").write_text('NAMES = {"rtn": "quantize fake"}\n')
    tree = ast.parse("import minquant as mq\nmq.quantize(W)")
    assert build.imported(tree) == {"rtn"}
    with pytest.raises(ValueError, match="minquant.dequantize is in no file"):
        build.imported(ast.parse("import minquant as mq\nmq.dequantize(W)"))


@pytest.fixture
def school(house):
    """A house with a course: a registry of exercises, and one lesson that has some."""
    door = 'MODULES = {"checks": "course.checks"}\n'
    (house / "minquant/__init__.py").write_text(door)
    for folder in ("course", "course/floats", "course/gptq"):
        (house / "minquant" / folder).mkdir()
        (house / "minquant" / folder / "__init__.py").write_text("")
    (house / "minquant/course/checks.py").write_text("")
    (house / "minquant/course/floats/exercises.py").write_text(
        "from minquant import bits"
    )
    (house / "minquant/widgets.py").write_text("from minquant import checks")
    return house


@pytest.mark.parametrize(
    ("cell", "depends"),
    [
        ("from minquant import checks", True),
        ("import minquant as mq\nmq.checks", True),
        ("from minquant.course.checks import gap", True),
        ("from minquant import widgets", True),
        ("from minquant import rtn", False),
        ("import minquant.course.gptq", False),
    ],
)
@pytest.mark.parametrize(
    ("lesson", "text", "changes"),
    [
        ("floats", "from minquant import bits\nA = 1", True),
        ("floats", "from minquant import bits  # of a byte", False),
        ("gptq", "A = 1", True),  # a lesson that had no exercises
    ],
)
def test_a_lesson_with_checks_is_stale_when_any_exercise_changed(
    school, cell, depends, lesson, text, changes
):
    nb = notebook(cell)
    nb.metadata["minquant"] = build.stamp(nb)
    (school / "minquant/course" / lesson / "exercises.py").write_text(text)
    assert build.stale(nb) == (["package"] if depends and changes else [])


def test_what_exercises_import_is_behind_the_registry_too(school):
    nb = notebook("from minquant import checks")
    nb.metadata["minquant"] = build.stamp(nb)
    (school / BITS).write_text("A = 2")
    assert build.stale(nb) == ["package"]


def test_the_registry_stands_for_the_exercises_of_every_lesson():
    files = [*build.PACKAGE.glob("course/*/exercises.py")]
    behind = build.closure({build.REGISTRY})
    assert len(files) >= 13
    assert {f"course.{file.parent.name}.exercises" for file in files} <= behind
    assert {"methods.gptq_derivation", "planning.mixed_precision"} <= behind


def test_a_new_public_name_makes_no_lesson_stale_and_another_module_does(house):
    door, nb = house / "minquant/__init__.py", notebook("import minquant as mq\nmq.f()")
    (house / "minquant/bits.py").write_text("def f(): ...\n")
    door.write_text('NAMES = {\n    "bits": "f",\n}\n')
    nb.metadata["minquant"] = build.stamp(nb)
    door.write_text('NAMES = {\n    "bits": "f",\n    "rtn": "g",\n}\n')
    assert build.stale(nb) == []
    door.write_text('NAMES = {\n    "rtn": "f",\n}\n')
    assert build.stale(nb) == ["package"]


def test_what_the_browser_runs_belongs_to_the_module_that_names_it(house):
    nb = notebook("from minquant import bits")
    script = house / "minquant/dots.js"
    script.write_text("draw()")
    (house / "minquant/bits.py").write_text('SCRIPT = "dots.js"\n')
    nb.metadata["minquant"] = build.stamp(nb)
    assert build.stale(nb) == []
    script.write_text("draw(2)")
    assert build.stale(nb) == ["package"]


@pytest.mark.parametrize("path", anatomy.lessons(), ids=lambda path: path.stem)
def test_every_lesson_depends_on_the_package_and_on_the_model(path, monkeypatch):
    nb = nbformat.read(path, as_version=4)
    code = "\n".join(c.source for c in nb.cells if c.cell_type == "code")
    assert len(build.code_behind(code)) > 10
    assert len(build.model_files()) >= 4
    now = build.stamp(nb)
    monkeypatch.setattr(build, "MODEL", path.parent / "nowhere")
    assert build.stamp(nb)["data"] != now["data"]


def test_a_changed_cell_is_stale_and_a_new_address_is_not():
    nb = notebook("1")
    anatomy.dress(nb, PLACE, "")
    nb.metadata["minquant"] = build.stamp(nb)
    anatomy.dress(nb, PLACE, "https://example.org/course")
    assert build.stale(nb) == []
    nb.cells[-1].source = "2"
    assert build.stale(nb) == ["cells"]


# --- the pictures that README shows ---


@pytest.fixture
def gallery(house, monkeypatch):
    """A house whose lesson 00 has two pictures, and whose README shows the second."""
    shown = [to_img(Picture(40, 20, alt=f"{n} < 3, it says")) for n in (1, 2)]
    nb = notebook("1", "2")
    for cell, page in zip(nb.cells, shown, strict=True):
        cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": page})]
    nbformat.write(nb, house / "notebooks/00_a.ipynb")
    (house / "README.md").write_text(
        'See <img src="notebooks/pictures/00_a-2.png" alt="what it was"> there.'
    )
    monkeypatch.setattr(build, "ROOT", house)
    monkeypatch.setattr(build, "README", house / "README.md")
    return house


def test_a_picture_is_saved_as_the_lesson_shows_it(gallery, capsys):
    assert build.main(["pictures"]) == 0
    assert capsys.readouterr().out.startswith("notebooks/pictures/00_a-2.png: ")
    saved = (gallery / "notebooks/pictures/00_a-2.png").read_bytes()
    assert saved == to_png(Picture(40, 20))
    (place,) = (gallery / "notebooks/pictures").iterdir()
    assert place.name == "00_a-2.png"


def test_a_picture_gets_the_words_that_the_lesson_gives_it(gallery):
    build.main(["pictures"])
    assert (gallery / "README.md").read_text() == (
        'See <img src="notebooks/pictures/00_a-2.png" width="40" '
        'alt="2 &lt; 3, it says"> there.'
    )


@pytest.mark.parametrize("name", ["00_a-0", "00_a-3", "01_b-1"])
def test_a_picture_that_no_lesson_has_is_an_error(gallery, name):
    with pytest.raises(ValueError, match=f"{name}.png is shown, but {name[:4]} has "):
        build.illustrate(f'<img src="notebooks/pictures/{name}.png">')


# --- where Colab finds the course ---


def test_the_address_is_written_into_every_notebook(house, capsys):
    for name in ("00_a.ipynb", "01_b.ipynb"):
        nbformat.write(notebook("1"), house / "notebooks" / name)
    assert build.main(["colab", "https://example.org/course"]) == 0
    for path in anatomy.lessons():
        assert (
            anatomy.repository(nbformat.read(path, 4)) == "https://example.org/course"
        )


def test_without_an_address_it_says_how_to_give_one(capsys):
    assert build.main(["colab", ""]) == 1
    assert "make colab REPO=https://" in capsys.readouterr().out
