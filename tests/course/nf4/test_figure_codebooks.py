"""The bell over the rulers: slices of a quantile ruler are alike, rulers as long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.drawing import figures
from minquant.course.nf4.figure_codebooks import areas, rulers_under_the_bell
from minquant.numerics import grids

BOOKS = {"NF4": grids.NF4.levels, "FP4": grids.FP4.levels, "int4": range(-7, 8)}


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=16, unique=True))
def test_areas_are_all_of_the_bell(levels):
    parts = areas(sorted(levels))
    assert len(parts) == len(levels) + 1
    assert (parts >= 0).all() and parts.sum() == pytest.approx(1)


def test_between_neighbours_of_nf4_lie_equal_areas_on_either_side():
    ends = 1.8481  # the quantile at 1 − (1/30 + 1/32)/2
    inner = areas([ends * x for x in grids.NF4.levels])[1:-1]
    assert inner[:7] == pytest.approx([inner[0]] * 7, abs=1e-4)
    assert inner[7:] == pytest.approx([inner[7]] * 8, abs=1e-4)
    assert inner[0] == pytest.approx((0.96770833 - 0.5) / 7, abs=1e-4)


def test_each_ruler_has_its_ticks_and_all_are_as_long():
    fig = rulers_under_the_bell(BOOKS, 2.0)
    strips = fig.axes[1].collections
    assert [len(s.get_segments()) for s in strips] == [16, 15, 15]
    ends = [np.abs(np.concatenate(s.get_segments())[:, 0]).max() for s in strips]
    assert ends == pytest.approx([2.0] * 3)
    figures.to_pixels(fig)


def test_the_words_say_where_ticks_are_closest():
    alt = rulers_under_the_bell(BOOKS, 2.0).alt
    assert "NF4, which reach from −2.00 to 2.00 standard deviations" in alt
    assert "int4 has 15 ticks, the closest 0.29 and the widest apart 0.29" in alt


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="codebooks is empty; give at least one"):
        rulers_under_the_bell({}, 2.0)
    with pytest.raises(ValueError, match=r"codebooks\['none'\] has no level but 0"):
        rulers_under_the_bell({"none": [0.0]}, 2.0)
