"""The smallest file that holds every line: by hand, and the laws of a fair choice."""

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.measure.intervals import Difference, bootstrap, wilson
from minquant.planning.choice import (
    Candidate,
    Choice,
    Harm,
    choose,
    smallest_first,
    times_as_many,
    verdict,
)

LINES = {"facts": 2.0, "sums": 3.0}


def candidate(name, nbytes, facts, sums):
    """Harms by their ends, the mean half-way."""
    ends = {"facts": facts, "sums": sums}
    harms = {m: Harm((a + b) / 2, a, b) for m, (a, b) in ends.items()}
    return Candidate(name, nbytes, harms)


TWO = candidate("2 bits", 300, (60, 70), (80, 90))
THREE = candidate("3 bits", 430, (1.5, 2.5), (4.5, 7.5))
THREE_UNSURE = candidate("3 mixed", 440, (0.5, 2.5), (0, 1))
FOUR = candidate("4 bits", 530, (0.1, 0.9), (0.2, 1.4))
EIGHT = candidate("8 bits", 990, (-0.3, 0.3), (-0.4, 0.6))
TABLE = [EIGHT, TWO, FOUR, THREE, THREE_UNSURE]


@pytest.mark.parametrize(
    ("low", "high", "most", "want"),
    [
        (0.4, 1.6, 2.0, "held"),
        (0.4, 1.6, 1.6, "held"),  # on the line is within it
        (0.4, 1.6, 1.5, "unsure"),
        (0.4, 1.6, 0.4, "unsure"),  # the truth may be on the line
        (0.4, 1.6, 0.3, "broken"),
        (-2.0, -1.0, 0.0, "held"),  # it got better
        (-1.0, 1.0, 0.0, "unsure"),  # no harm was seen: that is not enough
        (0.0, 0.0, 0.0, "held"),
        (5.0, math.inf, 2.0, "broken"),
    ],
)
def test_a_line_is_held_by_the_bad_end_and_broken_by_the_good_one(
    low, high, most, want
):
    assert verdict(Harm((low + min(high, 9)) / 2, low, high), most) == want


def test_the_smallest_that_holds_every_line_is_taken():
    choice = choose(TABLE, LINES, 600)
    assert choice.chosen is FOUR
    assert choice.verdicts == {
        "8 bits": {"facts": "held", "sums": "held"},
        "4 bits": {"facts": "held", "sums": "held"},
        "3 bits": {"facts": "unsure", "sums": "broken"},
        "3 mixed": {"facts": "unsure", "sums": "held"},
        "2 bits": {"facts": "broken", "sums": "broken"},
    }
    assert choice.reason == (
        "4 bits is the smallest that holds every line: 530 of 600 bytes. Of the "
        "smaller ones 3 mixed comes nearest, but may break facts (0.5 to 2.5, the line "
        "is 2). Measured on 4 times as many questions or texts it would hold, if the "
        "means stay."
    )


def test_all_of_the_budget_may_be_used_and_no_byte_more():
    assert choose(TABLE, LINES, 530).chosen is FOUR
    assert choose(TABLE, LINES, 529).chosen is None


def test_where_only_the_budget_is_in_the_way_the_budget_that_would_do_is_named():
    assert choose(TABLE, LINES, 435).reason == (
        "Nothing within 435 bytes holds every line. 3 bits comes nearest, but breaks "
        "sums (4.5 to 7.5, the line is 3), and may break facts (1.5 to 2.5, the line "
        "is 2). With a budget of 530 bytes 4 bits holds them."
    )
    assert choose(TABLE, LINES, 100).reason == (
        "Nothing is within 100 bytes: the smallest, 2 bits, has 300. With a budget of "
        "530 bytes 4 bits holds them."
    )


def test_where_nothing_holds_the_nearest_and_what_may_help_are_named():
    strict = {"facts": 0.2, "sums": 0.2}
    assert choose(TABLE, strict, 2000).reason == (
        "Nothing within 2,000 bytes holds every line. 8 bits comes nearest, but may "
        "break facts (−0.3 to 0.3, the line is 0.2) and sums (−0.4 to 0.6, the line is "
        "0.2). Measured on 25 times as many questions or texts it would hold, if the "
        "means stay. More bits, a better method or training may help."
    )
    assert choose(TABLE, strict, 500).reason.endswith(
        " Nothing larger holds every line. More bits, a better method or training may "
        "help."
    )
    nothing_fits = choose([EIGHT], strict, 500).reason
    assert nothing_fits.startswith("Nothing is within 500 bytes: the smallest, 8 bits")
    assert " Nothing larger holds every line. More bits" in nothing_fits


