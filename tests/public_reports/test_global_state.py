"""A result does not depend on what torch's settings were when something was first used.

bitsandbytes#1521, ao#2286   tables made, and kept, in another default dtype
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file

from minquant.layers import packed_stream
from minquant.layers.linear import QuantLinear
from minquant.methods import rtn
from minquant.models import text
from minquant.numerics import grids, groups
from minquant.training import adapters, qat

ROOT = Path(__file__).parents[2]
IDS = torch.randint(3, 30, (2, 12), generator=torch.Generator().manual_seed(0))
W = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))


def computed(setting, folder):
    """What the package computes in a new process under a setting of torch."""
    file = folder / f"{setting}.safetensors"
    alone = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "tests/helpers/core.py", setting, str(file)]
    options = {"cwd": ROOT, "env": alone, "capture_output": True, "text": True}
    ended = subprocess.run(command, **options)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return load_file(file)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return computed("float32", tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("setting", ["bfloat16", "float64", "meta"])
def test_codes_scales_and_results_are_those_of_float32_bitsandbytes_1521_ao_2286(
    setting, usual, tmp_path
):
    found = computed(setting, tmp_path)
    assert found.keys() == usual.keys() and len(found) > 600
    wrong = [
        name
        for name, x in usual.items()
        if x.dtype != found[name].dtype or not torch.equal(x, found[name])
    ]
    assert not wrong


def forget():
    """Empties the caches of tensors."""
    grids._nodes.cache_clear()
    packed_stream._table.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_first_used_without_gradients_serves_in_training(dtype):
    X = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).to(dtype)

    def gradients(before):
        wide = {"hidden_size": 64, "intermediate_size": 64}
        network = adapters.add_adapters_(tiny.model(**wide, dtype=dtype))
        words = QuantLinear(rtn.quantize_rtn(W, grids.absmax(4), groups.per_group(32)))
        forget()
        with before:  # all that is kept for later is made here
            text.continue_greedily(network, IDS, 2)
            rtn.fake_quantize(W, grids.NF4, groups.per_group(8))
            words(X)
        network(input_ids=IDS, labels=IDS).loss.backward()
        x, w = X.clone().requires_grad_(), W.clone().requires_grad_()
        W_hat = qat.straight_through(w, grids.NF4, groups.per_group(8))
        (words(x).square().sum() + W_hat.square().sum()).backward()
        return [*(p.grad for p in adapters.trainable(network)), x.grad, w.grad]

    expected = gradients(torch.enable_grad())
    for mode in (torch.no_grad(), torch.inference_mode()):
        found = gradients(mode)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
