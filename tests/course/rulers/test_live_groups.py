"""The live groups' Python side: what it measures, and what it refuses."""

import pytest
import torch

import minquant as mq
from minquant.course.rulers.live_groups import GroupsPicture, cost, lengths

W = torch.randn(20, 128, generator=torch.Generator().manual_seed(0))


def test_costs_are_those_of_all_matrices_together():
    V = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    found = cost([W, V], 3, mq.PER_CHANNEL)
    made = [mq.quantize_rtn(M, mq.zero_point(3)) for M in (W, V)]
    errors = [(q.dequantize() - M).flatten() for q, M in zip(made, (W, V), strict=True)]
    assert found.error == pytest.approx(torch.cat(errors).square().mean().sqrt().item())
    stored = sum(q.nbytes for q in made)
    assert found.bits_per_weight == 8 * stored / (W.numel() + V.numel())


def test_only_cuts_that_fit_every_matrix_are_offered():
    names = [cut["name"] for cut in GroupsPicture(W).cuts]
    assert names == ["the matrix", "a row", "64 weights", "32 weights", "16 weights"]
    names = [cut["name"] for cut in GroupsPicture(W, [W, torch.ones(2, 48)]).cuts]
    assert names == ["the matrix", "a row", "16 weights"]


def test_the_largest_weight_is_in_view():
    for row in (0, 9, 19):
        V = W.clone()
        V[row, 5] = 9
        picture = GroupsPicture(V)
        assert len(picture.heat) == 16
        assert max(line[10:12] for line in picture.heat) == "ff"


def test_a_ruler_that_reaches_half_as_far_has_half_the_length():
    V = torch.tensor([[-1.0, 0.5, 0.0, 0.0], [0.25, 0.5, 0.0, 0.0]])
    assert lengths(V, mq.PER_CHANNEL).tolist() == [[1.0], [pytest.approx(1 / 3)]]
    assert lengths(torch.zeros(2, 2), mq.PER_TENSOR).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 6}, "bits is 6; choose 2 to 5"),
        ({"cut": 5}, "cut is 5; choose 0 to 4"),
        ({"cut": -1}, "cut is -1; choose 0 to 4"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        GroupsPicture(W, **change)


def test_what_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"W has shape \(128,\)"):
        GroupsPicture(W[0])
    with pytest.raises(ValueError, match="W holds 1 NaN"):
        GroupsPicture(torch.tensor([[1.0, float("nan")]]))
