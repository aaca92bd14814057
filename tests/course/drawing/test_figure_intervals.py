"""Dots with intervals: where they are drawn, and what is said of them."""

import pytest

from minquant.course.drawing.figure_intervals import Measured, intervals, with_interval

ROWS = {"8 bits": (1.02, 1.00, 1.05), "3 bits": Measured(1.5, 1.4, 1.62)}


def written(fig):
    return [t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text"))]


def test_each_row_is_a_dot_on_its_interval():
    ax = intervals(ROWS, "loss").axes[0]
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    spans = [list(line.get_xdata()) for line in ax.lines if line.get_marker() != "o"]
    assert dots == [1.02, 1.5]
    assert spans == [[1.0, 1.05], [1.4, 1.62]]


def test_the_reference_is_a_line_with_a_name():
    fig = intervals(ROWS, "loss", references={"entropy": 0.9})
    assert list(fig.axes[0].lines[-1].get_xdata()) == [0.9, 0.9]
    assert " entropy" in written(fig)
    assert fig.axes[0].get_xlim()[0] < 0.9


def test_numbers_have_two_digits_of_their_interval():
    small = Measured(0.00010, -0.0002, 0.0004)
    assert with_interval(small) == "0.00010 [−0.00020, 0.00040]"
    assert with_interval(Measured(12.3456, 11.0, 14.0)) == "12.3 [11.0, 14.0]"
    assert with_interval(Measured(250.0, 200.0, 300.0)) == "250 [200, 300]"
    assert with_interval(Measured(1.0, 1.0, 1.0)) == "1.0000 [1.0000, 1.0000]"


def test_the_alt_text_has_every_number():
    fig = intervals(ROWS, "loss", references={"entropy": 0.9}, level=0.9)
    assert fig.alt == (
        "loss, with 90% intervals: 8 bits 1.020 [1.000, 1.050]; "
        "3 bits 1.50 [1.40, 1.62]. A line at 0.9000: entropy."
    )


def test_no_word_leaves_the_page():
    rows = {"4 bits, groups of 128": (0.00012, 0.00008, 0.00031)}
    fig = intervals(rows, "KL", log=True)
    assert fig.axes[0].get_xscale() == "log"
    fig.canvas.draw()
    for text in fig.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= fig.bbox.x1


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="rows is empty"):
        intervals({}, "loss")
    with pytest.raises(ValueError, match=r"mean 2.0 outside \[0.0, 1.0\]; give \(mean"):
        intervals({"a": (2.0, 0.0, 1.0)}, "loss")
    with pytest.raises(ValueError, match="give log=False"):
        intervals({"a": (1.0, -1.0, 2.0)}, "loss", log=True)
