"""Exercises and their instant checks: `checks.<name>(yours)`, `checks.solution(name)`.

    def absmax_row(w, bits):
        ...

    checks.absmax_row(absmax_row)       # ✓ and ✗ for each case, and the likely mistake
    checks.solution("absmax_row")       # a few lines that pass, and where we do it

No exercise is listed here. Each lesson's folder may have an `exercises.py`; the first
time that an exercise is asked for, all of these are imported, and every `Exercise` in
them is found by its name. Until then `checks` costs nothing. How a function is judged
stands in `minquant/course/exercises.py`.
"""

from __future__ import annotations

import html
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import minquant
from minquant import course


def __getattr__(name: str) -> Any:
    """An exercise by its name (PEP 562).

    Raises AttributeError, which lists the exercises, if there is none of this name.
    """
    if name.startswith("_"):  # Python asks for __path__, __wrapped__ and their like
        raise AttributeError(f"checks has no {name!r}")
    if name not in all_exercises():
        raise AttributeError(f"name {name!r} is no exercise; choose from {_names()}")
    return all_exercises()[name]


def __dir__() -> list[str]:
    """What completion offers."""
    return sorted([*all_exercises(), "solution"])


@cache
def all_exercises() -> dict[str, Callable]:
    """Every exercise of every lesson, by name.

    Raises ValueError if two exercises have one name.
    """
    from minquant.course.exercises import Exercise

    exercises: dict[str, Callable] = {}
    places: dict[str, str] = {}
    for module in _lessons():
        for exercise in vars(module).values():
            if not isinstance(exercise, Exercise):
                continue
            if exercises.setdefault(exercise.name, exercise) is not exercise:
                raise ValueError(
                    f"two exercises have the name {exercise.name!r}, in "
                    f"{places[exercise.name]} and in {module.__name__}; rename one"
                )
            places.setdefault(exercise.name, module.__name__)
    return exercises


def exercises_of(folder: str) -> list[str]:
    """The names of the exercises of one lesson, by its folder in `minquant/course`."""
    from minquant.course.exercises import Exercise

    (module,) = (m for m in _lessons() if m.__name__.split(".")[-2] == folder)
    return [e.name for e in vars(module).values() if isinstance(e, Exercise)]


def _lessons() -> Iterator[ModuleType]:
    """The `exercises.py` of each lesson that has one."""
    for lesson in pkgutil.iter_modules(course.__path__, f"{course.__name__}."):
        name = f"{lesson.name}.exercises"
        if lesson.ispkg and importlib.util.find_spec(name):
            yield importlib.import_module(name)


def _names() -> str:
    return ", ".join(sorted(all_exercises()))


@dataclass(frozen=True)
class Source:
    """Source code to look at: prints as text, shows as a block of code."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def solution(name: str) -> Source:
    """A few lines of plain PyTorch that solve an exercise, and where the package does
    the same.

    Raises ValueError, which lists the exercises, if there is none of this name.

    >>> solution("bits_per_weight")
    def bits_per_weight(bits, g, scale_bits=16, zero_bits=0):
        return bits + (scale_bits + zero_bits) / g
    <BLANKLINE>
    # in the package: mq.QuantizedTensor, minquant/numerics/tensor.py
    """
    if name not in all_exercises():
        raise ValueError(f"name {name!r} is no exercise; choose from {_names()}")
    exercise = all_exercises()[name]
    return Source(f"{exercise.solution}\n# in the package: {_place(exercise.inside)}")


def _place(dotted: str) -> str:
    """What a dotted name is called, and the file that it stands in."""
    thing: Any = minquant
    for part in dotted.split(".")[1:]:
        found = getattr(thing, part, None)
        thing = (
            importlib.import_module(f"{thing.__name__}.{part}")
            if found is None
            else found
        )
    module = thing if inspect.ismodule(thing) else inspect.getmodule(thing)
    file = f"{module.__name__.replace('.', '/')}.py"
    if thing is module:
        return file
    door = dotted.count(".") == 1
    return f"{'mq.' if door else ''}{dotted.rpartition('.')[2]}, {file}"
