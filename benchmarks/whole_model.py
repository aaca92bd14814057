"""GPTQ of a whole model: ours beside llm-compressor's, and AWQ beside GPTQ.

    make peers PEER=whole_model              # sets the peers up, and runs this
    make peers PEER=whole_model ON=--quick   # four layers and a tenth of the text
    python benchmarks/whole_model.py [--quick] [--times 3] [--threads 1]

SmolLM2-135M-Instruct in float32, 4 bits with a zero per row, scales in float32, the
same batches of text: data/smollm2/sampled.txt, which the model wrote itself. GPTQ is
act-order with 10 % damping. Theirs is `oneshot` with a GPTQModifier. It runs each
decoder layer twice, and takes all inputs of a layer before it quantizes any matrix of
it. Ours runs once, and each matrix sees the errors of all before it.

The ways take turns in one process, and the median of some rounds counts; on one thread
that is processor time, so that other work on the machine matters little, on more it is
the clock's. Copying the model is not counted. KL from the float model is in nats per
token, on documents of the test split, of both in the same float layers.

Where our time goes is measured in the last round: `solve` is what the method itself
takes; `forward` is one pass of the text through the model, without anything else; the
rest is H, and checks.

Exits with 1 if GPTQ takes more than 0.75 of llm-compressor's time, or leaves a larger
KL, or if AWQ takes more than twice GPTQ's time.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/golden")]
import peers

from benchmarks.targets import Table
from minquant.measure.evaluate import kl_and_flips
from minquant.methods.awq import quantize_awq_shared
from minquant.methods.gptq import quantize_gptq
from minquant.models.calibrate import run_body
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.load import load
from minquant.models.quantize import quantize_
from minquant.models.text import calibration_batches, documents_from
from minquant.numerics.grids import zero_point

SAMPLED = ROOT / "data/smollm2/sampled.txt"
WORDS = 150  # of a document, at least
CALIBRATION, TEST = 40, 48  # documents
QUICK_LAYERS, QUICK_CALIBRATION, QUICK_TEST = 4, 4, 2
DAMPING = 0.1
SHARE = 0.75  # of llm-compressor's time
AWQ = 2.0  # of GPTQ's time
FP32_ROWS = {"grid": zero_point(4), "scale_dtype": torch.float32}


def ours(model: nn.Module, tokenizer: Any, batches: list[Tensor]) -> float:
    """Our GPTQ, in place; the seconds in the method itself."""
    clock, solving = clock_of(), 0.0

    def gptq(W: Tensor, H: Tensor) -> Any:
        """Quantizes a matrix, and takes the time."""
        nonlocal solving
        start = clock()
        quantized = quantize_gptq(W, H, act_order=True, damping=DAMPING, **FP32_ROWS)
        solving += clock() - start
        return quantized

    quantize_(model, gptq, calibration=batches, progress=False)
    return solving


def theirs(model: nn.Module, tokenizer: Any, batches: list[Tensor]) -> None:
    """llm-compressor's GPTQ, in place."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from loguru import logger
    from torch.utils.data import DataLoader

    logger.disable("llmcompressor")  # it tells of each matrix
    weights = QuantizationArgs(num_bits=4, symmetric=False, strategy="channel")
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    recipe = GPTQModifier(
        config_groups={"group_0": scheme},
        ignore=["lm_head"],
        dampening_frac=DAMPING,
        actorder="static",
    )
    text = DataLoader([{"input_ids": ids} for ids in batches], batch_size=None)
    ways = {"recipe": recipe, "pipeline": "sequential"}
    with tempfile.TemporaryDirectory() as folder:  # it looks for a config on disk
        model.config.save_pretrained(folder)
        model.config.name_or_path = folder
        oneshot(model=model, processor=tokenizer, dataset=text, **ways)


def awq(model: nn.Module, tokenizer: Any, batches: list[Tensor]) -> None:
    """Our AWQ, in place."""
    method = partial(quantize_awq_shared, **FP32_ROWS)
    quantize_(model, method, calibration=batches, progress=False)


