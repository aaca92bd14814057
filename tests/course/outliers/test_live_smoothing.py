"""The live smoothing's Python side: what it measures, and what it refuses."""

import pytest
import torch

from minquant.course.outliers.live_smoothing import COLUMNS, STEPS, SmoothingPicture
from minquant.methods import smoothquant
from minquant.numerics.groups import PER_CHANNEL


def layer(width=64):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(12, width, generator=generator)
    X[:, 3] *= 50
    return X, torch.randn(8, width, generator=generator)


def test_the_errors_are_those_of_the_package():
    X, W = layer()
    alphas = [k / STEPS for k in range(STEPS + 1)]
    trials = smoothquant.sweep(X, W, alphas, X_granularity=PER_CHANNEL)
    errors = SmoothingPicture(X, W).errors
    for k, trial in enumerate(trials):
        assert errors["both"][k] == pytest.approx(trial.error**2, rel=1e-3)
        assert errors["X"][k] == pytest.approx(trial.X_only**2, rel=1e-3)
        assert errors["W"][k] == pytest.approx(trial.W_only**2, rel=1e-3)


def test_the_largest_columns_come_first_and_the_smallest_is_in_view():
    X, W = layer(200)
    picture = SmoothingPicture(X, W)
    tops = X.abs().amax(0)
    order = tops.argsort(descending=True).tolist()
    assert len(set(picture.columns)) == COLUMNS
    assert picture.columns[:12] == order[:12] and picture.columns[-1] == order[-1]
    assert picture.tops["X"] == tops[picture.columns].tolist()
    assert picture.tops["W"] == W.abs().amax(0)[picture.columns].tolist()


def test_dead_columns_are_left_out():
    X, W = layer(20)
    X[:, 5] = 0
    W[:, 7] = 0
    shown = set(SmoothingPicture(X, W).columns)
    assert shown == set(range(20)) - {5, 7}


@pytest.mark.parametrize("step", [-1, STEPS + 1])
def test_a_step_that_there_is_not_is_refused(step):
    with pytest.raises(ValueError, match=f"step is {step}; choose 0 to {STEPS}"):
        SmoothingPicture(*layer(), step)


def test_what_does_not_fit_is_refused():
    X, W = layer()
    with pytest.raises(ValueError, match="X has 63 columns and W 64"):
        SmoothingPicture(X[:, 1:], W)
    with pytest.raises(ValueError, match="X or W is 0 in every column"):
        SmoothingPicture(0 * X, W)
