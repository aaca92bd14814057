"""torch's 4-bit product on the CPU: its numbers, what it refuses, what it keeps."""

import re

import pytest
import torch

from minquant.kernels import cpu_int4, packed_words
from minquant.methods import rtn
from minquant.numerics import grids, groups


def packed_of(grid=None, g=32, shape=(32, 128), seed=0):
    """A random packed matrix."""
    W = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return packed_words.pack_matrix(
        rtn.quantize_rtn(W, grid or grids.absmax(4), groups.per_group(g))
    )


def exact(X, packed):
    """X W_hatᵀ in float64."""
    return X.double() @ packed_words.dequantize(packed, torch.float64).T


@pytest.mark.parametrize("g", [32, 64, 128])
@pytest.mark.parametrize("tokens", [1, 7])
def test_it_multiplies_by_the_same_codes(g, tokens):
    packed, X = packed_of(g=g), torch.randn(tokens, 128).bfloat16()
    Y, exact_Y = cpu_int4.product(X, packed).double(), exact(X, packed)
    assert (Y - exact_Y).norm() <= 4e-3 * exact_Y.norm()


def test_inputs_of_one_sign_do_not_hurt_it():
    """The reason why zero-points are refused: their rounding would add up here."""
    packed, X = packed_of(), torch.rand(4, 128).bfloat16() + 1
    Y, exact_Y = cpu_int4.product(X, packed).double(), exact(X, packed)
    assert (Y - exact_Y).norm() <= 4e-3 * exact_Y.norm()


def test_new_words_in_the_same_memory_are_seen():
    packed, other = packed_of(), packed_of(seed=1)
    X = torch.randn(2, 128).bfloat16()
    cpu_int4.product(X, packed)
    packed.words.copy_(other.words)
    packed.scales.copy_(other.scales)
    assert torch.equal(cpu_int4.product(X, packed), cpu_int4.product(X, other))


def test_a_matrix_is_converted_once_and_forgotten_with_its_words():
    packed, before = packed_of(), len(cpu_int4._converted)
    for _ in range(2):
        cpu_int4.product(torch.randn(1, 128).bfloat16(), packed)
    assert len(cpu_int4._converted) == before + 1
    del packed
    assert len(cpu_int4._converted) == before


@pytest.mark.parametrize(
    ("packed", "dtype", "said"),
    [
        (packed_of(), torch.float32, r"cpu_int4 wants X.bfloat16\(\)"),
        (packed_of(grids.zero_point(4)), torch.bfloat16, "4 bits and zeros"),
        (packed_of(grids.absmax(8)), torch.bfloat16, "8 bits and no zeros"),
        (packed_of(g=16), torch.bfloat16, "group_size is 16"),
        (packed_of(shape=(24, 128)), torch.bfloat16, "out_features is 24"),
    ],
)
def test_it_says_what_it_does_not_serve(packed, dtype, said):
    assert re.search(said, cpu_int4.refuses(torch.ones(1, 128, dtype=dtype), packed))
    assert cpu_int4.refuses(torch.ones(1, 128).bfloat16(), packed_of()) == ""
