"""Lesson 09: answers beside their equations, and planted mistakes as learners write
them."""

import pytest
import torch

from minquant.course import checks
from minquant.course.exercises import normal
from minquant.course.nf4.exercises import nf4_bytes
from minquant.course.qlora.exercises import lora_forward, lora_gradients, qlora_bytes
from minquant.layers.lora import nf4


def random(*shape, seed):
    return normal(*shape, seed=seed).double()


X, W = random(5, 8, seed=0), random(6, 8, seed=1)
A, B = random(2, 8, seed=2), random(6, 2, seed=3)


def test_the_forward_pass_is_that_of_the_merged_matrix():
    merged = W + 16 / 2 * B @ A
    assert torch.allclose(lora_forward(X, W, A, B, 16.0), X @ merged.T)


def test_the_gradients_are_those_of_autograd():
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    G = random(5, 6, seed=4)
    (X @ W.T + 3.0 * X @ a.T @ b.T).backward(G)
    dA, dB = lora_gradients(X, G, A, B, 3.0)
    assert torch.allclose(dA, a.grad) and torch.allclose(dB, b.grad)


def test_the_bytes_are_those_that_are_stored_and_sixteen_for_each_number():
    assert qlora_bytes([(128, 64)], 1) == nf4_bytes(128 * 64, 64) + 16 * 192
    stored = nf4(torch.ones(128, 64)).nbytes
    assert qlora_bytes([(128, 64)], 2) - qlora_bytes([(128, 64)], 1) == 16 * 192
    assert qlora_bytes([(128, 64)], 1) - 16 * 192 == pytest.approx(stored, abs=8)


# --- planted mistakes ---


def forward(X, W, A, B, alpha):
    r = A.shape[0]
    return X @ (W + alpha / r * (B @ A)).T


FORWARD = [
    (lambda X, W, A, B, alpha: X @ (alpha / len(A) * B @ A).T, "this is the update al"),
    (lambda X, W, A, B, alpha: X @ (W + B @ A).T, "the update is not scaled"),
    (lambda X, W, A, B, alpha: X @ (W + alpha * B @ A).T, "the update is scaled by al"),
    (lambda X, W, A, B, alpha: X @ (W + B @ A).T * alpha / len(A), "s scales the upda"),
    (lambda X, W, A, B, alpha: X @ (W - alpha / len(A) * B @ A).T, "the update is sub"),
    (lambda X, W, A, B, alpha: X @ (W + alpha / A.shape[1] * B @ A).T, "r is the numb"),
]


@pytest.mark.parametrize(("yours", "words"), FORWARD)
def test_a_planted_mistake_of_the_forward_pass_is_named(yours, words):
    assert checks.lora_forward(yours).mistake.startswith(words)


def gradients(X, G, A, B, s):
    dW = G.T @ X  # of the merged matrix
    return s * B.T @ dW, s * dW @ A.T


GRADIENTS = [
    (lambda X, G, A, B, s: gradients(X, G, A, B, 1), "the factor s is missing"),
    (lambda X, G, A, B, s: (B.T @ G.T @ X, s * G.T @ X @ A.T), "s is missing in dL/dA"),
    (lambda X, G, A, B, s: (s * B.T @ G.T @ X, G.T @ X @ A.T), "s is missing in dL/dB"),
    (lambda X, G, A, B, s: gradients(X, G, A, B, s**2), "s is there twice"),
    (lambda X, G, A, B, s: gradients(X, -G, A, B, s), "the sign is the step's"),
    (lambda X, G, A, B, s: gradients(X / len(X), G, A, B, s), "sum over the n rows"),
]


@pytest.mark.parametrize(("yours", "words"), GRADIENTS)
def test_a_planted_mistake_of_the_gradients_is_named(yours, words):
    assert checks.lora_gradients(yours).mistake.startswith(words)


def test_gradients_in_the_other_order_are_told_by_their_shape():
    said = repr(checks.lora_gradients(lambda *given: gradients(*given)[::-1]))
    assert "dA has shape (6, 2), should be (2, 8)" in said


def stored(shapes, rank, per_number=16, per_weight=None):
    total = 0
    for out, width in shapes:
        n = out * width
        total += nf4_bytes(n, 64) if per_weight is None else per_weight * n
        total += per_number * (rank * out + rank * width)
    return total


BYTES = [
    (lambda s, r: stored(s, r, 0), "this is without the adapters"),
    (lambda s, r: stored(s, r, 16, 0), "these are the adapters alone"),
    (lambda s, r: stored(s, r, 4), "A and B take 4 bytes a number"),
    (lambda s, r: stored(s, r, 12), "4 bytes a number are missing"),
    (lambda s, r: stored(s, r, 8), "Adam's two moments are forgotten"),
    (lambda s, r: stored(s, r, 20), "A and B are fp32 already"),
    (lambda s, r: stored(s, r, 16, 2), "the frozen weights have 16 bits here"),
    (lambda s, r: stored(s, r, 16, 0.5), "the scales of the codes are forgotten"),
]


@pytest.mark.parametrize(("yours", "words"), BYTES)
def test_a_planted_mistake_of_the_bytes_is_named(yours, words):
    assert checks.qlora_bytes(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.lora_forward(forward)
    assert checks.lora_gradients(gradients)
    assert checks.qlora_bytes(stored)
