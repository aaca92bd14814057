"""A token after the split: its numbers are those of `llm_int8`."""

import numpy as np
import pytest
import torch

from minquant.course.outliers.outlier_split import OutlierSplit
from minquant.methods import llm_int8


def inputs(n=12, width=16, large=(3, 9)):
    X = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    X[:, list(large)] *= 50
    return X


@pytest.mark.parametrize("threshold", [0.0, 1.0, 6.0, torch.inf])
def test_the_numbers_are_those_of_the_method(threshold):
    X = inputs()
    split = OutlierSplit.of(X, threshold, 5)
    taken = llm_int8.outlier_columns(X, threshold)
    np.testing.assert_array_equal(split.outliers, taken.numpy())
    rest = llm_int8.quantize_rows(X.masked_fill(taken, 0))
    np.testing.assert_array_equal(split.codes, rest.codes[5].numpy())


def test_two_large_values_leave_three_ticks_for_all_others():
    X = torch.tensor([[100.0, -1.0, 0.2, 0.7, -100.0, 0.0]])
    split = OutlierSplit.of(X, torch.inf)
    assert split.step == pytest.approx(100 / 127)
    assert sorted(set(split.codes.tolist())) == [-127, -1, 0, 1, 127]
    split = OutlierSplit.of(X, 6.0)
    assert split.step == pytest.approx(1 / 127)
    assert split.used == 4  # one tick for each value


def test_a_token_with_nothing_left_has_no_ruler():
    assert OutlierSplit.of(inputs(), 0.0).step == 0


def test_a_token_that_is_none_is_named():
    with pytest.raises(ValueError, match="row is 12; choose a token from 0 to 11"):
        OutlierSplit.of(inputs(), 6.0, 12)