def test_the_first_of_its_size_is_the_one_with_the_lower_bad_end_of_the_first_line():
    a = candidate("a", 500, (0, 1.5), (0, 0.5))
    b = candidate("b", 500, (0, 1.0), (0, 2.0))
    assert choose([a, b], LINES, 600).chosen is b
    swapped = {"sums": 3.0, "facts": 2.0}
    assert choose([a, b], swapped, 600).chosen is a
    c = replace(b, name="c")
    assert choose([c, b], LINES, 600).chosen is b
    assert "smaller ones" not in choose([a, b], swapped, 600).reason


def test_the_numbers_in_a_reason_show_on_which_side_of_its_line_an_end_is():
    near = candidate("near", 1, (1.99999, 2.00001), (0, 1))
    assert (
        "facts (1.99999 to 2.00001, the line is 2)" in choose([near], LINES, 9).reason
    )
    huge = candidate("huge", 1, (5734.8, 57348), (0, 1))
    assert "breaks facts (5,730 to 57,300, the line is 2)" in (
        choose([huge], LINES, 9).reason
    )


def test_fewer_broken_lines_come_before_fewer_unsure_ones_and_these_before_distance():
    one_broken = candidate("one broken", 3, (2.1, 2.2), (0, 1))
    both_unsure = candidate("both unsure", 2, (0, 90), (0, 90))
    one_unsure = candidate("one unsure", 1, (0, 99), (0, 1))
    closer = candidate("closer", 4, (0, 98), (0, 1))
    assert (
        "both unsure comes near" in choose([one_broken, both_unsure], LINES, 9).reason
    )
    assert "one unsure comes near" in choose([one_unsure, both_unsure], LINES, 9).reason
    assert "closer comes nearest" in choose([one_unsure, closer], LINES, 9).reason


def test_how_far_an_end_is_beyond_its_line_is_counted_in_lengths_of_that_line():
    lines = {"facts": 20.0, "sums": 0.1}
    facts = candidate("facts", 1, (0, 25), (0, 0.1))  # by a quarter
    sums = candidate("sums", 2, (0, 20), (0, 0.2))  # by as much again
    assert "facts comes nearest" in choose([facts, sums], lines, 9).reason
    swapped = {"facts": 20.0, "sums": 0.19}
    assert "sums comes nearest" in choose([facts, sums], swapped, 9).reason


def test_four_times_as_many_questions_halve_an_interval():
    assert times_as_many(Harm(1.0, -1.0, 3.0), 2.0) == 4
    assert times_as_many(Harm(1.0, 0.0, 2.0), 2.0) == 1  # it is on the line
    assert times_as_many(Harm(2.0, 1.0, 3.0), 2.0) == math.inf


def test_so_many_times_as_many_documents_do_bring_the_bad_end_to_the_line():
    sums = torch.randn(200, generator=torch.Generator().manual_seed(1)) + 1.0
    harm = Harm(sums.mean().item(), *bootstrap(sums))
    most = harm.mean + (harm.high - harm.mean) / 2
    assert times_as_many(harm, most) == pytest.approx(4)
    _, high = bootstrap(sums.repeat(4))
    # a quantile of 4000 draws scatters by some 4 % of the half width
    assert high - most == pytest.approx(0, abs=0.15 * (most - harm.mean))


def test_a_loss_may_not_rise_and_right_answers_may_not_fall():
    nats = Difference(0.03, 0.02, 0.04)
    assert Harm.more(nats) == (0.03, 0.02, 0.04)
    points = Difference(-3.0, -4.5, -1.5, "points")
    assert Harm.less(points) == (3.0, 1.5, 4.5)
    assert Harm.less(Harm.less(points)) == Harm.more(points)
    assert "-" not in repr(Harm.less(Difference(0.0, 0.0, 0.0)))  # no minus zero


def test_what_the_lecture_says_of_chance_is_so():
    assert 1 - NormalDist().cdf(NormalDist().inv_cdf(0.975)) == pytest.approx(1 / 40)
    for n in (50, 200, 1000):
        assert 3.5 < n * wilson(0, n)[1] < 4


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="candidates are 0, lines 2; give at least 1"):
        choose([], LINES, 600)
    with pytest.raises(ValueError, match="candidates are 1, lines 0; give at least 1"):
        choose([FOUR], {}, 600)
    with pytest.raises(ValueError, match="candidates has '4 bits' twice; give each"):
        choose([FOUR, EIGHT, FOUR], LINES, 600)
    with pytest.raises(
        ValueError, match="lines has 'far', and '4 bits' has facts, sums; measure that"
    ):
        choose([FOUR], {"facts": 1.0, "far": 1.0}, 600)


@pytest.mark.parametrize(
    "harm", [(math.nan, 0, 1), (0.5, math.nan, 1), (0.5, 1, 0), (2, 0, 1), (0, 1, 2)]
)
def test_a_mean_outside_its_interval_is_refused_with_the_candidate_s_name(harm):
    odd = replace(FOUR, harms={**FOUR.harms, "sums": Harm(*harm)})
    with pytest.raises(
        ValueError, match=r"candidate '4 bits': harm has mean .*positive"
    ):
        choose([EIGHT, odd], LINES, 600)


