"""Slices of rows, and a product that keeps no floats between forward and backward."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.kernels.frozen_product import (
    frozen_product,
    multiply_by_parts,
    row_slices,
)

W_HAT = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double()


def parts(dtype):
    """W_HAT, eight rows at a time."""
    for rows in row_slices(W_HAT.shape, 8 * 6):
        yield rows, W_HAT[rows].to(dtype)


def product(X):
    """X W_HATᵀ, by parts."""
    return multiply_by_parts(X, parts, 20)


@given(st.integers(1, 5000), st.integers(0, 2**21), st.integers(1, 2**22))
def test_slices_cover_all_rows_and_each_starts_at_a_multiple_of_eight(
    out, width, weights
):
    slices = list(row_slices((out, width), weights))
    covered = [row for part in slices for row in range(part.start, part.stop)]
    assert covered == list(range(out))
    assert all(part.start % 8 == 0 for part in slices)
    most = max(8, weights // max(1, width))
    assert all(part.stop - part.start <= most for part in slices)


def test_the_product_and_its_gradient_are_those_of_the_whole_matrix():
    X = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    Y = frozen_product(X, product, parts)
    torch.testing.assert_close(Y, X @ W_HAT.T)
    assert torch.autograd.gradcheck(lambda x: frozen_product(x, product, parts), X)


def test_a_product_that_nobody_learns_from_has_no_gradient():
    X = torch.randn(3, 6)
    assert not frozen_product(X, product, parts).requires_grad
    with torch.no_grad():
        assert not frozen_product(X.requires_grad_(), product, parts).requires_grad
