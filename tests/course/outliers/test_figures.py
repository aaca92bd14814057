"""Where the outliers are, and a product in codes: the numbers that are drawn."""

import numpy as np
import pytest
import torch

import minquant as mq
from minquant.course.drawing import figures
from minquant.course.outliers.figure_product import product_in_codes
from minquant.course.outliers.figure_where import large_numbers


def test_there_is_a_dot_for_each_large_number():
    X = torch.zeros(5, 8)
    X[2, 3], X[:, 6] = -6.0, 70.0
    fig = large_numbers({"a": X, "none": 0 * X})
    dots = np.asarray(fig.axes[0].collections[0].get_offsets()).tolist()
    assert sorted(dots) == sorted([[3, 2], *[[6, i] for i in range(5)]])
    assert "a: 6 of 40 numbers reach 6, in 5 of 5 tokens and 2 of 8" in fig.alt
    assert "none: 0 of 40 numbers reach 6" in fig.alt
    sizes = fig.axes[0].collections[0].get_sizes()
    assert sizes.min() > 0
    figures.to_pixels(fig)


@pytest.mark.parametrize("count", [0, 4])
def test_more_panels_than_fit_are_refused(count):
    with pytest.raises(ValueError, match=f"inputs has {count} entries; give one to"):
        large_numbers({f"{i}": torch.ones(2, 3) for i in range(count)})


def test_a_product_shows_the_numbers_of_the_package():
    X = torch.tensor([[1.27, 0.503, -0.25], [0.20, -2.54, 1.00]])
    W = torch.tensor([[0.40, 0.635, -0.10], [-1.27, 0.034, 0.50]])
    fig = product_in_codes(X, W)
    shown = {text.get_text() for text in fig.texts}
    for y in mq.llm_int8(X, W, torch.inf).flatten().tolist():
        assert f"{y:.4f}".replace("-", "−") in shown
    assert {"÷ 0.01", "÷ 0.02", "÷ 0.005", "× 0.01", "17,010", "−127"} <= shown
    figures.to_pixels(fig)
