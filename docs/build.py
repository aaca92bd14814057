"""The course as pages that need no Python: `make site` writes dist/site.

    python docs/build.py

The lessons are executed, so this only arranges them for Sphinx, which makes the pages:

- the set-up is left out, and a proof is folded under its title;
- a live picture is put in as what it is, an ES module with its data, so that it moves;
- links between notebooks become links between pages, and a word of the glossary
  becomes a link where a lesson uses it first, unless the lesson explains it itself.

It needs the packages of the extra `site` and neither torch nor minquant's other
packages. Everything that a page asks for lies in dist/site.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NOTEBOOKS = ROOT / "notebooks"
SOURCE, SITE = ROOT / "dist/site-source", ROOT / "dist/site"
WIDGET = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"
TITLE = re.compile(r"# (.*)(?:\n\n\*([^*]*)\*)?")  # and the line about the picture
PROOF = re.compile(r"# @title (Proof.*)\n")

sys.path.insert(0, str(ROOT))
from minquant.course.live.page import embedded


def lessons() -> list[Path]:
    """The notebooks, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def main() -> None:
    """Write the pages' sources, and have Sphinx make the site."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(HERE, SOURCE, ignore=shutil.ignore_patterns("build.py", "__*"))
    shutil.copy(mathjax(), SOURCE / "_static/mathjax.js")
    shutil.copy(ROOT / "minquant/course/live/base.css", SOURCE / "_static/live.css")
    words = glossary()
    made = [lesson(path, words) for path in lessons()]
    (SOURCE / "index.md").write_text(start_page(made), encoding="utf-8")
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
    subprocess.run([*sphinx, "-d", f"{SOURCE}-read", SOURCE, SITE], check=True)
    for file in SITE.rglob("*.map"):  # for those who debug the theme
        file.unlink()
    size = sum(f.stat().st_size for f in SITE.rglob("*") if f.is_file())
    print(f"{SITE.relative_to(ROOT)}: {len(made)} lessons, {size / 1e6:.1f} MB")


def mathjax() -> Path:
    """The formulas' one file of JavaScript, in its package."""
    spec = find_spec("sphinx-mathjax-offline")
    return Path(spec.submodule_search_locations[0]) / "static/mathjax/tex-svg.js"


# --- a lesson ---


class Lesson(NamedTuple):
    """What the start page says of a lesson. thumbnail: a file of the sources."""

    page: str
    title: str
    line: str
    thumbnail: str


def lesson(path: Path, words: dict[str, str]) -> Lesson:
    """Arrange a notebook for Sphinx and write it to the sources.

    words: those of the glossary, and the number of the lesson that explains each.
    """
    nb = nbformat.read(path, 4)
    states = nb.metadata.get("widgets", {}).get(STATES, {}).get("state", {})
    nb.cells = [cell for cell in nb.cells if "setup" not in tags(cell)]
    header = next(cell for cell in nb.cells if "header" in tags(cell))
    nb.cells.remove(header)
    first = nb.cells[0]
    found = TITLE.match(first.source)
    title, line = found.groups(default="")
    rest = first.source[found.end() :]
    first.source = f"# {title}\n\n*{line}* {minutes(header)}{rest}"
    places = count(1)
    elsewhere = [word for word, number in words.items() if number != path.name[:2]]
    for cell in nb.cells[1:]:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, elsewhere)
    for cell in nb.cells:
        if cell.cell_type == "code":
            fold(cell)
            for output in cell.outputs:
                arrange(output, states, f"picture-{path.name[:2]}-{next(places)}")
    nb.metadata.pop("widgets", None)
    nbformat.write(nb, SOURCE / path.name)
    return Lesson(path.stem, title, line, thumbnail(nb, path.stem))


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def minutes(header: NotebookNode) -> str:
    """What the header says of the time."""
    found = re.search(r"About \d+ minutes[^.]*\.", header.source)
    return found[0] if found else ""


