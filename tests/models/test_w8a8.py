"""A model in 8-bit integers: each layer computes what one layer alone computes."""

from functools import partial

import pytest
import torch
from helpers import tiny
from helpers.fixture import as_learners_have_it

from minquant.methods.llm_int8 import (
    llm_int8,
    outlier_columns,
    quantize_rows,
    vector_wise,
)
from minquant.methods.smoothquant import quantize_smooth_shared, smooth_product
from minquant.models import folds, quantize
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.text import calibration_batches
from minquant.models.w8a8 import KINDS, absmax_product, w8a8
from minquant.numerics.groups import PER_CHANNEL

BATCHES = calibration_batches(
    tiny.tokenizer(), tiny.texts_of("calibration", 12), batch=5
)
NAME = "model.layers.0.self_attn.q_proj"


def logits(network):
    """The predictions of a model for the first batch."""
    return network(input_ids=BATCHES[0]).logits


def large_model(kind="Llama"):
    """A tiny model with two outlier channels."""
    return folds.plant_outliers(tiny.model(kind), BATCHES, channels=2)[0]


def smoothed(network):
    """A smoothed copy and its report."""
    return quantize.quantize(
        network, quantize_smooth_shared, calibration=BATCHES, progress=False
    )


def test_a_case_by_hand():
    X, W = torch.tensor([[1.27, 0.5], [0.0, 0.004]]), torch.tensor([[12.7, 1.0]])
    # one step of 0.01 for X, of 0.1 for W: codes 127 50 / 0 0, and 127 10
    expected = torch.tensor([[127 * 127 + 50 * 10], [0]]) * 0.001
    torch.testing.assert_close(absmax_product(X, W), expected)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPT2", "OPT", "Phi", "Gemma"])
def test_each_layer_multiplies_as_the_function_of_one_layer_says(kind):
    network = large_model(kind)
    for name, layer in linear_layers(network).items():
        X = tiny.inputs_of(network, name, BATCHES[:1])
        W, bias = weight_of(layer), 0 if layer.bias is None else layer.bias
        expected = {
            "absmax": absmax_product(X, W),
            "vector_wise": vector_wise(quantize_rows(X), quantize_rows(W)),
            "llm_int8": llm_int8(X, W),
        }
        for way, Y in expected.items():
            with w8a8(network, way):
                assert torch.equal(layer(X[None])[0], Y + bias)


@pytest.mark.parametrize("kind", KINDS)
def test_afterwards_the_model_is_as_before_even_after_an_error(kind):
    network = tiny.model()
    report = smoothed(network)[1] if kind == "smooth" else None
    before = logits(network)
    with w8a8(network, kind, report=report):
        assert not torch.equal(logits(network), before)
    assert torch.equal(logits(network), before)
    with pytest.raises(KeyboardInterrupt), w8a8(network, kind, report=report):
        raise KeyboardInterrupt
    assert torch.equal(logits(network), before)
    assert all(type(x) is torch.nn.Linear for x in linear_layers(network).values())


def test_the_ends_of_the_threshold_are_vector_wise_and_floats():
    network = large_model()
    before = logits(network)
    with w8a8(network, "vector_wise"):
        plain = logits(network)
    with w8a8(network, threshold=torch.inf):
        assert torch.equal(logits(network), plain)
    with w8a8(network, threshold=0.0, outlier_weights=torch.float32):
        torch.testing.assert_close(logits(network), before, rtol=1e-4, atol=1e-4)


def test_outliers_are_counted_by_layer():
    network = large_model()
    X = [tiny.inputs_of(network, NAME, [ids]) for ids in BATCHES]
    with w8a8(network, "absmax") as counts:
        for ids in BATCHES:
            network(input_ids=ids)
    rows, large = torch.cat(X), sum((x.abs() >= 6).sum() for x in X)
    split = sum(len(x) * int(outlier_columns(x).sum()) for x in X)
    assert counts.keys() == linear_layers(network).keys()
    found = counts[NAME]  # the first layer: its inputs are not rounded yet
    assert found.inputs == rows.numel()
    assert found.values == large / rows.numel() > 0
    assert found.columns == split / rows.numel() >= found.values
    with w8a8(network) as counts:
        assert counts[NAME].values == counts[NAME].columns == 0  # nothing has run yet


def test_outlier_weights_from_the_codes_change_the_result_more_than_fp16():
    network = large_model()
    results = []
    for weights in (torch.float32, torch.float16, "int8"):
        with w8a8(network, outlier_weights=weights):
            results.append(logits(network))
    in_floats, in_fp16, in_int8 = results
    assert (in_fp16 - in_floats).abs().max() < (in_int8 - in_floats).abs().max()


def test_smooth_uses_the_reports_codes_and_folded_it_is_vector_wise():
    network = large_model()
    twin, report = quantize.quantize(
        network,
        partial(quantize_smooth_shared, scale_dtype=torch.float32),
        calibration=BATCHES,
        progress=False,
    )
    layer, X = twin.get_submodule(NAME), tiny.inputs_of(twin, NAME, BATCHES[:1])
    with w8a8(twin, "smooth", report=report):
        expected = smooth_product(X, report[NAME], PER_CHANNEL)
        assert torch.equal(layer(X), expected)
    folded, (_, left) = folds.fold(twin, report)
    y, x = folded.get_submodule(NAME), tiny.inputs_of(folded, NAME, BATCHES[:1])
    assert NAME not in left
    with w8a8(folded, "vector_wise"):
        torch.testing.assert_close(y(x), expected, rtol=1e-3, atol=1e-3)


def test_half_precision_stays_half_precision():
    network = tiny.model(dtype=torch.bfloat16)
    for kind in ("absmax", "vector_wise", "llm_int8"):
        with w8a8(network, kind):
            assert logits(network).dtype == torch.bfloat16


def test_what_does_not_fit_is_refused():
    network = tiny.model()
    report = smoothed(network)[1]
    refused = [
        ({"kind": "int8"}, "kind is 'int8'; choose from absmax, vector_wise, llm_int8"),
        ({"kind": "smooth"}, "report is missing, and kind is 'smooth'"),
        ({"kind": "absmax", "report": report}, "report is given, and kind is 'absmax'"),
        ({"kind": "smooth", "report": {"x": report[NAME]}}, "names 'x', but model has"),
    ]
    for options, message in refused:
        with (
            as_learners_have_it(),
            pytest.raises(ValueError, match=message),
            w8a8(network, **options),
        ):
            pass
    with w8a8(network):
        inside = logits(network)
        seen = "this Linear is inside a `with` block that changes it already"
        with pytest.raises(ValueError, match=seen), w8a8(network, "absmax"):
            pass
        assert torch.equal(logits(network), inside)
    with w8a8(network, threshold=-1.0), pytest.raises(ValueError, match="threshold is"):
        logits(network)
