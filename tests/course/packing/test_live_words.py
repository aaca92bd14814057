"""The word that Python hands to the browser, and its sentence."""

import pytest
import torch

import minquant as mq
from minquant.course.packing.live_words import WordPicture, word_of
from minquant.kernels.packed_words import dequantize, unpack_matrix

W = torch.randn(4, 160, generator=torch.Generator().manual_seed(0))


def packed(bits=4, g=32, grid=mq.symmetric_full, W=W):
    """W in words."""
    return mq.pack_matrix(mq.quantize_rtn(W, grid(bits), mq.per_group(g)))


@pytest.mark.parametrize("g", [32, 160])
def test_the_first_block_of_a_row_is_handed_over(g):
    matrix = packed(g=g)
    picture = word_of(matrix, row=2, word=3, code=5)
    assert [w - (w >> 31 << 32) for w in picture.words_held] == (
        matrix.words[2, :16].tolist()
    )
    scales = matrix.scales[2].float().tolist()
    assert picture.scales == (scales[:4] if g == 32 else 4 * scales)


def test_the_words_say_what_the_package_unpacks():
    matrix = packed()
    said = word_of(matrix, row=1, word=2, code=7).words
    code, weight = unpack_matrix(matrix)[1, 101], dequantize(matrix)[1, 101]
    assert "Shifted by 28 places" in said
    assert f"they give the code {code}, which is the weight" in said
    assert f"{weight:.3g}".replace("-", "−") in said
    assert said.endswith("in column 101.")


@pytest.mark.parametrize(
    "matrix", [packed(bits=3), packed(grid=mq.zero_point), packed(W=W[:, :64])]
)
def test_other_matrices_are_refused(matrix):
    with pytest.raises(ValueError, match="give 4 bits of a symmetric grid, and 128 co"):
        WordPicture(matrix)
