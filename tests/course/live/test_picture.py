"""The base of live pictures, as far as it needs no browser."""

import json
import re
from pathlib import Path

import nbformat
import photograph
import pytest
import torch
import traitlets
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from minquant.course.drawing import palette
from minquant.course.live import picture
from minquant.course.live.page import page
from minquant.course.live.picture import LivePicture, module
from minquant.course.rounding.live_ruler import RulerPicture

COURSE = Path(picture.__file__).parents[1]
PICTURES = sorted(COURSE.glob("*/live_*.py"))
CSS = (COURSE / "live/base.css").read_text()
COLOUR = re.compile(r"--mq-(\w+): (#[0-9a-f]{6});")


@pytest.fixture
def ruler():
    return RulerPicture(torch.linspace(-1, 0.9, 16))


def test_a_module_is_the_base_and_the_picture_without_its_import(ruler):
    text = ruler.get_state()["_esm"]
    assert text.startswith((COURSE / "live/base.js").read_text())
    assert "import" not in re.sub(r"//.*", "", text)
    assert text.count("export default") == 1


@pytest.mark.parametrize("lines", ["", 2 * 'import { svg } from "../live/base.js";\n'])
def test_a_file_that_does_not_import_the_base_once_is_refused(tmp_path, lines):
    (tmp_path / "x.js").write_text(lines + "export default { render() {} };\n")
    with pytest.raises(ValueError, match=r"x.js has [02] imports from .* write one"):
        module(tmp_path / "x.js")


@pytest.mark.parametrize("file", PICTURES, ids=lambda file: file.stem)
def test_a_live_picture_has_its_javascript_beside_it(file):
    assert file.with_name(file.name.removeprefix("live_")).with_suffix(".js").is_file()


def test_no_line_of_javascript_runs_out_of_a_page():
    for file in COURSE.glob("*/*.js"):
        long = [line for line in file.read_text().splitlines() if len(line) > 96]
        assert long == [], file.name


def test_a_cell_shows_the_widget_and_has_words_for_other_readers(ruler):
    data, _ = DisplayFormatter().format(ruler)
    view = data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == ruler.model_id
    assert data["text/plain"] == ruler.words
    assert "16 weights of a row, from −1.00 to 0.900" in data["text/html"]


def test_words_are_escaped():
    class Spoken(LivePicture):
        words = "a < b & c"

    assert "a &lt; b &amp; c" in Spoken()._repr_mimebundle_()["text/html"]


def test_a_page_holds_the_data_and_no_text_of_it_ends_the_script(tmp_path):
    class Telling(LivePicture):
        script = tmp_path / "telling.js"
        script.write_text(
            'import { svg } from "../live/base.js";\nexport default { render() {} };'
        )
        text = traitlets.Unicode().tag(sync=True)

    made = page(Telling(text="</script><b>").get_state())
    assert made.count("</script>") == 2
    (data,) = re.findall(r"^const model = .*pageModel\((.*)\);$", made, re.MULTILINE)
    assert json.loads(data) == {"text": "</script><b>"}


# --- colours ---


def themes():
    """The colours of base.css, light and dark."""
    pairs = re.findall(r"--mq-(\w+): light-dark\((#\w{6}), (#\w{6})\);", CSS)
    assert len(pairs) > 10
    light, dark = ({name: found[i] for name, *found in pairs} for i in (0, 1))
    return light, dark


def test_light_is_the_palette():
    for name, colour in themes()[0].items():
        assert colour == getattr(palette, name.upper()).lower()


def luminance(colour):
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return sum(c * w for c, w in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "wash", "highlight", "band"])
def test_text_is_read_on_every_ground(theme, ground):
    colours = themes()[theme]
    for name in ("ink", "muted"):
        least = 4.5 if name == "ink" or ground in ("paper", "wash") else 3
        assert contrast(colours[name], colours[ground]) >= least, name


@pytest.mark.parametrize("name", "blue vermilion green violet".split())
def test_what_is_drawn_is_seen_on_dark_paper(name):
    _, dark = themes()
    assert contrast(dark[name], dark["paper"]) >= 4.5


# --- photographs ---


def notebook(*pictures):
    """An executed notebook that shows these pictures, a cell each."""
    states = {
        p.model_id: {"model_name": "AnyModel", "state": p.get_state()} for p in pictures
    }
    outputs = [
        nbformat.v4.new_output("execute_result", data=p._repr_mimebundle_())
        for p in pictures
    ]
    cells = [
        nbformat.v4.new_code_cell("picture", id=f"cell{i}", outputs=[output])
        for i, output in enumerate(outputs)
    ]
    widgets = {photograph.STATES: {"state": states}}
    return nbformat.v4.new_notebook(cells=cells, metadata={"widgets": widgets})


def shown(nb):
    return [cell.outputs[0]["data"]["text/html"] for cell in nb.cells]


@pytest.mark.browser
@pytest.mark.skipif(photograph.CHROMIUM is None, reason="chromium is missing")
def test_an_executed_notebook_gets_a_photograph_beside_each_live_picture(ruler):
    nb = notebook(ruler, RulerPicture(torch.linspace(-1, 0.9, 16), bits=2))
    assert photograph.add_photographs(nb) == 2
    for html, ticks in zip(shown(nb), (15, 3), strict=True):
        assert html.startswith('<img alt="16 weights of a row as dots')
        assert f"{ticks} ticks" in html
    nbformat.validate(nb)


@pytest.mark.browser
@pytest.mark.skipif(photograph.CHROMIUM is None, reason="chromium is missing")
def test_a_photograph_is_sharp_and_has_colours(ruler, tmp_path):
    with photograph.camera() as take:
        photo = take(ruler.get_state())
        with pytest.raises(RuntimeError, match="does not draw"):
            take(ruler.get_state() | {"_esm": "export default {"})
        again = take(ruler.get_state())
    (tmp_path / "photo.png").write_bytes(photo.png)
    pixels = Image.open(tmp_path / "photo.png").convert("RGB")
    assert pixels.size == (2 * photo.width, 2 * photo.height)
    assert photo.width == 900
    assert len(pixels.getcolors(2**24)) > 50
    assert again == photo


def test_without_a_browser_the_last_photographs_are_kept(ruler, monkeypatch, capsys):
    monkeypatch.setattr(photograph, "CHROMIUM", None)
    other = RulerPicture(torch.linspace(-1, 0.9, 16), bits=2)
    before, after = notebook(ruler), notebook(ruler, other)
    img = photograph.Photograph(b"png", "a row & its ruler", 9, 8).img()
    before.cells[0].outputs[0]["data"]["text/html"] = img
    assert photograph.add_photographs(after, before) == 1
    assert shown(after)[0] == img
    assert "Run this cell" in shown(after)[1]
    assert "chromium is missing" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        photograph.camera().__enter__()


def test_a_notebook_without_live_pictures_needs_no_browser(monkeypatch, capsys):
    monkeypatch.setattr(photograph, "CHROMIUM", None)
    assert photograph.add_photographs(notebook()) == 0
    assert capsys.readouterr().out == ""
