"""The curve of clipping: two parts that are the package's own error together."""

import numpy as np
import pytest
import torch

from minquant.course.rulers.figure_clipping import KEEPS, ClipCurve, clip_curve
from minquant.methods import rtn
from minquant.numerics import grids, groups

torch.manual_seed(0)
W = torch.distributions.StudentT(4.0).sample((64, 64)) * 0.03


@pytest.fixture(scope="module")
def curve():
    return ClipCurve.of(W, grids.absmax(3))


def test_the_whole_ruler_clips_nothing_and_is_plain_rounding(curve):
    plain = rtn.quantize_rtn(W, grids.absmax(3), scale_dtype=torch.float32).dequantize()
    assert curve.clipping[-1] == 0
    assert curve.total[-1] == pytest.approx(
        (plain - W).square().mean().item(), rel=1e-5
    )


def test_both_parts_add_up_to_the_error_of_a_shrunk_ruler(curve):
    scales, _ = rtn.scale_and_zero(
        groups.split(W, groups.PER_CHANNEL), grids.absmax(3), scale_dtype=torch.float32
    )
    for i in (0, 10, 25):
        short = scales * curve.keeps[i]
        made = rtn.quantize_with(W, short, None, grids.absmax(3), groups.PER_CHANNEL)
        error = (made.dequantize() - W).square().mean().item()
        assert curve.total[i] == pytest.approx(error, rel=1e-5)


def test_a_weight_within_the_ends_errs_by_half_a_step_at_most(curve):
    scales, _ = rtn.scale_and_zero(
        groups.split(W, groups.PER_CHANNEL), grids.absmax(3), scale_dtype=torch.float32
    )
    bound = ((scales[:, 0] * curve.keeps[0] / 2) ** 2).mean().item()
    assert curve.rounding[0] <= bound * (1 + 1e-3)


def test_heavy_tails_at_three_bits_want_a_shorter_ruler_and_eight_bits_do_not(curve):
    assert 0.3 < curve.best < 0.9
    assert ClipCurve.of(W, grids.absmax(8)).best > 0.9


def test_every_share_of_the_search_is_on_the_curve():
    assert KEEPS == rtn.CLIP_RATIOS


OTHERS = [grids.zero_point(3), grids.NF4, grids.symmetric_full(4)]


@pytest.mark.parametrize("grid", OTHERS)
def test_other_grids_have_their_curve_too(grid):
    curve = ClipCurve.of(W, grid, groups.per_group(32), keeps=(1.0, 0.5))
    assert curve.keeps.tolist() == [0.5, 1.0]
    assert curve.clipping[0] > 0.1 * curve.clipping[1] >= 0


def test_the_picture_marks_the_minimum(curve):
    fig = clip_curve(curve)
    dot = next(line for line in fig.axes[0].lines if line.get_marker() == "o")
    assert dot.get_xdata()[0] == curve.best
    share = curve.total.min() / curve.total[-1]
    said = [t.get_text() for t in fig.axes[0].texts]
    assert f"least error at {curve.best:.2f}: {share:.0%} of the whole ruler's" in said
    assert f"Least at {curve.best:.2f}" in fig.alt


def test_where_the_whole_ruler_is_best_the_picture_says_so():
    keeps = np.array([0.5, 1.0])
    fig = clip_curve(ClipCurve(keeps, np.array([1e-3, 2e-3]), np.array([1e-1, 0.0])))
    said = [t.get_text() for t in fig.axes[0].texts]
    assert "least error: the whole ruler" in said
