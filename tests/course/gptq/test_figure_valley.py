"""Two weights in a valley: where each way ends, and at what height."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.gptq.figure_valley import Walk, valley

TWO = torch.tensor([[1.0, 0.9], [0.9, 1.0]])


def test_two_inputs_alike_by_hand():
    # 0.4 of each: RTN goes to (0, 0). Weight 1 gains 0.9 · 0.4 = 0.36, then rounds to 1
    walk = Walk.of(torch.tensor([0.4, 0.4]), TWO, 1.0)
    assert walk.nearest == (0.0, 0.0) and walk.ours == (0.0, 1.0)
    assert walk.moved == (0.0, pytest.approx(0.76))
    assert walk.nearest_error == pytest.approx(0.608)  # 0.16 · (1 + 0.9 + 0.9 + 1)
    assert walk.moved_error == pytest.approx(0.0304)  # 0.16 · (1 − 0.9²)
    assert walk.error == pytest.approx(0.088)  # 0.16 + 0.36 − 2 · 0.9 · 0.24


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-0.95, 0.95))
def test_with_weight_0_fixed_no_other_place_is_lower(a, b, together):
    H = torch.tensor([[1.0, together], [together, 1.0]]).double()
    walk = Walk.of(torch.tensor([a, b]).double(), H, 0.5)
    assert walk.moved_error <= min(walk.nearest_error, walk.error) + 1e-12


def test_inputs_that_have_nothing_in_common_make_no_difference():
    walk = Walk.of(torch.tensor([0.4, 0.7]), torch.eye(2), 1.0)
    assert walk.ours == walk.nearest
    assert walk.moved == (0.0, pytest.approx(0.7))


def test_the_marks_stand_where_the_walk_goes():
    w = torch.tensor([0.4, 0.4])
    fig, walk = valley(w, TWO, 1.0), Walk.of(w, TWO, 1.0)
    marked = {
        line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in fig.axes[0].lines
        if line.get_marker() not in ("None", None)
    }
    assert marked["s"] == walk.nearest and marked["*"] == walk.ours
    assert marked["D"] == walk.moved
    assert "to (0, 0)" in fig.alt and "with 14%" in fig.alt


def test_weights_on_their_ticks_are_refused():
    with pytest.raises(ValueError, match="on the ticks; choose other weights"):
        valley(torch.tensor([1.0, 2.0]), TWO, 1.0)
