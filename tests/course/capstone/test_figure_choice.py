"""Rows, lines and one frame: what is drawn is what was judged."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.cases import (
    CANDIDATES,
    EIGHT,
    FOUR,
    LINES,
    ROWS,
    TWO,
    UNITS,
)
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.capstone.figure_choice import (
    GAP,
    LOOKS,
    ChoicePicture,
    describe,
    reach_of,
)
from minquant.course.drawing import figures, palette
from minquant.planning.choice import Harm, choose


@pytest.fixture
def picture():
    return ChoicePicture(CANDIDATES, LINES, 700_000, UNITS)


def points(line):
    """What an artist shows, as a list of [x, y]."""
    return np.asarray(line.get_xydata()).tolist()


def segments(lines):
    """x0 and x1 of each segment, from the top."""
    return [path.vertices[:, 0].tolist() for path in lines.get_paths()]


def judged(panel):
    """The judgement of each row, by the mark that it has."""
    at = {y: word for word, mark in panel.marks.items() for _, y in points(mark)}
    return [at[y] for y in sorted(at)]


def framed(picture):
    """The rows within the frame."""
    return [path.vertices[:, 1].min() for path in picture.frame.get_paths()]


def texts(picture):
    """All that is written, ticks too."""
    found = [*picture.fig.texts]
    for ax in picture.fig.axes:
        found += ax.texts
        if ax.axison:
            found += [*ax.get_xticklabels(), ax.xaxis.label]
    return [text for text in found if text.get_text()]


def test_the_rows_go_from_the_smallest_down_and_say_name_and_size(picture):
    assert picture.rows == ROWS
    said = [text.get_text() for text in texts(picture)]
    names = said[said.index("2 bits") :][:8]
    assert names[:4] == ["2 bits", "3 bits", "4 bits", "8 bits"]
    assert names[4:] == ["312 kB", "412 kB", "515 kB", "901 kB"]


def test_each_row_has_one_mark_in_each_column_that_is_its_judgement(picture):
    assert judged(picture.panels["facts lost"]) == ["broken", "broken", "held", "held"]
    assert judged(picture.panels["sums lost"]) == ["broken", "unsure", "held", "held"]
    assert judged(picture.sizes) == ["held", "held", "held", "broken"]
    held = picture.panels["facts lost"].marks["held"]
    assert points(held) == [[1.3, 2.5], [0, 3.5]]


def test_the_interval_is_drawn_in_the_colour_of_its_judgement(picture):
    panel = picture.panels["sums lost"]
    assert segments(panel.bars)[1:] == [[0, 5], [-0.2, 1.4], [-0.4, 0.4]]
    want = [palette.VERMILION, palette.INK, palette.GREEN, palette.GREEN]
    want = [[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in want]
    np.testing.assert_allclose(panel.bars.get_colors()[:, :3], want)


def test_the_judgements_differ_in_shape_or_filling_and_not_only_in_colour():
    seen = {(mark, face == palette.PAPER) for mark, _, face, _ in LOOKS.values()}
    assert len(seen) == len(LOOKS) == 3


def test_a_bar_of_bytes_begins_at_0_and_its_mark_is_at_its_end(picture):
    assert segments(picture.sizes.bars) == [[0, c.nbytes] for c in ROWS]
    assert points(picture.sizes.marks["broken"]) == [[901_000, 3.5]]


def test_the_line_its_label_and_what_is_allowed_are_at_the_value(picture):
    panel = picture.panels["facts lost"]
    for most in (2.0, 0.7):
        picture.update({**LINES, "facts lost": most}, 600_000)
        assert segments(panel.line) == [[most, most]]
        assert panel.band.get_paths()[0].vertices[:, 0].max() == most
        assert panel.label.get_text() == f"≤ {most:g}"
    assert picture.sizes.label.get_text() == "≤ 600 kB"
    assert segments(picture.sizes.line) == [[600_000, 600_000]]


@pytest.mark.parametrize("most", [1.234e-5, 0.0299876])
def test_a_long_label_stays_within_half_a_gap_of_its_column(picture, most):
    picture.update({**LINES, "KL": most}, 700_000)
    panel, renderer = picture.panels["KL"], picture.fig.canvas.get_renderer()
    box = panel.label.get_window_extent(renderer)
    sharp = picture.fig.dpi / 100
    assert box.x0 / sharp >= panel.left - GAP / 2
    assert box.x1 / sharp <= panel.left + panel.width + GAP / 2


def test_the_chosen_row_is_framed_and_no_other(picture):
    assert framed(picture) == [2]
    picture.update({**LINES, "facts lost": 1.0}, 950_000)
    assert framed(picture) == [3]
    picture.update(LINES, 515_000)  # all of it, as in `choose`
    assert framed(picture) == [2] and judged(picture.sizes)[2] == "held"
    picture.update(LINES, 400_000)
    assert framed(picture) == [] and picture.choice.chosen is None


def test_the_choice_is_the_package_s_for_every_place_of_the_lines(picture):
    for most in (0.0, 1.0, 2.0, 6.0):
        for budget in (0, 420_000, 900_000, 901_000):
            lines = {**LINES, "facts lost": most}
            picture.update(lines, budget)
            want = choose(CANDIDATES, lines, budget)
            assert picture.choice == want
            assert picture.fig.alt == describe(ROWS, lines, want)
            assert picture.fig.alt.startswith(want.reason)


def test_harm_beyond_the_axis_is_drawn_on_its_end_whose_label_says_so(picture):
    panel = picture.panels["facts lost"]
    assert picture.reach["facts lost"] == panel.ends[1] == 6
    assert points(panel.marks["broken"]) == [[6, 0.5], [4.6, 1.5]]
    labels = [text.get_text() for text in panel.ax.get_xticklabels()]
    assert labels == ["0", "3", "≥ 6"]
    near = ChoicePicture([FOUR, EIGHT], LINES, 700_000, UNITS)
    labels = near.panels["facts lost"].ax.get_xticklabels()
    assert [text.get_text() for text in labels] == ["0", "3", "6"]


def test_what_got_much_better_is_drawn_on_the_left_end_whose_label_says_so():
    better = replace(FOUR, harms={**FOUR.harms, "facts lost": Harm(-30, -40, -20)})
    made = ChoicePicture([better], LINES, 700_000, UNITS)
    panel = made.panels["facts lost"]
    assert points(panel.marks["held"]) == [[-6, 0.5]]
    assert [text.get_text() for text in panel.ax.get_xticklabels()][-1] == "≤ −6"


def test_an_infinite_harm_can_be_drawn():
    worst = replace(TWO, harms={**TWO.harms, "KL": Harm(math.inf, 1, math.inf)})
    made = ChoicePicture([worst, FOUR], LINES, 700_000, UNITS)
    assert points(made.panels["KL"].marks["broken"]) == [[0.03, 0.5]]
    figures.to_pixels(made.fig)


def test_the_axes_never_move_and_nothing_else_is_drawn_anew(picture):
    before = [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes]
    first = figures.to_pixels(picture.fig).copy()
    for most, budget in ((5.9, 300_000), (0.1, 950_000)):
        picture.update({**LINES, "sums lost": most}, budget)
        assert (figures.to_pixels(picture.fig) != first).any()
    assert [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes] == before
    picture.update(LINES, 700_000)
    assert (figures.to_pixels(picture.fig) == first).all()


def test_the_words_tell_why_then_the_lines_then_every_row():
    assert describe([FOUR], LINES, choose([FOUR], LINES, 600_000)) == (
        "4 bits is the smallest that holds every line: 515,000 of 600,000 bytes. The "
        "lines: facts lost 2, sums lost 2, KL 0.01. From the smallest: 4 bits, 515 kB: "
        "facts lost 0.5 to 1.9, held; sums lost −0.2 to 1.4, held; KL 0.005 to 0.007, "
        "held."
    )


SIX = [
    replace(c, name=f"{c.name} rtn, g = 64", nbytes=c.nbytes + 1) for c in CANDIDATES
]
LONG = {"rarest facts forgotten": 2.0, "sums of 8 steps lost": 2.0, "KL": 0.01}


def long(c):
    """A candidate with a measure more, and with longer names."""
    facts, sums, kl = c.harms.values()
    few, many, nats = LONG
    return replace(c, harms={few: facts, many: sums, nats: kl, "recall lost": sums})


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (CANDIDATES, LINES),
        (CANDIDATES[:1], {"KL": 0.01}),
        (CANDIDATES + SIX, {"facts lost": 2.0, "sums lost": 2.0}),
        ([long(c) for c in CANDIDATES + SIX], {**LONG, "recall lost": 2.0}),
    ],
)
@pytest.mark.parametrize("where", [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
def test_no_text_runs_over_the_sheet_or_over_another(table, lines, where):
    units = dict.fromkeys(lines, "nats per token")
    made = ChoicePicture(table, lines, 700_000, units)
    drawn = {m: where[i % 2] * made.reach[m] for i, m in enumerate(lines, 1)}
    made.update(drawn, round(where[0] * 946_000))
    figures.to_pixels(made.fig)
    renderer = made.fig.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts(made)]
    width, height = made.fig.canvas.get_width_height(physical=True)
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i]), texts(made)[i]


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3).map(sorted)),
    st.floats(-1e3, 1e3),
)
def test_an_axis_has_room_for_its_line_and_for_all_that_touches_it(rows, line):
    harms = [Harm(mean, low, high) for low, mean, high in rows]
    reach = reach_of(harms, line)
    assert reach > 0 and reach >= 3 * line
    assert all(harm.high <= reach for harm in harms if harm.low <= line)


def test_the_end_of_an_axis_is_a_round_number():
    assert reach_of([], 2.0) == 6
    assert reach_of([Harm(0.4, 0.3, 0.5)], 0.01) == pytest.approx(0.03)
    assert reach_of([Harm(5, 0, 13)], 2.0) == 15
    assert reach_of([Harm(0.4, 0.3, 0.5)], 0.0) == 0.6  # nothing touches a line at 0
    assert reach_of([Harm(0, 0, 0)], 0.0) == 1


def test_what_has_no_room_or_no_sense_is_refused(picture):
    many = [replace(FOUR, name=str(i)) for i in range(13)]
    with pytest.raises(
        ValueError, match="candidates are 13 and lines 3; a picture has"
    ):
        ChoicePicture(many, LINES, 1, UNITS)
    with pytest.raises(ValueError, match="'x{23}' is long; find a name of 22 letters"):
        ChoicePicture([replace(FOUR, name=23 * "x")], LINES, 1, UNITS)
    with pytest.raises(ValueError, match="units lacks 'KL'; say what it is counted in"):
        ChoicePicture(
            CANDIDATES, LINES, 1, {"facts lost": "points", "sums lost": "points"}
        )
    with pytest.raises(ValueError, match="candidates has '4 bits' twice"):
        ChoicePicture([FOUR, FOUR], LINES, 1, UNITS)
    with pytest.raises(
        ValueError, match=r"lines are of \['KL'\]; give one for \['fact"
    ):
        picture.update({"KL": 1.0}, 1)
