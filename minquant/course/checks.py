"""Exercises and their instant checks: `checks.<name>(yours)`, `checks.solution(name)`.

    def absmax_row(w, bits):
        ...

    checks.absmax_row(absmax_row)       # ✓ and ✗ for each case, and the likely mistake
    checks.solution("absmax_row")       # the package's own source

An exercise asks for a function that the package has, or for a few of its functions put
together; there is no second copy of a solution. How a function is judged stands in
`exercises`, the exercises themselves in the modules named `checks_*`.

    lesson 00   model_bytes, megabytes
    lesson 01   decode_float, gap, weight_bytes
    lesson 02   absmax_row, scale_and_zero, quantize_zero_point, dequantize
    lesson 03   bits_per_weight, absmax_groups, best_clip
    lesson 04   perplexity, flips, paired_interval
    lesson 05   outlier_columns, vector_wise, smoothing_scales
    lesson 06   obs_push, eliminate, gptq_columns
    lesson 07   salient_columns, awq_scales, fold_scales
    lesson 08   nf4_levels, nearest_level, nf4_bytes
    lesson 09   lora_forward, lora_gradients, qlora_bytes
    lesson 10   pack_nibbles, unpack_nibbles, crossover
    lesson 11   ternary, latent_step, assign_bits
    lesson 12   cache_bytes, choose, read_layer
"""

from __future__ import annotations

import html
import inspect
from dataclasses import dataclass
from functools import cached_property
from textwrap import dedent
from typing import Any

from minquant.course.awq import exercises as checks_salience
from minquant.course.awq.exercises import awq_scales, fold_scales, salient_columns
from minquant.course.capstone import checks_choice
from minquant.course.capstone import exercises as checks_serving
from minquant.course.capstone.checks_choice import choose
from minquant.course.capstone.exercises import cache_bytes, read_layer
from minquant.course.damage import exercises as checks_measuring
from minquant.course.damage.exercises import flips, paired_interval, perplexity
from minquant.course.exercises import Exercise
from minquant.course.gptq import exercises as checks_pushing
from minquant.course.gptq.exercises import eliminate, gptq_columns, obs_push
from minquant.course.low_bits import exercises as checks_low_bits
from minquant.course.low_bits.exercises import assign_bits, latent_step, ternary
from minquant.course.nf4 import exercises as checks_codebooks
from minquant.course.nf4.exercises import nearest_level, nf4_bytes, nf4_levels
from minquant.course.outliers import exercises as checks_outliers
from minquant.course.outliers.exercises import (
    outlier_columns,
    smoothing_scales,
    vector_wise,
)
from minquant.course.packing import exercises as checks_packing
from minquant.course.packing.exercises import (
    crossover,
    pack_nibbles,
    unpack_nibbles,
)
from minquant.course.qlora import exercises as checks_adapters
from minquant.course.qlora.exercises import (
    lora_forward,
    lora_gradients,
    qlora_bytes,
)
from minquant.course.rounding import checks_rounding
from minquant.course.rounding import exercises as checks_zero_point
from minquant.course.rounding.checks_rounding import absmax_row
from minquant.course.rounding.exercises import (
    dequantize,
    quantize_zero_point,
    scale_and_zero,
)
from minquant.course.rulers import exercises as checks_rulers
from minquant.course.rulers.exercises import (
    absmax_groups,
    best_clip,
    bits_per_weight,
)
from minquant.course.start import exercises as checks_storing
from minquant.course.start.exercises import (
    decode_float,
    gap,
    megabytes,
    model_bytes,
    weight_bytes,
)

__all__ = ["absmax_groups", "absmax_row", "best_clip", "bits_per_weight"]
__all__ += ["decode_float", "dequantize", "flips", "gap", "megabytes", "model_bytes"]
__all__ += ["paired_interval", "perplexity", "quantize_zero_point", "scale_and_zero"]
__all__ += ["outlier_columns", "smoothing_scales", "vector_wise"]
__all__ += ["eliminate", "gptq_columns", "obs_push"]
__all__ += ["awq_scales", "fold_scales", "salient_columns"]
__all__ += ["nearest_level", "nf4_bytes", "nf4_levels"]
__all__ += ["crossover", "pack_nibbles", "unpack_nibbles"]
__all__ += ["lora_forward", "lora_gradients", "qlora_bytes"]
__all__ += ["assign_bits", "latent_step", "ternary"]
__all__ += ["cache_bytes", "choose", "read_layer"]
__all__ += ["EXERCISES", "Source", "solution", "weight_bytes"]

_LESSONS = (checks_storing, checks_rounding, checks_zero_point, checks_rulers)
_LESSONS += (checks_measuring, checks_outliers, checks_pushing, checks_codebooks)
_LESSONS += (checks_salience, checks_packing, checks_adapters, checks_low_bits)
_LESSONS += (checks_serving, checks_choice)
EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise for lesson in _LESSONS for exercise in lesson.EXERCISES
}


@dataclass(frozen=True)
class Source:
    """Source of the package to look at: prints as text, shows as a block of code."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def solution(name: str) -> Source:
    """The package's own source of what an exercise asks for, and what it is made of.

    Raises ValueError if there is no such exercise.

    >>> print(str(solution("model_bytes")).splitlines()[0])
    # minquant/answers.py
    """
    if name not in EXERCISES:
        raise ValueError(
            f"name {name!r} is no exercise; choose from {', '.join(sorted(EXERCISES))}"
        )
    return Source("\n\n".join(_source(thing) for thing in EXERCISES[name].shows))


def _source(thing: Any) -> str:
    """A function, or a property of a class, with the file that it stands in."""
    if isinstance(thing, property):
        thing = thing.fget
    if isinstance(thing, cached_property):
        thing = thing.func
    thing = inspect.unwrap(thing)
    file = thing.__module__.replace(".", "/")
    return f"# {file}.py\n{dedent(inspect.getsource(thing)).rstrip()}"
