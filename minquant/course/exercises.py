"""How an exercise is judged: run it, compare, and name the mistake.

    yours ──cases──▶ results ──equal to the answer's?──▶ ✓
                        │ no
                        └──equal to what a known mistake gives?──▶ "your zero-point has
                                                                    the wrong sign"

An `Exercise` holds the right function, some cases, and known mistakes: functions that
are wrong in one way each. When yours gives in every case what one of them gives, that
is the mistake it names. So a verdict says what is wrong with *this* function, and not
what might be.

An exercise that nobody has attempted (it returns None or `...`, or raises a
NotImplementedError without words; torch's have some) says so and stops nothing: *Run
All* goes on. Nothing here raises, whatever the learner's function does. The exercises
stand in `checks`.
"""

from __future__ import annotations

import copy
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minquant.course.drawing import palette

Close = Callable[[Tensor, Tensor], bool]


@dataclass(frozen=True)
class Verdict:
    """What a check found: a line for each case, and the likely mistake if there is one.

    lines: whether each case holds, and what is said of it. attempted: False if there
    was nothing to judge. It is true, as a bool, when all is right.
    """

    name: str
    lines: tuple[tuple[bool, str], ...] = ()
    mistake: str = ""
    attempted: bool = True

    @property
    def passed(self) -> bool:
        """Whether every case holds."""
        return self.attempted and all(good for good, _ in self.lines)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if not self.attempted:
            return f"– {self.name}: not attempted yet. {self._way_out()}"
        said = [f"{'✓' if good else '✗'} {text}" for good, text in self.lines]
        return "\n".join([f"{self.name}: {self._summary()}", *said, *self._advice()])

    def _repr_html_(self) -> str:
        if not self.attempted:
            said = f"<b>– {self.name}</b>: not attempted yet. {self._way_out()}"
            return _box(palette.MUTED, [said])
        color = palette.GREEN if self.passed else palette.VERMILION
        rows = [f"<b>{self.name}</b>: {self._summary()}"]
        for good, text in self.lines:
            sign = palette.GREEN if good else palette.VERMILION
            mark = f'<b style="color:{sign}">{"✓" if good else "✗"}</b>'
            rows.append(f"{mark} {html.escape(text)}")
        rows += [f"<b>{html.escape(line)}</b>" for line in self._advice()]
        return _box(color, rows)

    def _summary(self) -> str:
        good = sum(good for good, _ in self.lines)
        return "all right" if self.passed else f"{good} of {len(self.lines)} hold"

    def _advice(self) -> list[str]:
        return [f"The likely mistake: {self.mistake}."] if self.mistake else []

    def _way_out(self) -> str:
        return f'Stuck? checks.solution("{self.name}")'


def _box(color: str, rows: list[str]) -> str:
    look = f"border-left:4px solid {color};padding:4px 12px;line-height:1.6"
    return f'<div style="{look}">{"<br>".join(rows)}</div>'


def _near(got: Tensor, want: Tensor) -> bool:
    """Equal up to what the order of float32 operations may change."""
    size = float(want.abs().max()) if want.numel() else 0.0
    return torch.allclose(got, want, rtol=1e-5, atol=1e-6 * max(size, 1e-12))


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise. Call it with a function of yours: it gives a `Verdict`.

    name: what the learner's function is called. task: what it takes and gives.
    answer: the right function. cases: name to arguments. mistakes: what is wrong in
    words, to a function that is wrong in this one way. outputs: the names of what it
    gives. close: when two results count as equal. shows: the functions of the package
    that `checks.solution` shows.
    """

    name: str
    task: str
    answer: Callable
    cases: Mapping[str, tuple]
    mistakes: Mapping[str, Callable]
    outputs: tuple[str, ...] = ("the result",)
    shows: tuple[Any, ...] = ()
    close: Close = field(default=_near)

    def __call__(self, yours: object) -> Verdict:
        """Judge a function."""
        if yours is None or yours is ...:
            return Verdict(self.name, attempted=False)
        if not callable(yours):
            said = f"give the function itself: checks.{self.name}({self.name})"
            return Verdict(self.name, ((False, said),))
        results, lines = [], []
        for case, arguments in self.cases.items():
            try:
                results.append(self._run(yours, arguments))
            except Exception as error:  # a learner's function may raise anything
                if isinstance(error, NotImplementedError) and not error.args:
                    return Verdict(self.name, attempted=False)
                kind = type(error).__name__
                lines.append((False, f"{case}: it raised {kind}: {error}"))
                results.append(None)
            else:
                trouble = self._compare(results[-1], self._run(self.answer, arguments))
                lines.append((not trouble, f"{case}: {trouble}" if trouble else case))
        right = all(good for good, _ in lines)
        mistake = "" if right else self.named(results)
        return Verdict(self.name, tuple(lines), mistake)

    def __repr__(self) -> str:
        return f"checks.{self.name}(yours) – {self.task}"

    def named(self, results: list) -> str:
        """The mistake that gives these results in every case, or ''."""
        for words, wrong in self.mistakes.items():
            theirs = (self._run(wrong, arguments) for arguments in self.cases.values())
            if all(
                result is not None and not self._compare(result, other)
                for result, other in zip(results, theirs, strict=True)
            ):
                return words
        return ""

    def _run(self, function: Callable, arguments: tuple) -> tuple[Tensor, ...]:
        """Outputs as tensors. Raises ValueError for what is no number, or changed."""
        given = copy.deepcopy(arguments)
        result = function(*given)
        if result is None or result is ...:
            raise NotImplementedError  # there is no result yet
        if any(_changed(a, b) for a, b in zip(arguments, given, strict=True)):
            raise ValueError("it changes its argument; work on a copy")
        several = isinstance(result, tuple) or len(self.outputs) > 1
        if len(self.outputs) == 1 and isinstance(result, tuple):
            several = not all(isinstance(x, float) for x in result)  # a row of numbers
        parts = result if several and isinstance(result, (tuple, list)) else (result,)
        if len(parts) != len(self.outputs):
            names = " and ".join(self.outputs)
            raise ValueError(f"it gave {len(parts)} value(s); return {names}")
        return tuple(torch.as_tensor(part).detach().cpu() for part in parts)

    def _compare(self, got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> str:
        """What is wrong with the first output that is, in words; '' if nothing is."""
        for name, mine, right in zip(self.outputs, got, want, strict=True):
            if right.numel() == 1 and mine.numel() == 1:
                mine = mine.reshape(right.shape)
            if mine.shape != right.shape:
                return (
                    f"{name} has shape {tuple(mine.shape)}, should be "
                    f"{tuple(right.shape)}"
                )
            whole = not right.is_floating_point()
            if not self.close(mine.double(), right.double()):
                return f"{name} {_first_difference(mine, right)}"
            if whole and mine.is_floating_point():
                return f"{name} is right, but held as {mine.dtype}; make it integers"
        return ""


def _changed(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return before.shape != after.shape or not torch.equal(before, after)
    return False


def _first_difference(got: Tensor, want: Tensor) -> str:
    """Where two tensors of one shape differ most, and by what."""
    gap = (got.double() - want.double()).abs().nan_to_num(torch.inf)
    if got.ndim == 0:
        return f"is {_number(got)}, should be {_number(want)}"
    place = int(gap.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(place), got.shape)]
    one, other = got.flatten()[place], want.flatten()[place]
    return f"at {index} is {_number(one)}, should be {_number(other)}"


def _number(x: Tensor) -> str:
    return f"{x.item():.6g}" if x.is_floating_point() else f"{x.item()}"
