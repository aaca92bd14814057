"""The chooser: lines and a budget in, one of the candidates out."""

import html
import re
from dataclasses import replace

import pytest
from helpers.cases import CANDIDATES, EIGHT, FOUR, LINES, UNITS, candidate

from minquant.course.capstone.widget_choice import chooser
from minquant.planning.choice import choose


@pytest.fixture(scope="module")
def shared():
    return chooser(CANDIDATES, LINES, 700_000, UNITS)


@pytest.fixture
def widget(shared):
    shared.set(**LINES, budget=700.0)
    return shared


def words(widget):
    """What stands beneath, without tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", widget.frame.words))


def test_a_slider_for_each_line_and_one_for_the_budget_at_where_it_starts(widget):
    assert widget.values == {**LINES, "budget": 700.0}
    assert [c.label for c in widget.controls.values()] == [*LINES, "budget, kB"]


def test_the_words_say_which_and_why(widget):
    want = choose(CANDIDATES, LINES, 700_000)
    assert want.chosen is FOUR
    assert words(widget) == f"Take 4 bits. {want.reason}"
    widget.set(budget=500.0)
    want = choose(CANDIDATES, LINES, 500_000)
    assert words(widget) == f"Take none of these. {want.reason}"


def test_every_place_of_a_slider_is_the_package_s_choice(widget):
    for measure, end in (("facts lost", 6.0), ("sums lost", 6.0), ("KL", 0.03)):
        for most in (0.0, end / 3, end):
            for budget in (0.0, 412.0, 515.0, 946.0):
                widget.set(**{**LINES, measure: most, "budget": budget})
                assert widget.error is None
                lines = {**LINES, measure: most}
                want = choose(CANDIDATES, lines, round(1000 * budget)).reason
                assert words(widget).endswith(f". {want}") and widget.alt.startswith(
                    want
                )


def test_a_slider_goes_from_0_to_the_end_of_its_axis_in_round_steps(widget):
    slider = widget.controls["KL"].box.children[1]
    assert slider.min == 0 and slider.max == pytest.approx(0.03)
    assert slider.step == pytest.approx(0.001)
    box = widget.controls["budget"].box.children[0]
    assert box.max == pytest.approx(1.05 * 901) and box.step == 10


def test_the_box_takes_a_typed_number_and_the_slider_follows(widget):
    box, slider = widget.controls["facts lost"].box.children
    box.value = 1.25
    assert slider.value == 1.25
    assert "Take none of these." in words(widget)
    assert "8 bits" in words(widget)


def test_a_label_is_seen_whole_and_all_boxes_are_as_wide():
    names = {"sums of 8 steps lost": 2.0, "KL": 0.1}
    one = replace(FOUR, harms=dict.fromkeys(names, FOUR.harms["KL"]))
    boxes = [
        c.parts[0]
        for c in chooser(
            [one], names, 2000, dict.fromkeys(names, "x")
        ).controls.values()
    ]
    assert {box.style.description_width for box in boxes} == {"160px"}
    assert {box.layout.width for box in boxes} == {"244px"}


def test_a_name_is_written_and_not_run():
    odd = candidate("<b>4</b>", 10, *FOUR.harms.values())
    made = chooser([odd], LINES, 20, UNITS)
    assert "Take &lt;b&gt;4&lt;/b&gt;." in made.frame.words


def test_a_budget_and_a_line_beyond_the_axis_are_where_it_starts_all_the_same():
    lines = {**LINES, "KL": -0.5}
    made = chooser([EIGHT], lines, 2_000_500, UNITS)
    assert made.values == {**lines, "budget": 2.0005}
    assert made.frame.picture.alt.startswith("Nothing within 2,000,500 bytes holds")


def test_a_reader_without_a_kernel_sees_picture_words_and_settings(widget):
    still = widget.still()
    assert still.startswith("<img alt=") and "data:image/png" in still
    assert widget.frame.words in still
    assert "facts lost: 2.0 · sums lost: 2.0 · KL: 0.01 · budget, kB: 700.0" in still


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="lines has 'budget', which is the bytes; ren"):
        chooser(CANDIDATES, {"budget": 1.0}, 1, UNITS)
    with pytest.raises(ValueError, match="candidates are 0, lines 3; give at least 1"):
        chooser([], LINES, 1, UNITS)
