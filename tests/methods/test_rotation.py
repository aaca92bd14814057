"""Rotation changes every number and no output, and takes outliers apart."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import awq, rotation, smoothquant
from minquant.methods.rtn import fake_quantize
from minquant.numerics.grids import absmax

EPS = torch.finfo(torch.float32).eps


def normal(*shape, seed=0):
    """Normal numbers, the same for a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_outlier(n=64, width=128, times=50.0):
    """Inputs of which one column is many times the others."""
    X = normal(n, width)
    X[:, 5] *= times
    return X


def test_sylvesters_matrix_of_two_by_hand_is_sum_and_difference():
    by_hand = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    assert torch.allclose(rotation.hadamard(2), by_hand, rtol=EPS)


@given(power=st.integers(0, 8))
def test_sylvesters_matrix_is_symmetric_and_its_own_inverse(power):
    H = rotation.hadamard(2**power)
    assert torch.equal(H, H.T)
    # a sum of n products of ±1/√n: at most n eps of n · 1/n
    bound = len(H) * EPS
    assert (H @ H - torch.eye(len(H))).abs().max() <= bound
    assert torch.allclose(H.abs(), torch.full_like(H, 1 / math.sqrt(len(H))))


def test_signs_are_those_of_the_bits_that_row_and_column_share():
    H = rotation.hadamard(16) * 4
    signs = [[(-1.0) ** (i & j).bit_count() for j in range(16)] for i in range(16)]
    assert torch.equal(H, torch.tensor(signs))


@settings(max_examples=30, deadline=None)
@given(power=st.integers(0, 6), pieces=st.integers(1, 3), seed=st.integers(0, 99))
def test_sums_and_differences_are_the_product_with_the_matrix(power, pieces, seed):
    block = 2**power
    X = normal(3, pieces * block, seed=seed)
    expected = X.unflatten(1, (pieces, block)) @ rotation.hadamard(block)
    made = rotation.walsh_hadamard(X, block)
    bound = 2 * block * EPS * X.abs().max() * math.sqrt(block)
    assert (made - expected.flatten(1)).abs().max() <= bound


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 200), n=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_rotation_keeps_lengths_outputs_and_can_be_undone(width, n, seed):
    X, W = normal(n, width, seed=seed), normal(5, width, seed=seed + 1)
    turn = rotation.Rotation.random(width, seed=seed)
    X_R, W_R = rotation.rotate(X, W, turn)
    # log₂ block additions in a row, each rounded; twice, and a sum of `width` products
    bound = (2 * math.log2(turn.block) + width + 4) * EPS * X.norm() * W.norm()
    assert (X_R @ W_R.T - X @ W.T).abs().max() <= bound
    assert torch.allclose(X_R.norm(dim=1), X.norm(dim=1), rtol=1e-5)
    assert (turn.undo(X_R) - X).abs().max() <= bound


@given(width=st.integers(1, 100), at=st.integers(0, 99), seed=st.integers(0, 9))
def test_one_number_alone_is_spread_evenly_over_its_block(width, at, seed):
    turn, x = rotation.Rotation.random(width, seed=seed), torch.zeros(width)
    x[at % width] = 1.0
    spread = turn.apply(x).abs()
    first = at % width // turn.block * turn.block
    inside = spread[first : first + turn.block]
    assert torch.allclose(inside, torch.full_like(inside, turn.block**-0.5))
    assert spread.count_nonzero() == turn.block


def test_the_matrix_of_a_rotation_does_what_the_rotation_does():
    turn, X = rotation.Rotation.random(24, seed=3), normal(4, 24)
    assert turn.block == 8
    assert torch.allclose(X @ turn.matrix(), turn.apply(X), atol=1e-5)
    assert not torch.equal(turn.matrix(), rotation.Rotation.random(24).matrix())


def test_a_block_of_one_only_turns_signs():
    X, turn = normal(2, 7), rotation.Rotation.random(7)
    assert torch.equal(turn.apply(X), X * turn.signs)


