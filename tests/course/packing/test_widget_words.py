"""The word widget: every weight it prints is what the package unpacks."""

import re
from dataclasses import replace

import pytest
import torch

from minquant.course.drawing.numbers import number
from minquant.course.packing.widget_words import word_board
from minquant.kernels.packed_words import dequantize, pack_matrix
from minquant.methods import rtn
from minquant.numerics import grids, groups


def packed(out, width):
    W = torch.randn(out, width, generator=torch.Generator().manual_seed(width))
    return pack_matrix(
        rtn.quantize_rtn(W, grids.symmetric_full(4), groups.per_group(32))
    )


MATRICES = {"first": packed(6, 256), "second": packed(3, 128)}


@pytest.fixture
def widget():
    return word_board(MATRICES, row=2, word=3)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


def buttons(widget):
    return widget.controls["place"].buttons


def test_the_buttons_say_the_stored_word(widget):
    word = int(MATRICES["first"].words[2, 3]) & 0xFFFFFFFF
    assert "".join(b.description for b in buttons(widget)) == f"{word:032b}"
    assert [b.value for b in buttons(widget)] == [c == "1" for c in f"{word:032b}"]
    assert "as it is stored" in text(widget.frame.words)


def test_a_flipped_bit_changes_the_weight_that_the_package_unpacks(widget):
    matrix = MATRICES["first"]
    before = matrix.words.clone()
    buttons(widget)[31].value = not buttons(widget)[31].value  # bit 0: column 6
    changed = matrix.words.clone()
    changed[2, 3] ^= 1
    W, W_hat = dequantize(matrix), dequantize(replace(matrix, words=changed))
    assert (W_hat != W).nonzero().tolist() == [[2, 6]]
    said = text(widget.frame.words)
    assert f"was {number(W[2, 6], digits=3)}, now {number(W_hat[2, 6], digits=3)}" in (
        said
    )
    assert torch.equal(matrix.words, before)


def test_flipping_back_restores_what_is_stored(widget):
    for _ in range(2):
        buttons(widget)[5].value = not buttons(widget)[5].value
    assert "as it is stored" in text(widget.frame.words)


def test_another_word_comes_as_it_is_stored(widget):
    buttons(widget)[0].value = not buttons(widget)[0].value
    widget.controls["place"].word.value = 20
    assert widget.error is None
    assert "Word 20, as it is stored" in text(widget.frame.words)
    assert "column 129" not in widget.alt
    assert "column 136" in widget.alt  # block 1, half 8, field 0


def test_another_matrix_has_its_own_rows_and_words(widget):
    widget.set(place=("first", 5, 31))
    widget.controls["place"].matrix.value = "second"
    assert widget.error is None
    assert widget.values["place"][:3] == ("second", 2, 15)
    assert widget.values["place"][3] == int(MATRICES["second"].words[2, 15]) % 2**32


def test_code_can_set_a_pattern(widget):
    widget.set(place=("first", 0, 0, 0xFFFFFFFF))
    assert all(b.value for b in buttons(widget))
    assert widget.alt.count("code 15") == 8


def test_no_matrix_is_refused():
    with pytest.raises(ValueError, match="matrices is empty; give at least one"):
        word_board({})
