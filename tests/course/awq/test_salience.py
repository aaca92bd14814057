"""Which columns matter: every number is measured on the outputs."""

import math

import pytest
import torch

from minquant.course.awq.salience import column_errors, one_percent
from minquant.measure.evaluate import layer_error
from minquant.methods.awq import keep_columns
from minquant.methods.rtn import quantize_rtn
from minquant.numerics import grids, groups

GRID = grids.zero_point(3)


def uneven(out=24, width=32, n=200, times=30.0):
    """A layer with independent inputs, one of which is large: column 5."""
    generator = torch.Generator().manual_seed(1)
    W = torch.randn(out, width, generator=generator)
    X = torch.randn(n, width, generator=generator)
    X[:, 5] *= times
    return W, X


def gone(W, X, granularity, column):
    """The share of RTN's error that goes if a column stays as it is."""
    made = quantize_rtn(W, GRID, granularity)
    kept = keep_columns(W, made, torch.tensor([column]))
    whole = layer_error(W, made.dequantize(), X).mean_squared
    return 1 - layer_error(W, kept, X).mean_squared / whole


@pytest.mark.parametrize("granularity", [groups.PER_CHANNEL, groups.per_group(16)])
def test_what_is_kept_in_floats_is_measured_on_the_outputs(granularity):
    W, X = uneven()
    found = one_percent(W, X, GRID, granularity)
    largest = int(W.abs().mean(0).argmax())
    assert found.by_inputs == pytest.approx(gone(W, X, granularity, 5), rel=1e-4)
    by_weights = gone(W, X, granularity, largest)
    assert found.by_weights == pytest.approx(by_weights, abs=1e-5)
    assert found.by_inputs > 0.8 > 0.1 > found.by_weights


def test_the_spread_is_the_largest_input_over_the_median():
    W, X = uneven()
    sizes = X.abs().mean(0)
    spread = (sizes.max() / sizes.median()).item()
    assert one_percent(W, X, GRID).spread == pytest.approx(spread)


def test_dead_inputs_do_not_count_for_the_spread():
    W, X = uneven()
    X[:, 6:28] = 0
    X[:, 28] = 1e-12
    found = one_percent(W, X, GRID)
    assert 10 < found.spread < 60
    assert found.by_inputs > 0.8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_float_dtype_will_do(dtype):
    W, X = uneven()
    narrow = one_percent(W.to(dtype), X.to(dtype), GRID)
    assert narrow.by_inputs == pytest.approx(one_percent(W, X, GRID).by_inputs, abs=0.1)


def test_without_an_error_there_is_no_share():
    W, X = uneven()
    found = one_percent(W.round().clamp(-3, 4), 0 * X, GRID)
    assert found.spread == 1
    assert math.isnan(found.by_inputs)
    assert math.isnan(found.by_weights)


def test_inputs_that_do_not_fit_are_refused():
    W, X = uneven()
    with pytest.raises(ValueError, match="X has shape"):
        one_percent(W, X[:, 1:], GRID)


def test_own_errors_add_up_to_the_outputs_if_inputs_are_orthogonal():
    W, _ = uneven()
    X = 3 * torch.eye(32)
    W_hat = quantize_rtn(W, GRID).dequantize()
    whole = layer_error(W, W_hat, X).mean_squared
    assert column_errors(W, W_hat, X).sum().item() == pytest.approx(whole, rel=1e-5)
