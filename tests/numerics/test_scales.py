"""Scales: short formats by hand and against torch's own, and what they refuse."""

import pytest
import torch
from helpers.fixture import as_learners_have_it
from hypothesis import given
from hypothesis import strategies as st

from minquant.numerics import scales
from minquant.numerics.grids import FP4, FP8_E4M3, absmax, symmetric_full
from minquant.numerics.scales import (
    E4M3,
    E8M0,
    EMPTY,
    StoredScales,
    scale_values,
    store,
)


def column(*numbers):
    return torch.tensor(numbers)[:, None]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_plain_scale_is_torchs_cast(dtype):
    ideal = column(0.1, 3.0, 1e-3)
    stored = store(ideal, dtype, absmax(4))
    assert stored.dtype == dtype
    assert torch.equal(scale_values(stored), ideal.to(dtype).float())


@pytest.mark.parametrize("how", [torch.float16, torch.bfloat16, E8M0.store])
def test_a_group_without_a_ruler_gets_the_shortest_of_fp16(how):
    stored = store(column(0.0, 1.0), how, absmax(4))
    assert scale_values(stored)[0].item() == EMPTY == torch.finfo(torch.half).tiny


@pytest.mark.parametrize(
    ("grid", "top", "scale"),
    [  # the specification: 2^(floor(log2 absmax) − 2) for FP4, − 8 for FP8 E4M3
        (FP4, 6.0, 1.0),
        (FP4, 4.0, 1.0),
        (FP4, 7.99, 1.0),
        (FP4, 8.0, 2.0),
        (FP4, 0.03, 2.0**-8),
        (FP8_E4M3, 448.0, 1.0),
        (FP8_E4M3, 256.0, 1.0),
        (FP8_E4M3, 255.0, 0.5),
    ],
)
def test_an_mx_scale_is_the_specifications(grid, top, scale):
    stored = E8M0.store(column(top) / grid.reach, grid)
    assert stored.dequantize().item() == scale


POWERS = [FP4, FP8_E4M3, *map(absmax, range(2, 17)), *map(symmetric_full, range(2, 17))]


@given(st.integers(-100, 100), st.sampled_from(POWERS))
def test_rounding_never_halves_a_scale_at_a_power_of_two(k, grid):
    top = column(2.0**k)
    exact = E8M0.store(top / grid.reach, grid).dequantize()
    assert exact.item() == 2.0 ** (k - torch.tensor(grid.reach).log2().floor().item())


@pytest.mark.skipif(
    not hasattr(torch, "float8_e8m0fnu"), reason="torch < 2.7 has no float8_e8m0fnu"
)
def test_an_exponent_byte_reads_as_torchs_e8m0():
    bytes_ = torch.arange(255, dtype=torch.int32).to(torch.uint8)[:, None]
    assert torch.equal(
        E8M0(bytes_).dequantize(), bytes_.view(torch.float8_e8m0fnu).float()
    )


def test_an_nvfp4_scale_has_the_largest_group_at_448():
    W = torch.tensor([[6.0, 1.0, 0.5, 0.25]])
    stored = store(column(1.0, 0.25).T, E4M3.of(W, FP4), FP4)
    assert stored.numbers.float().tolist() == [[448.0, 112.0]]
    torch.testing.assert_close(stored.dequantize(), column(1.0, 0.25).T)
    assert stored.nbytes == 2 + 4


def test_an_nvfp4_scale_far_below_the_others_is_the_smallest_there_is():
    stored = store(column(1.0, 1e-9).T, E4M3.of(torch.full((1, 32), 6.0), FP4), FP4)
    assert stored.numbers.float().tolist() == [[448.0, 2.0**-9]]


def test_a_matrix_of_zeros_has_an_nvfp4_scale():
    stored = store(column(0.0), E4M3.of(torch.zeros(1, 16), FP4), FP4)
    assert stored.dequantize().isfinite().all() and (stored.dequantize() > 0).all()


@pytest.mark.parametrize("how", [E8M0.store, E4M3.of(torch.ones(2, 32), FP4)])
def test_a_format_of_its_own_has_what_is_asked_of_it(how):
    stored = store(column(0.1, 0.2), how, FP4)
    assert isinstance(stored, StoredScales)
    assert stored.shape == (2, 1)
    moved = stored.to("cpu")
    assert type(moved) is type(stored)
    assert torch.equal(moved.dequantize(), stored.dequantize())
    assert scales.scale_name(stored) == type(stored).__name__


@pytest.mark.parametrize(
    ("ideal", "how", "error", "message"),
    [
        (
            column(1.0, 7e4, 8e4),
            torch.float16,
            ValueError,
            r"scale: 2 of 3, up to 8e\+04, is not finite in torch.float16; check the "
            "scale of W, or take scale_dtype=torch.float32",
        ),
        (
            column(float("inf")),
            torch.float32,
            ValueError,
            "up to inf, is not finite in torch.float32",
        ),
        (column(1.0), torch.int8, TypeError, "scale_dtype is torch.int8; choose a"),
    ],
)
def test_a_scale_that_would_be_lost_is_refused(ideal, how, error, message):
    with as_learners_have_it(), pytest.raises(error, match=message):
        store(ideal, how, absmax(4))
