"""The damage dashboard: what it prints is what `evaluate` measures."""

import re

import pytest
import torch
from helpers import tiny

from minquant.course.damage.figure_damage import Damage
from minquant.course.damage.widget_damage import RULERS, Damager, damage
from minquant.course.drawing.figure_intervals import Measured, with_interval
from minquant.measure import evaluate
from minquant.methods import rtn
from minquant.models import quantize
from minquant.models.linear_layers import linear_layers
from minquant.numerics import grids, groups

LAYER = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def whole():
    return tiny.model(), tiny.tokenizer()


@pytest.fixture(scope="module")
def damager(whole):
    X = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    return Damager(*whole, tiny.texts_of("test", 5), layer=LAYER, X=X)


def test_the_numbers_are_those_of_evaluate(whole, damager):
    def method(W):
        return rtn.quantize_rtn(W, grids.zero_point(3), groups.per_group(16))

    twin, report = quantize.quantize(whole[0], method, progress=False)
    texts = tiny.texts_of("test", 5)
    got = damager(3, "16 weights")
    moved = evaluate.kl_and_flips(whole[0], twin, whole[1], texts, progress=False)
    before, after = (
        evaluate.perplexity(m, whole[1], texts, progress=False)
        for m in (whole[0], twin)
    )
    cost = evaluate.compare(before, after)
    assert got.kl == Measured(moved.kl, *moved.interval())
    assert got.loss == Measured(cost.mean, cost.low, cost.high)
    W = linear_layers(whole[0])[LAYER].weight
    error = evaluate.layer_error(W, report[LAYER].dequantize(), damager.X)
    assert got.layer_error == error.relative
    assert got.bits_per_weight == report[LAYER].bits_per_weight  # alike in all layers


def test_eight_bits_hurt_less_than_two(damager):
    two, eight = damager(2, "a row"), damager(8, "a row")
    assert eight.layer_error < two.layer_error / 100
    assert eight.kl.mean < two.kl.mean


def fake(bits, ruler):
    """Numbers at hand, so that only the widget is tested."""
    fake.asked.append((bits, ruler))
    level = 4.0**-bits
    row = Measured(level, level / 2, 2 * level)
    return Damage(bits + 0.1, level, row, row, {})


def test_each_way_is_measured_once_and_stays_in_the_picture():
    fake.asked = []
    widget = damage(fake)
    widget.set(bits=3)
    widget.set(bits=4)
    assert fake.asked == [(4, "a row"), (3, "a row")]
    widget.set(ruler="16 weights")
    assert fake.asked[-1] == (4, "16 weights")
    assert widget.error is None


def test_the_words_are_the_numbers():
    fake.asked = []
    widget = damage(fake, start=(2, "a tensor"))
    words = re.sub(r"<[^>]+>", "", widget.frame.words)
    assert with_interval(Measured(1 / 16, 1 / 32, 1 / 8)) in words
    assert "2 bits, one ruler for a tensor" in words
    assert words == widget.alt


def test_the_menu_offers_the_rulers_that_are_given():
    fake.asked = []
    widget = damage(fake, rulers=["a row", "a tensor"])
    assert widget.controls["ruler"].parts[0].options == ("a row", "a tensor")
    with pytest.raises(ValueError, match="choose a ruler of a tensor"):
        damage(fake, rulers=["a tensor"])


def test_every_ruler_has_its_granularity():
    assert RULERS["128 weights"] == groups.per_group(128)
    assert RULERS["a row"] == groups.PER_CHANNEL
