"""The live stepper's Python side: what it shows, and what it refuses."""

import pytest
import torch
from helpers.cases import correlated

from minquant.course.gptq.live_stepper import DAMPINGS, StepperPicture, together

W, H = correlated()


def test_the_inputs_that_go_together_most_are_chosen():
    size = torch.tensor([1.0, 5.0, 2.0, 3.0, 1.0])
    alike = torch.eye(5)
    alike[1, 4] = alike[4, 1] = -0.9
    alike[4, 2] = alike[2, 4] = 0.5
    alike[0, 3] = alike[3, 0] = 0.4
    H = alike * torch.outer(size, size)
    assert together(H, 2) == [1, 4]
    assert together(H, 3) == [1, 2, 4]
    assert together(H, 9) == [0, 1, 2, 3, 4]


def test_an_input_that_was_always_0_comes_last():
    H = torch.eye(4) + 0.5
    H[1], H[:, 1] = 0, 0
    assert together(H, 3) == [0, 2, 3]


def test_it_holds_the_parts_of_w_and_h_that_are_in_view():
    picture = StepperPicture(W, H)
    columns = picture.columns
    assert columns == together(H, 12)
    shown = torch.tensor(picture.weights)
    torch.testing.assert_close(shown, W[:3, columns].float())
    assert H[columns][:, columns].tolist() == picture.H
    assert DAMPINGS[picture.damping] == 0.01


def test_a_matrix_of_two_columns_is_shown_whole():
    picture = StepperPicture(torch.randn(1, 2), torch.eye(2), turn=2)
    assert picture.columns == [0, 1]


def test_w_in_half_precision_is_shown():
    assert StepperPicture(W.bfloat16(), H.float()).weights


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 5}, "bits is 5; choose one of 2, 3, 4"),
        ({"damping": 0.5}, "damping is 0.5; choose one of 0.001, 0.003"),
        ({"turn": 13}, "turn is 13; choose one of 0, 1"),
        ({"turn": -1}, "turn is -1"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        StepperPicture(W, H, **change)


def test_an_h_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"H has shape \(3, 3\), but W"):
        StepperPicture(W, torch.eye(3))
    with pytest.raises(ValueError, match="W holds 1 NaN"):
        StepperPicture(torch.tensor([[1.0, float("nan")]]), torch.eye(2))
