"""From a model to a smaller one that other programs run, in one call.

    compress("folder/of/a/model", out="small")                      # for vLLM
    compress("smollm2", out="small", format="gguf", text="my.txt")  # for llama.cpp

The command `python -m minquant` is the same function. What it does:

    1. ask whether the result can be written        `export.check_export`
    2. find text, half of it to calibrate on, the other half to judge by
    3. quantize, by a recipe without traps
    4. write it, read it back, and compare that with the original, on the other half
    5. add a page that says what was done and what that cost: `card`

The recipe: `symmetric_full`, and for GGUF `signed`, which errs less and which
compressed-tensors has no word for. GPTQ rounds the columns with the largest inputs
first. It is done once for each of DAMPINGS, and a quarter of the calibration text, held
out for that, says which moved the model's predictions least. (Errors of layers do not
say it: on both models of the course their favourite was the worse one.) AWQ's scales
are folded into the layers before.

The fingerprint of a document decides which half it belongs to. Documents of the test
split always judge, those of the calibration split never do. Without text the model
writes some itself, except for the bundled model, which has its almanac. A model's own
text shows how far its predictions move on what it expects to read. It does not show
what is lost on other text.

All work is done in a folder beside `out`, which gets its name at the very end. What is
finished stays there (`models.report_folder`): after Ctrl-C, or when the machine went
away, `resume=True` goes on, and ends with the same bytes.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from minquant import almanac
from minquant.measure.evaluate import both, compare, kl_and_flips
from minquant.measure.intervals import wilson
from minquant.methods.awq import quantize_awq_shared
from minquant.methods.gptq import quantize_gptq
from minquant.methods.rtn import quantize_rtn
from minquant.models.feeders import feeders
from minquant.models.folds import fold_
from minquant.models.linear_layers import (
    Report,
    linear_layers,
    size,
    weight_of,
)
from minquant.models.load import load
from minquant.models.packed_folder import load_exported_
from minquant.models.packed_model import unpack_
from minquant.models.quantize import quantize
from minquant.models.report_folder import ReportFolder, read_json, write_whole
from minquant.models.text import (
    calibration_batches,
    documents_from,
    encode,
    sample,
    text_of,
)
from minquant.numerics.grids import IntegerGrid, signed, symmetric_full
from minquant.numerics.groups import per_group
from minquant.planning.choice import Harm
from minquant.serving.card import card
from minquant.serving.export import check_export, export

METHODS = {"gptq": quantize_gptq, "awq": quantize_awq_shared, "rtn": quantize_rtn}
DAMPINGS = (0.01, 0.1)  # GPTQ's, to choose from
GROUP_SIZES = (128, 64, 32)  # what vLLM reads
CALIBRATE, JUDGE = 64, 40  # documents at most
WRITTEN, LENGTH = 32, 256  # texts that a model writes itself, and their tokens

Format = Literal["compressed-tensors", "gguf"]
_RUN = {
    "gguf": "`llama-cli -m model.gguf`",
    "compressed-tensors": "`vllm serve` with this folder, or "
    "`AutoModelForCausalLM.from_pretrained` where compressed-tensors is installed",
}
_THE_REST = {
    "gguf": "embeddings and output in 8 bits (Q8_0)",
    "compressed-tensors": "all else in 16 bits",
}
_METHOD = {
    "gptq": "GPTQ, the columns with the largest inputs first (act-order)",
    "awq": "AWQ, its scales folded into the layers before",
    "rtn": "RTN: round to nearest",
}
_ON_THE_HUB = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_NOT_MEASURED = (
    "what it knows and can do: facts, sums, code, other languages",
    "long texts",
    "speed",
)


@dataclass(frozen=True)
class Compressed:
    """The new folder; the page in it; and how much worse the model is, by measure."""

    folder: Path
    card: str
    harms: dict[str, Harm]


def compress(
    model: str | Path,
    *,
    out: str | Path,
    method: str = "gptq",
    bits: int = 4,
    group_size: int | None = None,
    text: str | Path | Sequence[str] | None = None,
    format: Format = "compressed-tensors",
    damping: float | None = None,
    dtype: torch.dtype = torch.float16,
    resume: bool = False,
    progress: bool = True,
) -> Compressed:
    """Quantize a model, compare it with the original, and write it to a new folder.

    model: as for `load`. out: the folder. method: "gptq", "awq" or "rtn". bits: 4 or 8
    for compressed-tensors, 2 to 8 for GGUF. group_size: how many weights share a scale;
    None is 32 for GGUF, and else the largest of 128, 64 and 32 that divides all rows.
    text: a UTF-8 text file of some pages, or a list of documents; None is text that the
    model writes itself. damping: of GPTQ; None chooses. dtype: of the scales and of all
    that is not quantized, in compressed-tensors. resume: go on with an interrupted call
    of the same arguments.

    Raises ValueError, before anything is quantized, if the result could not be written,
    if out exists, if there is too little text, or if the interrupted call had another
    model or other arguments.
    """
    out = Path(out).absolute()
    work = out.with_name(f".{out.name}-partial")
    _check_arguments(method, damping, format, dtype)
    _check_folders(out, work, resume)
    original, tokenizer = load(model)
    g = _group_size(original, format) if group_size is None else group_size
    _check_writable(original, tokenizer, bits, g, format, dtype)
    if method == "awq":
        _check_foldable(original)
    documents, source = _documents(str(model), text)
    if documents is not None:  # will they do? Asked before a folder is made
        for half in _halves(documents, source):
            encode(tokenizer, half)
    settings = {"method": method, "bits": bits, "group_size": g, "format": format}
    settings |= {"damping": damping, "dtype": str(dtype), "text": _hash(documents)}
    dampings = DAMPINGS if method == "gptq" and damping is None else (damping,)
    reports = [
        ReportFolder(work / f"layers-{i}", original, {**settings, "tried": d})
        for i, d in enumerate(dampings)
    ]
    if documents is None:
        write = partial(sample, original, tokenizer, WRITTEN, LENGTH, progress=progress)
        documents = _kept(work / "written.json", write)
    to_calibrate, to_judge = _halves(documents, source)
    quarter = len(to_calibrate) // 4 if len(dampings) > 1 else 0
    to_choose, to_calibrate = to_calibrate[:quarter], to_calibrate[quarter:]
    batches = None if method == "rtn" else _batches(original, tokenizer, to_calibrate)

    ruler = {"grid": _grid(bits, format), "granularity": per_group(g)}
    function = partial(METHODS[method], **ruler, scale_dtype=dtype)
    candidates = []
    for i, (d, report) in enumerate(zip(dampings, reports, strict=True)):
        options = {"act_order": True, "damping": d} if method == "gptq" else {}
        with redirect_stdout(sys.stderr):  # the page alone is the command's output
            small, layers = quantize(
                original,
                partial(function, **options),
                calibration=batches,
                report=report,
                progress=progress,
            )
        measure = partial(_kl, original, small, tokenizer, to_choose, progress)
        kl = _kept(work / f"kl-{i}.json", measure) if to_choose else 0.0
        candidates.append((kl, d, small, layers))
    _, damping, small, layers = min(candidates, key=itemgetter(0))
    if method == "awq":
        layers = _folded(small, layers)

    quantized, whole = size(small, layers), size(original)
    finished = work / "out"
    shutil.rmtree(finished, ignore_errors=True)  # of a call that was interrupted here
    export(small, layers, tokenizer, finished, format=format, dtype=dtype)
    written = _read_back_(small, finished, format)
    judge = partial(_judge, original, written, tokenizer, to_judge, progress)
    judged = _kept(work / "judged.json", judge)
    harms = {measure: Harm(*numbers) for measure, numbers in judged["harms"].items()}

    recipe = {"method": _METHOD[method]}
    if to_choose:
        recipe["damping"] = (
            f"{damping}, of {' and '.join(map(str, dampings))} the one with less KL on "
            f"{len(to_choose)} more documents {source}"
        )
    elif method == "gptq":
        recipe["damping"] = f"{damping}, as asked for"
    if batches is not None:
        tokens = sum(ids.numel() for ids in batches)
        recipe["calibrated on"] = _count(to_calibrate, source, tokens)
    recipe |= {
        "codes": f"{bits} bits in groups of {g}, for {quantized.layers} matrices; "
        f"{quantized.bits_per_weight:.2f} bits per weight, scales included; "
        + _THE_REST[format],
        "size": f"{_megabytes(finished):.1f} MB; the original takes "
        f"{whole.total / 1e6:.1f} MB at 16 bits",
        "perplexity": "{:.2f}; the original has {:.2f}".format(*judged["perplexity"]),
        "run it": _RUN[format],
    }
    of_its_own = ["any text but its own"] if source == _ITS_OWN else []
    page = card(
        f"{Path(model).name}, {bits} bits",
        _base_model(model),
        recipe,
        harms,
        {},
        dict.fromkeys(harms, _count(to_judge, source, judged["tokens"])),
        [*of_its_own, *_NOT_MEASURED],
    )
    (finished / "README.md").write_text(page, encoding="utf-8")
    finished.rename(out)
    shutil.rmtree(work)
    return Compressed(out, page, harms)


# --- can it be done? ---


def _check_arguments(
    method: str, damping: float | None, format: str, dtype: torch.dtype
) -> None:
    """Raises ValueError for what can be seen before the model is loaded."""
    if method == "nf4":
        raise ValueError(
            "method is 'nf4', whose codes neither format stores; choose gptq, awq or "
            "rtn, or run NF4 in this package: mq.quantize, then mq.pack_"
        )
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose {', '.join(METHODS)}")
    if damping is not None and method != "gptq":
        raise ValueError(f"damping is {damping}, but {method} has none; leave it out")
    if damping is not None and not damping >= 0:
        raise ValueError(f"damping is {damping}; choose 0 or more, often 0.1")
    if format == "gguf" and dtype != torch.float16:
        raise ValueError(f"dtype is {dtype}, but GGUF's scales are float16")


def _check_folders(out: Path, work: Path, resume: bool) -> None:
    """Raises ValueError if there is a folder where a new one is to be."""
    if out.exists():
        raise ValueError(f"out {out} exists; give the name of a new folder")
    if work.exists() and not resume:
        raise ValueError(
            f"out {out} was begun before, and is unfinished in {work}; go on with "
            "resume=True (--resume), or delete that folder"
        )


def _group_size(model: nn.Module, format: str) -> int:
    """The group size where none is given."""
    if format == "gguf":
        return 32  # larger groups would be stored as groups of 32 all the same
    widths = {weight_of(layer).shape[1] for layer in linear_layers(model).values()}
    for g in GROUP_SIZES:
        if not any(width % g for width in widths):
            return g
    raise ValueError(
        f"group_size is not given, and none of {GROUP_SIZES} divides the rows of all "
        f"matrices, which have {sorted(widths)} weights; choose one"
    )


def _grid(bits: int, format: str) -> IntegerGrid:
    """The grid of the recipe."""
    return signed(bits) if format == "gguf" else symmetric_full(bits)


def _check_writable(
    model: nn.Module, tokenizer: Any, bits: int, g: int, format: str, dtype: torch.dtype
) -> None:
    """Raises ValueError if export could not write the result."""
    grid, granularity = _grid(bits, format), per_group(g)
    try:
        check_export(model, tokenizer, grid, granularity, format=format, dtype=dtype)
    except ValueError as problem:
        raise ValueError(
            f"{bits} bits in groups of {g} cannot be written as {format}: {problem}"
        ) from problem


def _check_foldable(model: nn.Module) -> None:
    """Raises ValueError if AWQ's scales of some layer could not be folded."""
    for group, feeder in feeders(model):
        if feeder is None:
            raise ValueError(
                f"method is 'awq', which scales the inputs of {next(iter(group))}, and "
                "no layer of this model can take these scales; choose gptq"
            )


