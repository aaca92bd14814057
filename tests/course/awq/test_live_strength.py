"""The live strength's Python side: what it hands over, and what it refuses."""

import base64

import numpy as np
import pytest
import torch

import minquant as mq
from minquant.course.awq.live_strength import StrengthPicture, order
from minquant.methods.awq import RATIOS

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(6, 16, generator=GENERATOR)
X = torch.randn(40, 16, generator=GENERATOR) * torch.linspace(0.2, 3, 16)


def decoded(text, *shape):
    numbers = np.frombuffer(base64.b64decode(text), dtype=np.float32)
    return torch.tensor(numbers.reshape(shape))


def test_columns_are_handed_over_by_the_size_of_their_inputs():
    layer = StrengthPicture({"mine": (W, X)}).layers["mine"]
    place = order(X)
    assert layer["inputs"] == sorted(layer["inputs"], reverse=True)
    assert torch.equal(decoded(layer["weights"], 6, 16), W[:, place])
    H = (X.T @ X / len(X))[place][:, place]
    assert torch.equal(decoded(layer["H"], 16, 16), H)


def test_the_scales_are_those_that_awq_stores():
    layer = StrengthPicture({"mine": (W, X)}).layers["mine"]
    scales = decoded(layer["scales"], len(RATIOS), 16)
    for ratio, s in zip(RATIOS, scales, strict=True):
        made = mq.quantize_awq(W, X, mq.zero_point(3), ratios=(ratio,), clip=None)
        assert torch.equal(s, made.input_scales.float()[order(X)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_float_dtype_will_do(dtype):
    layer = StrengthPicture({"mine": (W.to(dtype), X.to(dtype))}).layers["mine"]
    assert decoded(layer["weights"], 6, 16).isfinite().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 6}, "bits is 6; choose one of 2, 3, 4, 5"),
        ({"step": 20}, "step is 20; choose one of 0, 1"),
        ({"name": "yours"}, "name is yours; choose one of mine"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        StrengthPicture({"mine": (W, X)}, **change)


def test_no_layer_and_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="layers is empty"):
        StrengthPicture({})
    with pytest.raises(ValueError, match="X has shape"):
        StrengthPicture({"mine": (W, X[:, 1:])})
