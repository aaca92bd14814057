"""Lesson 06: answers by hand, and planted mistakes as learners write them."""

import pytest
import torch

from minquant.course import checks
from minquant.course.gptq import exercises


def test_what_a_weight_loses_an_input_like_it_gains():
    # H⁻¹ = [[2, −1], [−1, 2]] / 3: weight 0 falls by 0.5, weight 1 rises by half of it
    H = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
    moved = exercises.obs_push(torch.tensor([1.5, 0.0]).double(), H, 0, 1.0)
    torch.testing.assert_close(moved, torch.tensor([1.0, 0.25]).double())
    left = exercises.eliminate(torch.linalg.inv(H), 0)
    torch.testing.assert_close(left, torch.tensor([[0.5]]).double())


def test_two_inputs_alike_round_to_the_sum():
    # 0.4 and 0.4 on inputs that are nearly one: 0 and 1, not 0 and 0
    H = torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double()
    W = torch.tensor([[0.4, 0.4]]).double()
    assert exercises.gptq_columns(W, H).tolist() == [[0.0, 1.0]]


def push(w, H, q, v, sign=-1.0, inverse=True, divide=True):
    M = torch.linalg.inv(H) if inverse else H
    e = w[q] - v
    moved = w + sign * e * M[q] / (M[q, q] if divide else 1)
    moved[q] = v
    return moved


def nearest_only(w, H, q, v):
    moved = w.clone()
    moved[q] = v
    return moved


PUSHES = [
    (lambda w, H, q, v: push(w, H, q, v, sign=1.0), "the others move the wrong way"),
    (lambda w, H, q, v: push(w, H, q, v, inverse=False), "this is a row of H"),
    (lambda w, H, q, v: push(w, H, q, v, divide=False), "the push is not divided"),
    (nearest_only, "only weight q has moved"),
]


@pytest.mark.parametrize(("yours", "words"), PUSHES)
def test_a_planted_mistake_of_the_push_is_named(yours, words):
    assert checks.obs_push(yours).mistake.startswith(words)


def without(M, q):
    rows = [torch.cat([row[:q], row[q + 1 :]]) for i, row in enumerate(M) if i != q]
    return torch.stack(rows)


ELIMINATIONS = [
    (without, "row and column q are left out of H⁻¹, but"),
    (
        lambda M, q: without(M - M[:, [q]] * M[[q]], q),
        "the outer product is not divided",
    ),
    (lambda M, q: M - M[:, [q]] * M[[q]] / M[q, q], "row and column q are 0 now"),
    (
        lambda M, q: (M - M[:, [0]] * M[[0]] / M[0, 0])[1:, 1:],
        "this takes off column 0",
    ),
]


@pytest.mark.parametrize(("yours", "words"), ELIMINATIONS)
def test_a_planted_mistake_of_the_elimination_is_named(yours, words):
    assert checks.eliminate(yours).mistake.startswith(words)


def loop(W, H, sign=-1.0, factor="inverse", divide=True):
    """What a learner writes, all in one loop."""
    W = W.clone()
    H_inv = torch.linalg.inv(H)
    U = torch.linalg.cholesky(H if factor == "H" else H_inv, upper=True)
    U = H_inv if factor == "none" else U
    for j in range(W.shape[1]):
        w_hat = torch.round(W[:, j])
        e = (W[:, j] - w_hat) / (U[j, j] if divide else 1)
        W[:, j] = w_hat
        W[:, j + 1 :] += sign * e[:, None] * U[j, j + 1 :]
    return W


LOOPS = [
    (lambda W, H: W.round(), "nothing is pushed"),
    (lambda W, H: loop(W, H, sign=1.0), "errors are pushed the wrong way"),
    (lambda W, H: loop(W, H, factor="none"), "the pushes are rows of H⁻¹ as it was"),
    (lambda W, H: loop(W, H, factor="H"), "U is the factor of H"),
    (lambda W, H: loop(W, H, divide=False), "the push is not divided by U"),
]


@pytest.mark.parametrize(("yours", "words"), LOOPS)
def test_a_planted_mistake_of_the_loop_is_named(yours, words):
    assert checks.gptq_columns(yours).mistake.startswith(words)


def by_least_squares(w, H, q, v):
    """Without any inverse: what the others must give, by solving for it."""
    rest = [i for i in range(len(w)) if i != q]
    moved = w.clone()
    moved[rest] += torch.linalg.solve(H[rest][:, rest], H[rest, q] * (w[q] - v))
    moved[q] = v
    return moved


def by_what_is_left(W, H):
    """Without a factor: the inverse of what is left of H, at each column anew."""
    W = W.clone()
    for j in range(W.shape[1]):
        row = torch.linalg.inv(H[j:, j:])[0]
        e = W[:, j] - W[:, j].round()
        W[:, j:] -= torch.outer(e / row[0], row)
        W[:, j] = W[:, j].round()
    return W


def test_a_learner_s_own_way_is_accepted():
    assert checks.obs_push(by_least_squares)
    assert checks.gptq_columns(by_what_is_left)
    assert checks.gptq_columns(loop)

    def _from_h(H_inv, q):
        return torch.linalg.inv(without(torch.linalg.inv(H_inv), q))

    assert checks.eliminate(_from_h)
