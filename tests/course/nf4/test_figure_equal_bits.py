"""Errors by price: every point stands where its numbers say, every line has a name."""

from itertools import pairwise

import pytest

from minquant.course.drawing import figures
from minquant.course.nf4.figure_equal_bits import error_by_price

FORMATS = {
    "NF4": [(4.25, 0.009), (4.5, 0.007)],
    "int4": [(4.3, 0.008), (4.6, 0.0065), (4.1, 0.01)],
    "MXFP4": [(4.25, 0.013)],
}


def test_every_point_stands_at_its_price():
    ax = error_by_price(FORMATS).axes[0]
    drawn = [sorted(map(tuple, line.get_xydata().tolist())) for line in ax.lines]
    assert drawn == [sorted(points) for points in FORMATS.values()]


def test_lines_have_marks_of_their_own_and_their_names():
    ax = error_by_price(FORMATS).axes[0]
    assert len({line.get_marker() for line in ax.lines}) == 3
    said = [text.get_text() for text in ax.texts]
    assert sorted(said) == ["MXFP4", "■ int4", "● NF4"]


def test_names_do_not_touch():
    close = {name: [(4.0, 0.02), (4.5, 0.01)] for name in "abcde"}
    fig = error_by_price(close)
    fig.canvas.draw()
    spans = sorted(t.get_window_extent().intervaly.tolist() for t in fig.axes[0].texts)
    assert all(low[1] <= high[0] + 1 for low, high in pairwise(spans))


def test_prices_are_lines_with_their_number():
    ax = error_by_price(FORMATS, prices=[4.25, 4.5]).axes[0]
    assert [t.get_text().strip() for t in ax.texts[:2]] == ["4.25", "4.5"]
    upright = [ln for ln in ax.lines if ln.get_xdata()[0] == ln.get_xdata()[-1]]
    assert [ln.get_xdata()[0] for ln in upright[:2]] == [4.25, 4.5]
    figures.to_pixels(ax.figure)


def test_the_words_tell_both_ends_of_each_line():
    alt = error_by_price(FORMATS).alt
    assert "int4 from 0.00650 at 4.6 bits to 0.0100 at 4.1" in alt
    assert "MXFP4 0.0130 at 4.25 bits" in alt


@pytest.mark.parametrize("formats", [{}, {"a": [(4.0, 0.0)]}])
def test_nothing_and_no_error_cannot_be_drawn(formats):
    with pytest.raises(ValueError, match="formats need at least one error, and all ab"):
        error_by_price(formats)


def test_more_lines_than_colours_are_refused():
    with pytest.raises(ValueError, match="formats holds 6 lines; give 5 or fewer"):
        error_by_price({name: [(4.0, 0.02), (4.5, 0.01)] for name in "abcdef"})