# --- text ---

_ITS_OWN = "that the model wrote itself, at temperature 1"


def _documents(
    model: str, text: str | Path | Sequence[str] | None
) -> tuple[list[str] | None, str]:
    """The documents, None where the model has to write them; and their source."""
    if text is None and model == "almanac":
        splits = (("calibration", CALIBRATE), ("test", JUDGE))
        found = [d for split, n in splits for d in almanac.documents(split, n)]
        return [text_of(document) for document in found], "of the almanac"
    if text is None:
        return None, _ITS_OWN
    if isinstance(text, str | Path):
        return documents_from(text), f"of {Path(text).name}"
    return [text_of(document) for document in text], "of the text that was given"


def _hash(documents: Sequence[str] | None) -> str:
    """What tells one text from another, for the settings of a report."""
    if documents is None:
        return _ITS_OWN
    return hashlib.sha256(json.dumps(documents).encode()).hexdigest()


def _halves(documents: Sequence[str], source: str) -> tuple[list[str], list[str]]:
    """Documents to calibrate on, and documents to judge by.

    Those with even fingerprints judge, and with them all of the test split. In the
    order of fingerprints, so that a part of a long text is taken from all over it.
    """
    ordered = sorted(set(documents), key=almanac.fingerprint)
    halves = [d for d in ordered if almanac.fingerprint(d) % 2], []
    halves[1].extend(d for d in ordered if not almanac.fingerprint(d) % 2)
    if min(map(len, halves)) < 4:
        raise ValueError(
            f"text has {len(ordered)} different documents {source}: {len(halves[0])} "
            f"to calibrate on and {len(halves[1])} to judge by, and each needs 4; give "
            "a longer text, some 5,000 words (a file is cut at blank lines)"
        )
    return halves[0][:CALIBRATE], halves[1][:JUDGE]


