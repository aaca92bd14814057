"""The live threshold's Python side: what it measures, and what it refuses."""

import pytest
import torch

import minquant as mq
from minquant.course.outliers.errors import layer_error
from minquant.course.outliers.live_threshold import THRESHOLDS, ThresholdPicture
from minquant.measure.evaluate import layer_error as of_weights


def layer(width=16, out=8):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(12, width, generator=generator)
    X[:, 3] *= 50
    return X, torch.randn(out, width, generator=generator)


def test_the_errors_are_those_of_the_method():
    X, W = layer()
    picture = ThresholdPicture({"a": (X, W)}, 6, "a")
    facts = picture.layers["a"]
    for t, error in zip(THRESHOLDS, facts["errors"], strict=True):
        Y = X @ W.T
        assert error == pytest.approx(layer_error(mq.llm_int8(X, W, t), Y), rel=1e-4)
    assert facts["tops"] == X.abs().amax(0).tolist()
    assert picture.thresholds[picture.place] == 6
    assert picture.thresholds[-1] is None


def test_a_layer_error_is_that_of_lesson_04():
    X, W = layer()
    W_hat = W + 0.1
    Y, Y_hat = X @ W.T, X @ W_hat.T
    theirs = of_weights(W, W_hat, X).relative
    assert layer_error(Y_hat, Y) == pytest.approx(theirs, rel=1e-4)
    nothing = torch.zeros(2, 3)
    assert layer_error(nothing, nothing) == 0
    assert layer_error(nothing + 1, nothing) == float("inf")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({},), "layers is empty"),
        (({"a": layer()}, 5), "threshold is 5; choose from 0.25, 0.35"),
        (({"a": layer()}, 6, "b"), "layer is 'b'; choose from a"),
    ],
)
def test_what_the_picture_does_not_have_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        ThresholdPicture(*arguments)


def test_a_layer_that_gives_0_is_shown():
    X, W = layer()
    assert set(ThresholdPicture({"a": (X, 0 * W)}).layers["a"]["errors"]) == {0}
