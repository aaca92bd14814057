"""The widget of the uneven ruler: every number it prints is the package's."""

import re
from dataclasses import replace

import pytest
import torch

from minquant.course.drawing.numbers import number
from minquant.course.nf4.widget_codebooks import KINDS, OWN, uneven_ruler
from minquant.methods.catalog import BY_NAME, Format
from minquant.methods.codebooks import error_by_code, usage
from minquant.numerics.grids import NF4, absmax


def normal(out, width):
    return torch.randn(out, width, generator=torch.Generator().manual_seed(width))


MATRICES = {"first": normal(48, 128), "second": normal(32, 64)}


@pytest.fixture(scope="module")
def widget():
    return uneven_ruler(MATRICES)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


STATES = [
    ("NF4", "64", Format(NF4, 64)),
    ("NF4, double", "32", replace(BY_NAME["NF4, double"], g=32)),
    ("int4", "16", replace(BY_NAME["int4"], g=16)),
    ("int4, absmax", "32", Format(absmax(4), 32)),
    ("MXFP4", OWN, BY_NAME["MXFP4"]),
    ("NVFP4", OWN, BY_NAME["NVFP4"]),
]


@pytest.mark.parametrize(("kind", "block", "form"), STATES)
def test_the_printed_numbers_are_the_packages(widget, kind, block, form):
    widget.set(kind=kind, block=block, matrix="first", code=2)
    assert widget.error is None
    W = MATRICES["first"]
    made = form.quantize(W)
    errors = (made.dequantize() - W).double().square()
    said = text(widget.frame.words)
    assert f"a scale ({form.scale}) for {form.g} weights" in said
    assert f"{made.bits_per_weight:.3f} bits per weight" in said
    assert number(errors.mean().sqrt(), digits=3) in said
    assert f"{errors.sum() / W.double().square().sum():.2%} of the weights' po" in said
    told = text(widget.frame.details)
    assert f"{usage(made)[2]:.2%} of the weights" in told
    assert f"{error_by_code(W, made)[2]:.2%} of the squared error" in told
    assert kind in widget.alt


def test_blocks_that_do_not_divide_all_rows_are_not_offered(widget):
    assert widget.controls["block"].parts[0].options == (OWN, "16", "32", "64")


def test_a_block_is_no_longer_than_the_row(widget):
    widget.set(kind="int4", block=OWN, matrix="second")
    assert "for 64 weights" in text(widget.frame.words)


def test_a_code_that_a_format_lacks_is_its_last(widget):
    widget.set(kind="FP4", block="64", matrix="first", code=15)
    assert widget.error is None
    assert "Code 14 is worth 6.000 at scale 1" in text(widget.frame.details)


def test_the_pointer_tells_each_code(widget):
    widget.set(kind="NF4", block="64", matrix="first", code=0)
    assert len(widget.frame.spots) == 16
    assert widget.frame.spots[0].text == text(widget.frame.details)
    lefts = [spot.left for spot in widget.frame.spots]
    assert lefts == sorted(lefts)


def test_every_format_can_be_chosen(widget):
    for kind in KINDS:
        widget.set(kind=kind)
        assert widget.error is None
        assert f"{kind}," in text(widget.frame.words)


def test_a_lesson_can_start_elsewhere():
    widget = uneven_ruler(MATRICES, kind="MXFP4", block=OWN, code=14)
    assert widget.values == {
        "kind": "MXFP4",
        "block": OWN,
        "matrix": "first",
        "code": 14,
    }


def test_no_matrix_is_refused():
    with pytest.raises(ValueError, match="matrices is empty; give at least one"):
        uneven_ruler({})


def test_the_weights_are_left_as_they_were(widget):
    before = {name: W.clone() for name, W in MATRICES.items()}
    widget.set(kind="int4", block="16")
    assert all(torch.equal(W, before[name]) for name, W in MATRICES.items())
