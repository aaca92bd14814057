"""Which file to take: lines drawn beforehand, a budget, the smallest that holds them.

    what must not suffer   the line    3 bits              4 bits
    rare facts, points     2.0         2.6  [1.9, 3.3] ?   0.5  [0.1, 0.9] ✓
    sums, points           3.0         6.0  [4.5, 7.5] ✗   0.8  [0.2, 1.4] ✓
    bytes                  600         430             ✓   530             ✓   take it

1. Before you look, write down a *line* for each thing that you care about: how much
   harm is acceptable, in the unit of that measure; and a budget in bytes. If you look
   first, you draw the line behind your favourite.
2. Measure how much worse than the original each candidate is, in pairs, with an
   interval. A line is *held* if the bad end of the interval is within it, and *broken*
   if even the good end is beyond it. In between you are *unsure*: that does not mean
   "probably fine", but "ask more questions".
3. Take the smallest candidate that holds every line and is within the budget. Measures
   are not traded against each other: being better than a line buys nothing.
4. Measure that one again on fresh text, and `choose([again], lines, budget)`.

Why step 4? A file that is beyond its line has a 95 % interval within the line up to
once in 40 times. As all lines must hold, many lines do not make that more likely. Many
candidates do, and a small file that was lucky is just what step 3 looks for (the
winner's curse). Asking more questions only where you are unsure selects in the same
way. Fresh questions know nothing of either.

What is left out: speed, and whatever no question asks. And where none of n answers
changed, a bootstrap interval has no width, though 4 in n may well change: then give the
end of `intervals.wilson` instead. Lesson 12 chooses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, isnan
from typing import Literal, NamedTuple, Protocol, runtime_checkable

Judgement = Literal["held", "unsure", "broken"]
Judged = Mapping[str, Judgement]  # by measure
Lines = Mapping[str, float]  # the most harm that is acceptable, by measure


@runtime_checkable
class HasInterval(Protocol):
    """A mean and its interval, such as `intervals.Difference`."""

    mean: float
    low: float
    high: float


class Harm(NamedTuple):
    """How much worse than the original, in the unit of the measure, with its interval.

    Positive is worse, whatever is measured. low is the good end, high the bad end.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def more(cls, difference: HasInterval) -> Harm:
        """The harm of a rise, for a measure that should stay low: loss, KL, flips."""
        return cls(difference.mean, difference.low, difference.high)

    @classmethod
    def less(cls, difference: HasInterval) -> Harm:
        """The harm of a fall, for a measure that should stay high: right answers.

        >>> Harm.less(Harm(-3.0, -4.5, -1.5))
        Harm(mean=3.0, low=1.5, high=4.5)
        """
        # 0 - x, as -x would turn 0.0 into -0.0
        return cls(0 - difference.mean, 0 - difference.high, 0 - difference.low)


@dataclass(frozen=True)
class Candidate:
    """A file that could be taken: its size in bytes, and its harms by measure."""

    name: str
    nbytes: int
    harms: Mapping[str, Harm]


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, or None; how each was judged, by name; and why."""

    chosen: Candidate | None
    verdicts: Mapping[str, Judged]
    reason: str


def verdict(harm: Harm, most: float) -> Judgement:
    """Whether a harm stays within its line, `most`. Exactly on the line is within it.

    Raises ValueError if low <= mean <= high does not hold, or if most is nan or -inf.

    >>> verdict(Harm(1.0, 0.4, 1.6), 2.0), verdict(Harm(1.0, 0.4, 1.6), 1.2)
    ('held', 'unsure')
    """
    if not harm.low <= harm.mean <= harm.high:
        raise ValueError(
            f"harm has mean {harm.mean} with the interval [{harm.low}, {harm.high}]; "
            "give (mean, low, high), positive for worse"
        )
    if isnan(most) or most == -inf:
        raise ValueError(f"most is {most}; write down how much harm is acceptable")
    if harm.high <= most:
        return "held"
    return "broken" if harm.low > most else "unsure"


def times_as_many(harm: Harm, most: float) -> float:
    """About how many times as many questions it takes for the line to hold.

    An interval shrinks with the square root of the number of questions, and the mean is
    assumed to stay. 1 if the line holds already; infinity if the mean is not below it,
    or if no number of questions makes an infinite interval narrow.

    >>> times_as_many(Harm(1.0, -1.0, 3.0), 2.0)  # half as wide
    4.0
    """
    if harm.high <= most:
        return 1.0
    if harm.mean >= most or not isfinite(harm.high - harm.mean):
        return inf
    return ((harm.high - harm.mean) / (most - harm.mean)) ** 2


def smallest_first(
    candidates: Sequence[Candidate], measures: Collection[str]
) -> list[Candidate]:
    """The candidates by size.

    Equal sizes are ordered by the bad end of the first measure, then of the second, and
    so on, and at last by name.
    """

    def _key(c: Candidate) -> tuple[int, list[float], str]:
        return c.nbytes, [c.harms[measure].high for measure in measures], c.name

    return sorted(candidates, key=_key)


def choose(candidates: Sequence[Candidate], lines: Lines, budget: int) -> Choice:
    """The smallest candidate within the budget that holds every line, or None.

    A measure that has no line does not count. budget: in bytes. Among candidates of the
    same size the first of `smallest_first` is taken.

    Raises ValueError if there is no candidate or no line, if two candidates have the
    same name, if a candidate lacks a measure, and as `verdict` does.

    >>> int4 = Candidate("int4", 530, {"facts": Harm(0.5, 0.1, 0.9)})
    >>> int3 = Candidate("int3", 430, {"facts": Harm(2.6, 1.9, 3.3)})
    >>> print(choose([int4, int3], {"facts": 2.0}, 600).reason)
    int4 is the smallest that holds every line: 530 of 600 bytes. Of the smaller \
