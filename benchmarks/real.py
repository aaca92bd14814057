"""What does a real model lose? SmolLM2-135M by every width, method and format.

    python benchmarks/real.py                  # the rows that the table does not have
    python benchmarks/real.py --rows '^4 '     # of these, those whose key fits
    python benchmarks/real.py --quick          # three rows, in five minutes
    python benchmarks/real.py --list           # all keys; which are missing, or old
    python benchmarks/real.py --anew           # also the rows of older code
    python benchmarks/real.py --text my.txt    # another second text; a table of its own

A row is a version of SmolLM2-135M-Instruct, measured on two texts and by the exam of
`minquant/measure/exam.py`. `mq.measured()` reads the table, and real_summary.py says
what it shows.

    own       test documents that the model wrote itself (data/smollm2/sampled.txt)
    topics    test documents of Python's own help (`pydoc_data.topics`), which differs
              from one version of Python to the next: the row says which
    exam      right or wrong, and the log-probability of the right answer

On each text a row has the loss and KL from the float model in nats per token, the KL
that one token in a thousand exceeds, and how often the first choice flips.

Each row is saved when it is done, whole or not at all, so the script can be stopped and
goes on later. When the model's file or the texts change, all rows are thrown away. When
the code behind a row changes, --list says so, and --anew makes it again: code that only
one family of rows needs, such as GPTQ, counts for that family. A row takes three to
five minutes on two cores.

The same for all: zero-point rulers with fp16 scales, in whole rows or in groups of 64;
and the same calibration text. GPTQ is act-order with 10 % damping. "clip" is the search
for the least squared error of the weights ("mse"), the same for RTN, GPTQ and AWQ;
"output clip" is AWQ's own search, and RTN with the same. AWQ's scales are folded.
SmolLM2's file holds weights that were rounded to Q4_1 before: the row "Q4_1" should
lose nothing.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import os
import platform
import pydoc_data.topics
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamped

from minquant import almanac
from minquant.files.gguf_blocks import TYPES, dequantize_blocks, quantize_blocks
from minquant.measure.exam import exam
from minquant.methods import awq, catalog
from minquant.methods.gptq import quantize_gptq
from minquant.methods.llm_int8 import INT8
from minquant.methods.rtn import fake_quantize, quantize_rtn
from minquant.methods.smoothquant import quantize_smooth_shared
from minquant.models import load as load_model
from minquant.models.folds import fold_
from minquant.models.kv_cache import Rounding, cache_size, rounding
from minquant.models.linear_layers import linear_layers, size, weight_of
from minquant.models.packed_model import int8_
from minquant.models.quantize import quantize
from minquant.models.text import calibration_batches, documents_from, encode
from minquant.numerics.grids import signed, symmetric_full, zero_point
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, Granularity, per_group

SAMPLED = stamped.ROOT / "data/smollm2/sampled.txt"
MEASURED = stamped.ROOT / "data/smollm2/measured.json"
CACHE = stamped.ROOT / "benchmarks/.cache"  # ignored by git: can be deleted
WORDS = 150  # of a document, at least
OWN = 48  # test documents that the model wrote: 10 thousand tokens
CALIBRATION = 40  # documents
BATCH = 2048  # tokens that are read together
TAIL = 0.999  # this share of tokens has a smaller KL
WIDTHS = (8, 6, 5, 4, 3, 2)
GROUPS = {"row": PER_CHANNEL, "64": per_group(64)}
METHODS = ("rtn", "rtn clip", "gptq", "gptq clip", "awq clip")
SETTINGS = {  # what is changed in one setting alone, and at which widths
    "rtn output clip": (4, 3),
    "awq output clip": (4, 3),
    "gptq in order": (4,),
    "gptq damping 1 %": (4,),
}
SYMMETRIC = (8, 5, 4, 3)  # widths in symmetric groups of 32
BLOCKS = ("Q8_0", "Q5_0", "Q4_1", "Q4_0")
BUDGETS = (4.5, 4.25)  # bits per weight, for formats
THRESHOLDS = (2, 6, 10, 20)
ALPHAS = (0.5, 0.8)  # SmoothQuant's
CACHE_BITS = (8, 4, 3, 2)
QUICK = ("float", "4 rtn, 64", "Q4_0")
Version = tuple[nn.Module, float, float | None]  # true bits, error of the weights


# --- the rows ---


def method_of(name: str, options: dict[str, Any]) -> Callable:
    """A method by its name in the keys, for `models.quantize`."""
    return {
        "rtn": partial(quantize_rtn, **options),
        "rtn clip": partial(quantize_rtn, clip="mse", **options),
        "rtn output clip": partial(awq.quantize_awq_shared, ratios=(0.0,), **options),
        "gptq": partial(quantize_gptq, act_order=True, damping=0.1, **options),
        "gptq in order": partial(quantize_gptq, damping=0.1, **options),
        "gptq damping 1 %": partial(
            quantize_gptq, act_order=True, damping=0.01, **options
        ),
        "gptq clip": partial(
            quantize_gptq, act_order=True, damping=0.1, clip="mse", **options
        ),
        "awq clip": partial(awq.quantize_awq_shared, clip="mse", **options),
        "awq output clip": partial(awq.quantize_awq_shared, **options),
    }[name]


def weights_by(method: str, options: dict[str, Any]) -> Callable[[], Version]:
    """A version with rounded weights, whose input scales, if any, are folded."""

    def make() -> Version:
        s = subject()
        function = method_of(method, options)
        calibration = None if method in ("rtn", "rtn clip") else s.calibration
        twin, report = quantize(
            s.model, function, calibration=calibration, progress=False
        )
        error = weight_error(
            {name: q.dequantize(torch.float32) for name, q in report.items()}
        )
        if any(q.input_scales is not None for q in report.values()):
            report = fold_(twin, report).report
        return twin, size(twin, report).bits_per_weight, error

    return make


def in_blocks(name: str) -> Callable[[], Version]:
    """A version whose matrices are what blocks of llama.cpp stand for."""

    def make() -> Version:
        twin = copy.deepcopy(subject().model)
        for layer in linear_layers(twin).values():
            W = weight_of(layer)
            W.copy_(dequantize_blocks(quantize_blocks(W, name), name))
        now = {n: weight_of(layer) for n, layer in linear_layers(twin).items()}
        return twin, TYPES[name].bits_per_weight, weight_error(now)

    return make


def in_format(form: catalog.Format) -> Callable[[], Version]:
    """A version in a format of the catalog, rounded to nearest."""

    def make() -> Version:
        twin, report = quantize(
            subject().model, lambda W: form.quantize(W), progress=False
        )
        now = {name: q.dequantize(torch.float32) for name, q in report.items()}
        return twin, size(twin, report).bits_per_weight, weight_error(now)

    return make


def weight_error(now: dict[str, Tensor]) -> float:
    """Σ (W_hat − W)² / Σ W² over all matrices."""
    error = power = 0.0
    for name, layer in linear_layers(subject().model).items():
        W = weight_of(layer)
        error += (now[name] - W).double().square().sum().item()
        power += W.double().square().sum().item()
    return error / power


@contextmanager
def rounding_inputs(
    model: nn.Module, granularity: Granularity, scales: dict[str, Tensor]
) -> Iterator[None]:
    """While this lasts, what flows into each linear layer is divided by its scales, if
    any, and rounded to 8 bits. With rounded weights it computes what `w8a8` does, which
    would round them in every call anew."""

    def hook(name: str, _: nn.Module, given: tuple) -> Tensor:
        """Torch calls this before a layer's forward."""
        X = given[0].flatten(0, -2)  # (batch, time, in) -> (n, in)
        X = X / scales[name].to(X) if name in scales else X
        options = {"granularity": granularity, "scale_dtype": torch.float32}
        return fake_quantize(X, INT8, **options).unflatten(0, given[0].shape[:-1])

    layers = linear_layers(model).items()
    hooks = [
        layer.register_forward_pre_hook(partial(hook, name)) for name, layer in layers
    ]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def in_int8(kind: str, threshold: float = torch.inf) -> Iterator[Version]:
    """A version that multiplies in 8-bit integers: "absmax", with a scale for all of X
    and one for all of W; or "split", with a scale per token and per row of W, and the
    columns of X that reach the threshold in floats."""
    twin = copy.deepcopy(subject().model)
    if kind == "split":
        yield int8_(twin, threshold=threshold), 8.0, None
        return
    for layer in linear_layers(twin).values():
        W = weight_of(layer)
        W.copy_(fake_quantize(W, INT8, PER_TENSOR, scale_dtype=torch.float32))
    with rounding_inputs(twin, PER_TENSOR, {}):
        yield twin, 8.0, None


