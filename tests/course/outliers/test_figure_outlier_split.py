"""The picture of a split: what is lit, where the dots stand, what the words say."""

import numpy as np
import pytest
import torch

from minquant.course.drawing import figures
from minquant.course.outliers.figure_outlier_split import SplitPicture
from minquant.course.outliers.outlier_split import OutlierSplit, Sweep


def layer(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    X = scale * torch.randn(12, 16, generator=generator)
    X[:, [3, 9]] *= 50
    return X, torch.randn(8, 16, generator=generator)


@pytest.fixture(scope="module")
def sweep():
    return Sweep.of(*layer())


def middles(boxes):
    xs = [path.vertices[:, 0] for path in boxes.get_paths()]
    return [round(float(x.min() + x.max()) / 2) for x in xs]


@pytest.mark.parametrize("threshold", [0.0, 1.0, 6.0, torch.inf])
def test_exactly_the_columns_taken_out_are_lit(sweep, threshold):
    split = OutlierSplit.of(*layer(), threshold)
    picture = SplitPicture(sweep, split)
    taken = np.flatnonzero(split.outliers).tolist()
    stay = np.flatnonzero(~split.outliers).tolist()
    assert middles(picture.lit) == middles(picture.outlier_bars) == taken
    assert middles(picture.bars) == stay
    figures.to_pixels(picture.fig)


def test_the_dots_stand_on_error_and_share(sweep):
    split = OutlierSplit.of(*layer(), 6.0)
    picture = SplitPicture(sweep, split)
    (x,), (error,) = picture.dots[0].get_data()
    assert (x, error) == (6.0, split.measured.error)
    assert picture.dots[1].get_ydata()[0] == 100 * split.measured.columns == 12.5
    assert len(picture.curve.get_xdata()) == len(sweep.splits)


def test_each_value_in_view_is_joined_to_its_tick(sweep):
    split = OutlierSplit.of(*layer(), 6.0, 4)
    picture = SplitPicture(sweep, split)
    reach = picture.token.ax.get_xlim()[1]
    seen = ~split.outliers & (np.abs(split.x) <= reach)
    ends = np.array([segment[:, 0] for segment in picture.token.snaps.get_segments()])
    np.testing.assert_allclose(ends[:, 0], split.x[seen], rtol=1e-6)
    snapped = split.codes[seen] * split.step
    np.testing.assert_allclose(ends[:, 1], snapped, rtol=1e-6)
    assert np.abs(ends[:, 1] - ends[:, 0]).max() <= split.step / 2 * (1 + 1e-5)


def test_outliers_make_ticks_rare(sweep):
    counts = []
    for threshold in (torch.inf, 6.0):
        picture = SplitPicture(sweep, OutlierSplit.of(*layer(), threshold))
        counts.append(len(picture.token.ticks.get_segments()))
    assert 10 * counts[0] < counts[1]


def test_with_nothing_left_there_are_no_ticks(sweep):
    picture = SplitPicture(sweep, OutlierSplit.of(*layer(), 0.0, 3))
    assert (
        len(picture.token.ticks.get_segments())
        == len(picture.token.snaps.get_segments())
        == 0
    )
    assert picture.token.title.get_text() == "Token 3: nothing is left for a ruler"


def test_the_axes_stay_while_the_threshold_moves_and_change_with_the_layer(sweep):
    picture = SplitPicture(sweep, OutlierSplit.of(*layer(), 6.0))

    def limits():
        return [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes]

    before = limits()
    picture.update(sweep, OutlierSplit.of(*layer(), 2.0, row=5))
    assert limits() == before
    other = layer(scale=5)
    picture.update(Sweep.of(*other), OutlierSplit.of(*other, 6.0))
    assert limits() != before


def test_the_alt_text_is_the_description(sweep):
    split = OutlierSplit.of(*layer(), 6.0, 1)
    picture = SplitPicture(sweep, OutlierSplit.of(*layer(), 0.0))
    picture.update(sweep, split)
    assert picture.fig.alt == split.describe()
