"""The house: which module may import which, and how large and how well said each is.

The floors stand in the README's table of files, and only there.
"""

import ast
import collections
import re
from pathlib import Path

import build
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([\d.]+) \| \[`(\w+)\.py`\]\(minquant/\2\.py\) \| .+ \|$", re.M)
FLOORS = {name: float(at) for at, name in ROW.findall((ROOT / "README.md").read_text())}
MODULES = {
    path.stem: ast.parse(path.read_text())
    for path in sorted((ROOT / "minquant").glob("*.py"))
    if path.stem != "__init__"
}
OWNERS = {  # a heavy package, and the modules that may import it
    "triton": "kernels",
    "transformers": "model",
    "huggingface_hub": "model|checkpoint",
    "ipywidgets": "widget.*",
}


def packages(tree):
    """The names of the packages that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def functions(tree):
    """Every function of a module: methods too, and those inside others."""
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


def public(name):
    """Whether a name is meant for others."""
    return not name.startswith("_")


def test_the_readme_lists_the_files_of_the_package():
    assert sorted(FLOORS) == sorted(MODULES)


def test_the_readme_lists_them_in_reading_order():
    assert list(FLOORS.values()) == sorted(FLOORS.values())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_from_lower_floors_only(name):
    reached = {lower: FLOORS[lower] for lower in build.imported(MODULES[name])}
    assert all(floor < FLOORS[name] for floor in reached.values()), (
        f"{name} is on floor {FLOORS[name]:g} and imports {reached}"
    )


@pytest.mark.parametrize("package", OWNERS)
def test_a_heavy_package_has_one_owner(package):
    users = [name for name, tree in MODULES.items() if package in packages(tree)]
    assert [name for name in users if not re.fullmatch(OWNERS[package], name)] == []


def test_the_package_imports_nothing_of_the_notebooks_and_tests():
    ours = {"notebooks", "tests", "benchmarks", "build", "tiny"}
    assert [name for name, tree in MODULES.items() if ours & set(packages(tree))] == []


@pytest.mark.parametrize("name", MODULES)
def test_no_star_import(name):
    stars = (n for n in ast.walk(MODULES[name]) if isinstance(n, ast.ImportFrom))
    assert not any(alias.name == "*" for star in stars for alias in star.names)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_of_a_size_to_be_read_at_one_sitting(name):
    lines = len((ROOT / f"minquant/{name}.py").read_text().splitlines())
    assert 40 <= lines <= 250
    for function in functions(MODULES[name]):
        assert function.end_lineno - function.lineno < 60, function.name


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_says_what_it_is(name):
    tree = MODULES[name]
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and public(n.name)]
    said = [*classes, *(f for f in functions(tree) if public(f.name))]
    assert ast.get_docstring(tree)
    assert [n.name for n in said if not ast.get_docstring(n)] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_is_typed(name):
    untyped = []
    for function in functions(MODULES[name]):
        given = function.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        typed = all(a.annotation for a in arguments if a.arg not in ("self", "cls"))
        if public(function.name) and not (typed and function.returns):
            untyped.append(function.name)
    assert untyped == []


def test_nothing_is_written_twice():
    bodies = collections.defaultdict(list)
    for name, tree in MODULES.items():
        for function in functions(tree):
            if function.end_lineno - function.lineno >= 3:
                body = ast.Module(function.body, [])
                bodies[ast.dump(body)].append(f"{name}.{function.name}")
    assert [names for names in bodies.values() if len(names) > 1] == []
