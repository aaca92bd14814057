"""SmolLM2 in llama.cpp and in torch: tokens a second, and why fewer bits are faster.

    python benchmarks/engine.py [--repeat 5] [--only speed|damage] [--save]

**Speed.** The model is written as F16, Q8_0, Q4_1 and Q4_0 by our own code and run by
llama.cpp on two threads; beside it transformers in fp32 and bf16, and packed layers of
ours. For each token of an answer all weights are read once, so bytes are what counts.
The last columns say how many are read for a token, and what share of this machine's
memory bandwidth (measured here, by reading) that takes. Ways run in turn, `--repeat`
times; medians are shown, and the ratio to llama.cpp's F16. `--save` keeps all times,
with the machine, the versions and the command, in data/smollm2/engine.json, from which
lesson 10 draws. Save on a machine that does nothing else: about six minutes on two
cores for five repeats.

**Damage.** Two files of the same type and size, Q4_0: one rounded as llama.cpp does it,
one with the codes of our GPTQ (symmetric_full in groups of 32, act-order, 10 % damping;
calibrated on other documents of the same text). Both are run by llama.cpp, and compared
with the float model in transformers: KL in nats per token, with 95 % intervals over
documents. The text is that of Python's own help (`pydoc_data.topics`), so it differs
a little from one Python to the next; exits with 1 if GPTQ leaves more than 0.55 of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pydoc_data.topics
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from helpers.llama_cpp import Engine

import minquant as mq
from benchmarks.stamped import write_table
from minquant.course.packing.machine import this_machine
from minquant.measure.evaluate import kl_divergence
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.text import continue_greedily
from minquant.planning.roofline import Machine
from minquant.serving.gguf_export import write_gguf

THREADS = 2
PROMPT, ANSWER = 256, 64  # tokens read at once, and written one by one
TYPES = ("F16", "Q8_0", "Q4_1", "Q4_0")
SAVED = ROOT / "data/smollm2/engine.json"
MOST = 0.55  # of llama.cpp's own KL
CALIBRATE, TEST, LENGTH = 32, 16, 256  # documents, and tokens of each
Seconds = tuple[float, float]  # for the prompt, and for the answer


def documents(tokenizer: object) -> list[list[int]]:
    """Pieces of LENGTH tokens of Python's help, the same in every run."""
    text = "\n".join(
        pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics)
    )
    ids = tokenizer(text, verbose=False)["input_ids"]
    return [ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, LENGTH)]


# --- speed ---


