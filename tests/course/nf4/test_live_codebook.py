"""The uneven ruler's Python side: what it hands over, and what it refuses."""

import numpy as np
import pytest
import torch

import minquant as mq
from minquant.course.nf4.live_codebook import BOOKS, CodebookPicture, float32_hex

W = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))


def test_weights_arrive_bit_for_bit():
    V = torch.tensor([[-0.0, 1e-45, 3.0e38, -0.1]])
    back = np.frombuffer(bytes.fromhex(float32_hex(V)), "<f4")
    assert back.tobytes() == V.numpy().tobytes()


def test_books_are_the_packages_grids():
    books = CodebookPicture({"W": W}).books
    assert books["NF4"]["levels"] == list(mq.NF4.levels)
    assert books["FP4"]["reach"] == 6
    assert books["int4"] == {"levels": list(range(-8, 8)), "reach": 7.5, "even": True}
    assert list(books) == list(BOOKS)


def test_only_blocks_that_divide_every_row_are_offered():
    assert CodebookPicture({"W": W}).blocks == [16, 32, 64, 128]
    both = CodebookPicture({"W": W, "V": W[:, :48]})
    assert (both.blocks, both.size) == ([16], 0)
    with pytest.raises(ValueError, match=r"rows of \[30\] weights: none of"):
        CodebookPicture({"W": W[:, :30]})


def test_bf16_is_read():
    assert CodebookPicture({"W": W.bfloat16()}).weights[0]["width"] == 128


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"book": "NF3"}, "book is 'NF3'; choose from"),
        ({"tick": 16}, "tick is 16; choose from"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        CodebookPicture({"W": W}, **change)


def test_what_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match="weights is empty"):
        CodebookPicture({})
    with pytest.raises(ValueError, match="V holds 1 NaN"):
        CodebookPicture({"V": torch.tensor([[float("nan")] * 1 + [1.0] * 15])})
