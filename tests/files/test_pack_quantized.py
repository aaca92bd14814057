"""Matrices in another format: by hand, there and back, read by other programs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.files.pack_quantized import (
    bits_by_layer,
    pack_words,
    quantization_config,
    quantized_tensor,
    tensors_of,
    unpack_words,
)
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.numerics.scales import E8M0

W = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))


def rounded(bits=4, cut=None, W=W, **options):
    """W on the symmetric grid, in groups of 16 unless said otherwise."""
    grid = grids.symmetric_full(bits)
    return rtn.quantize_rtn(W, grid, cut or groups.per_group(16), **options)


@st.composite
def codes(draw):
    """A width and a matrix of codes of any shape."""
    bits = draw(st.sampled_from([4, 8]))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 37)))
    half = 2 ** (bits - 1)
    numbers = st.lists(
        st.integers(-half, half - 1),
        min_size=shape[0] * shape[1],
        max_size=shape[0] * shape[1],
    )
    return bits, torch.tensor(draw(numbers), dtype=torch.int8).view(shape)


def test_eight_codes_of_4_bits_are_the_digits_of_a_word_from_the_last_to_the_first():
    word = pack_words(torch.tensor([[-8, -7, 0, 7, 1, 2, 3, -1]]), 4)
    assert word.shape == (1, 1) and word.dtype == torch.int32
    assert f"{word.item() & 0xFFFFFFFF:08x}" == "7ba9f810"


def test_four_codes_of_8_bits_are_the_bytes_of_a_word():
    word = pack_words(torch.tensor([[-128, -1, 0, 127]]), 8).item() & 0xFFFFFFFF
    assert f"{word:08x}" == "ff807f00"


def test_a_row_begins_with_a_new_word_and_ends_in_zero_bits():
    words = pack_words(torch.full((2, 9), -7), 4)
    assert words.tolist() == [[0x11111111, 1], [0x11111111, 1]]


@given(codes())
def test_words_come_back_as_the_codes_they_were_made_of(drawn):
    bits, matrix = drawn
    words = pack_words(matrix, bits)
    assert words.shape == (len(matrix), -(-matrix.shape[1] * bits // 32))
    assert torch.equal(unpack_words(words, bits, matrix.shape[1]), matrix)


@given(codes())
def test_compressed_tensors_packs_the_same_words_and_reads_ours(drawn):
    pytest.importorskip("compressed_tensors", reason="its words are compared with")
    from compressed_tensors.compressors.pack_quantized import helpers

    bits, matrix = drawn
    words = pack_words(matrix, bits)
    assert torch.equal(words, helpers.pack_to_int32(matrix, bits))
    theirs = helpers.unpack_from_int32(words, bits, matrix.shape)
    assert torch.equal(theirs.to(torch.int8), matrix)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("cut", [groups.per_group(16), groups.PER_CHANNEL])
def test_a_matrix_is_read_as_it_was_stored(bits, cut):
    quantized = rounded(bits, cut)
    again = quantized_tensor(tensors_of(quantized), bits)
    assert torch.equal(again.codes, quantized.codes)
    assert torch.equal(again.scales, quantized.scales)
    assert (again.grid, again.granularity) == (quantized.grid, cut)
    assert torch.equal(again.dequantize(), quantized.dequantize())


def test_one_scale_for_a_whole_matrix_becomes_one_for_each_row():
    quantized = rounded(cut=groups.PER_TENSOR)
    parts = tensors_of(quantized)
    assert parts["weight_scale"].shape == (6, 1)
    assert torch.equal(quantized_tensor(parts, 4).dequantize(), quantized.dequantize())


def test_codes_of_the_shorter_symmetric_grid_fit_in():
    quantized = rtn.quantize_rtn(W, grids.absmax(4), groups.per_group(16))
    assert torch.equal(
        quantized_tensor(tensors_of(quantized), 4).dequantize(), quantized.dequantize()
    )


def test_4_bits_in_groups_of_16_take_5_bits_on_disk():
    parts = tensors_of(rounded())
    weighs = parts["weight_packed"].nbytes + parts["weight_scale"].nbytes
    assert 8 * weighs / W.numel() == 4 + 16 / 16


@pytest.mark.parametrize(
    ("quantized", "words"),
    [
        (
            rtn.quantize_rtn(W, grids.zero_point(4)),
            "zero_point of 4 bits.*symmetric_full",
        ),
        (rtn.quantize_rtn(W, grids.NF4), "NF4 of 4 bits"),
        (rounded(3), "symmetric_full of 3 bits"),
        (replace(rounded(), input_scales=torch.ones(64)), "input_scales.*folds.fold_"),
        (
            rounded(cut=groups.per_group(32), scale_dtype=E8M0.store),
            "not numbers of torch.float16",
        ),
        (rounded(scale_dtype=torch.float32), "scale_dtype=torch.float16"),
    ],
)
def test_what_the_format_cannot_store_is_refused_with_advice(quantized, words):
    with pytest.raises(ValueError, match=words):
        tensors_of(quantized)


def test_bf16_scales_are_stored_as_they_are_or_refused():
    bf16 = tensors_of(rounded(scale_dtype=torch.bfloat16), torch.bfloat16)
    assert bf16["weight_scale"].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="numbers of torch.bfloat16"):
        tensors_of(rounded(), torch.bfloat16)


def test_reading_refuses_zeros_and_shapes_that_do_not_fit():
    parts = tensors_of(rounded())
    with pytest.raises(ValueError, match="only symmetric grids"):
        quantized_tensor({**parts, "weight_zero_point": torch.zeros(1)}, 4)
    with pytest.raises(ValueError, match="only symmetric grids"):
        quantized_tensor({name: parts[name] for name in list(parts)[:2]}, 4)
    with pytest.raises(ValueError, match=r"\(6, 8\).* do not fit a matrix \(6, 128\)"):
        quantized_tensor({**parts, "weight_shape": torch.tensor([6, 128])}, 4)
    with pytest.raises(ValueError, match="do not fit"):
        quantized_tensor({**parts, "weight_scale": torch.ones(6, 5)}, 4)
    with pytest.raises(ValueError, match="do not fit"):
        quantized_tensor({**parts, "weight_scale": torch.ones(5, 4)}, 4)
    with pytest.raises(ValueError, match="do not fit"):
        quantized_tensor({**parts, "weight_scale": torch.ones(6)}, 4)
    for bits in (8, 3):
        with pytest.raises(ValueError, match=f"of {bits} bits; there are 4 and 8"):
            quantized_tensor(parts, bits)


def test_rows_so_short_that_either_width_fits_are_read_as_they_are_said_to_be():
    quantized = rounded(8, groups.PER_CHANNEL, W[:, :4])
    assert torch.equal(
        quantized_tensor(tensors_of(quantized), 8).codes, quantized.codes
    )


def test_what_is_described_is_what_is_read():
    report = {"a.q": rounded(4), "a.k": rounded(8), "b.q": rounded(4)}
    config = quantization_config(report, [*report, "lm_head"])
    assert config["ignore"] == ["lm_head"]
    assert {name: bits_by_layer(config)(name) for name in report} == {
        "a.q": 4,
        "a.k": 8,
        "b.q": 4,
    }
    with pytest.raises(ValueError, match="no group for lm_head"):
        bits_by_layer(config)("lm_head")
    one = quantization_config({"a.q": rounded(8)}, ["a.q"])
    assert bits_by_layer(one)("any.layer") == 8


def test_layers_may_be_meant_by_a_pattern():
    config = quantization_config({"a.q": rounded(4)}, [])
    config["config_groups"]["group_0"]["targets"] = [r"re:.*\.mlp\..*"]
    assert bits_by_layer(config)("layers.3.mlp.up") == 4
    with pytest.raises(ValueError, match="no group for layers.3.attn.q"):
        bits_by_layer(config)("layers.3.attn.q")


@pytest.mark.parametrize(
    "change",
    [
        {"input_activations": {"num_bits": 8}},
        {"weights": None},
        {"weights": {"type": "int", "symmetric": True}},
        {"weights": {"type": "int", "symmetric": False, "num_bits": 4}},
        {"weights": {"type": "float", "symmetric": True, "num_bits": 4}},
        {"weights": {"type": "int", "symmetric": True, "num_bits": 3}},
    ],
)
def test_another_kind_of_codes_is_refused(change):
    config = quantization_config({"a.q": rounded(4)}, [])
    config["config_groups"]["group_0"] |= change
    with pytest.raises(ValueError, match="only compressed-tensors pack-quantized"):
        bits_by_layer(config)


def test_a_config_without_groups_or_of_another_format_is_refused():
    config = quantization_config({"a.q": rounded(4)}, [])
    for wrong in ({}, config | {"config_groups": {}}, config | {"format": "marlin"}):
        with pytest.raises(ValueError, match="is read, of weights alone"):
            bits_by_layer(wrong)
