"""Exercises of lesson 12: a model that is to be served.

    cache_bytes    does it fit? The keys and values of every token that is remembered
    choose         which file? The smallest that harms nothing beyond what was agreed
    read_layer     what does the file say? Its words and scales back as weights

The answers to the last two are written out in full, short enough to be written by hand.
The package's own functions, `choice.choose` and `pack_quantized.quantized_tensor`, also
say why, or refuse what they cannot read.

Two things differ from other lessons' exercises. Some mistakes of `read_layer` and
`choose` raise: if a row is not cut, for instance, two shapes do not fit. So in these
two an error is a result like any other. And what `choose` gives is a name or None. None
elsewhere means that nothing is written yet; here that takes None in every case.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from jaxtyping import Float, Float16, Int32
from torch import Tensor

from minquant.course.exercises import Exercise, ReturnedNothing, Verdict, is_stub
from minquant.files import pack_quantized
from minquant.planning import serving_memory


class ErrorExercise(Exercise):
    """An exercise in which an error is a result, so that a known mistake may raise.

    Two functions that raise agree, whatever their errors say.
    """

    def _run(self, function: Callable, arguments: tuple) -> tuple[Any, ...]:
        """The outputs, or the error."""
        try:
            return super()._run(function, arguments)
        except Exception as error:  # a learner's function may raise anything
            if is_stub(error) or isinstance(error, ReturnedNothing):
                raise
            return (error,)

    def _compare(self, got: tuple[Any, ...], want: tuple[Any, ...]) -> str:
        raised, should_raise = (isinstance(r[0], Exception) for r in (got, want))
        if raised and should_raise:
            return ""
        if raised:
            return f"it raised {type(got[0]).__name__}: {got[0]}"
        if should_raise:
            return "it did not raise"
        return super()._compare(got, want)


class NameExercise(ErrorExercise):
    """An exercise whose functions give a name, or None."""

    def __call__(self, yours: object) -> Verdict:
        """Judge a function; one that gives None in every case is not attempted."""
        cases = self.cases.values()
        if callable(yours) and all(self._run(yours, c) == (None,) for c in cases):
            return Verdict(self.name, attempted=False)
        return super().__call__(yours)

    def likely_mistake(self, results: list) -> str:
        """The known mistake; if none fits, the one that fits with None for errors."""
        calm = [(None,) if isinstance(r[0], Exception) else r for r in results]
        return super().likely_mistake(results) or super().likely_mistake(calm)

    def _run(self, function: Callable, arguments: tuple) -> tuple[Any, ...]:
        """The name, None (also for a stub), or the error."""
        copies = copy.deepcopy(arguments)
        try:
            name = function(*copies)
        except Exception as error:  # a learner's function may raise anything
            return (None,) if is_stub(error) else (error,)
        if copies != arguments:
            return (ValueError("it changes its argument; work on a copy"),)
        if name is None or name is ...:
            return (None,)
        if not isinstance(name, str):
            kind = type(name).__name__
            return (TypeError(f"it gave a {kind}; give a candidate's name, or None"),)
        return (name,)

    def _compare(self, got: tuple[Any, ...], want: tuple[Any, ...]) -> str:
        if any(isinstance(result[0], Exception) for result in (got, want)):
            return super()._compare(got, want)
        if got == want:
            return ""
        return f"{self.outputs[0]} is {got[0]!r}, should be {want[0]!r}"


# --- cache_bytes ---


def cache_bytes(
    layers: int, kv_heads: int, head_size: int, tokens: int, bits: float = 16
) -> int:
    """Bytes of the keys and values of so many tokens, in all layers.

    >>> cache_bytes(32, 8, 128, 1)  # a token of Llama-3.1-8B
    131072
    """
    return serving_memory.cache_bytes(layers, kv_heads, head_size, tokens, bits)


def _cache(layers: int, heads: int, size: int, tokens: int, bits: float = 16) -> float:
    return 2 * layers * heads * size * tokens * bits / 8


check_cache_bytes = Exercise(
    name="cache_bytes",
    task="cache_bytes(layers, kv_heads, head_size, tokens, bits=16) gives the bytes of "
    "the keys and values of so many tokens, each number in so many bits",
    # a float is as right as an int
    answer=lambda *shape: float(cache_bytes(*shape)),
    cases={
        "a token of Llama-2-7B, in 16 bits by default": (32, 32, 128, 1),
        "8192 tokens of Llama-3.1-8B": (32, 8, 128, 8192, 16),
        "the same in 4 bits": (32, 8, 128, 8192, 4),
        "24 layers, 2 heads of 64, 1000 tokens, 8 bits": (24, 2, 64, 1000, 8),
    },
    mistakes={
        "a token leaves a key and a value in each layer: times 2": (
            lambda n, h, d, t, bits=16: _cache(n, h, d, t, bits) / 2
        ),
        "these are bits; eight of them are a byte": (
            lambda n, h, d, t, bits=16: _cache(n, h, d, t, bits) * 8
        ),
        "this is one layer; every layer has its own cache": (
            lambda n, h, d, t, bits=16: _cache(1, h, d, t, bits)
        ),
        "bits is not used; this is the answer for 16": (
            lambda n, h, d, t, bits=16: _cache(n, h, d, t, 16)
        ),
        "bits // 8 is 0 below 8 bits: multiply first, divide by 8 at the end": (
            lambda n, h, d, t, bits=16: 2 * n * h * d * t * (bits // 8)
        ),
        "this is one token; each has keys and values": (
            lambda n, h, d, t, bits=16: _cache(n, h, d, 1, bits)
        ),
        "this is one head; there are kv_heads": (
            lambda n, h, d, t, bits=16: _cache(n, 1, d, t, bits)
        ),
        "a head is one number here; it has head_size": (
            lambda n, h, d, t, bits=16: _cache(n, h, 1, t, bits)
        ),
        "a cache grows with the tokens, not with their square; those are the scores": (
            lambda n, h, d, t, bits=16: _cache(n, h, d, t, bits) * t
        ),
    },
    outputs=("the size in bytes",),
    solution="""\
