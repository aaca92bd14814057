"""What scaling does to each column, drawn: the numbers are the layer's."""

import numpy as np
import pytest
import torch

from minquant.course.awq.figure_salience import CEILING, SEEN, SaliencePicture, salience
from minquant.course.awq.salience import Salience
from minquant.course.drawing import figures
from minquant.methods.awq import RATIOS
from minquant.numerics import grids, groups


def layer(width=32, bits=3, times=30.0):
    generator = torch.Generator().manual_seed(2)
    W = torch.randn(16, width, generator=generator)
    X = torch.randn(100, width, generator=generator)
    X[:, 3] *= times
    return Salience(W, X, grids.zero_point(bits), groups.PER_CHANNEL)


def heights(line):
    return np.asarray(line.get_ydata())


def test_dots_line_and_curve_are_the_numbers_of_the_layer():
    mine = layer()
    now = mine.at(0.4)
    picture = SaliencePicture(mine, now)
    np.testing.assert_array_equal(heights(picture.dots), mine.inputs.numpy())
    np.testing.assert_array_equal(heights(picture.scales), now.scales.numpy())
    np.testing.assert_array_equal(heights(picture.dashes), mine.before.numpy())
    np.testing.assert_allclose(heights(picture.line), np.minimum(mine.curve, CEILING))
    assert picture.place.get_xydata().tolist() == [[0.4, now.error]]
    assert picture.least.get_xydata().tolist() == [[mine.best, min(mine.curve)]]
    assert picture.fig.alt == mine.describe(now)
    figures.to_pixels(picture.fig)


def test_each_column_is_joined_from_before_to_after():
    mine = layer()
    now = mine.at(0.4)
    picture = SaliencePicture(mine, now)
    ends = np.array(picture.joins.get_segments())[:, :, 1]  # (columns, 2)
    np.testing.assert_allclose(ends[:, 0], mine.before.numpy())
    np.testing.assert_allclose(ends[:, 1], now.after.numpy())


def test_a_strength_moves_the_artists_and_leaves_the_axes():
    mine = layer()
    picture = SaliencePicture(mine, mine.at(0.0))
    before = figures.to_pixels(picture.fig).copy()
    limits, still = picture.errors_ax.get_ylim(), picture.fig._still
    picture.update(mine, mine.at(0.6))
    after = figures.to_pixels(picture.fig)
    assert picture.errors_ax.get_ylim() == limits
    assert picture.fig._still is still
    assert (before != after).any()


def test_another_layer_draws_its_own_axes():
    one, other = layer(), layer(times=2.0, bits=4)
    picture = SaliencePicture(one, one.at(0.5))
    limits = picture.inputs_ax.get_ylim()
    picture.update(other, other.at(0.5))
    assert picture.inputs_ax.get_ylim() != limits
    fresh = SaliencePicture(other, other.at(0.5))
    np.testing.assert_array_equal(
        figures.to_pixels(picture.fig), figures.to_pixels(fresh.fig)
    )


def test_of_a_wide_layer_the_columns_with_the_largest_inputs_are_seen():
    wide = layer(width=SEEN + 72)
    picture = SaliencePicture(wide, wide.at(0.3))
    np.testing.assert_array_equal(heights(picture.dots), wide.inputs[:SEEN].numpy())
    box = picture.salient[0].get_paths()[0].vertices[:, 0]
    assert (box.min(), box.max()) == (-0.5, wide.n_salient - 0.5)
    assert wide.n_salient == 2


def test_what_lies_beyond_the_axes_stays_at_their_edge():
    mine = layer()
    picture = SaliencePicture(mine, mine.at(RATIOS[-1]))
    low, high = picture.errors_ax.get_ylim()
    assert ((heights(picture.after) >= low) & (heights(picture.after) <= high)).all()
    assert heights(picture.place)[0] < CEILING


@pytest.mark.parametrize("ratio", [None, 0.2])
def test_the_picture_alone_shows_what_awq_takes_or_the_ratio_given(ratio):
    mine = layer()
    said = mine.describe(mine.at(mine.best if ratio is None else ratio))
    assert salience(mine, ratio).alt == said
