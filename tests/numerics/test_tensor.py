"""QuantizedTensor: its values and bytes by hand; and nothing is cast on the way."""

import re

import pytest
import torch
from helpers.fixture import as_learners_have_it

from minquant.methods import rtn
from minquant.numerics import grids
from minquant.numerics.bits import pack
from minquant.numerics.grids import (
    FP4,
    NF4,
    TERNARY,
    absmax,
    symmetric_full,
    zero_point,
)
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR, per_group
from minquant.numerics.scales import E4M3, E8M0
from minquant.numerics.tensor import QuantizedTensor


def weights(out=16, width=1024):
    return torch.randn(out, width, generator=torch.Generator().manual_seed(0)) * 0.02


def by_hand(**changes):
    """Two rows in groups of two, on a zero-point grid of 4 bits."""
    fields = {
        "codes": torch.tensor([[0, 15, 3, 4], [7, 8, 9, 10]], dtype=torch.uint8),
        "scales": torch.tensor([[0.5, 0.25], [2.0, 1.0]], dtype=torch.float16),
        "zeros": torch.tensor([[5, 0], [8, 15]], dtype=torch.uint8),
        "grid": zero_point(4),
        "granularity": per_group(2),
    }
    return QuantizedTensor(**fields | changes)


VALUES = [[-2.5, 5.0, 0.75, 1.0], [-2.0, 0.0, -6.0, -5.0]]


# --- values ---


def test_a_value_is_code_minus_zero_times_scale():
    assert by_hand().dequantize().tolist() == VALUES


def test_input_scales_are_divided_out_again():
    q = by_hand(input_scales=torch.tensor([1.0, 2.0, 4.0, 0.5]))
    expected = torch.tensor(VALUES) / torch.tensor([1.0, 2.0, 4.0, 0.5])
    assert torch.equal(q.dequantize(), expected)


def test_a_codebook_looks_its_values_up():
    q = QuantizedTensor(
        codes=torch.tensor([[0, 7, 9, 14]], dtype=torch.uint8),
        scales=torch.tensor([[2.0]]),
        zeros=None,
        grid=FP4,
        granularity=PER_CHANNEL,
    )
    assert q.dequantize().tolist() == [[-12.0, 0.0, 2.0, 12.0]]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_it_dequantizes_to_the_dtype_that_is_asked_for(dtype):
    assert by_hand().dequantize(dtype).dtype == dtype
    assert torch.equal(by_hand().dequantize(dtype), torch.tensor(VALUES, dtype=dtype))


def test_float64_is_computed_in_float64():
    q = by_hand(scales=torch.full((2, 2), 0.1))
    exact = (q.codes.double() - q.zeros.double().repeat_interleave(2, 1)) * q.scales[
        0, 0
    ].double()
    assert torch.equal(q.dequantize(torch.float64), exact)


def test_a_value_that_overflows_the_dtype_is_refused():
    q = by_hand(scales=torch.full((2, 2), 9360.0).half())
    assert q.dequantize().max() == 93600
    with pytest.raises(
        ValueError,
        match="dtype torch.float16 ends at 65504, but W_hat reaches 93600; take torch",
    ):
        q.dequantize(torch.float16)


# --- bytes ---


@pytest.mark.parametrize(
    ("grid", "cut", "how", "bits"),
    [
        (zero_point(4), per_group(128), torch.float16, 4 + (16 + 4) / 128),  # 4.16
        (zero_point(3), per_group(128), torch.float16, 3 + (16 + 3) / 128),
        (zero_point(2), per_group(64), torch.float16, 2 + (16 + 2) / 64),
        (symmetric_full(4), per_group(128), torch.bfloat16, 4 + 16 / 128),
        (absmax(8), PER_CHANNEL, torch.float16, 8 + 16 / 1024),
        (absmax(8), PER_TENSOR, torch.float32, 8 + 32 / (16 * 1024)),
        (absmax(12), PER_CHANNEL, torch.float32, 12 + 32 / 1024),
        (zero_point(16), PER_CHANNEL, torch.float32, 16 + (32 + 16) / 1024),
        (NF4, per_group(64), torch.float32, 4.5),
        (NF4, per_group(64), torch.float16, 4.25),
        (FP4, per_group(32), E8M0.store, 4.25),  # MXFP4
        (FP4, per_group(16), E4M3.of(weights(), FP4), 4.5 + 32 / (16 * 1024)),  # NVFP4
        (grids.FP8_E4M3, per_group(32), E8M0.store, 8.25),  # MXFP8
        (TERNARY, PER_CHANNEL, torch.float16, 2 + 16 / 1024),
    ],
)
def test_bits_per_weight_of_every_format(grid, cut, how, bits):
    q = rtn.quantize_rtn(weights(), grid, cut, scale_dtype=how)
    assert q.bits_per_weight == bits
    assert q.nbytes == bits * 16 * 1024 / 8


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("make", [absmax, symmetric_full, zero_point])
def test_the_bytes_are_those_of_what_is_packed(make, bits):
    q = rtn.quantize_rtn(weights(3, 7), make(bits))
    stored = len(pack(q.codes.long() - q.grid.low, bits)) + q.scales.nbytes
    if q.zeros is not None:
        stored += len(pack(q.zeros, bits))
    assert q.nbytes == stored


