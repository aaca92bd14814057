"""Pictures: alt text travels with them, and no global setting reaches them."""

import base64
import io
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from PIL import Image

from minquant.course.drawing import figures, palette
from minquant.course.drawing.figures import (
    Picture,
    plot,
    show,
    to_img,
    to_pixels,
    to_png,
)


@palette.style()
def halving():
    """A small picture of known numbers."""
    fig, ax = plot("bits", "RMSE", title="Halving", alt="RMSE falls from 8 to 1.")
    ax.plot([2, 3, 4, 5], [8, 4, 2, 1])
    return fig


def test_a_picture_is_measured_in_css_pixels():
    fig = Picture(640, 480)
    ax = fig.axes_at(64, 48, 320, 240)
    box = ax.get_position()
    assert (box.x0, box.width, box.height) == pytest.approx((0.1, 0.5, 0.5))
    assert 1 - box.y1 == pytest.approx(0.1)  # from the top
    assert to_pixels(fig).shape == (480 * 2, 640 * 2, 4)


def test_the_axes_carry_the_labels_they_were_given():
    (ax,) = halving().axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("bits", "RMSE")
    assert ax.get_title(loc="left") == "Halving"


def test_no_picture_depends_on_global_settings():
    plain = to_png(halving())
    with plt.style.context(
        ["dark_background", {"font.size": 30, "lines.linewidth": 9}]
    ):
        assert to_png(halving()) == plain


def test_drawing_leaves_the_global_settings_as_they_were():
    before = dict(mpl.rcParams)
    to_png(halving())
    assert dict(mpl.rcParams) == before


def test_a_picture_joins_no_global_list():
    halving()
    assert plt.get_fignums() == []


def test_the_html_holds_the_picture_at_its_size_with_its_alt_text():
    html = to_img(halving())
    assert 'alt="RMSE falls from 8 to 1."' in html
    assert 'width="900" height="320"' in html
    data = base64.b64decode(re.search(r'base64,([^"]+)"', html).group(1))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (1800, 640)


def test_alt_text_is_escaped():
    assert 'alt="a &lt; &quot;b&quot;"' in to_img(halving(), alt='a < "b"')


def test_a_picture_without_words_is_refused():
    fig = Picture(100, 100)
    with pytest.raises(ValueError, match="alt is empty; say in a sentence"):
        to_img(fig)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed while the test runs: data by type."""
    outputs = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, raw: outputs.append(data) if raw else None,
    )
    return outputs


def test_any_figure_can_be_shown_with_alt_text(shown):
    show(Figure(figsize=(2, 1)), alt="Nothing yet.")
    (data,) = shown
    assert set(data) == {"text/html", "text/plain"}
    assert 'alt="Nothing yet."' in data["text/html"]
    assert data["text/plain"] == "Nothing yet."


def test_the_last_line_of_a_cell_shows_the_picture_with_its_alt_text(shown):
    DisplayFormatter().format(halving())
    assert 'alt="RMSE falls from 8 to 1."' in shown[0]["text/html"]


@palette.style()
def two_dots(moving):
    """A dot that stands still and a dot that may move."""
    fig = Picture(200, 100, alt="Two dots.")
    ax = fig.axes_at(0, 0, 200, 100, xlim=(0, 1), ylim=(0, 1))
    ax.plot([0.2], [0.5], "o")
    (dot,) = ax.plot([0.5], [0.5], "o")
    if moving:
        fig.move(dot)
    return fig, dot


def test_moved_artists_are_drawn_as_if_they_had_always_been_there():
    (still, there), (fig, dot) = two_dots(moving=False), two_dots(moving=True)
    to_pixels(fig)
    dot.set_data([0.8], [0.4])
    there.set_data([0.8], [0.4])
    assert np.array_equal(to_pixels(fig), to_pixels(still))


def test_what_stands_still_is_drawn_anew_when_the_background_is_forgotten():
    fig, _ = two_dots(moving=True)
    before = to_pixels(fig).copy()
    fig.axes[0].lines[0].set_data([0.3], [0.5])
    assert np.array_equal(to_pixels(fig), before)
    fig.forget_background()
    assert not np.array_equal(to_pixels(fig), before)


def test_the_small_file_is_smaller_and_looks_the_same():
    fig = halving()
    small, fast = to_png(fig), to_png(fig, small=False)
    assert len(small) < len(fast) / 2
    with Image.open(io.BytesIO(small)) as image:
        difference = np.asarray(image.convert("RGBA")).astype(int) - to_pixels(fig)
    # 256 colours, most of them along the antialiased edges of three hues
    assert np.abs(difference).max() <= 16


def test_the_width_is_that_of_a_notebook():
    assert figures.WIDTH == 900
