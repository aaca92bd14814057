"""Codes in words: the layout by hand, exact inverses, what is refused, the weight."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from minquant.kernels import packed_words
from minquant.methods import rtn
from minquant.numerics import grids, groups, scales
from minquant.numerics.tensor import QuantizedTensor

BITS = (2, 3, 4, 8)
GRIDS = [
    *(grids.zero_point(bits) for bits in BITS),
    *(grids.symmetric_full(bits) for bits in BITS),
    grids.absmax(4),
    grids.TERNARY,
]


def quantized(shape, grid, granularity=groups.PER_CHANNEL, seed=0, **kwargs):
    """Random weights, rounded."""
    W = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return rtn.quantize_rtn(W, grid, granularity, **kwargs)


def test_the_second_word_of_a_block_holds_weights_2_and_3_of_each_slice():
    codes = torch.zeros(1, 128, dtype=torch.int16)
    codes[0, [2, 34, 66, 98, 3, 35, 67, 99]] = torch.arange(1, 9, dtype=torch.int16)
    one, none = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.uint8)
    q = QuantizedTensor(codes, one, none, grids.zero_point(4), groups.PER_CHANNEL)
    packed = packed_words.pack_matrix(q).words[0]
    assert packed[1] & 0xFFFF == 0x4321 and (packed[1] >> 16) & 0xFFFF == 0x8765
    assert packed.count_nonzero() == 1


def test_the_zero_of_the_second_group_is_the_upper_half_of_the_first_byte():
    zeros = torch.tensor([[3, 9, 15]], dtype=torch.uint8)
    codes = torch.zeros(1, 96, dtype=torch.uint8)
    ones, in_groups = torch.ones(1, 3), groups.per_group(32)
    q = QuantizedTensor(codes, ones, zeros, grids.zero_point(4), in_groups)
    assert packed_words.pack_matrix(q).zeros.tolist() == [[0x93, 0x0F]]


def test_codes_that_lie_transposed_in_memory_make_the_same_words():
    q = quantized((8, 128), grids.zero_point(4), groups.per_group(64))
    turned = replace(q, codes=q.codes.T.contiguous().T)
    assert not turned.codes.is_contiguous()
    assert torch.equal(
        packed_words.pack_matrix(turned).words, packed_words.pack_matrix(q).words
    )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(GRIDS),
    st.sampled_from(["tensor", "channel", 1, 5, 32]),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_a_packed_matrix_is_the_quantized_one_bit_for_bit(grid, cut, out, n_groups):
    if isinstance(cut, int):
        width, granularity = cut * n_groups, groups.per_group(cut)
    else:
        width, granularity = 61 * n_groups, groups.Granularity(cut)
    q = quantized((out, width), grid, granularity)
    packed = packed_words.pack_matrix(q)
    offset = 0 if grid.has_zeros else 2 ** (grid.bits - 1)
    assert torch.equal(packed_words.unpack_matrix(packed).int(), q.codes.int() + offset)
    assert torch.equal(packed_words.dequantize(packed), q.dequantize())


def test_some_rows_are_those_rows():
    q = quantized((7, 96), grids.zero_point(3), groups.per_group(32))
    packed, rows = packed_words.pack_matrix(q), slice(2, 5)
    assert torch.equal(packed_words.dequantize(packed, rows=rows), q.dequantize()[rows])
    assert packed_words.unpack_matrix(packed, slice(7, 9)).shape == (0, 96)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (2, 2 + (16 + 2) / 128),
        (3, 26 * 512 / 4096 + (16 + 4) / 128),  # 26 blocks of 160 hold 4096 weights
        (4, 4 + (16 + 4) / 128),
        (8, 8 + (16 + 8) / 128),
    ],
)
def test_a_weight_takes_its_bits_and_its_share_of_scale_and_zero(bits, expected):
    q = quantized((4, 4096), grids.zero_point(bits), groups.per_group(128))
    assert packed_words.pack_matrix(q).bits_per_weight == expected


def test_fp16_scales_stay_and_others_become_fp32():
    shape, cut = (4, 64), groups.per_group(32)
    plain = packed_words.pack_matrix(quantized(shape, grids.absmax(4), cut))
    assert plain.scales.dtype == torch.float16
    short = quantized(shape, grids.absmax(4), cut, scale_dtype=scales.E8M0.store)
    packed = packed_words.pack_matrix(short)
    assert packed.scales.dtype == torch.float32
    assert torch.equal(packed_words.dequantize(packed), short.dequantize())


def test_a_move_keeps_everything():
    packed = packed_words.pack_matrix(quantized((4, 64), grids.zero_point(4)))
    moved = packed.to("cpu")
    assert torch.equal(packed_words.dequantize(moved), packed_words.dequantize(packed))
    assert (
        packed_words.pack_matrix(quantized((4, 64), grids.absmax(4))).to("cpu").zeros
        is None
    )


def test_what_cannot_be_packed_is_refused_with_advice():
    with pytest.raises(ValueError, match="grid NF4 is a codebook, .*dequantize"):
        packed_words.pack_matrix(quantized((4, 64), grids.NF4))
    with pytest.raises(ValueError, match="bits is 5; the words hold codes of 2, 3, 4"):
        packed_words.pack_matrix(quantized((4, 64), grids.absmax(5)))
    q = quantized((2, 32), grids.absmax(4))
    fields = (q.scales, None, q.grid, q.granularity)
    with pytest.raises(ValueError, match="input_scales are given, .* divide X by them"):
        packed_words.pack_matrix(QuantizedTensor(q.codes, *fields, torch.ones(32)))
    with pytest.raises(
        ValueError, match="codes run from 9 to 9; grid absmax of 4 bits"
    ):
        packed_words.pack_matrix(QuantizedTensor(torch.full((2, 32), 9), *fields))


def test_fields_that_do_not_fit_the_shape_are_refused():
    packed = packed_words.pack_matrix(quantized((4, 64), grids.zero_point(4)))
    fields = (packed.scales, packed.zeros, 4, 64, (4, 64))
    with pytest.raises(ValueError, match=r"words has shape \(4, 15\).*needs \(4, 16\)"):
        packed_words.PackedMatrix(packed.words[:, 1:], *fields)
    for wrong in (torch.bfloat16, torch.float64):
        with pytest.raises(ValueError, match="give float16 or float32"):
            packed_words.PackedMatrix(
                packed.words, packed.scales.to(wrong), *fields[1:]
            )