def clock_of() -> Callable[[], float]:
    """Processor time on one thread, else the clock's."""
    one = torch.get_num_threads() == 1
    return time.process_time if one else time.perf_counter


def seconds(run: Callable[[], object]) -> tuple[float, object]:
    """How long it takes, and what it returns."""
    clock = clock_of()
    start = clock()
    made = run()
    return clock() - start, made


def first_layers(model: nn.Module, layers: int) -> None:
    """Leave out all decoder layers after so many."""
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers


def with_weights_of(model: nn.Module, quantized: nn.Module) -> nn.Module:
    """A copy of the float model with the matrices of another, whose layers may do more
    than multiply."""
    twin = copy.deepcopy(model)
    for name, layer in linear_layers(twin).items():
        weight_of(layer).copy_(quantized.get_submodule(name).weight)
    return twin


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="does it run?")
    parser.add_argument("--times", type=int, help="rounds; 3, and 1 with --quick")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    quick, times = options.quick, options.times or (1 if options.quick else 3)
    torch.set_num_threads(options.threads)
    model, tokenizer = load("smollm2")
    calibration, test = (
        documents_from(SAMPLED, split=split, words=WORDS)
        for split in ("calibration", "test")
    )
    if quick:
        first_layers(model, QUICK_LAYERS)
    calibration = calibration[: QUICK_CALIBRATION if quick else CALIBRATION]
    test = test[: QUICK_TEST if quick else TEST]
    batches = calibration_batches(tokenizer, calibration)
    ways = {"GPTQ": ours, "AWQ": awq}
    if peers.ready("llmcompressor"):
        ways["llm-compressor"] = theirs
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(times):
        made = {}
        for way, run in ways.items():
            twin = copy.deepcopy(model)
            spent, result = seconds(partial(run, twin, tokenizer, batches))
            took[way].append(spent)
            made[way] = twin
            if run is ours:
                solving, whole = result, spent
    with torch.no_grad():
        forward, _ = seconds(partial(run_body, model, batches))

    table = Table()
    versions = ", ".join(f"{name} {v}" for name, v in peers.versions().items())
    matrices, tokens = len(linear_layers(model)), sum(map(Tensor.numel, batches))
    print(f"{matrices} matrices, {tokens} tokens, {options.threads} thread(s)")
    print(f"median of {times}; load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    print(versions)
    median = {way: statistics.median(rounds) for way, rounds in took.items()}

    def row(name: str, value: str, target: str = "", met: bool = True) -> None:
        """A row; a quick run has no targets."""
        table.row(name, value, "" if quick else target, met)

    table.head("seconds")
    for way, s in median.items():
        row(way, f"{s:.1f}  ({', '.join(f'{s:.1f}' for s in took[way])})")
    ratio = median["AWQ"] / median["GPTQ"]
    row("AWQ / GPTQ", f"{ratio:.2f}", f"<= {AWQ}", ratio <= AWQ)
    if "llm-compressor" in median:
        ratio = median["GPTQ"] / median["llm-compressor"]
        row("GPTQ / llm-compressor", f"{ratio:.2f}", f"<= {SHARE}", ratio <= SHARE)
    table.head("where our GPTQ's time goes")
    row("solve", f"{solving / whole:.0%}")
    row("forward", f"{forward / whole:.0%}")
    row("H and checks", f"{1 - (solving + forward) / whole:.0%}")
    table.head("KL from the float model, nats per token")
    kl = {}
    for way in [way for way in ways if way != "AWQ"]:
        twin = with_weights_of(model, made.pop(way))
        kl[way] = kl_and_flips(model, twin, tokenizer, test, progress=False)
    most = kl.get("llm-compressor", kl["GPTQ"]).kl
    row("GPTQ", repr(kl["GPTQ"]), "<= theirs", kl["GPTQ"].kl <= most)
    if "llm-compressor" in kl:
        row("llm-compressor", repr(kl["llm-compressor"]))
    return table.verdict() if not quick else 0


if __name__ == "__main__":
    sys.exit(main())
