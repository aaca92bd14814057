"""Groups: shapes by hand, and that nothing is lost or moved in cutting and joining."""

import pytest
import torch
from helpers.fixture import as_learners_have_it
from hypothesis import given
from hypothesis import strategies as st

from minquant.numerics.groups import (
    PER_CHANNEL,
    PER_TENSOR,
    group_shape,
    per_group,
    split,
    spread,
)

CUTS = [PER_TENSOR, PER_CHANNEL, per_group(1), per_group(4), per_group(12)]


@pytest.mark.parametrize(
    ("cut", "shape"),
    [
        (PER_TENSOR, (1, 1, 72)),
        (PER_CHANNEL, (6, 1, 12)),
        (per_group(4), (6, 3, 4)),
        (per_group(1), (6, 12, 1)),
        (per_group(12), (6, 1, 12)),
    ],
    ids=str,
)
def test_the_shape_of_the_groups_of_6_by_12(cut, shape):
    assert group_shape((6, 12), cut) == shape
    assert split(torch.zeros(6, 12), cut).shape == shape


def test_groups_run_along_the_row():
    W = torch.arange(8).reshape(2, 4)
    assert split(W, per_group(2)).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_groups_are_a_view_where_memory_allows():
    W = torch.zeros(2, 4)
    split(W, per_group(2))[1, 0] = 1
    assert W.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_reshape_is_the_inverse_of_split_also_for_a_transposed_matrix(cut):
    W = torch.randn(12, 12, generator=torch.Generator().manual_seed(0)).T
    assert torch.equal(split(W, cut).reshape(12, 12), W)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_each_weight_gets_the_number_of_its_own_group(out, n_groups, g):
    shape = (out, n_groups * g)
    W = torch.arange(out * n_groups * g).reshape(shape)
    for cut in (PER_TENSOR, PER_CHANNEL, per_group(g)):
        first = split(W, cut)[:, :, 0]  # the first weight stands for its group
        wide = spread(first, shape, cut)
        assert torch.equal(split(wide, cut), first[:, :, None].expand_as(split(W, cut)))


@pytest.mark.parametrize(
    ("g", "width", "choices"),
    [
        (96, 256, "32, 64 or 128"),
        (32, 100, "20, 25 or 50"),
        (128, 64, "16, 32 or 64"),
        (4, 7, "7"),
        (3, 10, "2, 5 or 10"),
        (3, 4, "2 or 4"),
        (2, 1, "1"),
    ],
)
def test_a_group_that_does_not_divide_the_row_is_named_with_ones_that_do(
    g, width, choices
):
    message = f"^group_size {g} does not divide in_features {width}; choose {choices}$"
    with pytest.raises(ValueError, match=message):
        split(torch.zeros(2, width), per_group(g))


@pytest.mark.parametrize("g", [0, -1, 1.5])
def test_a_group_of_no_weights_is_refused(g):
    with (
        as_learners_have_it(),
        pytest.raises(
            ValueError, match=f"group_size is {g}; choose a whole number, often 128"
        ),
    ):
        per_group(g)


def test_numbers_that_do_not_fit_the_groups_are_refused():
    with pytest.raises(
        ValueError, match=r"values has shape \(2, 3\); a matrix \(2, 8\) per group of 4"
    ):
        spread(torch.zeros(2, 3), (2, 8), per_group(4))


def test_a_granularity_says_its_name():
    assert [str(c) for c in (PER_TENSOR, PER_CHANNEL, per_group(64))] == [
        "per tensor",
        "per channel",
        "per group of 64",
    ]