@contextmanager
def smoothed(alpha: float) -> Iterator[Version]:
    """SmoothQuant, with a scale for each token."""
    s = subject()
    method = partial(quantize_smooth_shared, alpha=alpha)
    twin, report = quantize(s.model, method, calibration=s.calibration, progress=False)
    scales = {name: q.input_scales for name, q in report.items()}
    for name, layer in linear_layers(twin).items():
        W_s = replace(report[name], input_scales=None)
        weight_of(layer).copy_(W_s.dequantize(torch.float32))
    with rounding_inputs(twin, PER_CHANNEL, scales):
        yield twin, size(twin, report).bits_per_weight, None


@contextmanager
def cached(bits: int) -> Iterator[Version]:
    """A cache of few bits. Its true bits are those of a number at 800 tokens."""
    model, scheme = subject().model, Rounding(bits, bits)
    with rounding(model, scheme):
        out = model(torch.ones(1, 800, dtype=torch.long), use_cache=True)
        yield model, cache_size(out.past_key_values, scheme).bits_per_number, None


class Kind(NamedTuple):
    """How a row is made, and the modules that only its family needs."""

    make: Callable[[], Any]
    family: str = "rtn"


# Beginnings of modules that one family of rows alone rests on. All others count for
# every row.
ONLY = {
    "gptq": ("methods.gptq",),
    "awq": ("methods.awq", "models.folds", "models.feeders"),
    "int8": (
        *("methods.llm_int8", "methods.smoothquant", "models.packed_model"),
        *("layers", "kernels"),
    ),
    "cache": ("models.kv_cache",),
}


