"""The pictures of lesson 07: their words are the numbers they were given."""

import math

import pytest
import torch

import minquant as mq
from minquant.course.awq import pictures
from minquant.course.awq.salience import OnePercent, column_errors
from minquant.course.drawing import figures
from minquant.measure.measured import Row

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(6, 16, generator=GENERATOR)
X = torch.randn(40, 16, generator=GENERATOR)
X[:, 3] *= 20


def test_inputs_are_what_each_layer_reads():
    model, tokenizer = mq.load()
    texts = ["the goat sleeps .", "the barn is old ."]
    inputs = pictures.inputs_of(model, tokenizer, texts)
    assert list(inputs) == list(mq.linear_layers(model))
    tokens = sum(len(ids) for ids in mq.encode(tokenizer, texts))
    assert {len(rows) for rows in inputs.values()} == {tokens}
    q, k = (inputs[f"model.layers.1.self_attn.{n}_proj"] for n in "qk")
    assert torch.equal(q, k)


def test_columns_say_how_large_the_largest_is():
    fig = pictures.columns(W, X)
    times = (X.abs().mean(0).max() / X.abs().mean(0).median()).item()
    assert f"mean |x|: the largest is {times:.1f} times the median" in fig.alt
    figures.to_pixels(fig)


@pytest.mark.parametrize("dead", [slice(4, 5), slice(0, 16)])
def test_columns_with_dead_inputs_are_drawn(dead):
    silent = X.clone()
    silent[:, dead] = 0
    figures.to_pixels(pictures.columns(W.bfloat16(), silent))


def test_one_percent_leaves_out_no_matrix_without_saying_so():
    found = {
        "a": OnePercent(3.0, 0.5, 0.01),
        "b": OnePercent(1.0, math.nan, math.nan),
        "c": OnePercent(90.0, 0.9, -0.02),
    }
    fig = pictures.one_percent(found)
    assert fig.alt.startswith("2 matrices")
    assert "1 of 3 matrices" in fig.alt
    figures.to_pixels(fig)
    figures.to_pixels(pictures.one_percent({"b": found["b"]}))


def test_one_column_says_who_gains_and_who_pays():
    def scaled(s):
        scales = torch.ones(16)
        scales[3] = s
        return mq.quantize_rtn(W * scales, mq.zero_point(3)).dequantize() / scales

    tried = {1: scaled(1), 2: scaled(2)}
    fig = pictures.one_column(W, X, 3, tried)
    errors = [(X @ (V - W).T).square().mean().item() for V in tried.values()]
    own = column_errors(W, tried[2], X)[3].item() / errors[0]
    assert f"s = 2: the outputs {errors[1] / errors[0]:.0%}" in fig.alt
    assert f"this column {own:.0%}" in fig.alt
    figures.to_pixels(fig)


def test_shared_values_counts_heads():
    fig = pictures.shared_values(query_heads=8, value_heads=2)
    assert "one output of v_proj makes 4 inputs of o_proj" in fig.alt
    figures.to_pixels(fig)


def row(key, nats):
    documents = {"nats": nats, "kl": [0.0] * 3, "flip": [0] * 3}
    read = {"own": {"fingerprints": [1, 2, 3], "tokens": [10, 20, 30]}}
    return Row(key, {"own": {"documents": documents}}, read)


def test_rows_of_smollm2_are_compared_under_the_same_search():
    rows = {
        "float": row("float", [10.0, 20.0, 30.0]),
        "4 rtn clip, row": row("4 rtn clip, row", [16.0, 32.0, 48.0]),
        "4 awq clip, row": row("4 awq clip, row", [13.0, 26.0, 39.0]),
    }
    table = pictures.on_smollm2(rows)
    (weights,) = table.rows
    assert weights[3:] == ["+0.600", "+0.300", "not measured yet", "50% [50%, 50%]"]
