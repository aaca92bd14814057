"""What quantizing a model holds in memory: the codes, and beside them a few layers."""

from functools import partial

import pytest
import torch
from helpers import tiny
from helpers.live_bytes import LiveBytes

from minquant.methods.gptq import quantize_gptq
from minquant.models.quantize import quantize_
from minquant.numerics.grids import zero_point

WIDTH, VOCABULARY, FLOAT = 128, 8192, 4  # bytes
BATCHES, FEW, MANY = 3, 4, 512  # tokens of a batch
gptq = partial(quantize_gptq, grid=zero_point(4), act_order=True, block=16)


def beside_the_codes(tokens, **options):
    """The bytes that live at most while a model is quantized, without the model itself
    and the codes. Its layers are square, and its embeddings outweigh them all."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "vocab_size": VOCABULARY}
    more = {"num_key_value_heads": 4, "max_position_embeddings": MANY}
    network = tiny.model(**sizes, **more)
    ids = torch.arange(BATCHES * tokens).view(BATCHES, 1, tokens)
    with LiveBytes(known=network.parameters()) as live:
        report = quantize_(network, gptq, calibration=list(ids), **options)
    parts = [(q.codes, q.scales, q.zeros) for q in report.values()]
    return live.peak - sum(part.nbytes for matrix in parts for part in matrix)


def waiting(tokens):
    """What `calibrate` says that a Llama keeps of the text: 3 · width + inner numbers
    for each token."""
    return BATCHES * tokens * 4 * WIDTH * FLOAT


@pytest.mark.parametrize("progress", [False, True])
def test_gptq_holds_a_few_layers_whatever_the_model_weighs(progress):
    layer = 2 * WIDTH * WIDTH * FLOAT  # W and H
    held = beside_the_codes(FEW, progress=progress) - waiting(FEW)
    # two while a matrix is solved; before it is written, W_hat of all in its group
    assert held < 3.1 * layer


def test_text_is_held_once_and_runs_one_batch_at_a_time():
    running = 16 * MANY * WIDTH * FLOAT  # the attention of a batch, all its steps
    assert beside_the_codes(MANY, progress=False) < waiting(MANY) + running