def cache_bytes(layers, kv_heads, head_size, tokens, bits=16):
    numbers = 2 * layers * kv_heads * head_size * tokens  # keys and values
    return numbers * bits / 8
""",
    inside="minquant.planning.serving_memory.cache_bytes",
)


# --- choose ---


def choose(
    candidates: Sequence[tuple[str, int, Mapping[str, tuple[float, float, float]]]],
    lines: Mapping[str, float],
    budget: int,
) -> str | None:
    """The smallest candidate within the budget whose high ends hold every line.

    candidates: name, bytes, and a (mean, low, high) for each measure, positive if worse
    than the original. lines: the most that is acceptable, in each measure's unit.

    >>> harms = {"rare facts": (1.0, 0.2, 1.8)}  # points of right answers lost
    >>> choose([("int4", 500, harms)], {"rare facts": 2.0}, 600)
    'int4'
    >>> choose([("int4", 500, harms)], {"rare facts": 1.5}, 600) is None
    True
    """
    passing = [
        (nbytes, name)
        for name, nbytes, harms in candidates
        if nbytes <= budget and all(harms[m][2] <= most for m, most in lines.items())
    ]
    return min(passing)[1] if passing else None


Harm = tuple[float, float, float]  # mean, low, high
Candidate = tuple[str, int, dict[str, Harm]]  # name, bytes, harms

_nbytes = itemgetter(1)  # of a candidate


def _smallest(candidates: list[Candidate]) -> Candidate:
    return min(candidates, key=_nbytes)


def _largest(candidates: list[Candidate]) -> Candidate:
    return max(candidates, key=_nbytes)


def _mildest(candidates: list[Candidate]) -> Candidate:
    return min(candidates, key=lambda c: sum(high for _, _, high in c[2].values()))


def _chosen(
    candidates: list[Candidate],
    lines: dict[str, float],
    budget: int,
    *,
    fits: Callable[[int, int], bool] = lambda nbytes, budget: nbytes <= budget,
    looked_at: Callable[[list[Candidate]], list[Candidate]] = lambda fitting: fitting,
    holds: Callable[[Harm, float], bool] = lambda harm, line: harm[2] <= line,
    enough: Callable[[list[bool]], bool] = all,
    pick: Callable[[list[Candidate]], Candidate] = _smallest,
) -> str | None:
    """A choice, in which one part can be made wrong.

    fits: whether so many bytes are within the budget. looked_at: those of the fitting
    that are looked at, if any fit. holds: whether a harm is within its line. enough:
    whether a candidate passes, from whether it holds each line. pick: one of those that
    pass.
    """
    fitting = [candidate for candidate in candidates if fits(candidate[1], budget)]
    passing = []
    for candidate in looked_at(fitting) if fitting else []:
        harms = candidate[2]
        if enough([holds(harms[measure], line) for measure, line in lines.items()]):
            passing.append(candidate)
    return pick(passing)[0] if passing else None


def _chosen_or_smallest(
    candidates: list[Candidate], lines: dict[str, float], budget: int
) -> str | None:
    """If none passes, the smallest that fits."""
    chosen = _chosen(candidates, lines, budget)
    return chosen or _chosen(candidates, {}, budget)


def _chosen_or_error(
    candidates: list[Candidate], lines: dict[str, float], budget: int
) -> str:
    """If none passes, an error."""
    chosen = _chosen(candidates, lines, budget)
    if chosen is None:
        raise ValueError("min() of nothing")
    return chosen


def _candidate(
    name: str, nbytes: int, facts: Harm, chains: Harm, **others: Harm
) -> Candidate:
    return name, nbytes, {"facts": facts, "chains": chains, **others}


FILES = [
    _candidate("6-bit", 800, (0.7, 0.2, 1.2), (0.9, 0.3, 1.5)),
    _candidate("8-bit", 1000, (0.0, -0.3, 0.3), (0.1, -0.4, 0.6)),
    _candidate("3-bit A", 400, (9.0, 8.0, 10.0), (20.0, 18.0, 22.0)),
    _candidate("3-bit B", 430, (1.2, 0.6, 1.8), (6.0, 4.5, 7.5)),
    _candidate("4-bit A", 530, (0.5, 0.1, 0.9), (0.8, 0.2, 1.4)),
    _candidate("3-bit C", 410, (1.5, 0.5, 2.5), (2.0, 0.5, 3.5)),
    _candidate("4-bit B", 520, (1.0, 0.4, 1.6), (1.5, 0.6, 2.4)),
    _candidate("3-bit D", 405, (2.4, 1.5, 3.3), (3.6, 2.5, 4.7)),
    _candidate("3-bit E", 420, (1.5, -0.5, 3.5), (2.5, -0.2, 5.2)),
    _candidate("3-bit F", 425, (2.6, 2.1, 3.1), (1.0, 0.1, 1.9)),
]
WITH_FAR = [
    _candidate(
        "4-bit rows", 600, (4.0, 3.0, 5.0), (5.0, 4.0, 6.0), far=(6.0, 5.0, 7.0)
    ),
    _candidate(
        "4-bit groups", 560, (0.6, 0.1, 1.1), (0.9, 0.2, 1.6), far=(9.0, 8.0, 9.9)
    ),
    _candidate(
        "3-bit groups", 420, (1.0, 0.2, 1.8), (3.0, 2.0, 4.0), far=(9.0, 8.0, 9.9)
    ),
]
LINES = {"facts": 2.0, "chains": 3.0}

check_choose = NameExercise(
    name="choose",
    task="choose(candidates, lines, budget) gives the name of the smallest candidate "
    "(name, nbytes, harms) of at most budget bytes whose high end is at most the line, "
    "for every line; None if there is none. harms: measure to (mean, low, high)",
    answer=choose,
    cases={
        "room for all": (FILES, LINES, 2000),
        "room for all but the largest": (FILES, LINES, 900),
        "room for 520 bytes, which one has exactly": (FILES, LINES, 520),
        "one is exactly on the line": (FILES, {"facts": 1.6, "chains": 3.0}, 900),
        "lines so far out that all hold": (FILES, {"facts": 50.0, "chains": 50.0}, 900),
        "a larger file that is worse, and a measure without a line": (
            WITH_FAR,
            LINES,
            600,
        ),
        "all that hold the lines are too large": (FILES, LINES, 500),
        "nothing holds both lines": (FILES, {"facts": 0.2, "chains": 0.2}, 2000),
    },
    mistakes={
        "it looks at the mean; the truth may be as bad as the high end": (
            partial(_chosen, holds=lambda harm, line: harm[0] <= line)
        ),
        "it looks at low, the good end; the truth may be as bad as the high end": (
            partial(_chosen, holds=lambda harm, line: harm[1] <= line)
        ),
        "an interval that reaches 0 does not say that there is no harm, only that it "
        "was not seen; compare its high end with the line": (
            partial(_chosen, holds=lambda harm, line: harm[1] <= 0 or harm[2] <= line)
        ),
        "a high end exactly on the line is within it: <=": (
            partial(_chosen, holds=lambda harm, line: harm[2] < line)
        ),
        "one line that holds is enough here; all have to": (
            partial(_chosen, enough=any)
        ),
        "only the first line decides; all have to hold": (
            partial(_chosen, enough=lambda held: held[0])
        ),
        "only the last line decides; all have to hold": (
            partial(_chosen, enough=lambda held: held[-1])
        ),
        "the lines are not looked at: this is the smallest, whatever it breaks": (
            partial(_chosen, enough=lambda held: True)
        ),
        "the budget is forgotten": partial(_chosen, fits=lambda nbytes, budget: True),
        "a file of exactly the budget fits: <=": (
            partial(_chosen, fits=lambda nbytes, budget: nbytes < budget)
        ),
        "it takes the largest that passes; take the smallest": (
            partial(_chosen, pick=_largest)
        ),
        "it takes the one that harms least; all that hold the lines are good enough, "
        "so take the smallest": partial(_chosen, pick=_mildest),
        "it takes the first that passes; take the smallest": (
            partial(_chosen, pick=lambda passing: passing[0])
        ),
        "min() or sorted() compares tuples by what comes first, the name; compare "
        "bytes: key=lambda c: c[1]": partial(_chosen, pick=min),
        "it looks at the smallest only; if that breaks a line, go on to the next": (
            partial(_chosen, looked_at=lambda fitting: [_smallest(fitting)])
        ),
        "it looks at the largest that fits only; a smaller one may hold the lines": (
            partial(_chosen, looked_at=lambda fitting: [_largest(fitting)])
        ),
        "where none passes it gives one all the same; give None": _chosen_or_smallest,
        "where none passes there is no smallest; give None": _chosen_or_error,
    },
    outputs=("the name",),
    solution="""\
