"""What the pictures of lesson 06 are drawn from."""

import pytest
import torch
from helpers import tiny

import minquant as mq
from minquant.course.gptq import pictures

SETTINGS = {"one": {"damping": 0.01}, "two": {"damping": 0.1, "act_order": True}}


@pytest.fixture(scope="module")
def almanac():
    model, tokenizer = mq.load()
    texts = mq.almanac.documents("calibration", 2)
    return model, tokenizer, mq.calibration_batches(tokenizer, texts)


def test_inputs_are_those_that_h_is_made_of(almanac):
    model, _, batches = almanac
    name = "model.layers.1.mlp.down_proj"
    X = pictures.inputs_of(model, name, batches)
    assert X.dtype == torch.float64
    place = list(mq.linear_layers(model)).index(name)
    _, H = pictures.hessians(model, batches)[place]
    torch.testing.assert_close(X.T @ X, H.double(), rtol=1e-4, atol=1e-2)


def test_the_model_reads_on_as_before(almanac):
    model, _, batches = almanac
    with torch.no_grad():
        before = model(input_ids=batches[0]).logits
        pictures.inputs_of(model, "model.layers.0.self_attn.q_proj", batches)
        assert torch.equal(model(input_ids=batches[0]).logits, before)


@pytest.mark.parametrize("kind", ["GPT2", "OPT", "Qwen3"])
def test_any_model_reads_english(kind):
    model, tokenizer = tiny.model(kind), tiny.tokenizer()
    for name, layer in list(mq.linear_layers(model).items())[:7]:
        X, X_other = pictures.inputs_on_english(model, tokenizer, name)
        width = mq.weight_of(layer).shape[1]
        assert X.shape[1] == X_other.shape[1] == width
        assert X.dtype == torch.float32
        assert min(len(X), len(X_other)) > 1000


def test_a_model_in_bf16_reads_english():
    model = tiny.model("Qwen3").bfloat16()
    name = next(iter(mq.linear_layers(model)))
    X, _ = pictures.inputs_on_english(model, tiny.tokenizer(), name)
    assert X.dtype == torch.float32 and X.isfinite().all()


def test_word_errors_of_enough_damping_are_those_of_rounding_to_nearest(almanac):
    model, _, batches = almanac
    drowned = {"drowned": {"damping": 1e9}}
    counts, found = pictures.word_errors(model, batches, drowned, bits=3)
    assert counts.sum() == sum(ids.numel() for ids in batches)
    seen = [share for share in found["drowned"] if share == share]  # NaN: no such word
    assert len(seen) > 2 and seen == pytest.approx([1.0] * len(seen))


def test_parts_of_all_directions_make_up_the_whole(almanac):
    model, _, batches = almanac
    W, H = (M.double() for M in pictures.hessians(model, batches)[4])
    H += 0.01 * H.diagonal().mean() * torch.eye(len(H))
    shares, errors = pictures.direction_errors(W, H, SETTINGS, bits=3)
    assert sum(shares) == pytest.approx(1)
    whole, _ = pictures.direction_errors(W, H, SETTINGS, bits=3, parts=1)
    assert whole == pytest.approx([1.0])
    assert {len(ratios) for ratios in errors.values()} == {8}


def test_shares_left_are_ratios_of_layer_errors(almanac):
    model, _, batches = almanac
    left = pictures.share_left_in_every_matrix(model, batches, SETTINGS, bits=3)
    W, H = pictures.hessians(model, batches)[0]
    X = pictures.inputs_of(model, next(iter(mq.linear_layers(model))), batches)
    made = mq.quantize_gptq(W, H, mq.zero_point(3), damping=0.01)
    nearest = mq.quantize_rtn(W, mq.zero_point(3))
    ours, theirs = (
        mq.layer_error(W, q.dequantize(), X).relative for q in (made, nearest)
    )
    assert left["one"][0] == pytest.approx(ours / theirs, rel=1e-3)
    assert {len(shares) for shares in left.values()} == {21}


def test_a_pair_that_was_not_measured_says_so():
    table = pictures.in_pairs({})
    assert len(table.rows) == len(pictures.PAIRS)
    assert {cell for row in table.rows for cell in row[1:]} == {"not measured yet"}