def in_llama_cpp(path: Path, prompt: str) -> Callable[[], Seconds]:
    """Seconds by the engine's own clock."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx = str(path), 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.verbosity = 0
    server = xllamacpp.Server(params)

    def run() -> Seconds:
        """One prompt, one answer."""
        asked = {"prompt": prompt, "n_predict": ANSWER, "temperature": 0}
        asked |= {"cache_prompt": False, "ignore_eos": True}
        answer = server.handle_completions(asked)
        answer = json.loads(answer) if isinstance(answer, str) else answer
        told = answer["timings"]
        return (
            PROMPT / told["prompt_per_second"],
            ANSWER / told["predicted_per_second"],
        )

    return run


def in_torch(model: nn.Module, ids: list[int]) -> Callable[[], Seconds]:
    """Seconds of a prompt alone, and of the tokens after it."""
    given = torch.tensor([ids[:PROMPT]])

    def run() -> Seconds:
        """One prompt, one answer."""
        start = time.perf_counter()
        continue_greedily(model, given, 1)
        middle = time.perf_counter()
        continue_greedily(model, given, 1 + ANSWER)
        return middle - start, (time.perf_counter() - middle) - (middle - start)

    return run


def read_per_token(model: nn.Module) -> int:
    """Bytes of parameters and buffers that a token needs: all, with the embedding once
    if it serves as output too."""
    seen: dict[int, int] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        seen[tensor.data_ptr()] = tensor.nbytes
    return sum(seen.values())


def speed(repeat: int, folder: Path, save: bool) -> None:
    """The table of speeds, and its file."""
    torch.set_num_threads(THREADS)
    model, tokenizer = mq.load("smollm2")
    ids = documents(tokenizer)[0]
    prompt = tokenizer.decode(ids[:PROMPT])
    ways: dict[str, tuple[Callable[[], Seconds], int]] = {}
    for kind in TYPES:
        path = folder / f"{kind}.gguf"
        write_gguf(model, {}, tokenizer, path, floats=kind)
        ways[f"llama.cpp {kind}"] = in_llama_cpp(path, prompt), path.stat().st_size
    ways["transformers fp32"] = in_torch(model, ids), read_per_token(model)
    half, _ = mq.load("smollm2", dtype=torch.bfloat16)
    ways["transformers bf16"] = in_torch(half, ids), read_per_token(half)
    grid = {"grid": mq.symmetric_full(4), "granularity": mq.per_group(32)}
    small, report = mq.quantize(model, partial(mq.quantize_rtn, **grid), progress=False)
    packed = mq.pack_(small, report)
    ways["minquant 4 bits"] = in_torch(packed, ids), read_per_token(packed)
    small, report = mq.quantize(half, partial(mq.quantize_rtn, **grid), progress=False)
    packed = mq.pack_(small, report, layout="words")  # for torch's kernel, see cpu_int4
    ways["minquant 4 bits, bf16"] = in_torch(packed, ids), read_per_token(packed)
    machine = this_machine()
    took: dict[str, list[Seconds]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, (run, _) in ways.items():
            took[name].append(run())
    rows = [
        {"key": name, "bytes": nbytes, "prompt_s": prompts, "answer_s": answers}
        for name, (_, nbytes) in ways.items()
        for prompts, answers in [zip(*took[name], strict=True)]
    ]
    if save:
        layers = sum(weight_of(m).numel() for m in linear_layers(model).values())
        output = model.get_output_embeddings().weight.numel()
        write(rows, machine, {"layers": layers, "output": output})
    base = statistics.median(s for _, s in took["llama.cpp F16"])
    print(
        f"{platform.machine()}, {THREADS} threads, load {os.getloadavg()[0]:.2f}; "
        f"memory is read at {machine.bandwidth / 1e9:.1f} GB/s; medians of {repeat}"
    )
    print(
        f"{'':20}{'prompt t/s':>12}{'answer t/s':>12}{'ratio':>8}{'MB/token':>10}"
        f"{'of bandwidth':>14}"
    )
    for name, (_, nbytes) in ways.items():
        reading, writing = (statistics.median(s) for s in zip(*took[name], strict=True))
        rate = ANSWER / writing
        print(
            f"{name:20}{PROMPT / reading:12.0f}{rate:12.1f}{base / writing:8.2f}"
            f"{nbytes / 1e6:10.0f}{nbytes * rate / machine.bandwidth:14.0%}"
        )


def write(rows: list[dict], machine: Machine, weights: dict[str, int]) -> None:
    """The file of the table: complete, or not at all."""
    packages = ("torch", "transformers", "xllamacpp")
    about = {
        "command": "python benchmarks/engine.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {os.cpu_count()} cores, {THREADS} threads",
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in packages},
        "bandwidth": machine.bandwidth,
        "peak": {"fp32": machine.peak, **machine.narrow},
        "weights": weights,
        "prompt": PROMPT,
        "answer": ANSWER,
    }
    write_table(SAVED, about, rows)


def processor() -> str:
    """The name of the processor, where the system tells it."""
    told = Path("/proc/cpuinfo")
    text = told.read_text(encoding="utf-8") if told.exists() else ""
    names = re.findall(r"model name\s*: (.*)", text)
    return names[0] if names else platform.machine()


# --- damage ---


def kl(path: Path, model: nn.Module, texts: list[list[int]]) -> list[float]:
    """Mean KL of each document, from the float model to the engine's file."""
    engine, found = Engine(path), []
    for ids in texts:
        with torch.no_grad():
            p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        q = engine.logits(ids).log_softmax(-1)
        found.append(kl_divergence(p, q).mean().item())
    engine.close()
    return found


def damage(folder: Path) -> bool:
    """The table of damages; whether GPTQ's is small enough."""
    torch.set_num_threads(THREADS)
    model, tokenizer = mq.load("smollm2")
    pieces = documents(tokenizer)
    test, calibrate = pieces[:TEST], pieces[TEST : TEST + CALIBRATE]
    batches = [torch.tensor(calibrate[i : i + 8]) for i in range(0, CALIBRATE, 8)]
    write_gguf(model, {}, tokenizer, folder / "theirs.gguf", floats="Q4_0")
    grid = {"grid": mq.symmetric_full(4), "granularity": mq.per_group(32)}
    gptq = partial(mq.quantize_gptq, **grid, act_order=True, damping=0.1)
    small, report = mq.quantize(model, gptq, calibration=batches)
    write_gguf(small, report, tokenizer, folder / "ours.gguf")
    rows = {
        "llama.cpp's Q4_0": kl(folder / "theirs.gguf", model, test),
        "GPTQ as Q4_0": kl(folder / "ours.gguf", model, test),
    }
    for name, values in rows.items():
        low, high = mq.bootstrap(torch.tensor(values))
        mean = statistics.mean(values)
        print(f"{name:20} KL {mean:.4f} [{low:.4f}, {high:.4f}] nats per token")
    theirs, ours = (torch.tensor(values) for values in rows.values())
    low, high = mq.bootstrap(ours, theirs)  # in pairs: the same documents
    share = (ours.mean() / theirs.mean()).item()
    print(f"GPTQ leaves {share:.2f} [{low:.2f}, {high:.2f}] of it; allowed {MOST}")
    return share <= MOST


def main() -> int:
    """Both tables; 1 if the second misses its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "damage"])
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as place:
        if given.only != "damage":
            speed(given.repeat, Path(place), given.save)
        if given.only != "speed":
            good = damage(Path(place))
    return not good


if __name__ == "__main__":
    sys.exit(main())
