"""The live picture of lesson 00: what Python hands over, and what it refuses."""

import pytest
import torch

from minquant.course.start.live_shrink import WIDTHS, ShrinkPicture, shrinking
from minquant.course.start.shrinker import Shrunk
from minquant.models.linear_layers import Size

WEIGHTS = torch.tensor([-0.3, 0.1, 0.2])


def shrunk(bits):
    return Shrunk(bits, Size(100 * bits, 900, 1, 800), 17 - bits, f"a goat {bits}")


def test_every_width_is_measured_once():
    asked = []
    picture = shrinking(lambda b: asked.append(b) or shrunk(b), WEIGHTS, "Who", bits=3)
    assert tuple(asked) == WIDTHS
    assert [state["bits"] for state in picture.states] == list(WIDTHS)
    assert picture.states[picture.step]["words"] == [
        ("a", False),
        ("goat", False),
        ("3", True),
    ]
    assert (
        picture.words
        == "A model in 3 bits: 48% of the size, the loss is 14 nats per token."
    )


@pytest.mark.parametrize(
    ("widths", "bits", "weights", "said"),
    [
        ((8, 4), 8, WEIGHTS, r"made holds \[8, 4\] bits; begin with the model in 16"),
        ((), 16, WEIGHTS, r"made holds \[\] bits"),
        ((16, 4), 3, WEIGHTS, r"bits is 3; choose from \[16, 4\]"),
        ((16,), 16, torch.ones(2, 2), r"weights has shape \(2, 2\)"),
        ((16,), 16, torch.tensor([float("nan")]), "weights holds 1 NaN"),
    ],
)
def test_what_it_cannot_show_is_refused(widths, bits, weights, said):
    with pytest.raises(ValueError, match=said):
        ShrinkPicture([shrunk(b) for b in widths], weights, "Who", bits=bits)
