"""The widget of AWQ: every number it prints is the package's."""

import re

import pytest
import torch

from minquant.course.awq.salience import Salience
from minquant.course.awq.widget_salience import ROW, protected_columns
from minquant.numerics import groups
from minquant.numerics.grids import zero_point


def layer(width, times):
    generator = torch.Generator().manual_seed(width)
    W = torch.randn(24, width, generator=generator)
    X = torch.randn(150, width, generator=generator)
    X[:, 7] *= times
    return W, X


LAYERS = {"uneven": layer(64, 20.0), "even": layer(128, 1.0)}


@pytest.fixture(scope="module")
def widget():
    return protected_columns(LAYERS)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


@pytest.mark.parametrize("alpha", [0.0, 0.35, 0.95])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("bits", "group", "kind"),
    [(3, ROW, groups.PER_CHANNEL), (4, "32", groups.per_group(32))],
)
def test_the_words_are_those_of_the_state(widget, name, bits, group, kind, alpha):
    widget.set(layer=name, bits=bits, group=group, alpha=alpha)
    assert widget.error is None
    mine = Salience(*LAYERS[name], zero_point(bits), kind)
    said = mine.describe(mine.at(alpha))
    assert text(widget.frame.words) == said
    assert widget.alt == said


def test_the_pointer_tells_of_each_column_in_view(widget):
    widget.set(layer="uneven", bits=3, group=ROW, alpha=0.5)
    spots = widget.frame.spots
    assert len(spots) == 64
    assert spots[0].text.startswith("column 7: ")
    lefts = [spot.left for spot in spots]
    assert lefts == sorted(lefts)


def test_the_dot_of_a_column_lies_in_the_middle_of_its_strip(widget):
    widget.set(layer="uneven", bits=3, group=ROW, alpha=0.5)
    picture = widget.frame.picture
    ax, place = picture.axes[0], 10
    pixels = ax.transData.transform((place, 1.0))[0]
    spot = widget.frame.spots[place]
    assert pixels / 2 == pytest.approx(spot.left + spot.width / 2, abs=0.5)


def test_only_groups_that_divide_every_row_are_offered(widget):
    assert widget.controls["group"].parts[0].options == (ROW, "32", "16")


def test_a_state_seen_before_is_not_computed_again(widget):
    widget.set(layer="even", bits=5, group=ROW, alpha=0.1)
    study = widget.draw.__self__
    before = study.protected.cache_info().misses
    widget.set(alpha=0.2)
    widget.set(alpha=0.1)
    assert study.protected.cache_info().misses == before + 1


def test_a_lesson_can_start_elsewhere():
    widget = protected_columns(LAYERS, alpha=0.4, bits=4, group="16")
    assert widget.values == {
        "alpha": 0.4,
        "bits": 4,
        "group": "16",
        "layer": "uneven",
    }


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="layers is empty; give at least one"):
        protected_columns({})


def test_the_weights_and_inputs_are_left_as_they_were(widget):
    before = {name: (W.clone(), X.clone()) for name, (W, X) in LAYERS.items()}
    widget.set(layer="uneven", bits=2, alpha=0.95)
    for name, (W, X) in LAYERS.items():
        assert torch.equal(W, before[name][0])
        assert torch.equal(X, before[name][1])
