"""Packed codes and a table: the same bits and values as the method returned."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.layers import packed_stream
from minquant.layers.packed_stream import LookupMatrix
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.numerics.bits import unpack
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.scales import E4M3, E8M0

GRIDS = [
    *(grids.zero_point(bits) for bits in (2, 3, 4, 5, 8)),
    *(grids.absmax(bits) for bits in (2, 3, 4, 7, 8)),
    grids.symmetric_full(4),
    grids.TERNARY,
    grids.NF4,
    grids.FP4,
    grids.FP8_E4M3,
    grids.Codebook("three", 2, (-1.0, 0.0, 0.5)),
]
CUTS = [groups.PER_TENSOR, groups.PER_CHANNEL, groups.per_group(4)]
quick = settings(max_examples=40, deadline=None)


def weights(out, width, seed=0):
    """A random matrix."""
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed))


def W_hat(matrix, dtype=torch.float32):
    """All values of a packed matrix."""
    return torch.cat([rows for _, rows in matrix.parts(dtype)])


def nbytes(matrix):
    """The bytes of all its tensors."""
    return sum(tensor.nbytes for tensor in matrix.tensors().values())


@quick
@given(
    st.sampled_from(GRIDS),
    st.sampled_from(CUTS),
    st.integers(1, 30),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([1, 100, 2**20]),
    st.integers(0, 9),
)
def test_values_and_bytes_are_those_of_the_quantized_tensor(
    grid, cut, out, fours, scaled, part, seed
):
    W = weights(out, 4 * fours, seed)
    q = rtn.quantize_rtn(W, grid, cut)
    if scaled:
        q = replace(q, input_scales=torch.rand(4 * fours).half() + 0.5)
    matrix = LookupMatrix.pack(q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_stream, "PART", part)  # in one part, or in many
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            assert torch.equal(W_hat(matrix, dtype), q.dequantize(dtype))
    assert nbytes(matrix) == q.nbytes


@quick
@given(st.sampled_from(GRIDS), st.sampled_from(CUTS), st.integers(0, 9))
def test_its_streams_hold_the_codes_and_zeros_of_the_quantized_tensor(grid, cut, seed):
    q = rtn.quantize_rtn(weights(5, 8, seed), grid, cut)
    matrix = LookupMatrix.pack(q)
    codes = unpack(matrix.codes, grid.bits, (5, 8)).int() + grid.low
    assert torch.equal(codes, q.codes.int())
    assert (matrix.zeros is None) == (q.zeros is None)
    if q.zeros is not None:
        zeros = unpack(matrix.zeros, grid.bits, tuple(q.zeros.shape)).int() + grid.low
        assert torch.equal(zeros, q.zeros.int())


def test_a_byte_of_two_nf4_codes_by_hand():
    q = rtn.quantize_rtn(torch.tensor([[1.0, -1.0, 0.0, 0.25]]), grids.NF4)
    matrix = LookupMatrix.pack(q)
    assert matrix.codes.tolist() == [0x0F, 0xA7]  # −1 is code 0, 0 is 7, 0.246 is 10
    assert W_hat(matrix)[0, 3] == pytest.approx(0.24611230)


@pytest.mark.parametrize(
    "store", [DoubleQuantized.store, E8M0.store, E4M3.of(weights(16, 64), grids.NF4)]
)
def test_scales_in_a_format_of_their_own_stay_in_it(store):
    q = rtn.quantize_rtn(
        weights(16, 64), grids.NF4, groups.per_group(16), scale_dtype=store
    )
    matrix = LookupMatrix.pack(q)
    assert torch.equal(W_hat(matrix), q.dequantize())
    assert nbytes(matrix) == q.nbytes
    twice = matrix.with_tensors({n: t.clone() for n, t in matrix.tensors().items()})
    assert torch.equal(W_hat(twice), q.dequantize())


def test_nf4_under_double_quantization_takes_4_127_bits():
    W = weights(256, 1024)
    q = rtn.quantize_rtn(
        W, grids.NF4, groups.per_group(64), scale_dtype=DoubleQuantized.store
    )
    assert f"{8 * nbytes(LookupMatrix.pack(q)) / W.numel():.3f}" == "4.127"


def test_more_than_eight_bits_are_refused():
    with pytest.raises(ValueError, match="zero_point has 9 bits; pack 1 to 8, and"):
        LookupMatrix.pack(rtn.quantize_rtn(weights(2, 8), grids.zero_point(9)))
