"""Bytes of a training step, against what can be counted by hand."""

import torch
from torch import nn

from minquant.planning.memory import Saved, StepMemory, alive, step_memory, tensor_bytes


def test_views_of_one_memory_count_once():
    W = torch.zeros(4, 4)
    assert tensor_bytes([W, W.T, W[1:], W.flatten()]) == 64
    assert tensor_bytes([W, W.clone()]) == 128
    assert tensor_bytes([]) == 0


def test_a_step_of_one_layer_by_hand():
    layer = nn.Linear(8, 4)  # 36 numbers
    X = torch.ones(16, 8)
    optimizer = torch.optim.AdamW(layer.parameters())
    found = step_memory(layer, optimizer, lambda: layer(X).square().sum())
    # saved: X (16, 8), and Y (16, 4) for the square
    assert found == StepMemory(4 * 36, 4 * 36, 2 * 4 * 36, 4 * 16 * 12)
    assert found.total == 4 * (4 * 36 + 16 * 12)


def test_the_step_is_taken_and_leaves_no_gradients():
    layer = nn.Linear(8, 4)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    found = step_memory(layer, optimizer, lambda: layer(torch.ones(2, 8)).sum())
    assert found.optimizer == 0
    assert torch.allclose(layer.weight, before - 2)
    assert layer.weight.grad is None


def test_frozen_weights_have_no_gradients_and_the_models_own_are_not_saved():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 2, bias=False))
    model[0].requires_grad_(False)
    X = torch.ones(4, 8)
    with Saved(model) as saved:
        model(X).sum()
    assert saved.nbytes == 4 * 4 * 8  # what flows into the second layer
    optimizer = torch.optim.AdamW(model[1].parameters())
    assert step_memory(model, optimizer, lambda: model(X).sum()).gradients == 64


def test_a_copy_that_an_operation_makes_is_seen():
    layer, X = nn.Linear(8, 8, bias=False), torch.ones(4, 8, requires_grad=True)
    with Saved(layer) as saved:
        nn.functional.linear(X, layer.weight.detach() * 1.0).sum()
    assert saved.nbytes == 4 * 8 * 8


class Hidden(torch.autograd.Function):
    """X Wᵀ, with a float W hung on ctx, which autograd does not hear of."""

    @staticmethod
    def forward(ctx, X, W):
        ctx.W = W.clone()
        return X @ W.T

    @staticmethod
    def backward(ctx, G):
        return G @ ctx.W, None


def test_what_a_function_hangs_on_its_ctx_is_found_by_what_is_alive():
    layer, X = nn.Linear(8, 4, bias=False), torch.ones(16, 8, requires_grad=True)
    before = alive()
    with Saved(layer) as saved:
        Y = Hidden.apply(X, layer.weight.detach())
    assert saved.nbytes == 0
    assert alive() - before == Y.nbytes + 4 * 8 * 4
    del Y
    assert alive() == before


def test_what_autograd_saves_is_alive_too():
    layer, X = nn.Linear(8, 4, bias=False), torch.ones(16, 8, requires_grad=True)
    before = alive()
    Y = X @ (layer.weight.detach() * 1.0).T
    assert alive() - before == Y.nbytes + 4 * 8 * 4


def test_only_floats_and_only_once_are_alive():
    before = alive()
    W = torch.zeros(4, 4, dtype=torch.bfloat16)
    others = W.T, W[0], torch.zeros(100, dtype=torch.uint8), W.to("meta")
    assert alive() - before == 32
    del W, others
    assert alive() == before


def test_outside_of_it_nothing_is_noted():
    layer, X = nn.Linear(8, 8), torch.ones(4, 8, requires_grad=True)
    with Saved(layer) as saved:
        pass
    layer(X).square()
    assert saved.tensors == []
