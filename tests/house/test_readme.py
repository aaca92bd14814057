"""The README keeps its word: its example prints what it says, its links lead somewhere.

python tests/house/test_readme.py --update   # print the example's output into it anew
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for place in ("notebooks", "tests"):  # for --update, where pytest does not do it
    sys.path.insert(0, str(ROOT / place))
import anatomy  # noqa: E402
import build  # noqa: E402
import pytest  # noqa: E402
from helpers.llama_cpp import SPEC, Engine  # noqa: E402

from minquant.measure.evaluate import compare  # noqa: E402
from minquant.measure.exam import compare_exams  # noqa: E402
from minquant.measure.intervals import won_back  # noqa: E402
from minquant.measure.measured import measured  # noqa: E402

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
MANUAL = ROOT / "docs/package.md"  # the example, the names, the letters
SAID = MANUAL.read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
COMMAND = re.compile(
    r"```console\n(python -m .*?)\n```\n\n```text\n(.*?)```", re.DOTALL
)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
COURSE = TEXT.partition("## The course\n")[2].partition("\n## ")[0]
LESSONS = re.findall(r"^\| (\d\d) \| (.+?) \| .+ \|$", COURSE, re.MULTILINE)
LINK = re.compile(r"\[(.+)\]\(notebooks/(\w+\.ipynb)\)")
PAGES = [README, *sorted(ROOT.glob("*/README.md")), *sorted(ROOT.glob("docs/*.md"))]


def printed(code, cwd=ROOT):
    """What the example prints: offline, in a fresh interpreter, a warning an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **build.OFFLINE},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def page_of(command, cwd):
    """What the command prints, from the page's title on."""
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        env={**os.environ, **build.OFFLINE},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout[done.stdout.index("# smollm2") :]


def update():
    """Write what the example and the command print today into their pages."""
    code, _ = EXAMPLE.search(SAID).groups()
    shown = f"```python\n{code}```\n\n```text\n{printed(code)}```"
    MANUAL.write_text(EXAMPLE.sub(lambda _: shown, SAID), encoding="utf-8")
    command, _ = COMMAND.search(TEXT).groups()
    with tempfile.TemporaryDirectory() as folder:
        page = page_of(command, folder)
    shown = f"```console\n{command}\n```\n\n```text\n{page}```"
    README.write_text(COMMAND.sub(lambda _: shown, TEXT), encoding="utf-8")


def title(path):
    """A notebook's own title, without its number."""
    return re.match(r"(?:\d\d\W+)?(.+)", anatomy.title(path))[1].strip()


def test_there_is_one_example_and_it_prints_what_the_page_says():
    ((code, output),) = EXAMPLE.findall(SAID)
    assert printed(code) == output


def test_what_follows_the_example_works_and_writes_the_folders(tmp_path):
    first, second = re.findall(r"```python\n(.*?)```", SAID, re.DOTALL)
    (between,) = re.findall(r"`(mq\.export\(.*?\))`", SAID)
    code = [first, between, second.replace("batches)", "batches, progress=False)")]
    printed("\n".join(code), tmp_path)
    folders = sorted(path.parent.name for path in tmp_path.glob("*/model.safetensors"))
    assert folders == ["almanac-4bit", "almanac-rtn"]


def numbers(text):
    """The numbers in a text, but for the damping: either may win."""
    text = re.sub(r"\*\*damping\*\*: [\d.]+", "", text)
    return [float(n.replace(",", "")) for n in NUMBER.findall(text)]


@pytest.mark.skipif(not SPEC, reason="llama.cpp is in the package xllamacpp")
def test_the_command_prints_what_the_page_says_and_llama_cpp_runs_the_file(tmp_path):
    """Numbers may be others on other machines, but not far away: the model draws its
    text, and a last bit can send it another way."""
    command, shown = COMMAND.search(TEXT).groups()
    page = page_of(command, tmp_path)
    assert NUMBER.sub("#", page) == NUMBER.sub("#", shown)
    for ours, there in zip(numbers(page), numbers(shown), strict=True):
        assert abs(ours - there) <= 0.5 * max(ours, there), (ours, there)
    (folder,) = tmp_path.iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "model.gguf"]
    engine = Engine(folder / "model.gguf")
    try:
        ids = engine.tokens("The capital of France is")
        answer = int(engine.logits(ids)[-1].argmax())
        assert engine.tokens(" Paris") == [answer]
    finally:
        engine.close()