def _batches(
    model: nn.Module, tokenizer: Any, documents: Sequence[str]
) -> list[Int[Tensor, "_ _"]]:
    """Calibration batches. `_halves` has seen to it that no test text is among them."""
    context = getattr(model.config, "max_position_embeddings", None) or 512
    return calibration_batches(tokenizer, documents, length=min(512, context))


def _count(documents: Sequence[str], source: str, tokens: int) -> str:
    return f"{len(documents)} documents {source} ({tokens:,} tokens)"


# --- the rest ---


def _folded(model: nn.Module, report: Report) -> Report:
    """The report after AWQ's scales were folded into the model, in place."""
    folded = fold_(model, report)
    if folded.left:
        name, reason = next(iter(folded.left.items()))
        raise ValueError(
            f"method is 'awq', whose scales of {len(folded.left)} layers cannot be "
            f"folded, first of {name}: {reason}; choose gptq"
        )
    return folded.report


def _read_back_(small: nn.Module, folder: Path, format: str) -> nn.Module:
    """The model that a folder holds, in floats. `small` may become it."""
    if format == "gguf":
        return load(folder / "model.gguf")[0]
    return unpack_(load_exported_(small, folder))


def _kl(
    original: nn.Module,
    small: nn.Module,
    tokenizer: Any,
    documents: Sequence[str],
    progress: bool,
) -> float:
    """KL on text that was not calibrated on, and that does not judge."""
    return kl_and_flips(
        original, small, tokenizer, documents, held_out=False, progress=progress
    ).kl


