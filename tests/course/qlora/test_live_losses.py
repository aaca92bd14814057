"""The live losses' Python side."""

import pytest
import torch

from minquant.course.qlora.live_losses import LossesPicture, losses, smoothed
from minquant.course.qlora.table import learnt


def test_smooth_is_the_mean_of_the_last_five():
    row = torch.arange(8.0)
    assert smoothed(row) == [0, 0.5, 1, 1.5, 2, 3, 4, 5]


def test_the_picture_has_every_curve_of_the_table():
    picture = losses(learnt())
    assert list(picture.curves) == ["full", "lora", "qlora"]
    assert {len(rows) for rows in picture.curves.values()} == {6}
    assert picture.words.startswith(
        "The loss falls from 13 nats: full fine-tuning ends"
    )
    assert round(picture.guess, 1) == 6.9


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="give as many of each"):
        LossesPicture({"full": [[1.0, 2.0]], "lora": [[1.0]]}, {})
    with pytest.raises(ValueError, match="seed is '3'; choose from all six, gro"):
        LossesPicture({"full": [[1.0]]}, {"full": [1.0]}, seed="3")
