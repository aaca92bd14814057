"""The bits widget: one state, whichever way it is set."""

import re

import pytest

from minquant.course.floats.widget_bits import bits
from minquant.course.live.dashboard import ERROR_CLASS
from minquant.numerics.floats import FORMATS


@pytest.fixture
def widget():
    return bits("fp16", 0.1)


def board(widget):
    """The one control of the widget."""
    return widget.controls["number"]


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


def pressed(widget):
    """The buttons in view as zeros and ones."""
    shown = [b for b in board(widget).buttons if b.layout.display != "none"]
    assert [b.description for b in shown] == [str(int(b.value)) for b in shown]
    return "".join(b.description for b in shown)


def test_it_starts_with_the_number_asked_for(widget):
    assert pressed(widget) == f"{FORMATS['fp16'].encode(0.1):016b}"
    assert "off by −2.44140625e−05, 0.02% of the number" in text(widget.frame.words)


def test_a_flipped_bit_makes_another_number(widget):
    board(widget).text.value = "1"
    board(widget).buttons[0].value = True
    assert widget.error is None
    assert board(widget).text.value == "−1"
    assert "−1 in fp16" in text(widget.frame.words)


def test_a_typed_number_sets_the_bits(widget):
    board(widget).text.value = "−2.5"
    assert pressed(widget) == "1100000100000000"
    assert "exactly what was asked for" in widget.frame.words


def test_a_new_format_rounds_what_was_asked_for_not_what_it_had_become(widget):
    board(widget).menu.value = "fp4 e2m1"
    assert pressed(widget) == "0000"
    board(widget).menu.value = "fp32"
    assert pressed(widget) == f"{FORMATS['fp32'].encode(0.1):032b}"


def test_a_flipped_number_goes_into_the_next_format_as_it_stands(widget):
    board(widget).text.value = "1"
    board(widget).buttons[6].value = True  # the first fraction bit: 1.5
    board(widget).menu.value = "fp8 e5m2"
    assert pressed(widget) == "00111110"


def test_too_large_a_number_becomes_infinity_where_there_is_one(widget):
    board(widget).text.value = "1e6"
    assert "1000000 is beyond the largest, 65504" in text(widget.frame.words)
    board(widget).menu.value = "fp8 e4m3"
    assert pressed(widget) == "01111110"


def test_what_is_no_number_is_said_in_place(widget):
    board(widget).text.value = "a tenth"
    trouble = widget.box.children[1].value
    assert ERROR_CLASS in trouble and "type one such as 0.1" in trouble
    board(widget).text.value = "0.2"
    assert widget.error is None


def test_a_format_without_nan_says_so(widget):
    board(widget).text.value = "nan"
    assert widget.error is None
    board(widget).menu.value = "int8"
    assert "int8 cannot say" in str(widget.error)


def test_one_action_draws_once(widget, monkeypatch):
    drawn = []
    monkeypatch.setattr(widget, "_redraw", lambda: drawn.append(1) or widget.frame)
    board(widget).menu.value = "bf16"
    assert len(drawn) == 1
    board(widget).text.value = "7"
    assert len(drawn) == 2
    board(widget).buttons[3].value ^= True
    assert len(drawn) == 3


def test_a_notebook_can_set_it_from_code(widget):
    widget.set(number=("int8", -3.0))
    assert pressed(widget) == "11111101"
    assert "number: −3 in int8" in widget.still()


def test_each_button_says_what_its_bit_is_worth(widget):
    assert board(widget).buttons[1].tooltip == "exponent bit 2⁴"
    assert board(widget).buttons[15].tooltip == "fraction bit 2⁻¹⁰"


def test_the_facts_are_those_of_the_format(widget):
    said = text(widget.frame.details)
    assert "largest 65504" in said and "bias 15" in said
    board(widget).menu.value = "int8"
    assert "−128 to 127" in text(widget.frame.details)


def test_an_unknown_format_is_named():
    with pytest.raises(ValueError, match="name is 'fp3'; choose from fp32, fp16"):
        bits("fp3")