def _judge(
    original: nn.Module,
    small: nn.Module,
    tokenizer: Any,
    documents: Sequence[str],
    progress: bool,
) -> dict[str, Any]:
    """How much worse the small model is, as JSON can hold it."""
    texts = list(documents)
    result = both(original, small, tokenizer, texts, held_out=False, progress=progress)
    more, apart = compare(result.reference, result.model), result.apart
    tokens = int(apart.document_tokens.sum())
    low, high = apart.interval("flips")
    if not apart.flips:  # none in so many: it may still be some in a million
        high = wilson(0, tokens)[1]
    flips = [100 * share for share in (apart.flips, low, high)]
    return {
        "perplexity": [result.model.value, result.reference.value],
        "tokens": tokens,
        "harms": {
            "loss, nats per token": [more.mean, more.low, more.high],
            "KL divergence, nats per token": [apart.kl, *apart.interval("kl")],
            "another first choice, % of tokens": flips,
        },
    }


def _base_model(model: str | Path) -> str:
    """The model's name for others: its id on the hub, or the name of its folder."""
    model = str(model)
    return _ON_THE_HUB.get(model, Path(model).name if Path(model).exists() else model)


def _megabytes(folder: Path) -> float:
    """What the weights take on disk."""
    files = [p for p in folder.iterdir() if p.suffix in (".safetensors", ".gguf")]
    return sum(path.stat().st_size for path in files) / 1e6


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """What `compute` returns, kept in a JSON file: computed once, whatever happens."""
    if not path.exists():
        write_whole(path, json.dumps(compute()).encode())
    return read_json(path)
