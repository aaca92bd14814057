"""Which columns matter: every number is AWQ's own, and the trade is seen."""

import pytest
import torch

from minquant.course.awq.salience import Salience
from minquant.measure.evaluate import layer_error
from minquant.methods import rtn
from minquant.methods.awq import RATIOS, keep_columns, quantize_awq, ratio_errors
from minquant.numerics import grids, groups


def uneven(out=24, width=32, n=200, times=30.0):
    """A layer with independent inputs, one of which is large: column 5."""
    generator = torch.Generator().manual_seed(1)
    W = torch.randn(out, width, generator=generator)
    X = torch.randn(n, width, generator=generator)
    X[:, 5] *= times
    return W, X


@pytest.fixture(scope="module")
def layer():
    return Salience(*uneven(), grids.zero_point(3), groups.per_group(16))


def test_the_salient_column_stands_first_and_the_smallest_inputs_last(layer):
    assert layer.order[0] == 5
    assert layer.order.sort().values.tolist() == list(range(32))
    assert (layer.inputs.diff() <= 0).all()
    assert layer.n_salient == 1
    assert layer.spread > 10


def test_the_scales_of_a_ratio_are_that_power_of_the_inputs(layer):
    for ratio in (0.0, 0.35, 0.9):
        scales = layer.at(ratio).scales
        torch.testing.assert_close(scales, layer.inputs**ratio, rtol=2**-10, atol=0.0)


def test_the_curve_is_awqs_as_a_share_of_rtns_error(layer):
    errors = ratio_errors([layer.W], layer.X, layer.grid, layer.granularity)
    assert layer.curve == pytest.approx([e / errors[0] for e in errors])
    assert layer.curve[0] == 1
    taken = quantize_awq(layer.W, layer.X, layer.grid, layer.granularity, clip=None)
    scales = taken.input_scales.float()[layer.order]
    assert torch.equal(layer.at(layer.best).scales, scales)


def test_the_error_at_a_ratio_is_that_of_the_curve(layer):
    for ratio, error in list(zip(RATIOS, layer.curve, strict=True))[::5]:
        assert layer.at(ratio).error == pytest.approx(error, rel=1e-4)


def test_without_scales_nothing_changes(layer):
    now = layer.at(0.0)
    assert torch.equal(now.after, layer.before)
    assert now.error == pytest.approx(1)


def test_own_errors_add_up_to_the_layers_if_inputs_are_orthogonal():
    W, _ = uneven()
    X = 3 * torch.eye(32)
    layer = Salience(W, X, grids.absmax(3))
    assert layer.before.sum().item() == pytest.approx(1, rel=1e-5)


def test_the_salient_column_gains_and_others_pay(layer):
    now = layer.at(layer.best)
    assert layer.before[0] > 0.8
    assert now.after[0] < 0.5 * layer.before[0]
    assert layer.at(0.95).after[1:].sum() > layer.before[1:].sum()
    assert min(layer.curve) < 0.5


def test_what_is_kept_in_floats_is_measured_on_the_outputs(layer):
    W, X = layer.W, layer.X
    made = rtn.quantize_rtn(W, layer.grid, layer.granularity)
    kept = keep_columns(W, made, torch.tensor([5]))
    error = layer_error(W, kept, X).mean_squared
    whole = layer_error(W, made.dequantize(), X).mean_squared
    assert layer.kept(X.abs().mean(0)) == pytest.approx(1 - error / whole, rel=1e-4)
    assert layer.kept(X.abs().mean(0), 1.0) == pytest.approx(1)


def test_the_words_have_the_numbers_of_the_state(layer):
    now = layer.at(0.5)
    said = layer.describe(now)
    assert f"{now.error:.0%} of RTN's" in said
    assert f"{layer.before[0]:.1%} of the error, now {now.after[0]:.1%}" in said
    assert f"at {layer.best:.2f}" in said


def test_a_matrix_without_an_error_is_refused():
    W = torch.tensor([[7.0, 3.0, -2.0]])
    layer = Salience(W, torch.ones(4, 3), grids.absmax(4))
    with pytest.raises(ValueError, match="rounded without any error"):
        layer.before  # noqa: B018