@cache
def kinds() -> dict[str, Kind]:
    """Every row by its key, in order."""
    found = {"float": Kind(lambda: (subject().model, 16.0, 0.0))}

    def add(key: str, method: str, options: dict[str, Any]) -> None:
        family = "gptq" if "gptq" in method else "rtn"
        if "awq" in method or "output" in method:
            family = "awq"
        found[key] = Kind(weights_by(method, options), family)

    for bits in WIDTHS:
        extra = [method for method, widths in SETTINGS.items() if bits in widths]
        for name, granularity in GROUPS.items():
            options = {"grid": zero_point(bits), "granularity": granularity}
            for method in (*METHODS, *extra):
                add(f"{bits} {method}, {name}", method, options)
        if bits in SYMMETRIC:
            options = {"grid": symmetric_full(bits), "granularity": per_group(32)}
            for method in ("rtn", "gptq"):
                add(f"{bits} {method}, 32 symmetric", method, options)
        if bits == 4:  # as Q4_0 has it
            options = {"grid": signed(bits), "granularity": per_group(32)}
            for method in ("rtn", "gptq"):
                add(f"{bits} {method}, 32 signed", method, options)
    for name in BLOCKS:
        found[name] = Kind(in_blocks(name))
    for budget in BUDGETS:
        for name, form in catalog.BY_NAME.items():
            try:
                fitted = form.fit(budget, width=192)  # divides 576 and 1536
            except ValueError:  # dearer, whatever its groups
                continue
            bits = "" if form.fixed else f" at {budget}"
            found[f"format {name}{bits}"] = Kind(in_format(fitted))
    found["w8a8 absmax"] = Kind(partial(in_int8, "absmax"), "int8")
    found["w8a8 vector-wise"] = Kind(partial(in_int8, "split"), "int8")
    for threshold in THRESHOLDS:
        make = partial(in_int8, "split", float(threshold))
        found[f"w8a8 LLM.int8() at {threshold}"] = Kind(make, "int8")
    for alpha in ALPHAS:
        found[f"w8a8 SmoothQuant {alpha}"] = Kind(partial(smoothed, alpha), "int8")
    for bits in CACHE_BITS:
        found[f"cache in {bits} bits"] = Kind(partial(cached, bits), "cache")
    return found


