"""How an exercise is judged: run the function, compare, and name the mistake.

    yours ──cases──▶ results ──equal to the answer's?──▶ ✓
                        │ no
                        └──equal to what a known mistake gives?──▶ "your zero-point has
                                                                    the wrong sign"

An `Exercise` holds the right function, some cases, and known mistakes: functions that
are each wrong in one way. If yours gives in every case what one of them gives, the
verdict names that mistake. So it says what is wrong with *this* function, not what
could be wrong.

An exercise that nobody has attempted (the function returns None or `...`, or raises
NotImplementedError without a message; torch's own have one) is reported as such and
stops nothing: *Run All* goes on. A check never raises, whatever the learner's function
does.

Each lesson has an `exercises.py`, in which an exercise's answer, its check and its
known mistakes stand together. `checks` finds them and hands them to learners by name.
"""

from __future__ import annotations

import copy
import dis
import html
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.course.progress import note_passed

Close = Callable[[Tensor, Tensor], bool]


def normal(*shape: int, seed: int) -> Float[Tensor, "*shape"]:
    """Normal numbers for a case, the same in every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Verdict:
    """The result of a check: a line for each case, and the mistake if it is known.

    lines: for each case, whether it holds, and a line of text. mistake: what is wrong,
    in words, or "". attempted: False if there was no function to judge. A verdict is
    true, as a bool, if every case holds.
    """

    name: str
    lines: tuple[tuple[bool, str], ...] = ()
    mistake: str = ""
    attempted: bool = True

    @property
    def passed(self) -> bool:
        """Whether every case holds."""
        return self.attempted and all(holds for holds, _ in self.lines)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if not self.attempted:
            return f"– {self.name}: {self._summary()}"
        rows = [f"{self.name}: {self._summary()}"]
        rows += [f"{_mark(holds)} {text}" for holds, text in self.lines]
        return "\n".join(rows + self._advice())

    def _repr_html_(self) -> str:
        from minquant.course.drawing import palette  # with matplotlib: only to be shown

        if not self.attempted:
            rows = [f"<b>– {self.name}</b>: {self._summary()}"]
            return _box(palette.MUTED, rows)
        colors = {True: palette.GREEN, False: palette.VERMILION}
        rows = [f"<b>{self.name}</b>: {self._summary()}"]
        for holds, text in self.lines:
            mark = f'<b style="color:{colors[holds]}">{_mark(holds)}</b>'
            rows.append(f"{mark} {html.escape(text)}")
        rows += [f"<b>{html.escape(line)}</b>" for line in self._advice()]
        return _box(colors[self.passed], rows)

    def _summary(self) -> str:
        if not self.attempted:
            return f'not attempted yet. Stuck? mq.checks.solution("{self.name}")'
        if self.passed:
            return "all right"
        return f"{sum(holds for holds, _ in self.lines)} of {len(self.lines)} hold"

    def _advice(self) -> list[str]:
        return [f"The likely mistake: {self.mistake}."] if self.mistake else []


def _mark(holds: bool) -> str:
    return "✓" if holds else "✗"


def _box(color: str, rows: list[str]) -> str:
    style = f"border-left:4px solid {color};padding:4px 12px;line-height:1.6"
    return f'<div style="{style}">{"<br>".join(rows)}</div>'


def _near(got: Tensor, want: Tensor) -> bool:
    """Equal up to what the order of float32 operations may change."""
    size = float(want.abs().max()) if want.numel() else 0.0
    return torch.allclose(got, want, rtol=1e-5, atol=1e-6 * max(size, 1e-12))


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise. Call it with the learner's function: it gives a `Verdict`.

    name: what the learner's function is called. task: what it takes and gives.
    answer: the right function. cases: the arguments of each case by its name. mistakes:
    functions that are wrong in one way, by what is wrong with them. outputs: the names
    of what the function gives. solution: a few lines of plain PyTorch that pass, which
    `checks.solution` shows. inside: what does it in the package, as a dotted name.
    close: whether two outputs count as equal.
    """

    name: str
    task: str
    answer: Callable
    cases: Mapping[str, tuple]
    mistakes: Mapping[str, Callable]
    outputs: tuple[str, ...] = ("the result",)
    solution: str = ""
    inside: str = ""
    close: Close = field(default=_near)

    def __call__(self, yours: object) -> Verdict:
        """Judge a function."""
        if yours is None or yours is ...:
            return Verdict(self.name, attempted=False)
        if not callable(yours):
            advice = f"give the function itself: checks.{self.name}({self.name})"
            return Verdict(self.name, ((False, advice),))
        results, lines = [], []
        for case, arguments in self.cases.items():
            try:
                result = self._run(yours, arguments)
            except Exception as error:  # a learner's function may raise anything
                nothing = isinstance(error, ReturnedNothing)
                if has_no_body(yours) if nothing else is_stub(error):
                    return Verdict(self.name, attempted=False)
                result = None
                trouble = f"it raised {type(error).__name__}: {error}"
                if nothing:
                    names = " and ".join(self.outputs)
                    trouble = f"it returned nothing; end it with return, and {names}"
            else:
                trouble = self._compare(result, self._run(self.answer, arguments))
            results.append(result)
            lines.append((not trouble, f"{case}: {trouble}" if trouble else case))
        right = all(holds for holds, _ in lines)
        if right and (problem := note_passed(self.name)):
            lines.append((True, problem))
        mistake = "" if right else self.likely_mistake(results)
        return Verdict(self.name, tuple(lines), mistake)

    def __repr__(self) -> str:
        return f"checks.{self.name}(yours) – {self.task}"

    def likely_mistake(self, results: list) -> str:
        """The known mistake that gives these results in every case, or "".

        results: one for each case, None where the function raised.
        """
        for words, wrong in self.mistakes.items():
            theirs = (self._run(wrong, arguments) for arguments in self.cases.values())
            if all(
                result is not None and not self._compare(result, other)
                for result, other in zip(results, theirs, strict=True)
            ):
                return words
        return ""

    def _run(self, function: Callable, arguments: tuple) -> tuple[Tensor, ...]:
        """The outputs of a function as tensors.

        Raises ReturnedNothing if there is no result, and ValueError if the
        function changes its arguments or gives a wrong number of outputs.
        """
        copies = copy.deepcopy(arguments)
        result = function(*copies)
        if result is None or result is ...:
            raise ReturnedNothing
        if any(_changed(a, b) for a, b in zip(arguments, copies, strict=True)):
            raise ValueError("it changes its argument; work on a copy")
        if len(self.outputs) == 1 and isinstance(result, tuple):
            # a tuple of floats is one output: a row of numbers
            several = not all(isinstance(part, float) for part in result)
        else:
            several = len(self.outputs) > 1 and isinstance(result, (tuple, list))
        parts = result if several else (result,)
        if len(parts) != len(self.outputs):
            names = " and ".join(self.outputs)
            raise ValueError(f"it gave {len(parts)} value(s); return {names}")
        return tuple(torch.as_tensor(part).detach().cpu() for part in parts)

    def _compare(self, got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> str:
        """What is wrong, in words, with the first output that is; "" if none is."""
        for name, value, right in zip(self.outputs, got, want, strict=True):
            if right.numel() == 1 and value.numel() == 1:
                value = value.reshape(right.shape)
            if value.shape != right.shape:
                return (
                    f"{name} has shape {tuple(value.shape)}, should be "
                    f"{tuple(right.shape)}"
                )
            if not self.close(value.double(), right.double()):
                return f"{name} {_largest_difference(value, right)}"
        return ""


def is_stub(error: Exception) -> bool:
    """Whether a function that raised this has no body yet."""
    return isinstance(error, NotImplementedError) and not error.args


class ReturnedNothing(Exception):
    """A function returned None, or `...`."""


_NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "CACHE"}


def has_no_body(function: Callable) -> bool:
    """Whether a function does nothing at all: its body is `...`, `pass` or a text."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return False
    return {step.opname for step in dis.get_instructions(code)} <= _NOTHING


def _changed(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return before.shape != after.shape or not torch.equal(before, after)
    return False


def _largest_difference(got: Tensor, want: Tensor) -> str:
    """Where two tensors of one shape differ most, and what is there."""
    if got.ndim == 0:
        return f"is {_number(got)}, should be {_number(want)}"
    distance = (got.double() - want.double()).abs().nan_to_num(torch.inf)
    place = torch.unravel_index(distance.argmax(), got.shape)
    index = [int(i) for i in place]
    return f"at {index} is {_number(got[place])}, should be {_number(want[place])}"


def _number(x: Tensor) -> str:
    return f"{x.item():.6g}" if x.is_floating_point() else f"{x.item()}"
