"""Which file to take: lines drawn beforehand, a budget, the smallest that holds them.

    what must not suffer   the line    3 bits              4 bits
    rare facts, points     2.0         2.6  [1.9, 3.3] ?   0.5  [0.1, 0.9] ✓
    sums, points           3.0         6.0  [4.5, 7.5] ✗   0.8  [0.2, 1.4] ✓
    bytes                  600         430             ✓   530             ✓   take it

1. Before you look, write down a *line* for each thing that you care about: how much
   harm is acceptable, in that measure's own unit; and a budget in bytes. Who looks
   first draws the line behind a favourite.
2. Measure how much worse than the original each candidate is, in pairs, with an
   interval. A line is *held* if the bad end of the interval is within it, *broken* if
   even the good end is beyond it. In between one is *unsure*: not "probably fine", but
   "ask more questions".
3. Take the smallest candidate that holds every line and is within the budget. Measures
   are not traded against each other: what is better than its line buys nothing.
4. Measure that one again on fresh text, and `choose([again], lines, budget)`.

Why 4: of a file that is beyond its line, an interval of 95 % still ends within it up to
once in 40 times. All lines must hold, so many lines do not raise that; many candidates
do, and a lucky small one is just what step 3 looks for (the winner's curse). To ask
more only where one is unsure is a choice too. Fresh questions know nothing of either.

What is left out: speed, and what no question asks. And where no answer of n changed, a
bootstrap has no width at all, though 4 in n may well change: give `intervals.wilson`'s
end instead. Lesson 12 chooses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal, NamedTuple, Protocol, runtime_checkable

Judgement = Literal["held", "unsure", "broken"]
Judged = Mapping[str, Judgement]  # by measure
Lines = Mapping[str, float]  # measure to the most harm that is acceptable


@runtime_checkable
class HasInterval(Protocol):
    """A number that knows how sure it is, such as `intervals.Difference`."""

    mean: float
    low: float
    high: float


class Harm(NamedTuple):
    """How much worse than the original, in the measure's unit, and its interval.

    Positive is worse, whatever is measured; low is the good end, high the bad one.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def more(cls, difference: HasInterval) -> Harm:
        """Of what should not rise: a loss, a perplexity, the share that flips."""
        return cls(difference.mean, difference.low, difference.high)

    @classmethod
    def less(cls, difference: HasInterval) -> Harm:
        """Of what should not fall: right answers. 3 points less are a harm of 3.

        >>> Harm.less(Harm(-3.0, -4.5, -1.5))
        Harm(mean=3.0, low=1.5, high=4.5)
        """
        return cls(0 - difference.mean, 0 - difference.high, 0 - difference.low)


@dataclass(frozen=True)
class Candidate:
    """A file that could be taken: its bytes, and its harm by measure."""

    name: str
    nbytes: int
    harms: Mapping[str, Harm]


@dataclass(frozen=True)
class Choice:
    """What was taken, or None; how every candidate was judged, by name; and why."""

    chosen: Candidate | None
    verdicts: Mapping[str, Judged]
    reason: str


def verdict(harm: Harm, most: float) -> Judgement:
    """Whether a harm is within its line. Exactly on the line is within it.

    Raises ValueError unless low <= mean <= high, and if most is no number.

    >>> verdict(Harm(1.0, 0.4, 1.6), 2.0), verdict(Harm(1.0, 0.4, 1.6), 1.2)
    ('held', 'unsure')
    """
    if not harm.low <= harm.mean <= harm.high:
        raise ValueError(
            f"harm has mean {harm.mean} with the interval [{harm.low}, {harm.high}]; "
            "give (mean, low, high), positive for worse"
        )
    if most != most:  # nothing but NaN differs from itself
        raise ValueError("most is nan; write down how much harm is acceptable")
    return "held" if harm.high <= most else "broken" if harm.low > most else "unsure"


