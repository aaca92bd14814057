"""Accuracy by level: lines, bands, and the two lines of knowing nothing."""

import numpy as np
import pytest

from minquant.course.drawing.figure_levels import accuracy_by_level
from minquant.measure.probes import Share

MODELS = {
    "16 bits": {1: Share(20, 20), 2: Share(18, 20)},
    "3 bits": {1: Share(15, 20), 2: Share(5, 20)},
}


def test_each_model_is_a_line_of_its_shares():
    ax = accuracy_by_level(MODELS, "steps").axes[0]
    lines = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(lines, [[100, 90], [75, 25]])


def test_the_band_is_wilson_s_interval():
    ax = accuracy_by_level(MODELS, "steps").axes[0]
    corners = ax.collections[1].get_paths()[0].vertices
    low, high = Share(5, 20).interval()
    at_two = corners[corners[:, 0] == 1][:, 1]
    assert at_two.min() == pytest.approx(100 * low)
    assert at_two.max() == pytest.approx(100 * high)


def test_chance_and_majority_are_lines_with_names():
    fig = accuracy_by_level(MODELS, "steps", chance=0.01, majority=0.1)
    heights = [line.get_ydata()[0] for line in fig.axes[0].lines[2:]]
    assert heights == [1, 10]
    said = [t.get_text() for t in fig.axes[0].texts]
    assert "chance 1%" in said and "majority 10%" in said
    assert "Chance is 1%. The majority is 10%." in fig.alt


def test_no_two_names_at_the_right_overlap():
    alike = {f"model {i}": {1: Share(19, 20), 2: Share(2, 20)} for i in range(5)}
    fig = accuracy_by_level(alike, "steps", chance=0.1, majority=0.12)
    boxes = [t.get_window_extent() for t in fig.axes[0].texts]
    for i, one in enumerate(boxes):
        assert not any(one.padded(-3).overlaps(o.padded(-3)) for o in boxes[:i])


def test_the_alt_text_tells_every_share():
    alt = accuracy_by_level(MODELS, "steps", levels=["one", "two"]).alt
    assert "16 bits one: 100%, two: 90%; 3 bits one: 75%, two: 25%." in alt


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="different levels"):
        accuracy_by_level({**MODELS, "x": {1: Share(1, 2)}}, "steps")
    with pytest.raises(ValueError, match="models holds 0; give 1 to 5"):
        accuracy_by_level({}, "steps")
    with pytest.raises(ValueError, match="levels holds 1 names"):
        accuracy_by_level(MODELS, "steps", levels=["one"])