def keys() -> list[str]:
    """The keys of all rows, in order."""
    return list(kinds())


# --- what they are measured on ---


class Subject:
    """The model, its texts, and the float model's last hidden states on them."""

    def __init__(self, text: Path | None) -> None:
        self.model, self.tokenizer = load_model.load("smollm2")
        own = documents_from(SAMPLED, split="test", words=WORDS)[:OWN]
        self.texts = {"own": own, "topics": topics_of(text)}
        self.documents = {k: encode(self.tokenizer, v) for k, v in self.texts.items()}
        self.calibration = calibration_batches(
            self.tokenizer,
            documents_from(SAMPLED, split="calibration", words=WORDS)[:CALIBRATION],
        )

    @property
    def head(self) -> nn.Module:
        """The output layer, which is the same in every row."""
        return self.model.get_output_embeddings()

    def hidden(self, text: str) -> list[Tensor]:
        """What the float model gives to its output layer, document by document. Kept in
        a file, so that KL needs no second run: 60 MB."""
        marks = [model_mark(), digest("\n\n".join(self.texts[text]))]
        path = CACHE / f"float_{'_'.join(marks)}.pt"
        if not path.is_file():
            seen: list[Tensor] = []
            hook = self.head.register_forward_pre_hook(
                lambda _, given: seen.append(given[0])
            )
            found = {}
            for rows, _ in read(self.model, self.documents[text]):
                states = seen.pop()
                for place, row in enumerate(rows):
                    t = len(self.documents[text][row])
                    found[row] = states[place, : t - 1].clone()
            hook.remove()
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            torch.save([found[i] for i in range(len(found))], part)
            part.replace(path)
        return torch.load(path)


_TEXT: Path | None = None  # of the learner's own, by --text


@cache
def subject() -> Subject:
    """The subject, loaded once."""
    return Subject(_TEXT)


def topics_of(text: Path | None) -> list[str]:
    """The test documents of Python's help, or of a text file."""
    if text is None:
        topics = pydoc_data.topics.topics
        text = CACHE / f"topics_{platform.python_version()}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(
            "\n\n".join(topics[k] for k in sorted(topics)), encoding="utf-8"
        )
    return documents_from(text, split="test", words=WORDS)


def digest(text: str | bytes) -> str:
    """A hash of a text or a file."""
    data = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(data).hexdigest()[:16]


@cache
def model_mark() -> str:
    """A hash of SmolLM2's file."""
    return digest(load_model._smollm2().read_bytes())


