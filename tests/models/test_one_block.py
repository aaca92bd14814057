"""A block alone computes what it computes in the whole model."""

import gc
import weakref

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.models import one_block
from minquant.models.linear_layers import decoder_blocks

GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [
    torch.randint(3, 30, shape, generator=GENERATOR)
    for shape in ((3, 12), (2, 20), (1, 5))
]


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_blocks_one_by_one_make_the_hidden_states_of_the_whole_model(kind):
    network, expected = tiny.model(kind), []
    blocks = decoder_blocks(network)
    hook = blocks[-1].register_forward_hook(
        lambda _, given, made: expected.append(
            made[0] if isinstance(made, tuple) else made
        )
    )
    for ids in BATCHES:
        network(input_ids=ids)
    hook.remove()
    hidden, inputs = None, one_block.block_inputs(network, blocks, BATCHES)
    for block, calls in zip(blocks, inputs, strict=True):
        again = one_block.advance(block, calls, hidden)
        hidden = one_block.advance(block, calls, hidden)  # and leaves no trace
        assert all(torch.equal(a, b) for a, b in zip(again, hidden, strict=True))
    for made, whole in zip(hidden, expected, strict=True):
        assert torch.equal(made, whole)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())


def test_the_first_blocks_inputs_are_freed_when_the_second_is_asked_for():
    network = tiny.model()
    inputs = one_block.block_inputs(network, decoder_blocks(network), BATCHES)
    held = [weakref.ref(call.hidden) for call in next(inputs)]
    later = next(inputs)
    gc.collect()
    assert all(ref() is None for ref in held)
    assert all(call.hidden is None for call in later)
    assert list(inputs) == []


def test_a_model_in_training_mode_is_refused():
    network = tiny.model().train()
    with pytest.raises(ValueError, match="training mode; call model.eval"):
        next(one_block.block_inputs(network, decoder_blocks(network), BATCHES))


class Odd(nn.Module):
    """Two blocks that are not a chain: the second reads what the first read, doubled,
    or the first one runs twice."""

    def __init__(self, twice):
        super().__init__()
        self.embed = nn.Embedding(32, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.twice = twice
        self.eval()

    def forward(self, input_ids, use_cache):
        x = self.embed(input_ids)
        y = self.layers[0](x)
        return self.layers[1](self.layers[0](y) if self.twice else 2 * x)


@pytest.mark.parametrize(("twice", "culprit"), [(False, 1), (True, 0)])
def test_blocks_that_are_no_chain_are_refused(twice, culprit):
    network = Odd(twice)
    with pytest.raises(
        ValueError, match=f"Odd does not call its decoder layer {culprit} e"
    ):
        next(one_block.block_inputs(network, network.layers, BATCHES))
