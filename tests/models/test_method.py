"""A method's signature says what it needs; its error is the error of the outputs."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import gptq, rtn
from minquant.methods.awq import quantize_awq_shared
from minquant.models.method import Method, relative_error
from minquant.numerics import grids

int4 = partial(rtn.quantize_rtn, grid=grids.zero_point(4))
SOME = [torch.ones(1, 2, dtype=torch.long)]


@pytest.mark.parametrize(
    ("function", "takes_all", "needs"),
    [
        (int4, False, ()),
        (partial(gptq.quantize_gptq, grid=grids.NF4), False, ("H",)),
        (partial(quantize_awq_shared, grid=grids.absmax(4)), True, ("X",)),
        (lambda W, H, X, bits=4, **rest: W, False, ("H", "X")),
        (lambda Ws, *rest: Ws, True, ()),
    ],
)
def test_a_signature_says_what_a_method_needs(function, takes_all, needs):
    method = Method.from_function(function, SOME)
    assert (method.takes_all, method.needs) == (takes_all, needs)


def test_a_method_ties_inputs_if_it_can_and_nobody_said_which():
    awq = partial(quantize_awq_shared, grid=grids.absmax(4))
    assert Method.from_function(awq, SOME).ties
    mine = partial(awq, tied=torch.arange(4))
    assert not Method.from_function(mine, SOME).ties
    assert not Method.from_function(int4, SOME).ties


def test_what_is_missing_is_named_before_any_work():
    with pytest.raises(ValueError, match="also needs grid, .* functools.partial"):
        Method.from_function(rtn.quantize_rtn, SOME)
    with pytest.raises(ValueError, match="needs X, but calibration is None; pass cal"):
        Method.from_function(lambda W, X: W, None)
    with pytest.raises(TypeError, match="takes no matrix"):
        Method.from_function(lambda bits=4: bits, SOME)


def test_results_have_names_and_nothing_is_written():
    Ws = {"a": torch.randn(3, 8), "b": torch.randn(2, 8)}
    kept = {name: W.clone() for name, W in Ws.items()}
    for function in (int4, lambda Ws: [int4(W) for W in Ws]):
        results = Method.from_function(function, SOME).apply(Ws, {})
        for name, (quantized, W_hat) in results.items():
            assert torch.equal(W_hat, int4(kept[name]).dequantize())
            assert torch.equal(quantized.dequantize(), W_hat)
            assert torch.equal(Ws[name], kept[name])


def test_too_few_results_are_refused():
    with pytest.raises(ValueError, match="zip"):
        Method.from_function(lambda Ws: [], SOME).apply({"a": torch.ones(1, 8)}, {})


def test_the_error_by_hand():
    W, W_hat = torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    X = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # Y = 2, 2; Y_hat = 2, 0
    assert relative_error(W, W_hat, {}) == pytest.approx(1 / 5)
    assert relative_error(W, W_hat, {"X": X}) == 0.5
    assert relative_error(torch.zeros(1, 2), torch.zeros(1, 2), {}) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_x_and_its_h_give_one_error(seed, n):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(5, 16, generator=generator)
    X, W_hat = torch.randn(n, 16, generator=generator), int4(W).dequantize()
    by_x = relative_error(W, W_hat, {"X": X})
    by_h = relative_error(W, W_hat, {"H": X.T @ X})
    assert by_h == pytest.approx(by_x, rel=1e-3)
    eye = relative_error(W, W_hat, {"H": torch.eye(16)})
    assert eye == pytest.approx(relative_error(W, W_hat, {}), rel=1e-5)