@torch.no_grad()
def read(model: nn.Module, documents: list[Tensor]) -> Iterator[tuple]:
    """The indices of some documents of similar length, and their logits (documents,
    time, vocabulary). Padding stands on the right, where it is not seen."""
    order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    while order:
        n = max(1, BATCH // len(documents[order[0]]))
        rows, order = order[:n], order[n:]
        ids = nn.utils.rnn.pad_sequence([documents[i] for i in rows], batch_first=True)
        yield rows, model(input_ids=ids, use_cache=False).logits


@torch.no_grad()
def measured(model: nn.Module, text: str) -> dict[str, list[Tensor]]:
    """Nats, KL and flips of each token of each document."""
    s = subject()
    documents, hidden = s.documents[text], s.hidden(text)
    found = {what: [torch.empty(0)] * len(documents) for what in ("nats", "kl", "flip")}
    for rows, logits in read(model, documents):
        for place, i in enumerate(rows):
            ids = documents[i][1:, None]  # (t - 1, 1)
            q = logits[place, : len(ids)].float().log_softmax(-1)
            p = s.head(hidden[i]).float().log_softmax(-1)
            found["nats"][i] = -q.gather(1, ids)[:, 0]
            found["kl"][i] = (p.exp() * (p - q)).sum(-1)
            found["flip"][i] = (p.argmax(-1) != q.argmax(-1)).float()
    return found


def tail_of(kl: list[Tensor]) -> tuple[float, float, float]:
    """The KL that one token in a thousand exceeds, and its interval over documents."""
    values, order = torch.cat(kl).sort()
    owners = torch.arange(len(kl)).repeat_interleave(torch.tensor([len(x) for x in kl]))

    def quantile(times: Tensor) -> float:
        """If each document stands there so many times."""
        below = times[owners[order]].cumsum(0)
        return values[(below < TAIL * below[-1]).sum()].item()

    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(len(kl), (400, len(kl)), generator=generator)
    found = [quantile(draw.bincount(minlength=len(kl))) for draw in draws]
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return quantile(torch.ones(len(kl), dtype=torch.long)), low, high


def row(key: str) -> dict:
    """Quantizes as the key says, and measures: one row of the table.

    Raises ValueError if the key is not one of `keys`.
    """
    if key not in kinds():
        raise ValueError(f"key is {key!r}; choose one of {', '.join(keys())}")
    start = time.perf_counter()
    made = kinds()[key].make()
    context = nullcontext(made) if isinstance(made, tuple) else made
    with context as (model, bits, error):
        seconds_quantizing = time.perf_counter() - start
        result: dict[str, Any] = {
            "key": key,
            "code": code_of_row(key),
            "bits_per_weight": round(bits, 4),
            "weight_error": error,
        }
        for text in subject().texts:
            found = measured(model, text)
            sums = {what: [x.sum().item() for x in found[what]] for what in found}
            tokens = sum(len(x) for x in found["kl"])
            result[text] = {
                "nats": sum(sums["nats"]) / tokens,
                "kl": sum(sums["kl"]) / tokens,
                "tail": tail_of(found["kl"]),
                "flips": sum(sums["flip"]) / tokens,
                "documents": {k: [round(x, 3) for x in v] for k, v in sums.items()},
            }
        result["seconds_reading"] = round(time.perf_counter() - start, 1)
        answers = exam(model, subject().tokenizer, progress=False)
    result["exam"] = {k: score.mean for k, score in answers.groups().items()}
    result["exam_right"] = "".join(str(int(r)) for r in answers.right)
    result["exam_centinats"] = " ".join(f"{-100 * x:.0f}" for x in answers.logp)
    result["python"] = platform.python_version()
    result["seconds_quantizing"] = round(seconds_quantizing, 1)
    result["seconds"] = round(time.perf_counter() - start, 1)
    return result


_MARK = "# --- the table ---"  # code from here on makes no row of older code


# --- the table ---


@cache
def code_of_row(key: str) -> str:
    """A hash of the code behind a row: this script up to here, and modules."""
    build = stamped.stamps()
    source = Path(__file__).read_text(encoding="utf-8").partition(f"\n{_MARK}")[0]
    family = kinds()[key].family
    others = [start for f, starts in ONLY.items() if f != family for start in starts]
    modules = [
        module
        for module in build.modules_behind(source)
        if not module.startswith(tuple(others))
    ]
    code = [build.code_of(source), *build.code_in(modules)]
    return build.digest(text.encode() for text in code)


@dataclass(frozen=True)
class Table(stamped.Table):
    """The table, whose stamp is of the model's file and the texts. A row of older code
    stays until it is made anew: all of them would take a night."""

    @property
    def path(self) -> Path:
        """The file that `mq.measured()` reads; with a text of one's own, one that git
        ignores."""
        if _TEXT is None:
            return MEASURED
        return CACHE / f"rows_{digest(_TEXT.read_bytes())}.json"

    def stamp(self) -> dict[str, str]:
        """Hashes of the model's file and of the two texts."""
        return {
            "model": model_mark(),
            "text": digest(SAMPLED.read_bytes()),
            "topics": digest("\n\n".join(topics_of(_TEXT))),
        }

    def about(self) -> dict[str, Any]:
        """Fingerprints and counted tokens of the documents of each text."""
        s = subject()
        return {
            "documents": {
                text: {
                    "fingerprints": [almanac.fingerprint(t) for t in documents],
                    "tokens": [len(ids) - 1 for ids in s.documents[text]],
                }
                for text, documents in s.texts.items()
            }
        }

    def load(self) -> stamped.Rows:
        """The rows that were made with the model and the text as they are now.

        Raises ValueError if the table was made with another second text: its rows
        cannot stand beside new ones.
        """
        kept, now = self._kept(), self.stamp()
        if kept["rows"] and kept["stamp"]["topics"] != now["topics"]:
            made = kept["rows"][0]["python"]
            raise ValueError(
                f"{self.path} was made with the help of Python {made}, and this is "
                f"{platform.python_version()}; take that Python, give --text, or "
                "delete the table to make all rows anew"
            )
        if kept["stamp"] != now:
            return {}
        return {r["key"]: r for r in kept["rows"] if r["key"] in kinds()}

    def older(self) -> list[str]:
        """The keys of rows whose code has changed since."""
        return [k for k, r in self.load().items() if r["code"] != code_of_row(k)]

    def fill(self, only: str = "", anew: bool = False) -> stamped.Rows:
        """Computes the rows that are missing, and with `anew` those of older code."""
        rows = self.load()
        for key in self.older() if anew else ():
            if re.search(only, key):
                del rows[key]
                self.save(rows, self.stamp())
        return super().fill(only)


def line(result: dict) -> str:
    """A row in words."""
    own, topics = result["own"], result["topics"]
    exam_shares = "  ".join(f"{k} {v:4.0%}" for k, v in result["exam"].items())
    return (
        f"{result['key']:24}{result['bits_per_weight']:6.2f} bits  own "
        f"{own['nats']:.3f}  KL {own['kl']:.4f}  tail {own['tail'][0]:6.2f}  flips "
        f"{own['flips']:5.1%}  topics {topics['nats']:.3f}  {exam_shares}  "
        f"{result['seconds_quantizing']:.0f} of {result['seconds']:.0f} s"
    )


TABLE = Table(Path(__file__), keys, row, line)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    global _TEXT
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", help="a regular expression for keys")
    parser.add_argument("--quick", action="store_true", help=", ".join(QUICK))
    parser.add_argument("--list", action="store_true", help="keys, and what is missing")
    parser.add_argument("--text", type=Path, help="a text file of yours, for topics")
    parser.add_argument("--anew", action="store_true", help="also rows of older code")
    given = parser.parse_args(arguments)
    _TEXT = given.text
    if given.list:
        done, older = TABLE.load(), TABLE.older()
        for key in keys():
            state = "older code" if key in older else "" if key in done else "missing"
            print(f"{key:30}{state}".rstrip())
        return
    pattern = f"^({'|'.join(map(re.escape, QUICK))})$" if given.quick else given.rows
    start = time.perf_counter()
    rows = TABLE.fill(pattern, given.anew)
    minutes, load = (time.perf_counter() - start) / 60, os.getloadavg()[0]
    print(
        f"\n{minutes:.1f} minutes; load {load:.1f}; {len(keys()) - len(rows)} missing"
    )


if __name__ == "__main__":
    main()
