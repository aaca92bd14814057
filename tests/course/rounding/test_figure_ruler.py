"""The picture of rounding: its artists hold the numbers they were given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from minquant.course.drawing import figures, palette
from minquant.course.drawing.ruling import Ruling
from minquant.course.rounding.figure_ruler import MAIN, RulerPicture, ruler
from minquant.methods import rtn
from minquant.numerics import grids, groups


def ruling(grid=None, cut=groups.PER_CHANNEL, keep=1.0, first=0):
    """64 heavy-tailed weights on rulers cut short to a share of their length."""
    torch.manual_seed(0)
    W = torch.distributions.StudentT(4.0).sample((4, 128)) * 0.03
    grid = grid or grids.zero_point(4)
    scales, zeros = rtn.scale_and_zero(groups.split(W, cut), grid)
    scales = (scales * keep).to(scales)
    quantized = rtn.quantize_with(W, scales, zeros, grid, cut)
    return Ruling.of(W, quantized, row=1, first=first, count=64)


def points(collection):
    """The corners of every line or box of a collection."""
    return np.array([path.vertices[:4] for path in collection.get_paths()])


def test_each_weight_is_a_dot_joined_to_its_tick():
    r = ruling()
    picture = RulerPicture(r)
    np.testing.assert_array_equal(picture.dots.get_ydata(), r.weights)
    ends = points(picture.joins)[:, :, 1]
    np.testing.assert_array_equal(ends, np.stack([r.weights, r.values], axis=1))
    np.testing.assert_array_equal(points(picture.stored)[:, 0, 1], r.values)


def test_each_bar_is_an_error_inside_its_band():
    r = ruling()
    picture = RulerPicture(r)
    bars, band = points(picture.bars), points(picture.band)
    np.testing.assert_allclose(bars[:, 2, 1], r.errors)
    np.testing.assert_allclose(band[:, [0, 2], 1], np.stack(r.half_steps, axis=1))
    slack = 1e-3 * r.steps
    assert (bars[:, 2, 1] <= band[:, 2, 1] + slack).all()
    assert (bars[:, 2, 1] >= band[:, 0, 1] - slack).all()


def test_the_ticks_are_every_value_the_grid_has():
    r = ruling(grids.absmax(4))
    picture = RulerPicture(r)
    np.testing.assert_allclose(points(picture.ticks)[:, 0, 1], r.levels[0])


def test_clipped_weights_have_another_mark_and_colour():
    r = ruling(keep=0.5)
    assert r.clipped.any()
    picture = RulerPicture(r)
    np.testing.assert_array_equal(picture.outside.get_ydata(), r.weights[r.clipped])
    np.testing.assert_array_equal(picture.dots.get_ydata(), r.weights[~r.clipped])
    assert picture.outside.get_marker() != picture.dots.get_marker()
    violet = [tuple(c) == to_rgba(palette.VIOLET) for c in picture.bars.get_facecolor()]
    assert violet == r.clipped.tolist()


def test_many_rulers_have_fences_between_them_and_scales_above():
    r = ruling(cut=groups.per_group(16))
    picture = RulerPicture(r)
    assert points(picture.fences)[:, 0, 0].tolist() == [15.5, 31.5, 47.5]
    said = [text.get_text() for text in picture.scales if text.get_visible()]
    assert [float(text.split()[1]) for text in said] == pytest.approx(
        r.scales, rel=5e-3
    )


def visible_words(picture):
    """Every text of the picture that is drawn."""
    texts = picture.fig.findobj(lambda a: hasattr(a, "get_text"))
    return [t for t in texts if t.get_visible() and t.get_text()]


@pytest.mark.parametrize("keep", [1.0, 0.3])
@pytest.mark.parametrize("selected", [0, 20, 63])
@pytest.mark.parametrize("cut", [groups.PER_CHANNEL, groups.per_group(16)])
@pytest.mark.parametrize(
    "grid", [grids.absmax(2), grids.zero_point(4), grids.absmax(8), grids.NF4]
)
def test_no_two_words_overlap_and_none_leaves_the_page(grid, cut, selected, keep):
    picture = RulerPicture(ruling(grid, cut, keep), selected)
    boxes = [text.get_window_extent() for text in visible_words(picture)]
    page = picture.fig.bbox
    assert all(b.x0 >= 0 and b.x1 <= page.x1 for b in boxes)
    assert all(b.y0 >= 0 and b.y1 <= page.y1 for b in boxes)
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            inner = one.padded(-2)  # the box of a line of text includes its leading
            assert not inner.overlaps(other.padded(-2))


def test_a_moved_picture_is_the_picture_made_anew():
    first, second = (
        ruling(grids.absmax(2)),
        ruling(grids.NF4, groups.per_group(32), 0.6),
    )
    picture = RulerPicture(first, 3)
    figures.to_pixels(picture.fig)
    picture.update(second, 40, magnify=True)
    moved = figures.to_pixels(picture.fig)
    assert np.array_equal(moved, figures.to_pixels(ruler(second, 40, magnify=True)))
    assert picture.fig.alt == ruler(second, 40).alt


def test_magnified_errors_are_seen_at_eight_bits():
    r = ruling(grids.absmax(8))
    plain, magnified = RulerPicture(r), RulerPicture(r, magnify=True)
    half = r.half_steps[1].max()
    assert plain.error.get_ylim()[1] > 8 * half
    assert magnified.error.get_ylim()[1] == pytest.approx(1.2 * half)


def test_positions_are_those_of_the_row():
    picture = RulerPicture(ruling(first=64))
    said = [text.get_text() for text in picture.positions if text.get_visible()]
    assert said == ["64", "80", "96", "112"]
    assert picture.column(-0.7) == pytest.approx(MAIN[0])


def test_the_alt_text_tells_the_numbers_of_the_picture():
    r = ruling(grids.absmax(3))
    alt = ruler(r, 5).alt
    assert alt == r.describe(5)
    assert "7 ticks" in alt


def test_a_weight_out_of_view_is_refused():
    with pytest.raises(
        ValueError, match="selected is 64; choose a weight from 0 to 63"
    ):
        ruler(ruling(), 64)
