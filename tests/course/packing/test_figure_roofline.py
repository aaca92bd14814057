"""Roofs and speed-ups: every line is the arithmetic of `roofline`."""

import numpy as np
import pytest

from minquant.course.packing.figure_roofline import TOKENS, roofs, speedup, speedups
from minquant.planning.roofline import (
    CARDS,
    Machine,
    Product,
    least_seconds,
    written_first,
)

T4, A10, H100 = (CARDS[name] for name in ("T4", "A10", "H100"))


def test_a_roof_goes_through_what_the_machine_attains():
    ax = roofs([A10, H100], {}).axes[0]
    x, y = ax.lines[0].get_data()
    assert np.allclose(y, [A10.attainable(i) / 1e9 for i in x])
    assert ax.lines[1].get_xdata() == [A10.ridge]


def test_marks_stand_at_their_intensity_and_machines_have_their_names():
    fig = roofs([Machine("mine", 1e10, 1e11), T4], {"one token": 1.0})
    ax = fig.axes[0]
    assert {"mine", "T4", "one token"} <= {text.get_text() for text in ax.texts}
    assert list(ax.lines[-1].get_xdata()) == [1.0, 1.0]
    assert "mine: rising to 100 thousand million at 10.0 operations" in fig.alt


@pytest.mark.parametrize("count", [0, 6])
def test_no_machine_and_too_many_are_refused(count):
    with pytest.raises(ValueError, match=f"machines are {count}; give 1 to 5"):
        roofs([T4] * count, {})


def test_a_speed_up_is_the_bound_of_16_bits_over_the_other():
    i = list(TOKENS).index(64)
    product = Product(64, 4096, 4096)
    whole = least_seconds(T4, product)
    ways = {
        "codes, multiplied as they come": least_seconds(T4, product, 4.25),
        "W_hat written first": written_first(T4, product, 4.25),
        "codes, without tensor cores": least_seconds(
            T4.without_tensor_cores(), product, 4.25
        ),
    }
    for name, seconds in ways.items():
        assert speedup(T4, name, 4.25, 4096, 4096)[i] == pytest.approx(whole / seconds)


def test_only_the_card_without_tensor_cores_in_triton_has_a_third_line():
    lines = [len(ax.lines) for ax in speedups([T4, A10], 4.125).axes]
    assert lines == [4, 3]  # one of them at 1


def test_kernels_that_others_measured_are_points_with_a_name():
    measured = {"A10": {"theirs": {1: 3.5, 16: 0.7}}}
    fig = speedups([T4, A10], 4.125, measured=measured)
    points = fig.axes[1].lines[-1]
    assert points.get_xydata().tolist() == [[1, 3.5], [16, 0.7]]
    assert [t.get_text() for t in fig.axes[1].texts] == ["theirs"]
    assert "A10, measured, theirs: 3.5 at M = 1, 0.7 at M = 16" in fig.alt


def test_the_words_tell_both_ends():
    alt = speedups([H100], 4.0).alt
    assert "H100, codes, multiplied as they come: 4.00 at 1 token, 1.00 at 4096" in alt


def test_other_numbers_of_cards_are_refused():
    with pytest.raises(ValueError, match="cards are 4; give 1 to 3"):
        speedups([T4] * 4, 4.0)
