"""The rounding widget: every number it prints is the package's."""

import re

import pytest
import torch

from minquant.course.drawing.numbers import number
from minquant.course.drawing.ruling import Ruling
from minquant.course.rounding.widget_rounding import CONTROLS, rounding
from minquant.methods import rtn
from minquant.numerics import grids, groups


@pytest.fixture(scope="module")
def W():
    torch.manual_seed(0)
    return torch.distributions.StudentT(4.0).sample((96, 128)) * 0.03


@pytest.fixture(scope="module")
def widget(W):
    return rounding(W)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", " ", html)


STATES = [
    ({"bits": 4, "grid": "absmax"}, grids.absmax(4), groups.PER_CHANNEL, None),
    ({"bits": 3, "grid": "zero-point"}, grids.zero_point(3), groups.PER_CHANNEL, None),
    (
        {"bits": 2, "grid": "symmetric, full", "ruler": "the matrix"},
        grids.symmetric_full(2),
        groups.PER_TENSOR,
        None,
    ),
    (
        {"bits": 8, "grid": "zero-point", "ruler": "groups of 32"},
        grids.zero_point(8),
        groups.per_group(32),
        None,
    ),
    ({"bits": 3, "clip": "mse"}, grids.absmax(3), groups.PER_CHANNEL, "mse"),
    ({"grid": "NF4", "ruler": "groups of 64"}, grids.NF4, groups.per_group(64), None),
]


@pytest.mark.parametrize(("state", "grid", "cut", "clip"), STATES)
def test_the_printed_numbers_are_the_packages(W, widget, state, grid, cut, clip):
    start = {"grid": "absmax", "ruler": "each row", "clip": "none"}
    widget.set(**start | state, row=5, weight=70)
    assert widget.error is None
    quantized = rtn.quantize_rtn(W, grid, cut, clip=clip)
    said = text(widget.frame.words)
    errors = quantized.dequantize() - W
    for error in (errors[5], errors):
        assert number(error.double().square().mean().sqrt(), digits=3) in said
    assert f"{quantized.bits_per_weight:.2f} bits per weight" in said
    used = len(quantized.codes[5].unique())
    assert f"{used} of {len(grid.levels)} codes" in said
    ruling = Ruling.of(W, quantized, 5, 64, 64)
    for _, result in ruling.arithmetic(6):
        assert result in text(widget.frame.details)
    assert widget.alt == ruling.describe(6)


def test_a_ruler_shrunk_by_hand_is_the_packages_scale_times_that_share(W, widget):
    widget.set(grid="zero-point", bits=4, ruler="each row", clip="hand", keep=0.6)
    scales, zeros = rtn.scale_and_zero(
        groups.split(W, groups.PER_CHANNEL), grids.zero_point(4)
    )
    short = (scales * 0.6).to(scales.dtype)
    quantized = rtn.quantize_with(
        W, short, zeros, grids.zero_point(4), groups.PER_CHANNEL
    )
    rmse = (quantized.dequantize() - W).double().square().mean().sqrt()
    assert f"{number(rmse, digits=3)} in the matrix" in text(widget.frame.words)


def test_a_whole_ruler_by_hand_is_no_clipping(widget):
    widget.set(grid="absmax", bits=4, ruler="each row", clip="none")
    words = widget.frame.words
    widget.set(clip="hand", keep=1.0)
    assert widget.frame.words == words


def test_only_the_controls_that_mean_something_are_on(widget):
    widget.set(grid="absmax", clip="none")
    assert set(widget.frame.disabled) == {"keep"}
    widget.set(grid="NF4", clip="hand")
    assert set(widget.frame.disabled) == {"bits"}
    widget.set(grid="absmax", clip="none")


def test_the_window_turns_with_the_weight(widget):
    widget.set(weight=63)
    assert widget.frame.spots[0].text.startswith("weight 0:")
    widget.set(weight=64)
    assert widget.frame.spots[0].text.startswith("weight 64:")
    assert len(widget.frame.spots) == 64


def test_the_pointer_tells_each_weight_its_arithmetic(W, widget):
    widget.set(grid="absmax", bits=4, ruler="each row", clip="none", row=0, weight=0)
    ruling = Ruling.of(W, rtn.quantize_rtn(W, grids.absmax(4)), 0, 0, 64)
    for i in (0, 31, 63):
        assert ruling.arithmetic(i)[-1][1] in widget.frame.spots[i].text


def test_a_lesson_can_show_few_controls_and_start_elsewhere(W):
    widget = rounding(W, controls=["bits", "weight"], bits=3, grid="zero-point", row=7)
    assert list(widget.controls) == ["bits", "weight"]
    assert "in row 7" in widget.frame.words
    assert f"{rtn.quantize_rtn(W, grids.zero_point(3)).bits_per_weight:.2f}" in (
        widget.frame.words
    )


def test_every_control_of_the_list_exists(W):
    assert tuple(rounding(W).controls) == CONTROLS


def test_a_control_that_does_not_exist_is_named(W):
    with pytest.raises(ValueError, match="colour is no control .*; choose from bits, "):
        rounding(W, controls=["colour"])


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"W has shape \(8,\); give one matrix"):
        rounding(torch.zeros(8))


def test_a_narrow_matrix_has_a_short_window():
    widget = rounding(torch.linspace(-1, 1, 40).reshape(4, 10))
    assert len(widget.frame.spots) == 10
    widget.set(weight=9, bits=2)
    assert widget.error is None


def test_the_weights_are_left_as_they_were(W):
    before = W.clone()
    rounding(W).set(bits=2)
    assert torch.equal(W, before)
