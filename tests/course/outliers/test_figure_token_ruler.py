"""A token on its ruler: every value is joined to the tick that its code says."""

import numpy as np
import pytest
import torch

from minquant.course.drawing import figures
from minquant.course.outliers.figure_token_ruler import tokens_over_rulers
from minquant.course.outliers.outlier_split import OutlierSplit


def split(threshold=torch.inf, large=30.0):
    X = torch.randn(2, 24, generator=torch.Generator().manual_seed(3))
    X[:, 7] = large
    return OutlierSplit.of(X, threshold, 1)


def segments(ax, colour_place):
    return ax.collections[colour_place].get_segments()


def test_values_are_joined_to_their_ticks():
    one = split()
    fig = tokens_over_rulers({"all": one})
    joins = np.array([s[:, 0] for s in segments(fig.axes[0], 1)])
    seen = np.abs(one.x) <= one.window
    np.testing.assert_allclose(joins[:, 0], one.x[seen], rtol=1e-6)
    np.testing.assert_allclose(joins[:, 1], one.codes[seen] * one.step, rtol=1e-6)
    figures.to_pixels(fig)


def test_ticks_are_a_step_apart_and_fill_the_window():
    one = split()
    ticks = np.array(
        [s[0, 0] for s in segments(tokens_over_rulers({"": one}).axes[0], 0)]
    )
    np.testing.assert_allclose(np.diff(ticks), one.step)
    assert len(ticks) == 2 * int(one.window // one.step) + 1


def test_panels_share_one_window_which_shows_a_second_tick_if_it_is_near():
    tokens = {"with": split(large=400.0), "without": split(6.0)}
    fig = tokens_over_rulers(tokens)
    (reach,) = {ax.get_xlim()[1] for ax in fig.axes}
    assert max(one.window for one in tokens.values()) <= reach
    assert len(segments(fig.axes[0], 0)) == 3
    assert len(segments(tokens_over_rulers({"far": split(large=1e4)}).axes[0], 0)) == 1


def test_the_words_say_each_ruler():
    with_, without = split(), split(6.0)
    alt = tokens_over_rulers({"with": with_, "without": without}).alt
    assert "with: its ruler ends at ±30.0 and has a tick every 0.24" in alt
    assert f"the values use {with_.used} ticks" in alt
    assert f"the values use {without.used} ticks" in alt
    assert with_.used < without.used


def test_no_token_is_refused():
    with pytest.raises(ValueError, match="tokens is empty"):
        tokens_over_rulers({})
