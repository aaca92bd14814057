"""The widget of the outlier threshold: every number it prints is the package's."""

import re

import pytest
import torch

from minquant.course.outliers.widget_outliers import KEPT, outlier_threshold
from minquant.methods import llm_int8


def layer(seed, large):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(20, 16, generator=generator)
    X[:, large] *= 40
    return X, torch.randn(8, 16, generator=generator)


LAYERS = {"first": layer(0, [3, 9]), "second": layer(1, [4])}


@pytest.fixture(scope="module")
def widget():
    return outlier_threshold(LAYERS)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("threshold", [0.0, 2.5, 6.0])
def test_the_printed_numbers_are_the_packages(widget, threshold, name, kept):
    widget.set(threshold=threshold, layer=name, kept=kept, token=7)
    assert widget.error is None
    places = [threshold, torch.inf]
    split, whole = llm_int8.sweep(*LAYERS[name], places, outlier_weights=KEPT[kept])
    said = text(widget.frame.words)
    assert f"({split.columns:.1%}); {split.values:.2%} of all values" in said
    assert f"The error is {split.error:.2%} of Y." in said
    assert said.endswith(f"nothing taken out the error is {whole.error:.2%} of Y.")
    if threshold == 6:
        large = {"first": "2 of 16", "second": "1 of 16"}[name]
        assert f"At a threshold of 6, {large} columns" in said


def test_the_last_place_of_the_slider_takes_nothing_out(widget):
    highest = widget.controls["threshold"].parts[0].max
    widget.set(threshold=highest, layer="first")
    assert "0 of 16 columns" in text(widget.frame.words)
    assert highest > max(X.abs().max() for X, _ in LAYERS.values())


def test_the_pointer_tells_each_column(widget):
    widget.set(threshold=6.0, layer="second", token=0)
    assert len(widget.frame.spots) == 16
    assert widget.frame.spots[4].text.endswith("taken out")
    assert widget.frame.spots[5].text.endswith("stays")
    X, _ = LAYERS["second"]
    assert f"{X[:, 4].abs().max():.1f}" in widget.frame.spots[4].text


def test_it_answers_the_keyboard_by_its_slider(widget):
    widget.set(threshold=6.0)
    widget.controls["threshold"].box.children[1].value = 7.5
    assert "At a threshold of 7.5" in widget.alt


def test_tokens_are_those_that_all_layers_have():
    short = {"a": LAYERS["first"], "b": (LAYERS["second"][0][:5], LAYERS["second"][1])}
    assert outlier_threshold(short).controls["token"].parts[0].max == 4


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="layers is empty; give at least one"):
        outlier_threshold({})


def test_the_inputs_are_left_as_they_were(widget):
    before = {name: X.clone() for name, (X, _) in LAYERS.items()}
    widget.set(threshold=1.0)
    assert all(torch.equal(X, before[name]) for name, (X, _) in LAYERS.items())
