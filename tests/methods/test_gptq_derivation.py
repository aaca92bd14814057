"""The derivation of GPTQ: each step is checked, and equals the one before it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import gptq_derivation, rtn
from minquant.numerics import grids, groups
from minquant.numerics.ruler import Ruler

SIZES = st.integers(2, 12)
SEEDS = st.integers(0, 2**32 - 1)
# float64 carries 16 digits; H below has a condition of at most about 1e4
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
quick = settings(max_examples=25, deadline=None)


def case(seed, out=3, width=8, n=40):
    """Weights, correlated inputs and their H, float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    X = normal(n, width) + normal(n, 1)  # all inputs share a part
    return normal(out, width), X, X.T @ X


# the simplest ruler, for each of many columns: whole numbers
WHOLE = grids.IntegerGrid("whole numbers", 8, -128, 127, 1)
TO_INTEGERS = [Ruler(torch.ones((), dtype=torch.float64), None, WHOLE)] * 64


@quick
@given(SEEDS, SIZES, st.data())
def test_one_step_is_the_least_squares_solution_with_one_weight_fixed(seed, n, data):
    (w,), X, H = case(seed, out=1, width=n)
    q, v = data.draw(st.integers(0, n - 1)), data.draw(st.floats(-2, 2))
    others = [i for i in range(n) if i != q]
    # brute force: the others must give what w gave less what v gives
    target = X @ w - X[:, q] * v
    best = torch.linalg.lstsq(X[:, others], target[:, None]).solution[:, 0]
    moved, cost = gptq_derivation.obs_step(w, torch.linalg.inv(H), q, v)
    torch.testing.assert_close(moved[others], best, rtol=1e-8, atol=1e-8)
    assert moved[q] == v
    assert cost == pytest.approx((X @ (moved - w)).square().sum().item(), abs=1e-9)


def test_one_step_by_hand():
    # H = [[2, 1], [1, 2]], so H⁻¹ = [[2, −1], [−1, 2]] / 3. Weight 0 falls by 0.5, and
    # weight 1 rises by half of that; E = 0.5² / (2/3) = 0.375
    H_inv = torch.linalg.inv(torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double())
    moved, cost = gptq_derivation.obs_step(
        torch.tensor([1.5, 0.0]).double(), H_inv, 0, 1.0
    )
    torch.testing.assert_close(moved, torch.tensor([1.0, 0.25]).double())
    assert cost == pytest.approx(0.375)


@quick
@given(SEEDS, SIZES, st.data())
def test_elimination_gives_the_inverse_of_h_without_a_row_and_column(seed, n, data):
    H, q = case(seed, width=n)[2], data.draw(st.integers(0, n - 1))
    left = [i for i in range(n) if i != q]
    expected = torch.linalg.inv(H[left][:, left])
    torch.testing.assert_close(
        gptq_derivation.eliminate(torch.linalg.inv(H), q), expected, **CLOSE
    )