def fold(cell: NotebookNode) -> None:
    """Fold a proof under its title."""
    found = PROOF.match(cell.source)
    if not found:
        return
    cell.source = cell.source[found.end() :]
    cell.metadata["tags"] = [*tags(cell), "hide-input"]
    cell.metadata["mystnb"] = {
        "code_prompt_show": found[1],
        "code_prompt_hide": found[1],
    }


def arrange(output: NotebookNode, states: dict, place: str) -> None:
    """A live picture becomes HTML that moves; links lead to pages."""
    data = output.get("data", {})
    if WIDGET in data:
        state = states[data.pop(WIDGET)["model_id"]]["state"]
        if "_esm" in state:
            data["text/html"] = embedded(state, place) + (
                f"<noscript>{data['text/html']}</noscript>"
            )
    if "text/html" in data:
        data.pop("text/plain", None)
        html = "".join(data["text/html"])
        data["text/html"] = re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', html)


def thumbnail(nb: NotebookNode, name: str) -> str:
    """A picture of the lesson as a file: its first live one, or else its first."""
    shown = [
        "".join(output.data["text/html"])
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    live = [html for html in shown if "<noscript>" in html]
    for html in live + shown:
        found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
        if found:
            file = SOURCE / f"_static/{name}.png"
            file.write_bytes(base64.b64decode(found[1]))
            return f"_static/{file.name}"
    return ""


# --- the glossary ---

ENTRY = re.compile(r"^(\S.*)\n: (.*\(\[(\d\d)\].*)$", re.MULTILINE)
# Where no link can stand: code, formulas, links, headings, HTML, bold and cursive.
KEPT = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|^#.*?$|"
    r"<[^>]*>|\*+[^*]+\*+|^\|.*?$",
    re.DOTALL | re.MULTILINE,
)


def glossary() -> dict[str, str]:
    """Write docs/glossary.md as Sphinx's glossary. Returns each word, and the number of
    the lesson that explains it."""
    file = SOURCE / "glossary.md"
    text = file.read_text(encoding="utf-8").replace("](../notebooks/", "](")
    found = ENTRY.findall(text)
    entries = "\n\n".join(
        "\n".join(word.split(", ")) + f"\n  {meaning}" for word, meaning, _ in found
    )
    begin = text.index(found[0][0])
    made = f"{text[:begin]}```{{glossary}}\n{entries}\n```\n"
    file.write_text(made, encoding="utf-8")
    return {word: lesson for words, _, lesson in found for word in words.split(", ")}


def linked(text: str, words: list[str]) -> str:
    """A text in which each word leads to the glossary where it stands first. The words
    found are taken from the list."""
    for word in list(words):
        kept = [match.span() for match in KEPT.finditer(text)]
        for match in re.finditer(rf"(?<![\w.-]){re.escape(word)}s?(?![\w(-])", text):
            if not any(a <= match.start() < b for a, b in kept):
                link = f"{{term}}`{match[0]} <{word}>`"
                text = text[: match.start()] + link + text[match.end() :]
                words.remove(word)
                break
    return text


# --- the start page ---


def start_page(made: list[Lesson]) -> str:
    """The text of docs/index.md, with the slider of lesson 00, and a card for each
    lesson."""
    text = (HERE / "index.md").read_text(encoding="utf-8")
    first = nbformat.read(lessons()[0], 4)
    states = first.metadata["widgets"][STATES]["state"]
    state = next(s["state"] for s in states.values() if "_esm" in s["state"])
    cards = "\n".join(card(m) for m in made)
    toc = "\n".join(m.page for m in made)
    for name, what in {
        "SLIDER": embedded(state, "picture-start"),
        "CARDS": cards,
        "LESSONS": toc,
    }.items():
        text = text.replace(f"<!-- {name} -->", what)
    return text


def card(lesson: Lesson) -> str:
    """A lesson on the start page: a picture, if it has been executed, and a line."""
    head = (
        f":::{{grid-item-card}} {lesson.title}\n:link: {lesson.page}\n:link-type: doc\n"
    )
    image = f":img-top: {lesson.thumbnail}\n:img-alt:\n" if lesson.thumbnail else ""
    return f"{head}{image}{lesson.line}\n:::"


if __name__ == "__main__":
    main()