def choose(candidates, lines, budget):
    passing = []
    for name, nbytes, harms in candidates:
        holds = all(harms[measure][2] <= most for measure, most in lines.items())
        if holds and nbytes <= budget:
            passing.append((nbytes, name))
    return min(passing)[1] if passing else None
""",
    inside="minquant.planning.choice.choose",
)


# --- read_layer ---


def read_layer(
    packed: Int32[Tensor, "out words"],
    scales: Float16[Tensor, "out n_groups"],
    shape: Sequence[int],
) -> Float[Tensor, "out in"]:
    """W_hat in float32 from the words and scales of a layer of 4 bits.

    shape: out, in. Eight codes of a word, the lowest bits first, each stored plus 8.

    >>> word = torch.tensor([[0x76543210]], dtype=torch.int32)
    >>> read_layer(word, torch.tensor([[0.5]]).half(), (1, 3))
    tensor([[-4.0000, -3.5000, -3.0000]])
    """
    width = shape[1]
    fields = packed[:, :, None] >> 4 * torch.arange(8)  # (out, words, 8)
    codes = (fields & 15).flatten(1)[:, :width] - 8  # (out, in)
    g = width // scales.shape[1]
    return codes * scales.float().repeat_interleave(g, dim=1)


PLACES = 4 * torch.arange(8)  # where the codes of a word begin


def _layer(
    packed: Tensor,
    scales: Tensor,
    shape: tuple[int, int],
    *,
    places: Tensor = PLACES,
    read: Callable[[Tensor], Tensor] = lambda fields: (fields & 15) - 8,
    rows: Callable[..., Tensor] = lambda codes, out, n: codes.flatten(1)[:, :n],
    spread: Callable[[Tensor, int], Tensor] = lambda s, g: s.repeat_interleave(g, 1),
    wide_groups: bool = False,
    float32: bool = True,
) -> Tensor:
    """W_hat, in which one part can be made wrong.

    read: from fields of a word to codes. rows: from codes (out, words, 8), out and in
    to a matrix. spread: from scales and g to a scale for each weight. wide_groups: the
    groups share whatever columns the codes have, not the columns of `shape`.
    """
    codes = rows(read(packed[:, :, None] >> places), *shape)
    width = codes.shape[1] if wide_groups else shape[1]
    scales = scales.float() if float32 else scales
    return codes * spread(scales, width // scales.shape[1])


def _last_unmasked(fields: Tensor) -> Tensor:
    """Codes, of which the last of a word keeps the sign."""
    return torch.cat([fields[..., :7] & 15, fields[..., 7:]], -1) - 8


def _one_stream(codes: Tensor, out: int, width: int) -> Tensor:
    """Read as if a row went on in the last word of the row above."""
    return codes.flatten()[: out * width].view(out, width)


def _uncut(codes: Tensor, out: int, width: int) -> Tensor:
    return codes.flatten(1)


def _exported(out: int, width: int, n_groups: int) -> tuple[Tensor, Tensor, tuple]:
    """A layer of random codes and scales as an exported file has it."""
    generator = torch.Generator().manual_seed(width)
    codes = torch.randint(-8, 8, (out, width), generator=generator)
    scales = torch.rand(out, n_groups, generator=generator).half()
    return pack_quantized.pack_words(codes, 4), scales, (out, width)


HAND = torch.tensor([[0x76543210], [0x89ABCDEF - 2**32]], dtype=torch.int32)

check_read_layer = ErrorExercise(
    name="read_layer",
    task="read_layer(packed, scales, shape) gives W_hat (out, in) in float32 from the "
    "words (out, words) and scales (out, n_groups) of a file: eight codes to a word, "
    "the lowest bits first, each stored plus 8; shape is (out, in)",
    answer=read_layer,
    cases={
        "two words by hand": (HAND, torch.tensor([[0.5], [2.0]]).half(), (2, 8)),
        "2 rows of 32, groups of 8": _exported(2, 32, 4),
        "3 rows of 11, whose last words are filled up": _exported(3, 11, 1),
    },
    mistakes={
        "the lowest four bits are the first code, not the last": (
            partial(_layer, places=PLACES.flip(0))
        ),
        "codes are stored plus 8: subtract 8": (
            partial(_layer, read=lambda fields: fields & 15)
        ),
        "subtract 8 from the code, before the scale": (
            lambda *file: _layer(*file, read=lambda fields: fields & 15) - 8
        ),
        "subtract 8, not 7: codes go from −8 to 7": (
            partial(_layer, read=lambda fields: (fields & 15) - 7)
        ),
        "subtract 8, not 7.5: one code is 0": (
            partial(_layer, read=lambda fields: (fields & 15) - 7.5)
        ),
        "codes are stored plus 8, not in two's complement: subtract 8 from all": (
            partial(_layer, read=lambda fields: ((fields & 15) ^ 8) - 8)
        ),
        "a shift alone lets all higher codes come along: & 15": (
            partial(_layer, read=lambda fields: fields - 8)
        ),
        "the last code of a word is negative where the highest bit is 1, because >> "
        "copies the sign of an int32: shift first, then & 15": (
            partial(_layer, read=_last_unmasked)
        ),
        "a scale is for neighbours: s0 s0 … s1 s1 …, by repeat_interleave; this is s0 "
        "s1 … s0 s1 …": partial(_layer, spread=lambda s, g: s.repeat(1, g)),
        "the product is rounded to fp16; make the scales float32 first": (
            partial(_layer, float32=False)
        ),
        "these are the first codes of all words, then the second ones: eight codes of "
        "one word come one after the other": (
            partial(_layer, rows=lambda codes, out, n: codes.mT.flatten(1)[:, :n])
        ),
        "each row begins with a new word: cut every row, not the whole": (
            partial(_layer, rows=_one_stream)
        ),
        "what fills up the last word of a row is no weight: cut rows at `in`": (
            partial(_layer, rows=_uncut, wide_groups=True)
        ),
        "the last word of a row is filled up, so that there are more codes than "
        "columns: cut rows at `in`": partial(_layer, rows=_uncut),
    },
    outputs=("W_hat",),
    solution="""\
def read_layer(packed, scales, shape):
    fields = packed[:, :, None] >> 4 * torch.arange(8)  # (out, words, 8)
    codes = (fields & 15).flatten(1)[:, : shape[1]] - 8
    g = shape[1] // scales.shape[1]
    return codes * scales.float().repeat_interleave(g, dim=1)
""",
    inside="minquant.files.pack_quantized.quantized_tensor",
)