ones int3 comes nearest, but may break facts (1.9 to 3.3, the line is 2).
    >>> choose([int4, int3], {"facts": 2.0}, 500).chosen is None
    True
    """
    _check(candidates, lines)
    judged = {c.name: _judge(c, lines) for c in candidates}
    ordered = smallest_first(candidates, lines)
    holding = [c for c in ordered if set(judged[c.name].values()) == {"held"}]
    chosen = next((c for c in holding if c.nbytes <= budget), None)
    if chosen is None:
        return Choice(None, judged, _why_none(ordered, holding, lines, budget))
    reason = (
        f"{chosen.name} is the smallest that holds every line: "
        f"{chosen.nbytes:,} of {budget:,} bytes."
    )
    if smaller := [c for c in ordered if c.nbytes < chosen.nbytes]:
        reason += f" Of the smaller ones {_nearest(smaller, lines)}"
    return Choice(chosen, judged, reason)


def _check(candidates: Sequence[Candidate], lines: Lines) -> None:
    if not candidates or not lines:
        raise ValueError(
            f"candidates are {len(candidates)}, lines {len(lines)}; give at least 1"
        )
    names = [c.name for c in candidates]
    for c in candidates:
        if names.count(c.name) > 1:
            raise ValueError(f"candidates has {c.name!r} twice; give each its own name")
        if missing := [measure for measure in lines if measure not in c.harms]:
            raise ValueError(
                f"lines has {missing[0]!r}, and {c.name!r} has {', '.join(c.harms)}; "
                "measure that too, or leave its line out"
            )


def _judge(candidate: Candidate, lines: Lines) -> Judged:
    try:
        return {m: verdict(candidate.harms[m], most) for m, most in lines.items()}
    except ValueError as error:
        raise ValueError(f"candidate {candidate.name!r}: {error}") from None


def _why_none(
    ordered: Sequence[Candidate],
    holding: Sequence[Candidate],
    lines: Lines,
    budget: int,
) -> str:
    """Why nothing is chosen, and what could be done."""
    if fitting := [c for c in ordered if c.nbytes <= budget]:
        reason = f"Nothing within {budget:,} bytes holds every line. "
        reason += _nearest(fitting, lines)
    else:
        smallest = ordered[0]
        reason = f"Nothing is within {budget:,} bytes: "
        reason += f"the smallest, {smallest.name}, has {smallest.nbytes:,}."
    if holding:
        first = holding[0]
        advice = f"With a budget of {first.nbytes:,} bytes {first.name} holds them."
        return f"{reason} {advice}"
    if len(fitting) < len(ordered):
        reason += " Nothing larger holds every line."
    return f"{reason} More bits, a better method or training may help."


def _nearest(candidates: Sequence[Candidate], lines: Lines) -> str:
    """Which candidate comes nearest to holding every line, and what it lacks."""
    nearest = min(candidates, key=lambda c: _distance(c, lines))
    return f"{nearest.name} comes nearest, but {_trouble(nearest, lines)}"


def _distance(candidate: Candidate, lines: Lines) -> tuple[int, int, float]:
    """How far a candidate is from holding every line, to sort by.

    First the number of lines that it breaks, then the number of unsure ones, then the
    worst overshoot: how far the bad end of a harm is beyond its line, in multiples of
    that line.
    """
    judged = list(_judge(candidate, lines).values())
    overshoots = []
    for measure, most in lines.items():
        beyond = candidate.harms[measure].high - most
        if beyond > 0:
            overshoots.append(beyond / (abs(most) or 1))
    return judged.count("broken"), judged.count("unsure"), max(overshoots)


def _trouble(candidate: Candidate, lines: Lines) -> str:
    """Which lines a candidate does not hold, and how many more questions may help."""
    judged = _judge(candidate, lines)
    clauses = []
    for judgement, verb in (("broken", "breaks"), ("unsure", "may break")):
        which = [
            _beyond(measure, candidate.harms[measure], most)
            for measure, most in lines.items()
            if judged[measure] == judgement
        ]
        if which:
            clauses.append(f"{verb} {' and '.join(which)}")
    trouble = f"{', and '.join(clauses)}."
    times = max(times_as_many(candidate.harms[m], most) for m, most in lines.items())
    if times == inf:
        return trouble
    rounded_up = ceil(times) if times > 10 else ceil(10 * times) / 10
    return (
        f"{trouble} Measured on {rounded_up:g} times as many questions or texts it "
        "would hold, if the means stay."
    )


def _beyond(measure: str, harm: Harm, most: float) -> str:
    """A harm that does not hold its line, in words."""
    low, high, line = (format_beside(x, most) for x in (harm.low, harm.high, most))
    return f"{measure} ({low} to {high}, the line is {line})"


def format_beside(x: float, line: float) -> str:
    """x in three digits, or in as many as it takes to show its side of the line.

    >>> format_beside(2.00001, line=3), format_beside(2.00001, line=2)
    ('2', '2.00001')
    """
    for digits in range(3, 18):  # 17 digits tell any two floats apart
        rounded = float(f"{x:.{digits}g}")
        if (rounded < line, rounded > line) == (x < line, x > line):
            break
    return f"{rounded:,.15g}".replace("-", "−")
