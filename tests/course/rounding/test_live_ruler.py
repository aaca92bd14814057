"""The live ruler's Python side: what it refuses, and what it hands over."""

import pytest
import torch

import minquant as mq
from minquant.course.rounding.live_ruler import RulerPicture, quantized, ruler

ROW = torch.tensor([-0.7, 0.1, 0.26, 0.35, -0.04])


def test_a_row_goes_to_the_browser_as_float32():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        picture = ruler(ROW.to(dtype))
        assert picture.row == ROW.to(dtype).float().tolist()


def test_the_weight_with_the_largest_error_is_looked_at_first():
    row = torch.tensor([-7.0, 1.0, 2.0, 2.4, 3.0, 1.45])
    assert ruler(row).weight == 5
    assert ruler(row, first=1, count=3).weight == 3
    assert ruler(row, weight=2).weight == 2


@pytest.mark.parametrize("grid", [mq.absmax, mq.symmetric_full, mq.zero_point])
def test_a_whole_ruler_is_that_of_quantize_rtn(grid):
    ours, theirs = quantized(ROW, 3, grid.__name__), mq.quantize_rtn(ROW[None], grid(3))
    assert torch.equal(ours.codes, theirs.codes)
    assert torch.equal(ours.scales, theirs.scales)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 9}, "bits is 9; choose 2 to 8"),
        ({"bits": 1}, "bits is 1; choose 2 to 8"),
        ({"grid": "nf4"}, "grid is 'nf4'; choose absmax, symmetric_full, zero_point"),
        ({"keep": 0.2}, "keep is 0.2; choose 0.3 to 1"),
        ({"weight": 5}, "weight is 5; choose 0 to 4"),
        ({"weight": 0, "first": 1}, "weight is 0; choose 1 to 4"),
        ({"first": 5}, "first is 5; choose from 0 to 4"),
        ({"first": -1}, "first is -1; choose from 0 to 4"),
        ({"count": 0}, "count is 0; show at least one"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        RulerPicture(ROW, **change)


def test_it_is_refused_later_too_and_the_picture_stays():
    picture = ruler(ROW)
    with pytest.raises(ValueError, match="bits is 12"):
        picture.bits = 12
    assert picture.bits == 4


@pytest.mark.parametrize(
    ("row", "error", "said"),
    [
        (torch.ones(2, 3), ValueError, r"row has shape \(2, 3\); give one row, W\[0\]"),
        (torch.tensor([1.0, float("nan")]), ValueError, "row holds 1 NaN"),
        (torch.tensor([]), ValueError, "row has shape"),
        (torch.tensor([9e4, 1.0]), ValueError, "scale: 1 of 1, .* not finite"),
    ],
)
def test_a_row_that_has_no_ruler_is_refused(row, error, said):
    with pytest.raises(error, match=said):
        ruler(row)
