"""The live pictures of lesson 01: what Python hands over, and what it refuses."""

import pytest
import torch

from minquant.course.floats.live_bits import BitsPicture
from minquant.course.floats.live_scale import STEPS, ScalePicture
from minquant.numerics.floats import FORMATS


@pytest.mark.parametrize("x", [0.1, -3.0, 1e9, float("inf"), float("-inf")])
def test_bits_begin_with_the_nearest_pattern(x):
    for name in FORMATS:
        picture = BitsPicture(name, x)
        assert picture.pattern == FORMATS[name].encode(x)
        assert f"{picture.pattern:0{FORMATS[name].bits}b}" in picture.words


def test_bits_of_no_format_are_refused():
    with pytest.raises(ValueError, match="name is 'fp12'; choose from fp32, fp16"):
        BitsPicture("fp12")
    with pytest.raises(ValueError, match="x is NaN, which fp4 e2m1 cannot say"):
        BitsPicture("fp4 e2m1", float("nan"))
    assert BitsPicture("fp16", float("nan")).asked == "NaN"


def test_shares_count_every_weight():
    w = torch.tensor([0.0, 0.5, -0.5, 0.75, 3.0, -200.0])
    own = ScalePicture(w).formats["int8"]
    at = STEPS.index(0)
    assert own["zero"][at] == 3 / 6, "½ is a tie, and goes to 0"
    assert own["beyond"][at] == pytest.approx(1 / 6)
    assert STEPS[own["fit"]] == 0.75  # 200 / 127 lies between 2^0.5 and 2^0.75


def test_a_hill_holds_every_weight_but_zeros():
    picture = ScalePicture(torch.tensor([0.0, 1.0, 1.1, 2.0]))
    assert picture.hill == [[0.0, 0.5], [1.0, 0.25]]


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.tensor([1.0, float("inf")])])
def test_weights_without_a_hill_are_refused(bad):
    with pytest.raises(ValueError, match="weights are all 0, or not all finite"):
        ScalePicture(bad)
    with pytest.raises(ValueError, match="name is 'fp16'; choose from int8"):
        ScalePicture(torch.ones(2), "fp16")
