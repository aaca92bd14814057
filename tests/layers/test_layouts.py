"""Words or stream: which is taken, and that a form says all that is needed."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.fixture import as_learners_have_it

from minquant.kernels.packed_words import PackedMatrix
from minquant.layers.layouts import form, from_form, packed, tensors_of, with_tensors
from minquant.layers.packed_stream import LookupMatrix
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.scales import E8M0

BY64 = groups.per_group(64)


def quantized(grid, cut=BY64, width=640, **options):
    """A random matrix (16, width), quantized."""
    W = torch.randn(16, width, generator=torch.Generator().manual_seed(0))
    return rtn.quantize_rtn(W, grid, cut, **options)


def W_hat(matrix):
    """The values of either kind of matrix."""
    return torch.cat([rows for _, rows in matrix.parts()])


@pytest.mark.parametrize(
    ("q", "kind"),
    [
        (quantized(grids.zero_point(4)), PackedMatrix),
        (quantized(grids.absmax(8)), PackedMatrix),
        (quantized(grids.absmax(3)), PackedMatrix),  # 3.2 bits are what words take
        (quantized(grids.absmax(3), width=128), LookupMatrix),  # a block is 160
        (quantized(grids.TERNARY, width=128), LookupMatrix),  # a block is 256
        (quantized(grids.TERNARY, width=512), PackedMatrix),
        (quantized(grids.zero_point(5)), LookupMatrix),
        (quantized(grids.NF4), LookupMatrix),
        (quantized(grids.absmax(4), groups.PER_TENSOR, width=6400), PackedMatrix),
        (quantized(grids.absmax(4), scale_dtype=DoubleQuantized.store), LookupMatrix),
        (quantized(grids.absmax(4), scale_dtype=torch.bfloat16), LookupMatrix),
    ],
)
def test_auto_takes_words_where_they_cost_nothing(q, kind):
    matrix = packed(q)
    assert isinstance(matrix, kind)
    bytes_ = sum(t.nbytes for t in tensors_of(matrix).values())
    assert bytes_ <= (1.02 + (0.2 / 3 if q.grid.bits == 3 else 0)) * q.nbytes
    assert torch.equal(W_hat(matrix), q.dequantize())


def test_three_bits_are_3_0_as_a_stream_and_3_2_in_words():
    q = quantized(grids.absmax(3), groups.PER_CHANNEL)
    scales = 16 / 640
    for layout, bits in (("stream", 3.0), ("words", 3.2)):
        bytes_ = sum(t.nbytes for t in tensors_of(packed(q, layout)).values())
        assert 8 * bytes_ / q.codes.numel() == pytest.approx(bits + scales)


@pytest.mark.parametrize("grid", [grids.zero_point(4), grids.NF4, grids.absmax(3)])
@pytest.mark.parametrize("layout", ["auto", "stream"])
@pytest.mark.parametrize(
    "scale_dtype", [torch.float16, DoubleQuantized.store, E8M0.store]
)
def test_a_form_and_the_tensors_are_the_matrix_again(grid, layout, scale_dtype):
    q = quantized(grid, scale_dtype=scale_dtype)
    if layout == "stream":
        q = replace(q, input_scales=torch.full((640,), 2.0))
    matrix = packed(q, layout)
    said = json.loads(json.dumps(form(matrix)))
    tensors = {name: t.clone() for name, t in tensors_of(matrix).items()}
    assert torch.equal(W_hat(from_form(said, tensors)), W_hat(matrix))
    assert torch.equal(W_hat(with_tensors(matrix, tensors)), W_hat(matrix))


def test_what_does_not_fit_is_named():
    q = quantized(grids.NF4)
    with pytest.raises(ValueError, match="NF4 is a codebook"):
        packed(q, "words")
    with as_learners_have_it(), pytest.raises(ValueError, match='choose "auto", "wo'):
        packed(q, "tight")
    with pytest.raises(
        ValueError, match="lack 'codes'; give what packed_model.save wrote"
    ):
        from_form(form(packed(q)), {})
