"""The widget of GPTQ: every number it prints is the package's."""

import re

import pytest
import torch
from helpers.cases import correlated

from minquant.course.gptq.pushing import Pushing
from minquant.course.gptq.widget_pushes import DAMPINGS, pushes
from minquant.numerics import grids


@pytest.fixture(scope="module")
def layer():
    W, H = correlated(width=24)
    return W.float(), H.float()


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", " ", html)


STATES = [
    {"bits": 3, "damping": 0.01, "act_order": False, "row": 0, "turn": 0},
    {"bits": 4, "damping": 0.1, "act_order": True, "row": 2, "turn": 11},
    {"bits": 2, "damping": 1.0, "act_order": True, "row": 1, "turn": 23},
]


@pytest.mark.parametrize("state", STATES)
def test_the_printed_numbers_are_the_packages(layer, state):
    widget = pushes(*layer)
    widget.set(**state)
    assert widget.error is None
    grid = grids.zero_point(state["bits"])
    pushing = Pushing.of(
        *layer, grid, damping=state["damping"], act_order=state["act_order"]
    )
    words = pushing.describe(state["row"], state["turn"])
    assert text(widget.frame.words).strip() == words == widget.alt
    for name, result in pushing.arithmetic(state["row"], state["turn"]):
        assert name in text(widget.frame.details)
        assert result in text(widget.frame.details)


def test_the_pointer_tells_each_column_what_became_of_it(layer):
    widget = pushes(*layer, act_order=True)
    widget.set(turn=5)
    spots, order = widget.frame.spots, Pushing.of(*layer, grids.NF4, act_order=True)
    assert len(spots) == 24
    assert [int(re.match(r"column (\d+)", s.text)[1]) for s in spots] == (
        order.order.tolist()
    )


def test_first_values_are_given(layer):
    widget = pushes(*layer, bits=4, damping=0.1, act_order=True, row=1, turn=7)
    assert widget.values == {
        "turn": 7,
        "row": 1,
        "bits": 4,
        "damping": 0.1,
        "act_order": True,
    }
    assert widget.alt.startswith("Turn 8 of 24")


def test_every_damping_of_the_menu_works(layer):
    widget = pushes(*layer)
    for damping in DAMPINGS.values():
        widget.set(damping=damping)
        assert widget.error is None


def test_another_damping_is_refused(layer):
    with pytest.raises(ValueError, match=r"damping is 0.5; choose from 0.001, 0.01"):
        pushes(*layer, damping=0.5)


def test_weights_and_h_are_left_as_they_were(layer):
    before = [part.clone() for part in layer]
    pushes(*layer).set(turn=4)
    assert all(torch.equal(a, b) for a, b in zip(before, layer, strict=True))
