"""Controls: each has a name, a value to set, and one voice."""

import ipywidgets as ipw
import pytest

from minquant.course.live.controls import choice, decimal, integer, switch

CONTROLS = {
    "integer": (lambda: integer("bits", 4, 2, 8), 3),
    "decimal": (lambda: decimal("shrink to", 1.0, 0.2, 1.0, step=0.1), 0.5),
    "choice": (lambda: choice("ruler", "row", ["row", "matrix"]), "matrix"),
    "switch": (lambda: switch("magnify", False), True),
}


@pytest.fixture(params=CONTROLS)
def control(request):
    return CONTROLS[request.param][0]()


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_holds_what_it_is_given(kind):
    make, value = CONTROLS[kind]
    control = make()
    control.value = value
    assert control.value == value


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_calls_back_when_it_moves(kind):
    make, value = CONTROLS[kind]
    control, heard = make(), []
    control.watch(heard.append)
    control.value = value
    assert heard


def test_everything_that_takes_the_focus_has_a_name_but_the_sliders(control):
    for widget in (
        control.box.children if hasattr(control.box, "children") else [control.box]
    ):
        if not isinstance(widget, (ipw.IntSlider, ipw.FloatSlider, ipw.Label)):
            assert widget.description


@pytest.mark.parametrize("kind", ["integer", "decimal"])
def test_every_slider_stands_beside_a_named_box_that_follows_it(kind):
    make, value = CONTROLS[kind]
    control = make()
    text, slider = control.box.children
    assert text.description == control.label
    slider.value = value
    assert text.value == control.value == value
    text.value = text.min
    assert slider.value == text.min


def test_a_slider_is_one_change_for_two_widgets():
    control, heard = integer("bits", 4, 2, 8), []
    control.watch(heard.append)
    control.box.children[1].value = 7
    assert len(heard) == 1


def test_a_control_can_be_switched_off_and_on(control):
    control.enable(False)
    assert all(part.disabled for part in control.parts)
    control.enable(True)
    assert not any(part.disabled for part in control.parts)


def test_a_choice_says_the_label_and_holds_the_value():
    control = choice("clip", "mse", {"none": "none", "least error": "mse"})
    assert (control.value, control.spoken) == ("mse", "least error")


@pytest.mark.parametrize(
    ("control", "spoken"),
    [
        (integer("bits", 4, 2, 8), "4"),
        (switch("magnify", True), "on"),
    ],
)
def test_a_control_says_its_value(control, spoken):
    assert control.spoken == spoken
