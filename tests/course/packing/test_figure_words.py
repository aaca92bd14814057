"""The picture of one word: bits, codes, columns and weights are the package's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from minquant.course.drawing import figures, palette
from minquant.course.packing.figure_words import WordPicture, WordView, left_edges
from minquant.kernels.packed_words import dequantize, pack_matrix, unpack_matrix
from minquant.methods import rtn
from minquant.numerics import grids, groups


def packed(width=256, grid=grids.zero_point(4)):  # noqa: B008
    W = torch.randn(4, width, generator=torch.Generator().manual_seed(1))
    return pack_matrix(rtn.quantize_rtn(W, grid, groups.per_group(64)))


def test_the_fields_are_read_from_the_highest_bits_down():
    matrix = packed()
    view = WordView.of(matrix, row=1, word=18)  # block 1, word 2 of it
    assert view.columns.tolist() == [229, 197, 165, 133, 228, 196, 164, 132]
    codes = unpack_matrix(matrix)[1].numpy()
    assert view.codes.tolist() == codes[view.columns].tolist()
    nibbles = [view.pattern >> 28 - 4 * i & 15 for i in range(8)]
    assert view.codes.tolist() == nibbles
    W_hat = dequantize(matrix)[1].numpy()
    assert np.array_equal(view.weights, W_hat[view.columns])
    assert np.array_equal(view.block, W_hat[128:])


def test_another_pattern_changes_its_fields_and_no_others():
    matrix = packed()
    stored = WordView.of(matrix, 0, 0).pattern
    view = WordView.of(matrix, 0, 0, stored ^ 1 << 31 ^ 1)
    assert view.changed.tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    moved = (view.block != view.before).nonzero()[0]
    assert sorted(moved) == [0, 97]
    assert view.codes[0] == (stored >> 28) ^ 8


def test_a_box_for_each_bit_dark_where_it_is_1():
    matrix = packed()
    picture = WordPicture(WordView.of(matrix, 0, 0, 0xF000000A))
    colors = picture.fills[0].get_facecolor()
    assert len(colors) == 32
    pale = [sum(c[:3]) > 2 for c in colors]
    assert [not p for p in pale] == [c == "1" for c in f"{0xF000000A:032b}"]
    assert np.all(np.diff(left_edges()) > 0)


def test_what_was_changed_is_vermilion():
    matrix = packed()
    picture = WordPicture(WordView.of(matrix, 0, 0))
    assert all(t.get_color() != palette.VERMILION for t in picture.fields[0])
    stored = WordView.of(matrix, 0, 0).stored
    picture.update(WordView.of(matrix, 0, 0, stored ^ 16))
    changed = [t.get_color() == palette.VERMILION for t in picture.fields[0]]
    assert changed == [False] * 6 + [True, False]
    assert len(picture.changed_dots.get_xdata()) == 1


def test_the_axes_follow_the_word():
    picture = WordPicture(WordView.of(packed(), 0, 0))
    figures.to_pixels(picture.fig)
    picture.update(WordView.of(packed(), 3, 17))
    labels = [t.get_text() for t in picture.stems.get_xticklabels()]
    assert labels == ["128", "160", "192", "224", "256"]
    assert picture.stems.get_xlabel() == "column of W, row 3"
    assert "word 17 of row 3" in picture.fig.alt


@pytest.mark.parametrize("matrix", [packed(192), packed(grid=grids.zero_point(8))])
def test_other_widths_and_broken_blocks_are_refused(matrix):
    with pytest.raises(ValueError, match="give 4 bits and whole blocks of 128"):
        WordView.of(matrix, 0, 0)


def test_the_matrix_is_left_as_it_was():
    matrix = packed()
    before = replace(matrix, words=matrix.words.clone())
    WordView.of(matrix, 0, 0, 0)
    assert torch.equal(matrix.words, before.words)
