"""Weights and the rulers beneath them."""

import numpy as np
import pytest
import torch

from minquant.course.drawing.numbers import number
from minquant.course.drawing.ruling import Ruling
from minquant.course.rulers.figure_histogram import BINS, weights_over_rulers
from minquant.methods import rtn
from minquant.numerics import grids, groups

torch.manual_seed(0)
W = torch.distributions.StudentT(4.0).sample((4, 128)) * 0.03


def ruling(grid, cut=groups.PER_CHANNEL, row=0, **options):
    return Ruling.of(W, rtn.quantize_rtn(W, grid, cut, **options), row)


RULERS = {
    "absmax": ruling(grids.absmax(3)),
    "clipped": ruling(grids.absmax(3), clip="mse"),
    "groups of 32": ruling(grids.absmax(3), groups.per_group(32)),
}


def test_the_bars_count_every_weight():
    fig = weights_over_rulers(RULERS)
    heights = [bar.get_height() for bar in fig.axes[0].patches]
    assert len(heights) == BINS and sum(heights) == 128


def test_the_ticks_are_the_levels_of_each_ruler_from_top_to_bottom():
    fig = weights_over_rulers(RULERS)
    drawn = [
        np.array([path.vertices[0, 0] for path in lines.get_paths()])
        for lines in fig.axes[1].collections
    ]
    wanted = [levels for r in RULERS.values() for levels in r.levels]
    assert len(drawn) == len(wanted) == 6
    for ticks, levels in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(ticks, levels)


def test_clipped_weights_are_marked_and_counted():
    fig = weights_over_rulers(RULERS)
    clipped = RULERS["clipped"].clipped
    assert clipped.any()
    marks = [line for line in fig.axes[1].lines if line.get_marker() == "D"]
    wanted = RULERS["clipped"].weights[clipped]
    np.testing.assert_array_equal(marks[1].get_xdata(), wanted)
    assert f"◆ {clipped.sum()} clipped" in [t.get_text() for t in fig.texts]


def test_each_ruler_has_its_error_beside_it_and_in_the_alt_text():
    fig = weights_over_rulers(RULERS)
    said = [t.get_text() for t in fig.texts]
    for name, r in RULERS.items():
        assert number(r.rmse, digits=3) in said
        assert f"{name}: {len(r.levels)} ruler(s) of 7 ticks" in fig.alt


def test_rulers_of_different_rows_are_refused():
    other = {**RULERS, "another": ruling(grids.absmax(3), row=1)}
    with pytest.raises(ValueError, match="of different weights; take one row for all"):
        weights_over_rulers(other)
    with pytest.raises(ValueError, match="rulers is empty"):
        weights_over_rulers({})
