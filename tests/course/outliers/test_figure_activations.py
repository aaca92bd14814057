"""Maps of inputs: what is yellow, and what is said of it."""

import numpy as np
import pytest
import torch

from minquant.course.drawing import figures
from minquant.course.outliers.figure_activations import TOKENS, maps_of_inputs


def inputs(large=()):
    X = torch.randn(80, 16, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    X[:, list(large)] = -7.5
    return X


def test_a_pixel_is_a_value_and_all_from_the_threshold_on_is_alike():
    X = inputs(large=[5])
    fig = maps_of_inputs({"X": X}, 6.0)
    (shown,) = fig.axes[0].images
    want = X[:TOKENS].abs().numpy().clip(0.1, 6)
    np.testing.assert_allclose(shown.get_array(), want)
    figures.to_pixels(fig)


def test_the_words_name_the_columns_and_how_often_they_reach_it():
    X = inputs(large=[5, 11])
    X[:20, 11] = 0
    alt = maps_of_inputs({"before": inputs(), "after": X}).alt
    assert "before: none; the largest |x| is 3.00." in alt
    assert "after: 2 of 16 (5, 11), each in 75% to 100% of the tokens" in alt
    assert alt.endswith("the largest |x| is 7.50.")


def test_many_columns_are_not_all_listed():
    alt = maps_of_inputs({"X": inputs(large=range(10))}).alt
    assert "10 of 16 (0, 1, 2, 3, 4, 5, 6, 7 …)" in alt


def test_maps_share_one_scale_of_colours():
    fig = maps_of_inputs({"a": inputs(), "b": 30 * inputs()})
    limits = {image.get_clim() for ax in fig.axes[:2] for image in ax.images}
    assert limits == {(0.1, 6.0)}


@pytest.mark.parametrize("count", [0, 4])
def test_more_maps_than_fit_are_refused(count):
    with pytest.raises(ValueError, match=f"inputs has {count} entries; give one to"):
        maps_of_inputs({f"{i}": inputs() for i in range(count)})
