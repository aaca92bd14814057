"""How low can you go? Every width by every method, with everything that we can measure.

    python benchmarks/sweep.py                 # the rows that sweep.json does not have
    python benchmarks/sweep.py --only '^3 '    # of these, those whose key fits

A row is a version of the bundled model: "3 gptq" is 3 bits by GPTQ. It holds the
version's size in bytes, nats, KL and flips of each test document, right or wrong for
each probe, and the text that it writes. `perplexity_of`, `divergence_of` and
`accuracy_of` turn a row into what the package's functions take, so any two rows can be
compared in pairs, with intervals. Lesson 11 plots the table, and computes one row
again: `row(key)`.

Each row is saved when it is done, so the script can be interrupted and goes on later.
All rows take about ten minutes on an idle core; `stamped` says when they are stale.

Rulers are zero-point with fp16 scales, in groups of 64 columns (a whole row in "rtn
channel"), and ternary at 1.58 bits. GPTQ is act-order with 20 % damping. NF4 takes
absmax in blocks. "mixed rtn" and "mixed gptq" have as many bytes as that width
everywhere, distributed by the sensitivity of each layer to RTN. "rotated gptq" is GPTQ
on rotated axes. "qat" is trained on text of the training split, with the model itself
as the teacher.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamped

from minquant import almanac
from minquant.almanac import questions
from minquant.measure import evaluate, windows
from minquant.measure.probes import Accuracy
from minquant.methods import rtn
from minquant.methods.awq import quantize_awq_shared
from minquant.methods.gptq import quantize_gptq
from minquant.models import quantize, rotate_model
from minquant.models.linear_layers import size
from minquant.models.load import load
from minquant.models.text import calibration_batches, generate
from minquant.numerics.grids import NF4, TERNARY, Grid, zero_point
from minquant.numerics.groups import PER_CHANNEL, per_group
from minquant.planning import mixed_precision
from minquant.training import qat

DOCUMENTS = 40  # of test text: 17 thousand tokens
PROBES = {"fact": 2000, "chain": 800, "recall": 300}
CALIBRATION = 128  # documents, for GPTQ and AWQ
MEASURED = 24  # of these documents, for the sensitivities of layers
STEPS = 1500  # of training, on one document each
GROUP = per_group(64)
TERNARY_BITS = 1.58
WIDTHS = (8, 6, 5, 4, 3, 2, TERNARY_BITS)
MIXED = {"rtn": (5, 4, 3), "gptq": (4, 3)}
ROTATED = (4, 3, 2)
TRAINED = {3: 3e-4, 2: 8e-4, TERNARY_BITS: 2e-3}  # rates, chosen on calibration text
PROMPT_WORDS, NEW_WORDS = 12, 40


def grid_of(bits: float) -> Grid:
    """The grid of a width: zero-point, or ternary."""
    return TERNARY if bits == TERNARY_BITS else zero_point(int(bits))


def post_training() -> dict[str, Callable]:
    """The methods that need no training, by key, for `models.quantize`."""
    methods: dict[str, Callable] = {}
    for bits in WIDTHS:
        grid = grid_of(bits)
        in_groups = {"grid": grid, "granularity": GROUP}
        gptq = partial(quantize_gptq, act_order=True, damping=0.2, **in_groups)
        methods |= {
            f"{bits} rtn channel": partial(
                rtn.quantize_rtn, grid=grid, granularity=PER_CHANNEL
            ),
            f"{bits} rtn": partial(rtn.quantize_rtn, **in_groups),
            f"{bits} gptq": gptq,
            f"{bits} awq": partial(quantize_awq_shared, **in_groups),
        }
    nf4 = partial(rtn.quantize_rtn, grid=NF4, granularity=GROUP)
    return methods | {"4 nf4": nf4}


def keys() -> list[str]:
    """Every row: the model itself, then by width, from 8 bits to 1.58."""
    versions = [*post_training(), *(f"{b} rotated gptq" for b in ROTATED)]
    versions += [f"{b} mixed {way}" for way, widths in MIXED.items() for b in widths]
    versions += [f"{b} qat" for b in TRAINED]
    return ["16 float", *sorted(versions, key=lambda key: -float(key.split()[0]))]


class Subject:
    """The model, and the test text and probes that every row is measured on."""

    def __init__(self) -> None:
        self.model, self.tokenizer = load()
        self.documents = almanac.documents("test", DOCUMENTS)
        self.probes = {kind: questions.probes(kind, n) for kind, n in PROBES.items()}
        story = almanac.documents("test", 1, kind="story")[0]
        self.prompt = " ".join(story.words[:PROMPT_WORDS])
        self.calibration_documents = almanac.documents("calibration", CALIBRATION)

    @property
    def calibration(self) -> list[torch.Tensor]:
        """Batches for H and X."""
        return calibration_batches(self.tokenizer, self.calibration_documents)

    @property
    def lessons(self) -> list[torch.Tensor]:
        """A document of the training split for each step of training."""
        return qat.one_by_one(self.tokenizer, almanac.documents("train", STEPS))


@cache
def subject() -> Subject:
    """The subject, loaded once."""
    return Subject()


def by_width(way: str) -> dict[float, Callable]:
    """RTN or GPTQ in groups, by width: what "mixed" chooses from."""
    methods = post_training()
    return {bits: methods[f"{bits} {way}"] for bits in WIDTHS if bits != TERNARY_BITS}


@cache
def sensitivities() -> dict:
    """The cost of each layer alone at each whole width, by RTN; measured once."""
    s = subject()
    documents = s.calibration_documents[:MEASURED]
    return mixed_precision.sensitivities(
        s.model, s.tokenizer, documents, by_width("rtn"), progress=False
    )


def version(key: str) -> tuple:
    """The model of a row, and its report.

    Raises ValueError if the key is not one of `keys`.
    """
    if key not in keys():
        raise ValueError(f"key is {key!r}; choose one of {', '.join(keys())}")
    s = subject()
    width, method = key.split(" ", 1)
    if method == "float":
        return s.model, {}
    if method == "qat":
        bits = float(width)
        options = {"rate": TRAINED[bits], "progress": False}
        trained = qat.train(s.model, s.lessons, grid_of(bits), GROUP, **options)
        return trained.model, trained.report
    calibration = s.calibration if method.endswith(("gptq", "awq")) else None
    options = {"calibration": calibration, "progress": False}
    kind, _, way = method.partition(" ")
    if kind == "mixed":
        costs = sensitivities()
        budget = mixed_precision.uniform_bytes(costs, int(width))
        chosen = mixed_precision.assign_exact(costs, budget)
        return mixed_precision.quantize(s.model, chosen, by_width(way), **options)
    start = rotate_model.rotate(s.model) if kind == "rotated" else s.model
    name = f"{width} {way}" if kind == "rotated" else key
    return quantize.quantize(start, post_training()[name], **options)


def row(key: str) -> dict:
    """Quantizes as the key says, and measures: one row of sweep.json.

    Raises ValueError if the key is not one of `keys`.
    """
    start = time.perf_counter()
    twin, report = version(key)
    s = subject()
    seconds_quantizing = time.perf_counter() - start
    texts = s.tokenizer, s.documents
    loss = evaluate.perplexity(twin, *texts, progress=False)
    moved = evaluate.kl_and_flips(s.model, twin, *texts, progress=False)
    weight = size(twin, report)
    result = {
        "key": key,
        "bits": float(key.split()[0]),
        "method": key.split(" ", 1)[1],
        "bits_per_weight": weight.bits_per_weight if report else 16.0,
        "bytes": weight.total,
        "perplexity": loss.value,
        "nats": loss.nats,
        "kl": moved.kl,
        "flips": moved.flips,
        "document_nats": _short(loss.document_nats),
        "document_kl": _short(moved.document_kl),
        "document_flips": [int(n) for n in moved.document_flips],
    }
    for kind, probes in s.probes.items():
        answers = evaluate.accuracy(twin, s.tokenizer, probes, progress=False)
        result[kind] = {str(k): [v.right, v.n] for k, v in answers.by_level().items()}
        result[f"{kind}_right"] = "".join(str(int(c)) for c in answers.correct)
    result["text"] = generate(twin, s.tokenizer, s.prompt, NEW_WORDS)
    result["seconds_quantizing"] = round(seconds_quantizing, 1)
    result["seconds"] = round(time.perf_counter() - start, 1)
    return result


def _short(numbers: torch.Tensor) -> list[float]:
    return [round(x, 6) for x in numbers.tolist()]


# --- a row, as the package's functions take it ---


@cache
def _tokens() -> tuple[tuple[int, ...], torch.Tensor, int, int]:
    """Fingerprints, counted tokens, window and stride of the test documents."""
    s = subject()
    read = windows.plan(s.model, s.tokenizer, s.documents)
    return read.documents, read.tokens, read.window, read.stride


def perplexity_of(result: dict) -> evaluate.Perplexity:
    """The loss of a row, for `evaluate.compare`."""
    prints, tokens, window, stride = _tokens()
    nats = torch.tensor(result["document_nats"], dtype=torch.float64)
    return evaluate.Perplexity(prints, nats, tokens, window, stride)


def divergence_of(result: dict) -> evaluate.Divergence:
    """KL and flips of a row, with their `interval`."""
    sums = (result["document_kl"], result["document_flips"])
    return evaluate.Divergence(*(torch.tensor(x).double() for x in sums), _tokens()[1])


def accuracy_of(result: dict, kind: str) -> Accuracy:
    """Whether a row answered each probe of a kind right; its words are not kept."""
    probes = tuple(subject().probes[kind])
    right = torch.tensor([mark == "1" for mark in result[f"{kind}_right"]])
    return Accuracy(probes, right, ("",) * len(probes))


# --- the table ---


def line(result: dict) -> str:
    """A row in words: bits per weight, perplexity, and the shares of right answers."""
    shares = []
    for kind in PROBES:
        levels = result[kind].values()
        share = sum(right for right, _ in levels) / sum(n for _, n in levels)
        shares.append(f"{kind} {share:5.1%}")
    return (
        f"{result['key']:18}{result['bits_per_weight']:6.2f} bits  "
        f"perplexity {result['perplexity']:9.3f}  KL {result['kl']:8.5f}  "
        f"flips {result['flips']:6.2%}  {'  '.join(shares)}  "
        f"{result['seconds']:5.1f} s"
    )


TABLE = stamped.Table(Path(__file__), keys, row, line)

if __name__ == "__main__":
    TABLE.run(__doc__)
