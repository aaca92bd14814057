"""The picture of a turn: its artists hold the numbers of the path."""

import numpy as np
import pytest
import torch
from helpers.cases import correlated

from minquant.course.drawing import figures
from minquant.course.gptq.figure_pushes import WINDOW, PushesPicture, pushes
from minquant.course.gptq.pushing import Pushing
from minquant.numerics import grids


@pytest.fixture(scope="module")
def pushing():
    return Pushing.of(*correlated(width=40, n=90), grids.zero_point(3), act_order=True)


def points(collection):
    """The corners of every line or box of a collection."""
    return np.array([path.vertices[:4] for path in collection.get_paths()])


@pytest.mark.parametrize("turn", [0, 17, 39])
def test_dashes_are_what_is_rounded_and_dots_what_is_to_come(pushing, turn):
    picture = PushesPicture(pushing, 1, turn)
    now = pushing.now(1, turn).numpy()
    np.testing.assert_array_equal(points(picture.stored)[:, 0, 1], now[: turn + 1])
    # the dot of this turn's own weight stands where it was before it was rounded
    became = pushing.became[1, turn].item()
    np.testing.assert_array_equal(picture.dots.get_ydata(), [*now[turn + 1 :], became])


def test_each_line_runs_from_what_a_weight_was(pushing):
    picture = PushesPicture(pushing, 1, 17)
    joins = points(picture.joins)[:-1]
    np.testing.assert_array_equal(joins[:, 0, 1], pushing.W[1, 18:].numpy())
    np.testing.assert_array_equal(joins[:, 1, 1], pushing.now(1, 17)[18:].numpy())


def test_the_bars_are_this_turns_push(pushing):
    bars = points(PushesPicture(pushing, 2, 9).bars)
    np.testing.assert_allclose(bars[:, 2, 1], pushing.pushed(2, 9).numpy())


def test_the_curves_are_the_layers_error_in_per_cent(pushing):
    picture = PushesPicture(pushing, 0, 9)
    for line, share in (
        (picture.ours, pushing.so_far),
        (picture.nearest, pushing.nearest_so_far),
    ):
        np.testing.assert_allclose(line.get_ydata(), 100 * share.numpy())
    x, y = picture.place.get_data()
    assert (x[0], y[0]) == (9, pytest.approx(100 * pushing.so_far[9].item()))


def test_what_is_rounded_is_pale_in_the_map_of_h(pushing):
    left, top = points(PushesPicture(pushing, 0, 9).pale)
    assert left[:, 0].max() == 8.5  # columns before this one
    assert (top[:, 0].min(), top[:, 1].max()) == (8.5, 8.5)  # and rows


def visible_words(picture):
    """Every text of the picture that is drawn."""
    texts = picture.fig.findobj(lambda a: hasattr(a, "get_text"))
    return [t for t in texts if t.get_visible() and t.get_text()]


@pytest.mark.parametrize("turn", [0, 20, 39])
@pytest.mark.parametrize("grid", [grids.absmax(2), grids.zero_point(8)])
def test_no_two_words_overlap_and_none_leaves_the_page(grid, turn):
    picture = PushesPicture(Pushing.of(*correlated(width=40, n=90), grid), 0, turn)
    boxes = [text.get_window_extent() for text in visible_words(picture)]
    page = picture.fig.bbox
    assert all(b.x0 >= 0 and b.x1 <= page.x1 for b in boxes)
    assert all(b.y0 >= 0 and b.y1 <= page.y1 for b in boxes)
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert not one.padded(-2).overlaps(other.padded(-2))


def test_a_moved_picture_is_the_picture_made_anew(pushing):
    other = Pushing.of(*correlated(1, width=40, n=90), grids.absmax(4), damping=0.1)
    picture = PushesPicture(pushing, 0, 3)
    figures.to_pixels(picture.fig)
    picture.update(other, 2, 30)
    moved = figures.to_pixels(picture.fig).copy()
    assert np.array_equal(moved, figures.to_pixels(pushes(other, 2, 30)))
    assert picture.fig.alt == other.describe(2, 30)


def test_a_wide_matrix_is_seen_in_a_window_around_the_turn():
    W, H = torch.randn(2, 300), torch.eye(300)
    picture = PushesPicture(Pushing.of(W, H, grids.absmax(4)), 0, 0)
    assert len(points(picture.bars)) == WINDOW
    picture.update(picture.drawn, 0, 150)
    assert picture.ring.get_xdata()[0] == WINDOW // 4
    picture.update(picture.drawn, 0, 299)
    assert picture.ring.get_xdata()[0] == WINDOW - 1


def test_a_row_or_turn_that_does_not_exist_is_refused(pushing):
    with pytest.raises(ValueError, match="turn is 40; choose one from 0 to 39"):
        pushes(pushing, 0, 40)
    with pytest.raises(ValueError, match="row is 3; choose one from 0 to 2"):
        pushes(pushing, 3, 0)