def test_the_example_is_of_a_size_to_be_read_at_a_glance():
    ((code, _),) = EXAMPLE.findall(SAID)
    assert len([line for line in code.splitlines() if line]) <= 12
    assert max(map(len, code.splitlines())) <= 88


def test_the_course_has_fourteen_lessons_in_order():
    assert [number for number, _ in LESSONS] == [f"{n:02}" for n in range(14)]


def test_the_lessons_that_exist_are_linked_and_only_they():
    linked = [(n, link[2]) for n, cell in LESSONS if (link := LINK.fullmatch(cell))]
    assert [name for _, name in linked] == [path.name for path in anatomy.lessons()]
    assert all(name.startswith(n) for n, name in linked)


def test_a_lesson_without_a_notebook_says_so():
    unlinked = [cell for _, cell in LESSONS if not LINK.fullmatch(cell)]
    assert [cell for cell in unlinked if not cell.endswith(", *in preparation*")] == []


def test_a_lesson_has_one_title_here_and_there():
    here = {name: said for said, name in LINK.findall(COURSE)}
    assert here == {path.name: title(path) for path in anatomy.lessons()}


def test_every_command_is_one_of_the_makefile():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.MULTILINE)
    assert {"lab", "test"} <= set(named) <= set(targets)


def test_every_link_leads_to_a_file():
    broken = []
    for page in PAGES:
        places = re.findall(r'\]\(([^)#]+)\)|src="([^"]+)"', page.read_text())
        for place in map("".join, places):
            there = (page.parent / place).exists() or place.startswith("https://")
            if not there:
                broken.append(f"{page.relative_to(ROOT)}: {place}")
    assert broken == []


def test_what_it_says_was_measured_is_what_the_table_says():
    rows = measured()
    whole = rows["float"]
    said = []
    for ruler in ("row", "64"):
        pair = rows[f"4 rtn, {ruler}"], rows[f"4 gptq, {ruler}"]
        nats = [row.loss.document_nats for row in (whole, *pair)]
        share = [round(100 * x) for x in won_back(*nats)]
        said.append("{} % [{}, {}] of the added loss".format(*share))
        found = compare_exams(*(row.exam for row in pair)).groups()["capital"]
        points = [round(x) for x in (found.mean, found.low, found.high)]
        plus = "+" if points[0] > 0 else ""
        capitals = f"{plus}{points[0]} [{points[1]}, {points[2]}] of 100 capitals"
        said.append(capitals.replace("-", "−"))
    ours, theirs = rows["4 gptq, 32 symmetric"], rows["Q4_0"]
    said.append(f"KL {ours.divergence.kl:.2f} and {theirs.divergence.kl:.2f} nats")
    keys = ("absmax", "vector-wise", "LLM.int8() at 6")
    added = [compare(whole.loss, rows[f"w8a8 {key}"].loss).mean for key in keys]
    said.append("+{:.2f}, +{:.3f} and +{:.3f} nats".format(*added))
    assert [line for line in said if line not in TEXT] == []


def test_it_shows_two_pictures_and_they_are_the_lessons_own():
    text, files = build.illustrate(TEXT)
    assert len(files) == 2
    assert text == TEXT, "the alt texts changed: make readme"
    old = [name for name, data in files.items() if (ROOT / name).read_bytes() != data]
    assert old == [], "these changed: make readme"


def test_every_picture_has_words():
    pictures = re.findall(r"<img [^>]*>|!\[[^\]]*\]", TEXT)
    assert [p for p in pictures if not re.search(r'alt="[^"]{20,}"', p)] == []


def test_no_address_is_given_that_nobody_chose():
    """The page says what to do with an address; it does not make one up."""
    assert set(re.findall(r"https?://[^\s)`]*", TEXT)) <= {"https://…"}


def test_the_benchmarks_page_lists_the_benchmarks():
    listed = re.findall(
        r"^\| \[`(\w+)\.py`\]", (ROOT / "benchmarks/README.md").read_text(), re.M
    )
    assert sorted(listed) == sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py"))


if __name__ == "__main__" and sys.argv[1:] == ["--update"]:
    update()
