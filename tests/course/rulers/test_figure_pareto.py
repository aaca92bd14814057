"""Error against bits: what is filled is beaten by nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.drawing import palette
from minquant.course.rulers.figure_pareto import Cost, error_against_bits, frontier

COSTS = [
    Cost(3, "tensor", 3.0, 0.9),
    Cost(3, "row", 3.1, 0.4),
    Cost(4, "tensor", 4.0, 0.5),  # the row of 3 bits beats it
    Cost(4, "row", 4.1, 0.2),
]
numbers = st.integers(1, 9).map(float)
costs = st.builds(Cost, st.just(3), st.just("x"), numbers, numbers)


@given(st.lists(costs, min_size=1, max_size=12))
def test_nothing_on_the_frontier_is_beaten_and_all_else_is(some):
    best = frontier(some)

    def beats(a, b):
        no_worse = a.bits_per_weight <= b.bits_per_weight and a.error <= b.error
        return no_worse and (a.bits_per_weight, a.error) != (b.bits_per_weight, b.error)

    for cost in some:
        assert any(beats(other, cost) for other in some) == (cost not in best)


def test_what_is_beaten_is_hollow():
    fig = error_against_bits(COSTS)
    dots = [line for line in fig.axes[0].lines if line.get_marker() == "o"]
    hollow = [line.get_markerfacecolor() == palette.PAPER for line in dots]
    assert hollow == [False, False, True, False]
    places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots]
    assert places == [(c.bits_per_weight, c.error) for c in COSTS]


def test_every_dot_is_named_by_its_ruler_and_every_line_by_its_width():
    said = [t.get_text() for t in error_against_bits(COSTS).axes[0].texts]
    assert sorted(said) == ["3 bits", "4 bits", "row", "row", "tensor", "tensor"]
    few = [t.get_text() for t in error_against_bits(COSTS, named=[4]).axes[0].texts]
    assert len(few) == 4


@pytest.mark.parametrize("least", [0.4, 1e-4])
def test_names_stay_beneath_the_title(least):
    fig = error_against_bits([Cost(2, "tensor", 2.0, 1.0), Cost(4, "row", 4.1, least)])
    fig.canvas.draw()
    tops = [t.get_window_extent().y1 for t in fig.axes[0].texts]
    assert max(tops) <= fig.axes[0].bbox.y1


def test_the_alt_text_lists_the_frontier():
    alt = error_against_bits(COSTS).alt
    assert "4 ways to quantize, from 3 to 4 bits" in alt
    assert "3 bits, row: 3.10 bits per weight, 0.400" in alt
    assert "4 bits, tensor" not in alt


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="costs is empty; give at least one Cost"):
        error_against_bits([])