@quick
@given(SEEDS, SIZES)
def test_the_rows_of_cholesky_are_those_of_elimination(seed, n):
    H = case(seed, width=n)[2]
    ready, eliminated = (
        gptq_derivation.rows_by_cholesky(H),
        gptq_derivation.rows_by_elimination(H),
    )
    for a, b in zip(ready, eliminated, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_the_factor_is_upper_triangular_and_gives_the_inverse():
    H = case(0)[2]
    U = gptq_derivation.inverse_cholesky(H)
    assert torch.equal(U, U.triu())
    torch.testing.assert_close(U.T @ U @ H, torch.eye(len(H)).double(), **CLOSE)
    with pytest.raises(torch.linalg.LinAlgError):
        gptq_derivation.inverse_cholesky(-H)


@quick
@given(SEEDS, SIZES)
def test_gptq_by_cholesky_equals_obq_column_by_column(seed, n):
    W, _, H = case(seed, width=n)
    obq = gptq_derivation.steps(W, gptq_derivation.rows_by_elimination(H), TO_INTEGERS)
    gptq = gptq_derivation.steps(W, gptq_derivation.rows_by_cholesky(H), TO_INTEGERS)
    for a, b in zip(obq, gptq, strict=True):
        assert torch.equal(a.codes, b.codes)
        torch.testing.assert_close(a.W, b.W, **CLOSE)


@quick
@given(SEEDS, SIZES, st.integers(1, 14))
def test_lazy_batches_equal_the_columns_one_by_one(seed, n, block):
    W, _, H = case(seed, width=n)
    codes, W_hat = gptq_derivation.lazy_batches(W, H, TO_INTEGERS, block)
    *_, end = gptq_derivation.steps(W, gptq_derivation.rows_by_cholesky(H), TO_INTEGERS)
    assert torch.equal(codes, end.codes)
    torch.testing.assert_close(W_hat, end.W, **CLOSE)


@quick
@given(SEEDS, SIZES)
def test_the_columns_one_by_one_are_obs_steps_on_what_is_left(seed, n):
    W, _, H = case(seed, out=1, width=n)
    w, H_inv = W[0], torch.linalg.inv(H)
    for step in gptq_derivation.steps(
        W, gptq_derivation.rows_by_cholesky(H), TO_INTEGERS
    ):
        w, cost = gptq_derivation.obs_step(w, H_inv, 0, w[0].round().item())
        torch.testing.assert_close(step.W[0, step.column :], w, **CLOSE)
        assert step.cost == pytest.approx(cost, abs=1e-9)
        w, H_inv = w[1:], gptq_derivation.eliminate(H_inv, 0)


@quick
@given(SEEDS, SIZES)
def test_after_each_column_no_move_of_the_others_could_lower_the_error(seed, n):
    W, X, H = case(seed, width=n)
    spent = 0.0
    for step in gptq_derivation.steps(
        W, gptq_derivation.rows_by_cholesky(H), TO_INTEGERS
    ):
        gradient = (step.W - W) @ H  # half of it
        free = gradient[:, step.column + 1 :]
        torch.testing.assert_close(free, torch.zeros_like(free), rtol=0, atol=1e-9)
        spent += step.cost
        error = (X @ (step.W - W).T).square().sum().item()
        assert spent == pytest.approx(error, abs=1e-9)


def test_each_step_says_what_it_did_and_stays_as_it_was():
    W, _, H = case(0)
    before, given_W = W, W.clone()
    taken = list(
        gptq_derivation.steps(W, gptq_derivation.rows_by_cholesky(H), TO_INTEGERS)
    )
    assert torch.equal(W, given_W)
    assert [step.column for step in taken] == list(range(W.shape[1]))
    for j, step in enumerate(taken):
        assert torch.equal(step.codes, step.W[:, : j + 1])
        assert torch.equal(step.error, before[:, j] - step.W[:, j])
        assert torch.equal(step.W[:, j + 1 :], before[:, j + 1 :] + step.pushed)
        before = step.W


def test_inputs_that_are_independent_push_nothing():
    W = case(0)[0]
    H = torch.diag(torch.arange(1.0, 9).double())
    *taken, end = gptq_derivation.steps(
        W, gptq_derivation.rows_by_elimination(H), TO_INTEGERS
    )
    assert not any(step.pushed.any() for step in taken)
    assert torch.equal(end.W, W.round())


@pytest.mark.parametrize("how", [groups.PER_TENSOR, groups.PER_CHANNEL, "groups of 4"])
@pytest.mark.parametrize("grid", [grids.absmax(3), grids.zero_point(4), grids.NF4])
def test_the_rulers_of_a_matrix_round_its_columns_to_its_codes(grid, how):
    how = groups.per_group(4) if how == "groups of 4" else how
    W = case(0)[0]
    quantized = rtn.quantize_rtn(W, grid, how)
    rulers = gptq_derivation.column_rulers(quantized)
    assert len(rulers) == W.shape[1]
    W_hat = quantized.dequantize(torch.float64)
    for j in range(W.shape[1]):
        assert torch.equal(rulers[j].codes(W[:, j]), quantized.codes[:, j])
        assert torch.equal(rulers[j].values(quantized.codes[:, j]), W_hat[:, j])


def test_a_block_has_at_least_one_column():
    W, _, H = case(0)
    with pytest.raises(ValueError, match="block is 0; choose a number of columns"):
        gptq_derivation.lazy_batches(W, H, TO_INTEGERS, 0)
