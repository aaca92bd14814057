"""A split in numbers: they are `llm_int8`'s own, and the words say them."""

import numpy as np
import pytest
import torch

from minquant.course.outliers.outlier_split import THRESHOLDS, OutlierSplit, Sweep
from minquant.methods import llm_int8


def layer(n=12, width=16, out=8, large=(3, 9)):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, width, generator=generator)
    X[:, list(large)] *= 50
    return X, torch.randn(out, width, generator=generator)


@pytest.mark.parametrize("kept", [torch.float16, torch.float32, "int8"])
@pytest.mark.parametrize("threshold", [0.0, 1.0, 6.0, torch.inf])
def test_the_numbers_are_those_of_the_method(threshold, kept):
    X, W = layer()
    split = OutlierSplit.of(X, W, threshold, 5, outlier_weights=kept)
    (measured,) = llm_int8.sweep(X, W, [threshold], outlier_weights=kept)
    assert split.measured == measured
    taken = llm_int8.outlier_columns(X, threshold)
    np.testing.assert_array_equal(split.outliers, taken.numpy())
    np.testing.assert_array_equal(split.largest, X.abs().amax(0).numpy())
    rest = llm_int8.quantize_rows(X.masked_fill(taken, 0))
    np.testing.assert_array_equal(split.codes, rest.codes[5].numpy())


def test_two_large_values_leave_three_ticks_for_all_others():
    X = torch.tensor([[100.0, -1.0, 0.2, 0.7, -100.0, 0.0]])
    split = OutlierSplit.of(X, torch.ones(1, 6), torch.inf)
    assert split.step == pytest.approx(100 / 127)
    assert sorted(set(split.codes.tolist())) == [-127, -1, 0, 1, 127]
    split = OutlierSplit.of(X, torch.ones(1, 6), 6.0)
    assert split.step == pytest.approx(1 / 127)
    assert split.used == 4  # one tick for each value


def test_a_token_with_nothing_left_has_no_ruler():
    split = OutlierSplit.of(*layer(), 0.0)
    assert split.step == 0
    assert "Token 0 has nothing left for a ruler" in split.describe()


def test_the_words_say_the_numbers():
    split = OutlierSplit.of(*layer(), 6.0, 2)
    said = split.describe()
    assert said.startswith("At a threshold of 6, 2 of 16 columns")
    assert f"The error is {split.measured.error:.2%} of Y." in said
    assert f"the 14 values that stay use {split.used} of its 255." in said
    said = OutlierSplit.of(*layer(), torch.inf).describe()
    assert said.startswith("At a threshold of ∞,")


def test_a_sweep_goes_from_nearly_all_columns_to_none():
    X, W = layer()
    sweep = Sweep.of(X, W)
    assert len(sweep.splits) == THRESHOLDS
    shares = [split.columns for split in sweep.splits]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1, 0)
    plain = llm_int8.llm_int8(X, W, torch.inf)
    Y = X @ W.T
    assert sweep.without == pytest.approx(((plain - Y).norm() / Y.norm()).item())
    assert sweep.splits[-1].error == sweep.without


def test_inputs_that_are_0_can_be_swept():
    X, W = layer()
    X[:, 1:] = 0
    assert len(Sweep.of(X, W).splits) == THRESHOLDS


def test_a_token_that_is_none_is_named():
    with pytest.raises(ValueError, match="row is 12; choose a token from 0 to 11"):
        OutlierSplit.of(*layer(), 6.0, 12)