def test_the_family_holds_smoothquant_awq_and_rotation_by_their_t():
    X, W = normal(6, 16), normal(4, 16, seed=1)
    s = smoothquant.scales_of([W], X, 0.5)
    turn = rotation.Rotation.random(16)
    members = [
        (torch.diag(1 / s), smoothquant.smooth(X, W, s)),
        (turn.matrix(), rotation.rotate(X, W, turn)),
    ]
    s = awq.input_scales(X.abs().mean(0), 0.5)
    members.append((torch.diag(1 / s), (X / s, W * s)))
    for T, (X_expected, W_expected) in members:
        X_T, W_T = rotation.transform(X, W, T)
        assert torch.allclose(X_T, X_expected, atol=1e-5)
        assert torch.allclose(W_T, W_expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_any_t_that_can_be_inverted_keeps_the_outputs(seed):
    X, W = normal(6, 8, seed=seed).double(), normal(4, 8, seed=seed + 1).double()
    T = normal(8, 8, seed=seed + 2).double() + 4 * torch.eye(8).double()
    X_T, W_T = rotation.transform(X, W, T)
    assert torch.allclose(X_T @ W_T.T, X @ W.T, atol=1e-8)


def test_the_peak_of_a_flat_row_and_of_a_row_with_one_number():
    lonely = torch.zeros(2, 64)
    lonely[0, 3] = -9.0  # and a row of zeros, which is left out
    assert rotation.peak(lonely) == pytest.approx(8)
    assert rotation.peak(torch.ones(3, 5)) == 1


def test_outliers_fall_to_what_normal_numbers_have():
    X = with_outlier()
    X_R = rotation.Rotation.random(128).apply(X)
    assert rotation.peak(X) > 9 and rotation.peak(X_R) < 3.5


def test_the_product_of_rotated_and_rounded_numbers_errs_less_where_outliers_are():
    X, W = with_outlier(), normal(32, 128, seed=1)
    X_R, W_R = rotation.rotate(X, W, rotation.Rotation.random(128))
    plain, rotated = (
        fake_quantize(A, absmax(8), scale_dtype=torch.float32)
        @ fake_quantize(B, absmax(12)).T  # W costs hardly anything
        for A, B in ((X, W), (X_R, W_R))
    )
    Y = X @ W.T
    assert (rotated - Y).norm() < (plain - Y).norm() / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotation.hadamard(12), "n is 12; choose a power of two, such as 64"),
        (
            lambda: rotation.walsh_hadamard(torch.ones(2, 12), 8),
            "block is 8, no power of two that divides 12 columns; the largest is 4",
        ),
        (lambda: rotation.Rotation.random(12, block=6), "block is 6, no power of two"),
        (
            lambda: rotation.Rotation.random(8, block=0),
            "block is 0, no power of two that divides 8 columns; the largest is 8",
        ),
        (lambda: rotation.Rotation.random(0), "width is 0; give the number of columns"),
        (
            lambda: rotation.Rotation(torch.tensor([1.0, 0.5]), 2),
            r"signs are not all 1 or -1; take Rotation.random",
        ),
        (
            lambda: rotation.Rotation.random(8).apply(torch.ones(2, 16)),
            r"X has 16 columns, but the rotation 8; take Rotation.random\(16\)",
        ),
        (
            lambda: rotation.transform(
                torch.ones(1, 2), torch.ones(1, 2), torch.ones(2, 2)
            ),
            "T has no inverse",
        ),
        *(
            (
                lambda x=x: rotation.transform(
                    torch.ones(1, 2), torch.ones(1, 2), torch.diag(torch.tensor([1, x]))
                ),
                "T holds 1 NaN or infinite numbers; give finite ones",
            )
            for x in (float("nan"), float("inf"))
        ),
    ],
)
def test_what_cannot_be_rotated_is_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
