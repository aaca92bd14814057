"""Execute the notebooks, find what went wrong, stamp what they were run on.

    python notebooks/build.py run                          # the stale ones
    python notebooks/build.py run notebooks/02_rounding.ipynb
    python notebooks/build.py check                        # which are stale?
    python notebooks/build.py colab https://…/minquant     # where Colab finds it all
    python notebooks/build.py pictures                     # those that README shows

`run` executes offline with warnings as errors, prints the seconds, and saves the
notebook with its outputs. What would make two runs differ (random names of widgets,
time stamps, versions of Python) is taken out, so that a diff shows what changed.

The stamp is a hash of what the outputs come from: the code cells, the modules of the
package that they import (without comments and docstrings), the bundled model if they
can load it, and every file that a cell names. `check` and the tests compare it.

    python notebooks/build.py counts                       # lines, words, minutes

How a lesson is built (header, set-up, what is folded) stands in `anatomy.py`.

README shows pictures of the lessons: `pictures/02_rounding-1.png` is the first that
lesson 02 has among its outputs. `pictures` saves them, and gives each its alt text.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import hashlib
import io
import itertools
import os
import re
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import anatomy
import nbformat
import photograph
from anatomy import lessons, setup_cell
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGE = ROOT / "minquant"
MODEL = ROOT / "data" / "almanac"
PUBLIC_NAMES = re.compile(r"^NAMES = \{.*?^\}", re.MULTILINE | re.DOTALL)
BROWSER_FILE = re.compile(r'"(\w+\.(?:js|css))"')  # named by a module beside it
LOADER = "models.load"  # the module that opens it
REGISTRY = "course.checks"  # finds the exercises of all lessons while it runs
OFFLINE = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # the bundled model loads in a blink
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # the same sums on every machine, more or less
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": str(ROOT),
    "TOKENIZERS_PARALLELISM": "false",
}
STRICT = (  # all but what ipykernel, and ipywidgets 7 about it, say of themselves
    "--IPKernelApp.exec_lines=import warnings; warnings.simplefilter('error'); "
    "warnings.filterwarnings('ignore', module='ipykernel'); "
    "warnings.filterwarnings('ignore', 'Kernel._parent_header is deprecated')"
)
WIDGETS = "application/vnd.jupyter.widget-state+json"
# paths, and addresses in memory
LOCAL = re.compile(
    "|".join(re.escape(f"{place}") for place in (ROOT, Path.home()))
    + rf"|{re.escape(tempfile.gettempdir())}/|\bat 0x[0-9a-f]{{6,}}"
)
README = ROOT / "README.md"
SHOWN = re.compile(r'<img src="(notebooks/pictures/(\w+)-(\d+)\.png)"[^>]*>')  # there
DRAWN = re.compile(  # by figures.to_img, in an output
    r'<img alt="([^"]+)" width="(\d+)"[^>]* src="data:image/png;base64,([\w+/=]+)">'
)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# --- the stamp ---


def code_of(source: str) -> str:
    """Python source without comments, docstrings and spaces, on any Python the same."""
    kept, last = [], tokenize.NEWLINE
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    layout = {tokenize.INDENT: ">", tokenize.DEDENT: "<", tokenize.NEWLINE: ";"}
    tokens = [t for t in tokens if t.type not in (tokenize.COMMENT, tokenize.NL)]
    for token, after in itertools.pairwise(tokens):
        alone = last in layout and after.type == tokenize.NEWLINE
        if not (token.type == tokenize.STRING and alone):
            kept.append(layout.get(token.type, token.string))
        last = token.type
    # What a docstring leaves is an empty line; 3.12 tells f"{{" and f"{" not apart.
    code = re.sub(r"\s+|(?<=\{)\{+|(?<=\})\}+", "", "".join(kept))
    return re.sub("^;|(?<=[<>;]);", "", code)


def imported(tree: ast.AST) -> set[str]:
    """The modules of the package that a piece of Python imports: {"methods.rtn"}.

    A package stands for its `__init__`. A name of the front door (`mq.load`, after
    `import minquant as mq`) stands for the module that holds it.

    Raises ValueError if an import leads to no file of the package: then a stamp would
    not depend on the code that it means.
    """
    names: set[str] = set()
    doors: set[str] = set()  # what the front door is called here
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
            doors.update(
                alias.asname or "minquant"
                for alias in node.names
                if alias.name == "minquant" or not alias.asname
            )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    names.update(
        f"minquant.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in doors
        and not node.attr.startswith("__")
    )
    public = front_door()
    ours = (name.split(".")[1:] for name in names if name.startswith("minquant."))
    return {public.get(parts[0]) or _module_of(parts) for parts in ours}


def _module_of(parts: list[str]) -> str:
    """The module that a dotted name is, or else the one that holds it."""
    for name in (".".join(parts), ".".join(parts[:-1])):
        if name and file_of(name).is_file():
            return name
    raise ValueError(f"minquant.{'.'.join(parts)} is in no file of {PACKAGE}")


def front_door() -> dict[str, str]:
    """The module of each public name, as `minquant/__init__.py` lists them."""
    found: dict[str, str] = {}
    for node in ast.parse(file_of("").read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign([ast.Name("NAMES")], rooms):
                for module, names in ast.literal_eval(rooms).items():
                    found |= dict.fromkeys(names.split(), module)
            case ast.Assign([ast.Name("MODULES")], modules):
                found |= ast.literal_eval(modules)
    return found


def file_of(module: str) -> Path:
    """The file of a module ("methods.rtn") or of a package; "" is minquant itself."""
    place = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def closure(modules: Iterable[str]) -> set[str]:
    """These modules, the packages they lie in, and all that these import, and so on.

    The registry of exercises imports no lesson by name: here it stands for all of them.
    """
    seen, waiting = set(), ["", *modules]
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting.append(name.rpartition(".")[0])
            waiting += imported(ast.parse(file_of(name).read_text(encoding="utf-8")))
            waiting += exercises() if name == REGISTRY else []
    return seen


def exercises() -> list[str]:
    """The modules in which the registry finds exercises, one for each lesson."""
    places = PACKAGE.glob("course/*/exercises.py")
    return [f"course.{place.parent.name}.exercises" for place in sorted(places)]


def modules_behind(source: str) -> list[str]:
    """All modules of the package that a piece of Python rests on, by name."""
    return sorted(closure(imported(ast.parse(source))))


def code_behind(source: str) -> list[str]:
    """The code of these modules."""
    return code_in(modules_behind(source))


def code_in(modules: Iterable[str]) -> list[str]:
    """The code of each module.

    The list of public names is left out: what counts is the module that a name leads
    to, which is among these. So a new name makes no lesson stale. A file that the
    browser runs, "ruler.js", belongs to the module beside it that names it.
    """
    sources = []
    for name in modules:
        file = file_of(name)
        text = PUBLIC_NAMES.sub("", file.read_text(encoding="utf-8"))
        sources.append(code_of(text))
        beside = map(file.with_name, sorted(set(BROWSER_FILE.findall(text))))
        sources += [path.read_text(encoding="utf-8") for path in beside]
    return sources


def model_files() -> list[Path]:
    """The files of the bundled model."""
    return sorted([*MODEL.glob("*.json"), *MODEL.glob("*.safetensors")])


def stamp(nb: nbformat.NotebookNode) -> dict[str, str]:
    """Hashes of what the outputs come from: its cells, the package, the data."""
    cells = [c.source for c in nb.cells if c.cell_type == "code" and c.source.strip()]
    if setup_cell(nb):
        cells = cells[1:]
    code = "\n".join(cells)
    python = TransformerManager().transform_cell(code)  # %magic is no Python
    named = (HERE / name for name in re.findall(r"""["']([\w./-]+\.\w+)["']""", code))
    files = {path.resolve() for path in named if path.is_file()}
    modules = modules_behind(python)
    if LOADER in modules:  # it can open the bundled model
        files |= set(model_files())
    return {
        "cells": digest(cell.encode() for cell in cells),
        "package": digest(source.encode() for source in code_in(modules)),
        "data": digest(path.read_bytes() for path in sorted(files)),
    }


def digest(parts: Iterable[bytes], digits: int = 16) -> str:
    """One hash of several parts."""
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(digests).hexdigest()[:digits]


def stale(nb: nbformat.NotebookNode) -> list[str]:
    """Which of its cells, the package and the data changed since it was executed."""
    then = nb.metadata.get("minquant", {})
    return [part for part, now in stamp(nb).items() if then.get(part) != now]


# --- executing ---


def execute(nb: nbformat.NotebookNode) -> None:
    """Run all cells in place, offline, warnings as errors. A failing cell ends it."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nb.metadata.pop("widgets", None)
    with tempfile.TemporaryDirectory() as home:
        client = NotebookClient(
            nb,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(HERE)}},
            extra_arguments=[STRICT],
            record_timing=False,
            coalesce_streams=True,
        )
        with contextlib.suppress(CellExecutionError):  # `trouble` finds it in an output
            nobody = {"IPYTHONDIR": home, "MINQUANT_PROGRESS": f"{home}/progress.json"}
            client.execute(env={**os.environ, **OFFLINE, **nobody})


def calm(nb: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """The notebook without what two runs of the same code do not share."""
    text = nbformat.writes(nb)
    for i, model in enumerate(widgets(nb)):
        text = text.replace(model, digest([f"{name} {i}".encode()], digits=32))
    nb = nbformat.reads(text, as_version=4)
    kept = {key: nb.metadata[key] for key in ("widgets",) if key in nb.metadata}
    nb.metadata = nbformat.from_dict(METADATA | kept)
    return nb


def widgets(nb: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    """The saved widgets of a notebook by their ids: model_name and state of each."""
    return nb.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})


def trouble(nb: nbformat.NotebookNode) -> Iterator[str]:
    """What no reader should find in the outputs, each as one line."""
    for number, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            shown = _text(output)
            if output.output_type == "error":
                yield f"cell {number}: {output.ename}: {output.evalue}"
            elif output.get("name") == "stderr":
                yield f"cell {number} writes to stderr: {shown.strip()[:200]}"
            elif found := LOCAL.search(shown):
                yield f"cell {number} shows what holds on one machine: {found[0]}"
    for model in widgets(nb).values():
        state = model["state"]
        for output in state.get("outputs", []):
            if output["output_type"] == "error":
                yield f"a widget's output: {output['ename']}: {output['evalue']}"
        if "minquant-error" in str(state.get("value")):
            yield f"a widget shows an error: {state['value'][:300]}"
        if model["model_name"] == "FloatProgressModel":
            yield "a progress bar, with its times, is among the outputs: silence it"


def _text(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    texts = [text for kind, text in data.items() if kind.startswith("text/")]
    return re.sub(r"base64,[\w+/=]+", "", "".join([output.get("text", ""), *texts]))


# --- the pictures that README shows ---


def pictures(nb: nbformat.NotebookNode) -> list[tuple[str, str, bytes]]:
    """The pictures among the outputs: alt text as HTML, width in pixels, PNG file."""
    outputs = (output for cell in nb.cells for output in cell.get("outputs", []))
    pages = (output.get("data", {}).get("text/html", "") for output in outputs)
    drawn = (found for page in pages for found in DRAWN.findall(page))
    return [(alt, width, base64.b64decode(data)) for alt, width, data in drawn]


def illustrate(text: str) -> tuple[str, dict[str, bytes]]:
    """A text with the alt texts its pictures have now, and their files by name.

    Raises ValueError if it shows a picture that no lesson has.
    """
    files = {}

    def renew(shown: re.Match) -> str:
        name, lesson, number = shown.groups()
        path = HERE / f"{lesson}.ipynb"
        found = pictures(nbformat.read(path, as_version=4)) if path.exists() else []
        if not 1 <= int(number) <= len(found):
            raise ValueError(f"{name} is shown, but {lesson} has {len(found)} pictures")
        alt, width, files[name] = found[int(number) - 1]
        return f'<img src="{name}" width="{width}" alt="{alt}">'

    return SHOWN.sub(renew, text), files


# --- commands ---


def run(paths: list[Path]) -> bool:
    """Execute, stamp and save; print seconds and troubles. Whether all went well."""
    well = True
    for path in paths:
        nb = nbformat.read(path, as_version=4)
        before = nbformat.from_dict(nb)
        start = time.perf_counter()
        execute(nb)
        print(f"{path.name:40} {time.perf_counter() - start:6.1f} s", flush=True)
        found = list(trouble(nb))
        print("".join(f"    {line}\n" for line in found), end="")
        if not found:
            photograph.add_photographs(nb, before)
        nb = calm(nb, path.stem)
        anatomy.dress(nb, path)
        if not found:
            nb.metadata["minquant"] = stamp(nb)
        nbformat.write(nb, path)
        well = well and not found
    return well


def check(paths: list[Path]) -> bool:
    """Print which notebooks are stale, and why. Whether none is."""
    changed = {path: stale(nbformat.read(path, as_version=4)) for path in paths}
    for path, parts in changed.items():
        if parts:
            print(f"{path.name} is stale ({', '.join(parts)} changed): make notebooks")
    return not any(changed.values())


def colab(repo: str) -> bool:
    """Write the address of the repository into every notebook: badge and set-up."""
    if not re.fullmatch(r"https://[^\s\"'{}]+", repo):
        print("Say where the course lies: make colab REPO=https://…")
        return False
    for path in lessons():
        nb = nbformat.read(path, as_version=4)
        anatomy.dress(nb, path, repo)
        nbformat.write(nb, path)
        print(f"{path.name}: Colab takes the course from {repo}")
    return True


def count(paths: list[Path]) -> bool:
    """Print what each lesson asks of its reader."""
    for path in paths:
        print(f"{path.stem:28} {anatomy.counts(nbformat.read(path, as_version=4))}")
    return True


def show() -> bool:
    """Save the pictures that README shows, and write their alt texts into it."""
    text, files = illustrate(README.read_text(encoding="utf-8"))
    README.write_text(text, encoding="utf-8", newline="\n")
    for name, data in files.items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_bytes(data)
        print(f"{name}: {len(data) / 1000:.0f} kB")
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="execute and stamp; all that are stale")
    running.add_argument("notebooks", nargs="*", type=Path)
    running.add_argument("--all", action="store_true", help="stale or not")
    commands.add_parser("check", help="list the stale ones")
    commands.add_parser("counts", help="what each lesson asks of its reader")
    commands.add_parser("colab", help="set the repository").add_argument("repo")
    commands.add_parser("pictures", help="save those that README shows")
    given = parser.parse_args(arguments)
    if given.command == "check":
        return not check(lessons())
    if given.command == "counts":
        return not count(lessons())
    if given.command == "colab":
        return not colab(given.repo)
    if given.command == "pictures":
        return not show()
    paths = given.notebooks or [
        path
        for path in lessons()
        if given.all or stale(nbformat.read(path, as_version=4))
    ]
    return not run(paths)


if __name__ == "__main__":
    sys.exit(main())
