"""Formats: each one's true bits by hand and as it would be stored; equal prices."""

from dataclasses import replace

import pytest
import torch
from helpers import fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import rtn
from minquant.methods.catalog import BY_NAME, SCALE_BITS, Format, at_equal_bits, score
from minquant.numerics import grids, groups
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.scales import E4M3, E8M0

BITS = {  # by hand
    "int4": 4 + (16 + 4) / 128,
    "int4, symmetric": 4 + 16 / 128,
    "NF4": 4.5,
    "NF4, double": 4 + 8 / 64 + 32 / (64 * 256),
    "FP4": 4.5,
    "MXFP4": 4.25,
    "NVFP4": 4.5,
}
ONCE = {"double": 32, "E4M3": 32}  # bits stored once per matrix


def normal(out, width, seed=0):
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def W():
    return normal(64, 640)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_bits_of_each_format_are_those_by_hand(name):
    assert BY_NAME[name].bits_per_weight == BITS[name]


def test_four_formats_as_they_are_told():
    bits = {name: f"{form.bits_per_weight:.3f}" for name, form in BY_NAME.items()}
    assert bits["int4"] == "4.156" and bits["NF4, double"] == "4.127"
    assert bits["MXFP4"] == "4.250" and bits["NVFP4"] == "4.500"


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("g", [16, 32, 128])
def test_the_bits_are_what_a_quantized_matrix_weighs(name, g):
    form = replace(BY_NAME[name], g=g)
    quantized = form.quantize(normal(512, 1024))
    once = ONCE.get(form.scale, 0) / quantized.codes.numel()
    assert quantized.bits_per_weight == pytest.approx(
        form.bits_per_weight + once, abs=1e-12
    )


@pytest.mark.parametrize(
    ("name", "grid", "g", "how"),
    [
        ("int4", grids.zero_point(4), 128, lambda W: torch.float16),
        ("int4, symmetric", grids.symmetric_full(4), 128, lambda W: torch.float16),
        ("NF4", grids.NF4, 64, lambda W: torch.float32),
        ("NF4, double", grids.NF4, 64, lambda W: DoubleQuantized.store),
        ("FP4", grids.FP4, 64, lambda W: torch.float32),
        ("MXFP4", grids.FP4, 32, lambda W: E8M0.store),
        ("NVFP4", grids.FP4, 16, lambda W: E4M3.of(W, grids.FP4)),
    ],
)
def test_a_format_is_rtn_with_its_grid_groups_and_scales(W, name, grid, g, how):
    mine = BY_NAME[name].quantize(W)
    same = rtn.quantize_rtn(W, grid, groups.per_group(g), scale_dtype=how(W))
    assert torch.equal(mine.codes, same.codes)
    assert torch.equal(mine.dequantize(), same.dequantize())
    assert mine.nbytes == same.nbytes


def test_clipping_goes_through(W):
    mine = BY_NAME["int4"].quantize(W, clip="mse")
    same = rtn.quantize_rtn(W, grids.zero_point(4), groups.per_group(128), clip="mse")
    assert torch.equal(mine.codes, same.codes)


def test_nf4_on_the_fixture_errs_as_bitsandbytes_does():
    W = fixture.layer().W
    assert f"{fixture.error(BY_NAME['NF4'].quantize(W).dequantize()):.4e}" == (
        "2.3326e-02"
    )


# --- one price ---


@given(
    st.sampled_from(list(BY_NAME)), st.floats(4.1, 8.0), st.sampled_from([64, 640, 96])
)
@settings(deadline=None)
def test_what_fits_is_the_shortest_that_the_budget_pays_for(name, budget, width):
    form = BY_NAME[name]
    sizes = [g for g in range(2, width + 1) if width % g == 0]
    sizes = [form.g] if form.fixed else sizes
    affordable = [g for g in sizes if replace(form, g=g).bits_per_weight <= budget]
    if affordable:
        fitted = form.fit(budget, width)
        assert fitted == replace(form, g=min(affordable))
    else:
        with pytest.raises(ValueError, match=f"budget {budget:g} is too small"):
            form.fit(budget, width)


def test_on_rows_of_640_int4_takes_4_25_and_4_5_bits_exactly():
    assert BY_NAME["int4"].fit(4.25, 640).bits_per_weight == 4.25
    assert BY_NAME["int4"].fit(4.5, 640).bits_per_weight == 4.5
    assert BY_NAME["int4"].fit(4.125, 640).g == 160


def test_one_price_is_for_all(W):
    for budget in (4.13, 4.25, 4.5, 5.0):
        scores = at_equal_bits([W, 3 * W], budget)
        once = 32 / W.numel()
        assert all(s.bits_per_weight <= budget + once for s in scores.values())
        assert ("NVFP4" in scores) == (budget >= 4.5)
        assert ("MXFP4" in scores) == (budget >= 4.25)


def test_groups_divide_the_rows_of_all_matrices():
    scores = at_equal_bits([normal(8, 64), normal(8, 96)], 5.0)
    assert {s.form.g for s in scores.values()} <= {2, 4, 8, 16, 32}


def test_the_score_is_the_share_of_the_power_by_hand():
    V = torch.tensor([[7.0, 1.4, -3.0, 0.0]])  # step 1: only 1.4 errs, by 0.4
    form = Format(grids.absmax(4), 4, "fp32")
    got = score([V], form)
    power = 49 + 1.96 + 9
    assert got.error == pytest.approx(0.16 / power, rel=1e-5)
    assert got.bits_per_weight == 4 + 32 / 4
    assert score([V, V], form).error == pytest.approx(got.error)


def test_the_score_of_many_weighs_them_by_their_power(W):
    form = BY_NAME["NF4"]
    one, other = score([W], form), score([2 * W.flip(0)], form)
    both = score([W, 2 * W.flip(0)], form)
    power = W.square().sum().item()
    mean = (one.error * power + other.error * 4 * power) / (5 * power)
    assert both.error == pytest.approx(mean, rel=1e-5)


def test_nothing_but_zeros_has_no_share():
    with pytest.raises(ValueError, match="matrices hold only zeros; give some with"):
        score([torch.zeros(2, 64)], BY_NAME["NF4"])


def test_a_scale_of_no_known_kind_is_refused():
    with pytest.raises(ValueError, match="scale is 'fp8'; choose one of fp32, fp16,"):
        Format(grids.NF4, 64, "fp8")
    assert set(SCALE_BITS) >= {form.scale for form in BY_NAME.values()}
