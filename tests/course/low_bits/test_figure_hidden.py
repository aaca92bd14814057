"""Best and worst ability of each version: what is drawn is what was given."""

import pytest

from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import Measured
from minquant.course.low_bits.figure_hidden import Kept, hidden

MILD = Kept("4 bits", 2.0, 100.0, Measured(70.0, 62.0, 78.0), "rare facts")
GONE = Kept("3 bits", 4.5, 98.0, Measured(30.0, 22.0, 38.0), "8 steps")
BROKEN = Kept("2 bits", 900.0, 40.0, Measured(0.0, 0.0, 4.0), "8 steps")
BETTER = Kept("8 bits", -0.2, 100.0, Measured(99.0, 97.0, 100.0), "rare facts")


def dots(fig):
    """Place, height and colour of each version's worst."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_color())
        for line in fig.axes[0].lines
        if line.get_marker() == "o"
    ]


def test_each_version_stands_at_its_rise_and_its_worst():
    assert dots(hidden([MILD, BROKEN], 5)) == [
        (2.0, 70.0, palette.VERMILION),
        (900.0, 0.0, palette.MUTED),
    ]


def test_a_version_that_reads_better_stands_at_the_edge_and_the_edge_says_so():
    fig = hidden([BETTER], 5)
    assert dots(fig)[0][0] == 0.1
    labels = [text.get_text() for text in fig.axes[0].get_xticklabels()]
    assert labels[0] == "≤ 0.1"


def test_the_lowest_that_perplexity_calls_fine_are_named():
    fig = hidden([MILD, GONE, BROKEN], 5, named=1)
    names = [text.get_text() for text in fig.axes[0].texts]
    assert names == ["3 bits: 8 steps"]


def test_the_words_tell_what_is_hidden_and_how_sure_it_is():
    alt = hidden([MILD, GONE, BROKEN], 5).alt
    assert "Of 3 versions 2 raise perplexity by less than 5 %" in alt
    assert "3 bits, 4.5 %: 8 steps 30 %, interval 22 to 38; 4 bits" in alt
    assert hidden([BROKEN], 5).alt == (
        "Of 1 versions 0 raise perplexity by less than 5 %."
    )


def test_the_words_name_the_level_of_the_intervals():
    assert "with 95 % intervals: " in hidden([MILD], 5).alt
    many = hidden([MILD], 5, level=1 - 0.05 / 24)
    assert "with 99.8 % intervals: 4 bits" in many.alt


@pytest.mark.parametrize(("versions", "fine"), [([], 5.0), ([MILD], 0.0)])
def test_nothing_to_draw_is_refused(versions, fine):
    with pytest.raises(ValueError, match="give at least one version"):
        hidden(versions, fine)
