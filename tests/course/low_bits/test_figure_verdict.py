"""Six panels of one version: what is drawn is what was measured."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.cases import GOOD, MIDDLING, ORIGINAL, VERSIONS

from minquant.course.drawing import figures
from minquant.course.drawing.figure_intervals import with_interval
from minquant.course.low_bits.figure_verdict import (
    GAP,
    LIMITS,
    PROBES,
    VerdictPicture,
    by_key,
    describe,
)
from minquant.measure.intervals import wilson
from minquant.measure.probes import Share


@pytest.fixture
def picture():
    made = VerdictPicture(VERSIONS, ORIGINAL)
    made.update((3, "gptq"))
    return made


def points(line):
    """What an artist shows, as a list of [x, y]."""
    return np.asarray(line.get_xydata()).tolist()


def bars(picture, name):
    """x, low and high of each bar of a panel."""
    paths = [path.vertices for path in picture.bars[name].get_paths()]
    return [[v[0, 0], v[0, 1], v[1, 1]] for v in paths]


def panel(picture, name):
    """The axes of a panel."""
    return picture.marks[name].axes


def test_the_ring_is_at_the_chosen_version_with_its_interval_and_number(picture):
    for name, row in (("rise", MIDDLING.rise), ("kl", MIDDLING.kl)):
        assert points(picture.rings[name]) == [[3.3, row.mean]]
        np.testing.assert_allclose(bars(picture, name), [[3.3, row.low, row.high]])
        assert picture.numbers[name].get_text() == with_interval(row)
    assert picture.numbers["flips"].get_text() == "15.0 [13.0, 17.0]"


def test_every_version_of_the_table_is_a_grey_mark(picture):
    grey = panel(picture, "kl").lines[0]
    assert points(grey) == [[v.bits_per_weight, v.kl.mean] for v in VERSIONS]


def test_the_versions_of_the_method_are_joined_from_few_bits_to_many(picture):
    want = [[3.3, 0.08], [8.4, 3e-5]]
    assert points(picture.lines["kl"]) == points(picture.marks["kl"]) == want


def test_the_shares_are_those_given_with_wilson_s_intervals(picture):
    assert points(picture.marks["facts"]) == [[GAP, 100], [1 + GAP, 70], [2 + GAP, 25]]
    want = [[i + GAP, *wilson(n, 20)] for i, n in enumerate((20, 14, 5))]
    got = np.array(bars(picture, "facts")) / [1, 100, 100]
    np.testing.assert_allclose(got, want)
    assert picture.numbers["facts"].get_text() == "95.0 → 65.0"  # 57 and 39 of 60


def test_the_original_stands_beside_whatever_is_chosen(picture):
    before = panel(picture, "chains").lines[0]
    assert points(before) == [[-GAP, 100], [1 - GAP, 90]]
    assert before.get_linestyle() == "--" and before.get_marker() == "o"


def test_the_levels_are_named_and_those_of_fame_by_their_ends(picture):
    labels = {
        name: [text.get_text() for text in panel(picture, name).get_xticklabels()]
        for name in PROBES
    }
    assert labels["facts"] == ["most", "", "least"]
    assert labels["chains"] == ["1", "2"]
    assert labels["recall"] == ["16", "384"]


def test_a_perplexity_that_fell_lies_on_the_edge_and_its_label_and_number_say_so(
    picture,
):
    picture.update((8, "gptq"))
    assert points(picture.rings["rise"]) == [[8.4, LIMITS["rise"][0]]]
    np.testing.assert_allclose(bars(picture, "rise"), [[8.4, 0.01, 0.03]])
    assert panel(picture, "rise").get_yticklabels()[0].get_text() == "≤ 0.01"
    assert picture.numbers["rise"].get_text() == "−0.008 [−0.020, 0.030]"


def test_what_is_beyond_the_upper_end_lies_on_it(picture):
    picture.update((1.58, "rtn"))
    assert points(picture.rings["rise"]) == [[2.25, LIMITS["rise"][1]]]
    np.testing.assert_allclose(bars(picture, "rise"), [[2.25, 9e4, 1e5]])
    assert picture.numbers["rise"].get_text() == "200000 [90000, 300000]"


def test_every_second_power_of_ten_is_named(picture):
    names = [text.get_text() for text in panel(picture, "kl").get_yticklabels()]
    assert names == ["≤ 0.00001", "", "0.001", "", "0.1", "", "10"]
    names = [text.get_text() for text in panel(picture, "flips").get_yticklabels()]
    assert names == ["≤ 1", "10", "100"]


def test_a_pair_that_the_table_lacks_has_no_ring_and_only_the_original_s_answers(
    picture,
):
    picture.update((8, "qat"))
    for name in LIMITS:
        assert points(picture.rings[name]) == bars(picture, name) == []
        assert picture.numbers[name].get_text() == "not in the table"
    assert points(picture.lines["kl"]) == [[2.3, 0.08]]
    for name in PROBES:
        assert points(picture.marks[name]) == bars(picture, name) == []
    assert picture.numbers["facts"].get_text() == "95.0"
    assert picture.fig.alt == (
        "The table has no version of 8 bits by qat. By qat it has: 2 bits. Nothing is "
        "ringed, and all answers shown are the original's."
    )


def test_a_method_of_no_version_is_no_error(picture):
    picture.update((8, "magic"))
    assert "By magic it has: no bits" in picture.fig.alt


def test_the_axes_never_move_and_nothing_else_is_drawn_anew(picture):
    before = [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes]
    first = figures.to_pixels(picture.fig).copy()
    for key in ((1.58, "rtn"), (8, "qat"), (2, "qat")):
        picture.update(key)
        assert (figures.to_pixels(picture.fig) != first).any()
    assert [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes] == before
    picture.update((3, "gptq"))
    assert (figures.to_pixels(picture.fig) == first).all()


def test_the_words_tell_all_six(picture):
    assert picture.fig.alt == describe(
        (3, "gptq"), by_key(VERSIONS, ORIGINAL), ORIGINAL
    )
    assert picture.fig.alt == (
        "3 bits by gptq, 3.30 bits per weight: perplexity 2.750, 2.500 before, a "
        "change of 10.0% [8.0, 12.0]; KL 0.080 [0.060, 0.100] nats per token; the "
        "first choice flips for 15.0% [13.0, 17.0] of the tokens. Facts right: 65%, "
        "95% before (most famous 100%, least famous 25%). Chains right: 55%, 95% "
        "before (shortest 80%, longest 30%). Recall right: 90%, 100% before (nearest "
        "100%, farthest 80%)."
    )


def test_a_table_without_probes_has_three_panels_of_numbers():
    bare = {name: {} for name in PROBES}
    made = VerdictPicture([replace(MIDDLING, **bare)], replace(ORIGINAL, **bare))
    made.update((3, "gptq"))
    assert made.numbers["facts"].get_text() == ""
    assert made.fig.alt.endswith("of the tokens.")
    figures.to_pixels(made.fig)


def test_no_text_runs_over_the_sheet_or_over_another(picture):
    picture.update((1.58, "rtn"))
    figures.to_pixels(picture.fig)
    renderer = picture.fig.canvas.get_renderer()
    texts = [*picture.fig.texts]
    for ax in picture.fig.axes:
        texts += [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    width, height = picture.fig.canvas.get_width_height(physical=True)
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_table_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="versions is empty; give at least one Vers"):
        by_key([], ORIGINAL)
    with pytest.raises(ValueError, match="versions holds 3 bits by 'gptq' twice; give"):
        by_key([MIDDLING, GOOD, MIDDLING], ORIGINAL)
    odd = replace(GOOD, chains={1: Share(1, 1)})
    with pytest.raises(
        ValueError, match=r"chains of levels \[1\] for 8 bits.*original \[1, 2\]; ask"
    ):
        VerdictPicture([odd], ORIGINAL)
