"""Exercise of lesson 12: the smallest file that harms nothing beyond what was agreed.

Each mistake is a function that is wrong in one way; `exercises` says how it is used. A
choice is a name and no number, and None, elsewhere the sign of a stub, is one of its
answers: here a stub is what gives None in every case.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from minquant.course import answers_serving
from minquant.course.capstone.exercises import Raising
from minquant.course.exercises import Verdict
from minquant.planning import choice


class _Naming(Raising):
    """Unlike other exercises: what a function gives is a name, or None."""

    def __call__(self, yours: object) -> Verdict:
        """Judge a function; one that gives None in every case is a stub."""
        cases = self.cases.values()
        if callable(yours) and all(self._run(yours, c) == (None,) for c in cases):
            return Verdict(self.name, attempted=False)
        return super().__call__(yours)

    def named(self, results: list) -> str:
        """The mistake; if it raised besides, that of the cases in which it did not."""
        calm = [(None,) if isinstance(r[0], Exception) else r for r in results]
        return super().named(results) or super().named(calm)

    def _run(self, function: Callable, arguments: tuple) -> tuple[Any, ...]:
        given = copy.deepcopy(arguments)
        try:
            name = function(*given)
        except Exception as error:  # a learner's function may raise anything
            stub = isinstance(error, NotImplementedError) and not error.args
            return (None if stub else error,)
        if given != arguments:
            return (ValueError("it changes its argument; work on a copy"),)
        if name is None or name is ... or isinstance(name, str):
            return (name if isinstance(name, str) else None,)
        kind = type(name).__name__
        return (TypeError(f"it gave a {kind}; give a candidate's name, or None"),)

    def _compare(self, got: tuple[Any, ...], want: tuple[Any, ...]) -> str:
        if any(isinstance(result[0], Exception) for result in (got, want)):
            return super()._compare(got, want)
        said = f"{self.outputs[0]} is {got[0]!r}, should be {want[0]!r}"
        return "" if got == want else said


Ends = tuple[float, float, float]  # mean, low, high of a harm
Row = tuple[str, int, dict[str, Ends]]  # name, bytes, harms


def _row(name: str, nbytes: int, facts: Ends, chains: Ends, **others: Ends) -> Row:
    return name, nbytes, {"facts": facts, "chains": chains, **others}


FILES = [
    _row("6-bit", 800, (0.7, 0.2, 1.2), (0.9, 0.3, 1.5)),
    _row("8-bit", 1000, (0.0, -0.3, 0.3), (0.1, -0.4, 0.6)),
    _row("3-bit A", 400, (9.0, 8.0, 10.0), (20.0, 18.0, 22.0)),
    _row("3-bit B", 430, (1.2, 0.6, 1.8), (6.0, 4.5, 7.5)),
    _row("4-bit A", 530, (0.5, 0.1, 0.9), (0.8, 0.2, 1.4)),
    _row("3-bit C", 410, (1.5, 0.5, 2.5), (2.0, 0.5, 3.5)),
    _row("4-bit B", 520, (1.0, 0.4, 1.6), (1.5, 0.6, 2.4)),
    _row("3-bit D", 405, (2.4, 1.5, 3.3), (3.6, 2.5, 4.7)),
    _row("3-bit E", 420, (1.5, -0.5, 3.5), (2.5, -0.2, 5.2)),
    _row("3-bit F", 425, (2.6, 2.1, 3.1), (1.0, 0.1, 1.9)),
]
EXTRA = [
    _row("4-bit rows", 600, (4.0, 3.0, 5.0), (5.0, 4.0, 6.0), far=(6.0, 5.0, 7.0)),
    _row("4-bit groups", 560, (0.6, 0.1, 1.1), (0.9, 0.2, 1.6), far=(9.0, 8.0, 9.9)),
    _row("3-bit groups", 420, (1.0, 0.2, 1.8), (3.0, 2.0, 4.0), far=(9.0, 8.0, 9.9)),
]
LINES = {"facts": 2.0, "chains": 3.0}


def _smallest(rows: list[Row]) -> Row:
    return min(rows, key=itemgetter(1))


def _largest(rows: list[Row]) -> Row:
    return max(rows, key=itemgetter(1))


def _chosen(
    candidates: list[Row],
    lines: dict[str, float],
    budget: int,
    *,
    holds: Callable[[Ends, float], bool] = lambda harm, most: harm[2] <= most,
    of: Callable[[list[bool]], bool] = all,
    fits: Callable[[int, int], bool] = lambda nbytes, budget: nbytes <= budget,
    before: Callable[[list[Row]], Sequence[Row]] = lambda fitting: fitting,
    take: Callable[[list[Row]], Row] = _smallest,
) -> str | None:
    """A choice with one part to be made wrong. before: which are looked at at all."""
    fitting = [row for row in candidates if fits(row[1], budget)]
    passing = [
        row
        for row in (before(fitting) if fitting else [])
        if of([holds(row[2][measure], most) for measure, most in lines.items()])
    ]
    return take(passing)[0] if passing else None


def _least_harm(passing: list[Row]) -> Row:
    return min(passing, key=lambda row: sum(high for _, _, high in row[2].values()))


choose = _Naming(
    name="choose",
    task="choose(candidates, lines, budget) gives the name of the smallest candidate "
    "(name, nbytes, harms) of at most budget bytes whose high end is at most the line, "
    "for every line; None if there is none. harms: measure to (mean, low, high)",
    answer=answers_serving.choose,
    cases={
        "room for all": (FILES, LINES, 2000),
        "room for all but the largest": (FILES, LINES, 900),
        "room for 520 bytes, which one has exactly": (FILES, LINES, 520),
        "one is exactly on the line": (FILES, {"facts": 1.6, "chains": 3.0}, 900),
        "lines so far out that all hold": (FILES, {"facts": 50.0, "chains": 50.0}, 900),
        "a larger file that is worse, and a measure without a line": (
            EXTRA,
            LINES,
            600,
        ),
        "all that hold the lines are too large": (FILES, LINES, 500),
        "nothing holds both lines": (FILES, {"facts": 0.2, "chains": 0.2}, 2000),
    },
    mistakes={
        "it looks at the mean; the truth may be as bad as the high end": (
            partial(_chosen, holds=lambda harm, most: harm[0] <= most)
        ),
        "it looks at low, the good end; the truth may be as bad as the high end": (
            partial(_chosen, holds=lambda harm, most: harm[1] <= most)
        ),
        "an interval that reaches 0 does not say that there is no harm, only that it "
        "was not seen; compare its high end with the line": (
            partial(_chosen, holds=lambda harm, most: harm[1] <= 0 or harm[2] <= most)
        ),
        "a high end exactly on the line is within it: <=": (
            partial(_chosen, holds=lambda harm, most: harm[2] < most)
        ),
        "one line that holds is enough here; all have to": partial(_chosen, of=any),
        "only the first line decides; all have to hold": (
            partial(_chosen, of=lambda held: held[0])
        ),
        "only the last line decides; all have to hold": (
            partial(_chosen, of=lambda held: held[-1])
        ),
        "the lines are not looked at: this is the smallest, whatever it breaks": (
            partial(_chosen, of=lambda held: True)
        ),
        "the budget is forgotten": partial(_chosen, fits=lambda nbytes, budget: True),
        "a file of exactly the budget fits: <=": (
            partial(_chosen, fits=lambda nbytes, budget: nbytes < budget)
        ),
        "it takes the largest that passes; take the smallest": (
            partial(_chosen, take=_largest)
        ),
        "it takes the one that harms least; all that hold the lines are good enough, "
        "so take the smallest": partial(_chosen, take=_least_harm),
        "it takes the first that passes; take the smallest": (
            partial(_chosen, take=lambda passing: passing[0])
        ),
        "min() or sorted() compares tuples by what comes first, the name; compare "
        "bytes: key=lambda c: c[1]": partial(_chosen, take=min),
        "it looks at the smallest only; if that breaks a line, go on to the next": (
            partial(_chosen, before=lambda rows: [_smallest(rows)])
        ),
        "it looks at the largest that fits only; a smaller one may hold the lines": (
            partial(_chosen, before=lambda rows: [_largest(rows)])
        ),
        "where none passes it gives one all the same; give None": (
            lambda *given: _chosen(*given) or _chosen(*given, of=lambda held: True)
        ),
        "where none passes there is no smallest; give None": (
            lambda *given: next(filter(None, [_chosen(*given)]))
        ),
    },
    outputs=("the name",),
    shows=(answers_serving.choose, choice.choose),
)

EXERCISES = (choose,)
