"""Writes methods.safetensors: what other programs make of layers of ours.

    make golden          # in the peers' environment

Inputs come from `fixture.layer`, so that only outputs are stored. Which versions wrote
them stands in the file's metadata; tests/test_golden.py holds ours against them.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
import peers  # noqa: E402
from helpers import fixture  # noqa: E402

FILE = HERE / "methods.safetensors"
GPTQ = {"gptq": False, "gptq_act_order": True}  # the name, and whether in act-order
FEW = 64, 512, 2048  # out, in, tokens of a layer for codes
TOKENS = 24  # of the small layer's held-out rows, for int8
OUTPUTS = 32  # of its rows of W
THRESHOLD = 6.0


def few():
    """The smaller layer, whose codes are stored."""
    return fixture.layer(*FEW)


def gptq():
    """llm-compressor's codes, scales and zeros, and its error on held-out inputs."""
    layer = few()
    H = layer.X_calibration.T @ layer.X_calibration
    for name, act_order in GPTQ.items():
        made = peers.Gptq(layer.W, H, act_order=act_order).rounded()
        yield f"{name}.codes", made.codes.to(torch.uint8)
        yield f"{name}.scales", made.scales
        yield f"{name}.zeros", made.zeros.to(torch.uint8)
        yield f"{name}.error", torch.tensor(fixture.error(made.W_hat, layer))


def awq():
    """torchao's input scales for the small layer."""
    layer = fixture.layer()
    yield "awq.input_scales", peers.awq_scales(layer.W, layer.X_calibration)


def nf4():
    """bitsandbytes' bytes, absmaxes and floats; the small layer's scales in 8 bits."""
    packed, state = peers.nf4(few().W)
    yield "nf4.packed", packed.flatten()
    yield "nf4.absmax", state.absmax
    yield "nf4.first_rows", peers.nf4_back(packed, state)[:8]
    _, state = peers.nf4(fixture.layer().W, double=True)
    yield "double.codes", state.absmax
    yield "double.absmax", state.state2.absmax
    yield "double.mean", state.offset
    yield "double.map", state.state2.code


def some_rows():
    """Inputs and weights for int8."""
    layer = fixture.layer()
    return layer.X_held_out[:TOKENS], layer.W[:OUTPUTS]


def in_half(*tensors):
    """As float16 holds them: bitsandbytes casts to it first."""
    return [A.half().float() for A in tensors]


def int8():
    """bitsandbytes' codes of rows, and LLM.int8() with outlier columns from codes."""
    X, W = some_rows()
    for name, A, threshold in (("X", X, THRESHOLD), ("W", W, 0.0)):
        codes, absmax, columns = peers.int8_rows(A.clone(), threshold)
        yield f"int8.{name}", codes
        yield f"int8.{name}_absmax", absmax
        if columns is not None:
            yield "int8.outliers", columns.to(torch.int16)
    yield "int8.Y", peers.int8_linear(*in_half(X, W), THRESHOLD)


def main():
    """Ask them all, and write the file."""
    torch.set_num_threads(1)
    made = {name: t for part in (gptq, awq, nf4, int8) for name, t in part()}
    made = {name: t.detach().contiguous().clone() for name, t in made.items()}
    made_by = {**peers.versions(), "script": "tests/golden/make.py"}
    save_file(made, FILE, metadata=made_by)
    print(f"{FILE.name}: {len(made)} tensors, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