def times_as_many(harm: Harm, most: float) -> float:
    """How many times as many questions bring the bad end down to the line, about.

    An interval shrinks with the square root of their number. It is taken for granted
    that the mean stays; one not below the line takes infinitely many, one held no more.

    >>> times_as_many(Harm(1.0, -1.0, 3.0), 2.0)  # half as wide
    4.0
    """
    half, room = harm.high - harm.mean, most - harm.mean
    return 1.0 if harm.high <= most else (half / room) ** 2 if room > 0 else inf


def smallest_first(
    candidates: Sequence[Candidate], measures: Collection[str]
) -> list[Candidate]:
    """By bytes; of two with as many, first the one whose bad end of the first measure
    is lower, then of the second and so on, and at last by name."""

    def _key(c: Candidate) -> tuple[int, list[float], str]:
        return c.nbytes, [c.harms[measure].high for measure in measures], c.name

    return sorted(candidates, key=_key)


def choose(candidates: Sequence[Candidate], lines: Lines, budget: int) -> Choice:
    """The smallest candidate within the budget that holds every line, or None.

    A measure that has no line does not count. budget: in bytes. Of several with as
    many bytes the first of `smallest_first` is taken, whatever their order here.

    Raises ValueError for no candidate or line, two candidates of one name, a candidate
    that lacks a measure, and as `verdict` does.

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
    said = f"{chosen.name} is the smallest that holds every line: "
    said += f"{chosen.nbytes:,} of {budget:,} bytes."
    if smaller := [c for c in ordered if c.nbytes < chosen.nbytes]:
        said += f" Of the smaller ones {_nearest(smaller, lines)}"
    return Choice(chosen, judged, said)


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
    """What stands in the way of the nearest, and what could be done."""
    first = ordered[0]
    said = f"Nothing is within {budget:,} bytes: the smallest, {first.name}, has "
    said += f"{first.nbytes:,}."
    if fitting := [c for c in ordered if c.nbytes <= budget]:
        said = f"Nothing within {budget:,} bytes holds every line. "
        said += _nearest(fitting, lines)
    if holding:
        one = holding[0]
        return f"{said} With a budget of {one.nbytes:,} bytes {one.name} holds them."
    if len(fitting) < len(ordered):
        said += " Nothing larger holds every line."
    return f"{said} More bits, a better method or training may help."


def _nearest(candidates: Sequence[Candidate], lines: Lines) -> str:
    """The one that breaks the fewest lines; then that is unsure of the fewest; then
    whose worst bad end is the least beyond its line, in lengths of that line."""

    def _key(c: Candidate) -> tuple[int, int, float]:
        judged = list(_judge(c, lines).values())
        ends = [(c.harms[m].high, most) for m, most in lines.items()]
        beyond = [(end - most) / (abs(most) or 1) for end, most in ends if end > most]
        return judged.count("broken"), judged.count("unsure"), max(beyond)

    near = min(candidates, key=_key)
    return f"{near.name} comes nearest, but {_trouble(near, lines)}"


def _trouble(candidate: Candidate, lines: Lines) -> str:
    """The lines that it does not hold, and how many more questions could mend that."""
    harms, judged, told = candidate.harms, _judge(candidate, lines), []
    for judgement, verb in (("broken", "breaks"), ("unsure", "may break")):
        some = [m for m in lines if judged[m] == judgement]
        ends = [[beside(end, lines[m]) for end in harms[m][1:]] for m in some]
        each = [
            f"{m} ({low} to {high}, the line is {beside(lines[m], lines[m])})"
            for m, (low, high) in zip(some, ends, strict=True)
        ]
        told += [f"{verb} {' and '.join(each)}"] if each else []
    said = f"{', and '.join(told)}."
    times = max(times_as_many(harms[m], most) for m, most in lines.items())
    if times == inf:
        return said
    enough = ceil(times) if times > 10 else ceil(10 * times) / 10
    said += f" Measured on {enough:g} times as many questions or texts it would hold, "
    return f"{said}if the means stay."


def beside(x: float, line: float) -> str:
    """In three digits, or in as many as show on which side of the line it is."""
    rounded = (float(f"{x:.{digits}g}") for digits in range(3, 18))
    y = next(y for y in rounded if (y < line, y > line) == (x < line, x > line))
    return f"{y:,.15g}".replace("-", "−")
