"""The magnifier: the ticks next to a weight, the basin that rounds to its tick."""

import numpy as np
import pytest

from minquant.course.drawing.figures import Picture
from minquant.course.drawing.ruling import Ruling
from minquant.course.rounding.figure_magnifier import Magnifier


def thirds(weight):
    """One weight on the ticks -2, -1, 0, 1, 2, with its nearest."""
    code = int(np.clip(np.round(weight), -2, 2))
    return Ruling(
        weights=np.float32([weight]),
        values=np.float32([code]),
        codes=np.array([code]),
        level_codes=np.arange(-2, 3),
        levels=np.float32([[-2, -1, 0, 1, 2]]),
        owner=np.zeros(1, int),
        scales=np.float32([1]),
    )


def magnified(weight):
    magnifier = Magnifier(Picture())
    magnifier.update(thirds(weight), 0, reach=3.0)
    return magnifier


def shown(words):
    return [text.get_text() for text in words if text.get_visible()]


def test_the_neighbours_of_the_stored_tick_are_named():
    assert shown(magnified(0.3).codes) == ["−1", "0", "1"]


def test_the_basin_ends_half_a_step_away():
    (path,) = magnified(0.3).basin.get_paths()
    assert path.vertices[[0, 2], 1] == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize(("weight", "end"), [(2.2, 1), (-2.2, 0)])
def test_beyond_the_last_tick_the_basin_has_no_end(weight, end):
    magnifier = magnified(weight)
    (path,) = magnifier.basin.get_paths()
    edge = magnifier.field.get_ylim()[end]
    assert path.vertices[[0, 2], 1][end] == pytest.approx(edge)


def test_the_join_runs_from_the_weight_to_its_tick():
    (path,) = magnified(0.3).join.get_paths()
    assert path.vertices[:, 1] == pytest.approx([0.3, 0])


def test_a_clipped_weight_changes_colour_and_shape():
    inside, outside = magnified(1.9), magnified(2.9)
    assert inside.dot.get_marker() != outside.dot.get_marker()
    assert inside.dot.get_color() != outside.dot.get_color()


def test_the_notes_say_the_code_and_the_error_in_steps():
    assert shown(magnified(0.3).notes)[1:] == [
        "stored as code 0",
        "error −0.300",
        "= 0.30 of a step",
    ]


def test_a_weight_far_beyond_the_end_names_the_last_tick_alone():
    assert shown(magnified(300.0).codes) == ["2"]
