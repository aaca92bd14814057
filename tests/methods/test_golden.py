"""Held to what others wrote: their results, stored in tests/golden, on the same layers.

`make golden` asks them anew, in an environment of their own. Here none is needed.
"""

import pytest
import torch
from golden import make
from helpers import fixture
from helpers.colab_pins import PROJECT, ROOT
from packaging.requirements import Requirement
from safetensors import safe_open

from minquant.methods import rtn
from minquant.methods.awq import RATIOS, input_scales, quantize_awq
from minquant.methods.gptq import quantize_gptq
from minquant.methods.llm_int8 import llm_int8, outlier_columns, quantize_rows
from minquant.numerics import grids, groups
from minquant.numerics.double_quant import DoubleQuantized, dynamic_map

INT4 = grids.zero_point(4), groups.per_group(128)
NF4 = grids.NF4, groups.per_group(64)
FP32 = {"scale_dtype": torch.float32}
with safe_open(make.FILE, "pt") as file:
    MADE_BY = file.metadata()
    GOLDEN = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_the_file_is_small_and_says_which_versions_of_what_wrote_it():
    assert make.FILE.stat().st_size < 300_000
    assert (ROOT / MADE_BY["script"]).exists()
    lines = map(Requirement, PROJECT["project"]["optional-dependencies"]["peers"])
    asked = {line.name: line.specifier for line in lines}
    for name in ("llmcompressor", "torchao", "bitsandbytes"):
        assert str(asked[name]) == f"=={MADE_BY[name]}"  # and what make peers installs


@pytest.mark.parametrize("name", make.GPTQ)
def test_gptq_gives_the_codes_of_llm_compressor(name):
    # which way a tie falls depends on the order of a sum: 0.1 % of codes, 1e-3 in error
    layer = make.few()
    W, H = layer.W, layer.X_calibration.T @ layer.X_calibration
    how = {"act_order": make.GPTQ[name], "static_groups": True, **FP32}
    found = quantize_gptq(W, H, *INT4, **how)
    assert torch.equal(found.scales, GOLDEN[f"{name}.scales"])
    assert torch.equal(found.zeros, GOLDEN[f"{name}.zeros"])
    assert (found.codes != GOLDEN[f"{name}.codes"]).float().mean() <= 1e-3
    error = fixture.error(found.dequantize(), layer)
    assert error == pytest.approx(GOLDEN[f"{name}.error"].item(), rel=1e-3)
    plain = rtn.quantize_rtn(W, *INT4, **FP32)  # much further away
    assert (plain.codes != GOLDEN[f"{name}.codes"]).float().mean() > 0.2


def test_awq_finds_the_input_scales_of_torchao():
    W, X, _ = fixture.layer()
    theirs = GOLDEN["awq.input_scales"]
    found = quantize_awq(W, X, *INT4, clip=None, **FP32)
    torch.testing.assert_close(found.input_scales, theirs, rtol=1e-5, atol=0)
    near = [
        ratio
        for ratio in RATIOS
        if torch.allclose(input_scales(X.abs().mean(0), ratio), theirs, rtol=1e-2)
    ]
    assert near == [0.35]  # and no other ratio would have passed


def test_nf4_is_bit_for_bit_that_of_bitsandbytes():
    found = rtn.quantize_rtn(make.few().W, *NF4, **FP32)
    even, odd = found.codes.reshape(-1, 2).unbind(1)
    assert torch.equal((even << 4) | odd, GOLDEN["nf4.packed"])
    assert torch.equal(found.scales.flatten(), GOLDEN["nf4.absmax"])
    rows = GOLDEN["nf4.first_rows"]
    assert torch.equal(found.dequantize()[: len(rows)], rows)
    assert found.codes.unique().tolist() == list(range(16))


def test_scales_in_8_bits_are_those_of_bitsandbytes_or_nearer():
    scales = rtn.quantize_rtn(fixture.layer().W, *NF4, **FP32).scales
    found = DoubleQuantized.store(scales, grids.NF4)
    assert torch.equal(dynamic_map(), GOLDEN["double.map"])
    assert torch.equal(found.absmax, GOLDEN["double.absmax"])
    torch.testing.assert_close(found.mean, GOLDEN["double.mean"], rtol=2.0**-23, atol=0)
    theirs = GOLDEN["double.codes"].reshape(scales.shape)
    back = DoubleQuantized(theirs, found.absmax, found.mean).dequantize()
    other = found.codes != theirs
    assert other.float().mean() <= 2e-3
    ours = (found.dequantize() - scales).abs()[other]
    assert (ours <= (back - scales).abs()[other] + 2.0**-24 * scales.max()).all()


def test_rows_in_8_bits_are_those_of_bitsandbytes():
    X, W = make.some_rows()
    outlier = outlier_columns(X, make.THRESHOLD)
    assert torch.equal(outlier.nonzero().flatten(), GOLDEN["int8.outliers"].long())
    below = quantize_rows(X.masked_fill(X.abs() >= make.THRESHOLD, 0))
    codes = below.codes.masked_fill(outlier, 0)
    assert torch.equal(codes, GOLDEN["int8.X"])
    assert torch.equal(below.scales.flatten(), GOLDEN["int8.X_absmax"] / 127)
    found = quantize_rows(W)
    assert torch.equal(found.codes, GOLDEN["int8.W"])
    assert torch.equal(found.scales.flatten(), GOLDEN["int8.W_absmax"] / 127)


def test_llm_int8_gives_the_outputs_of_bitsandbytes():
    X, W = make.in_half(*make.some_rows())
    how = {"outlier_weights": "int8", "row_scale": "values"}
    found, theirs = llm_int8(X, W, make.THRESHOLD, **how), GOLDEN["int8.Y"]
    # it rounds the outliers' weights, the 8-bit product and the sum to float16
    assert (found - theirs).norm() <= 3 * 2.0**-11 * theirs.norm()
    exact = X @ W.T
    assert (found - exact).norm() > 5e-3 * exact.norm()  # the method errs far more
