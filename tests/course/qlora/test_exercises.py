"""Lesson 09: planted mistakes, written as learners write them."""

import pytest

from minquant.course import answers, checks


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
        total += answers.nf4_bytes(n, 64) if per_weight is None else per_weight * n
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