def test_a_line_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="most is nan; write down how much harm"):
        verdict(Harm(0.0, 0.0, 0.0), math.nan)


@st.composite
def tables(draw):
    """Candidates of few different sizes, so that some are as large as others."""
    ends = st.lists(st.integers(-3, 9), min_size=3, max_size=3).map(sorted)
    table = []
    for i in range(draw(st.integers(1, 6))):
        harms = {}
        for measure in ("facts", "sums"):
            low, mean, high = draw(ends)
            harms[measure] = Harm(mean, low, high)
        table.append(Candidate(f"c{i}", draw(st.integers(1, 8)), harms))
    return table


LINES_OF = st.fixed_dictionaries(
    {"facts": st.integers(-3, 9), "sums": st.integers(-3, 9)}
)
BUDGETS = st.integers(1, 9)


def size(choice: Choice):
    """Bytes; those of no choice are more than all."""
    return choice.chosen.nbytes if choice.chosen else math.inf


@given(tables(), LINES_OF, BUDGETS)
def test_the_chosen_one_holds_all_fits_and_nothing_smaller_does(table, lines, budget):
    passing = [
        c
        for c in table
        if c.nbytes <= budget and all(c.harms[m].high <= lines[m] for m in lines)
    ]
    choice = choose(table, lines, budget)
    assert size(choice) == min((c.nbytes for c in passing), default=math.inf)
    assert choice.chosen is None or choice.chosen in passing


@given(tables(), LINES_OF, BUDGETS, st.integers(0, 9), st.integers(0, 9))
def test_looser_lines_and_a_larger_budget_never_make_the_choice_larger(
    table, lines, budget, more, room
):
    looser = {**lines, "sums": lines["sums"] + more}
    assert size(choose(table, looser, budget + room)) <= size(
        choose(table, lines, budget)
    )


@given(tables(), LINES_OF, BUDGETS, st.data())
def test_one_that_is_larger_and_worse_in_everything_changes_nothing(
    table, lines, budget, data
):
    better = data.draw(st.sampled_from(table))
    worse = Candidate(
        "worse",
        better.nbytes + 1,
        {m: Harm(*(end + 1 for end in harm)) for m, harm in better.harms.items()},
    )
    with_it = choose([worse, *table], lines, budget)
    assert with_it.chosen == choose(table, lines, budget).chosen


@given(tables(), LINES_OF, BUDGETS, st.randoms())
def test_the_order_of_the_candidates_changes_nothing(table, lines, budget, random):
    mixed = random.sample(table, len(table))
    assert choose(mixed, lines, budget) == choose(table, lines, budget)
    assert smallest_first(mixed, lines) == smallest_first(table, lines)


@given(tables(), LINES_OF, BUDGETS, st.sampled_from([0.125, 1024.0]))
def test_the_unit_of_a_measure_changes_nothing(table, lines, budget, unit):
    def told(harm):
        return Harm(*(unit * end for end in harm))

    scaled = [replace(c, harms={m: told(h) for m, h in c.harms.items()}) for c in table]
    other = choose(scaled, {m: unit * most for m, most in lines.items()}, budget)
    choice = choose(table, lines, budget)
    assert other.verdicts == choice.verdicts and size(other) == size(choice)


@given(tables(), LINES_OF, BUDGETS)
def test_what_has_no_line_does_not_count(table, lines, budget):
    bare = [replace(c, harms={"facts": c.harms["facts"]}) for c in table]
    only = {"facts": lines["facts"]}
    one, other = choose(table, only, budget), choose(bare, only, budget)
    assert one.reason == other.reason and one.verdicts == other.verdicts


@given(tables(), LINES_OF, BUDGETS)
def test_who_knows_exactly_is_never_unsure(table, lines, budget):
    sure = [
        replace(c, harms={m: Harm(h.mean, h.mean, h.mean) for m, h in c.harms.items()})
        for c in table
    ]
    judged = choose(sure, lines, budget).verdicts
    assert {v for row in judged.values() for v in row.values()} <= {"held", "broken"}


@given(tables(), LINES_OF, BUDGETS)
def test_a_reason_names_the_chosen_one_or_says_nothing(table, lines, budget):
    choice = choose(table, lines, budget)
    start = f"{choice.chosen.name} is" if choice.chosen else "Nothing "
    assert choice.reason.startswith(start)
    assert choice.reason.endswith(".") and ".." not in choice.reason


def test_a_line_that_is_held_asks_for_no_more_questions():
    one = Candidate("x", 100, {"facts": Harm(2, 1, 3.5), "sums": Harm(0, 0, 0)})
    said = choose([one], {"facts": 3, "sums": 0}, 200).reason
    assert "2.3 times as many" in said
