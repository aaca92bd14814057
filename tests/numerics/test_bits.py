"""Packing: the stream of bits by hand, exact inverses, and not a bit more."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.numerics.bits import pack, packed_bytes, unpack


@pytest.mark.parametrize(
    ("codes", "bits", "stored"),
    [
        ([1, 0, 0, 0, 0, 0, 0, 1], 1, [0b10000001]),
        ([1, 2, 3, 0], 2, [0b00_11_10_01]),
        ([1, 2, 3, 4, 5, 6, 7, 0], 3, [0b11_010_001, 0b0_101_100_0, 0b000_111_11]),
        ([1, 2, 3], 4, [0x21, 0x03]),
        ([255, 7], 8, [255, 7]),
        ([0x1AB, 0x0CD], 9, [0xAB, 0xCD, 0b01]),
        ([0xABCD], 16, [0xCD, 0xAB]),
        ([], 3, []),
    ],
)
def test_the_bytes_by_hand(codes, bits, stored):
    assert pack(torch.tensor(codes, dtype=torch.int32), bits).tolist() == stored


@given(st.integers(1, 16), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_unpack_is_the_exact_inverse_of_pack(bits, n, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, (n,), generator=generator)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_bytes(n, bits) == -(-n * bits // 8)
    assert torch.equal(unpack(packed, bits, (n,)).long(), codes)


@given(st.integers(1, 8), st.binary(max_size=40))
def test_pack_is_the_exact_inverse_of_unpack_where_bytes_are_full(bits, data):
    whole = len(data) // bits * bits
    packed = torch.tensor(list(data[:whole]), dtype=torch.uint8)
    codes = unpack(packed, bits, (whole * 8 // bits,))
    assert torch.equal(pack(codes, bits), packed)


@given(st.integers(1, 8), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_the_stream_is_numpys_little_endian_one(bits, n, seed):
    codes = np.random.default_rng(seed).integers(2**bits, size=n, dtype=np.uint8)
    each = np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits]
    stream = np.packbits(each.flatten(), bitorder="little")
    assert np.array_equal(pack(torch.from_numpy(codes), bits), stream)


@pytest.mark.parametrize("bits", range(1, 17))
def test_eight_codes_are_as_many_bytes_as_a_code_has_bits(bits):
    assert len(pack(torch.zeros(8 * 5, dtype=torch.long), bits)) == 5 * bits


@pytest.mark.parametrize("bits", [3, 4, 12])
def test_a_shape_comes_back_row_by_row(bits):
    codes = torch.arange(30).reshape(5, 6) % 2**bits
    flat = pack(codes.flatten(), bits)
    assert torch.equal(pack(codes, bits), flat)
    assert torch.equal(unpack(flat, bits, (5, 6)).long(), codes)
    assert torch.equal(unpack(pack(codes.T, bits), bits, (6, 5)).long(), codes.T)


@pytest.mark.parametrize("bits", [3, 8, 11])
def test_padding_is_zero_bits(bits):
    ones = torch.full((3,), 2**bits - 1)
    stream = "".join(f"{byte:08b}"[::-1] for byte in pack(ones, bits).tolist())
    assert stream.count("1") == 3 * bits


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        ([-1, 3], 4, "codes run from -1 to 3, but 4 bits hold 0 to 15; for signed"),
        ([0, 16], 4, "codes run from 0 to 16, but 4 bits hold 0 to 15"),
        ([0, 1], 0, "bits is 0; choose a width from 1 to 16"),
        ([0, 1], 17, "bits is 17; choose a width from 1 to 16"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes, bits, message):
    with pytest.raises(ValueError, match=message):
        pack(torch.tensor(codes), bits)


def test_a_stream_of_another_length_is_refused():
    with pytest.raises(
        ValueError, match="packed has 3 bytes; 9 codes of 3 bits take 4: check bits"
    ):
        unpack(torch.zeros(3, dtype=torch.uint8), 3, (9,))
