"""The planner's numbers are `budget`'s, for every model, base, rank and place."""

import re

import pytest

from minquant.course.drawing.numbers import readable_bytes
from minquant.course.qlora.widget_step_memory import (
    LAYERS,
    LLAMAS,
    THIS,
    memory_planner,
)
from minquant.planning import budget

SHAPES, REST = {"a.q_proj": (64, 128), "a.up_proj": (128, 128)}, 5000


@pytest.fixture(scope="module")
def widget():
    return memory_planner(SHAPES, REST)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


@pytest.mark.parametrize("model", [THIS, *LLAMAS])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("base", budget.BASES)
def test_the_printed_numbers_are_the_packages(widget, model, layers, base):
    widget.set(model=model, base=base, rank=3, layers=layers)
    assert widget.error is None
    args = (SHAPES, REST) if model == THIS else budget.llama(*LLAMAS[model])
    took = budget.adapted(*args, 3, base=base, only=LAYERS[layers])
    whole = budget.full(*args)
    said = text(widget.frame.words)
    trained = budget.adapter_numbers(args[0], 3, LAYERS[layers])
    assert said.startswith(f"{trained:,} numbers are trained")
    assert f"that is {trained / (whole.weights / 2):.2%}" in said
    assert "Gradients, masters and Adam's moments take" in said
    assert f"In all it is {readable_bytes(took.total)}:" in said
    assert f"divided by {whole.total / took.total:.1f}." in said
    assert f"yours: {base} {readable_bytes(took.total)}" in widget.alt


def test_fewer_layers_train_fewer_numbers(widget):
    widget.set(model=THIS, layers="all linear layers")
    every = text(widget.frame.words)
    widget.set(layers="attention only")
    assert text(widget.frame.words) != every


def test_it_can_start_elsewhere_and_needs_a_model():
    widget = memory_planner(SHAPES, REST, model=THIS, base="int8", rank=8)
    assert widget.values == {
        "model": THIS,
        "base": "int8",
        "rank": 8,
        "layers": "all linear layers",
    }
    with pytest.raises(ValueError, match="shapes is empty; give budget.shapes_of"):
        memory_planner({}, 0)