def test_padding_is_counted():
    q = rtn.quantize_rtn(torch.tensor([[1.0, 2.0, 3.0]]), absmax(4))
    assert q.nbytes == 2 + 2  # 12 bits take 2 bytes
    assert q.bits_per_weight == 8 * 4 / 3


def test_input_scales_are_counted():
    more = by_hand(input_scales=torch.ones(4).half()).nbytes - by_hand().nbytes
    assert more == 8


# --- moving ---


def test_a_dtype_changes_what_comes_out_and_nothing_that_is_stored():
    q = by_hand(input_scales=torch.ones(4))
    moved = q.to(torch.bfloat16)
    assert moved.dequantize().dtype == torch.bfloat16
    for name in ("codes", "scales", "zeros", "input_scales"):
        assert getattr(moved, name) is getattr(q, name)
    assert q.dequantize().dtype == torch.float32  # the original stays


@pytest.mark.parametrize("how", [torch.float16, E8M0.store])
def test_a_device_moves_all_that_is_stored_and_casts_nothing(how):
    q = rtn.quantize_rtn(weights(2, 64), zero_point(4), per_group(32), scale_dtype=how)
    for place in (("cpu",), (torch.device("cpu"), torch.float16)):
        moved = q.to(*place)
        assert torch.equal(moved.codes, q.codes)
        assert torch.equal(moved.zeros, q.zeros)
        assert moved.scales.nbytes == q.scales.nbytes
    assert moved.dtype == torch.float16


def test_moving_to_another_device_moves_every_part():
    moved = by_hand(input_scales=torch.ones(4)).to("meta")
    parts = (moved.codes, moved.scales, moved.zeros, moved.input_scales)
    assert all(part.is_meta for part in parts)
    assert moved.scales.dtype == torch.float16
    assert moved.nbytes == by_hand(input_scales=torch.ones(4)).nbytes


# --- saying ---


def test_the_repr_teaches_what_is_stored():
    q = rtn.quantize_rtn(weights(512, 1024), zero_point(4), per_group(128))
    lines = [re.sub(r"  +", " ", line).strip() for line in repr(q).splitlines()]
    assert lines == [
        "QuantizedTensor 512 × 1024: zero_point, per group of 128",
        "codes 262,144 bytes 0 … 15, packed at 4 bits",
        "scales 8,192 bytes (512, 8) float16",
        "zeros 2,048 bytes (512, 8) packed likewise",
        "together 272,384 bytes 4.16 bits per weight, 3.85 times smaller than fp16",
    ]


def test_the_repr_names_a_scale_format_and_input_scales():
    q = rtn.quantize_rtn(weights(2, 64), FP4, per_group(32), scale_dtype=E8M0.store)
    assert "(2, 2) E8M0" in repr(q) and "zeros" not in repr(q)
    assert "(4,) float32" in repr(by_hand(input_scales=torch.ones(4)))
    assert "−7 … 7, packed" in repr(rtn.quantize_rtn(weights(2, 8), absmax(4)))


# --- what does not fit ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scales": torch.ones(2, 1)},
            r"scales has shape \(2, 1\); a matrix \(2, 4\) per group of 2 needs \(2, 2",
        ),
        ({"zeros": torch.ones(1, 2).int()}, r"zeros has shape \(1, 2\); a matrix"),
        ({"zeros": None}, "zeros is None, but grid zero_point has zeros; give them"),
        ({"grid": absmax(4)}, "zeros are given, but grid absmax has none; give None"),
        (
            {"input_scales": torch.ones(2)},
            r"input_scales has shape \(2,\); give one number for each of 4 columns",
        ),
        ({"granularity": per_group(3)}, "group_size 3 does not divide in_features 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        by_hand(**changes)
