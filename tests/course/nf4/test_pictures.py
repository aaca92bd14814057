"""The pictures of lesson 08 on weights that are not as nice as the almanac's."""

import pytest
import torch
from helpers import tiny

import minquant as mq
from minquant.course.nf4 import pictures
from minquant.measure.measured import Rows


@pytest.fixture
def nasty():
    """A model in bf16 with a row of zeros and a channel that is nearly dead."""
    model = tiny.model("Qwen3").bfloat16()
    W = mq.weight_of(next(iter(mq.linear_layers(model).values())))
    with torch.no_grad():
        W[0] = 0
        W[:, 1] = 1e-30
    return model


def test_a_dead_row_is_left_out_of_the_bell(nasty):
    assert "nan" not in pictures.weights_and_bell(nasty).alt


def test_scales_that_do_not_move_are_drawn(nasty):
    moves = pictures.scale_moves(nasty, g=8)
    assert moves.isfinite().all()
    assert "the worst by" in pictures.scales_moved(nasty, g=8).alt


def test_use_of_codes_names_the_ends():
    W = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    shares = pictures.use_of_codes(
        {"mine": torch.full((16,), 1 / 16, dtype=torch.float64)}
    )
    assert "mine: from 6.2 % to 6.2 %" in shares.alt
    table = pictures.errors_by_codebook({"W": [W]})
    assert [row[:2] for row in table.rows] == [
        ["NF4", "16"],
        ["int4", "16"],
        ["FP4", "15"],
    ]


def test_formats_that_are_not_measured_are_said_to_be_missing():
    assert pictures.real_formats(Rows()).rows[0][0] == "not measured yet"
