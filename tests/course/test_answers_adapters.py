"""The answers of lesson 09 are what their equations say."""

import pytest
import torch

from minquant.course.answers import nf4_bytes
from minquant.course.answers_adapters import lora_forward, lora_gradients, qlora_bytes
from minquant.layers.lora import nf4


def random(*shape, seed):
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.double()


X, W, A, B = random(5, 8, seed=0), random(6, 8, seed=1), random(2, 8, seed=2), None
B = random(6, 2, seed=3)


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
