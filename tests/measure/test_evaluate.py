"""Damage measured: by hand, against itself, and paired."""

import math

import pytest
import torch
from helpers import tiny
from helpers.fixture import as_learners_have_it
from hypothesis import given
from hypothesis import strategies as st

from minquant import almanac
from minquant.measure.evaluate import (
    compare,
    kl_and_flips,
    layer_error,
    perfect_reader,
    perplexity,
)

VOCABULARY = tiny.SIZE["vocab_size"]


def uniform():
    """A model that knows nothing."""
    return tiny.Fixed(torch.zeros(VOCABULARY))


def test_layer_error_by_hand():
    W, X = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    error = layer_error(W, torch.tensor([[1.0, 0.0]]), X)
    assert error.mean_squared == (1 + 9) / 2  # outputs 2, 6 became 1, 3
    assert error.relative == (1 + 9) / (4 + 36)


def test_layer_error_of_no_change_is_0_and_of_nothing_left_is_1():
    W, X = torch.randn(5, 8), torch.randn(20, 8)
    assert layer_error(W, W, X) == (0.0, 0.0)
    assert layer_error(W, torch.zeros(5, 8), X).relative == 1.0
    assert layer_error(torch.zeros(5, 8), W, X).relative == math.inf
    assert layer_error(W.half(), W.half(), X.half()) == (0.0, 0.0)


@given(st.floats(-4, 4))
def test_layer_error_grows_with_the_square_of_the_change(scale):
    generator = torch.Generator().manual_seed(0)
    W, D = torch.randn(2, 6, 4, generator=generator).double()
    X = torch.randn(9, 4, generator=generator)
    one, many = layer_error(W, W + D, X), layer_error(W, W + scale * D, X)
    # float32 products of a few terms: 1e-5 of the largest
    expected = scale**2 * one.mean_squared
    assert many.mean_squared == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("W_hat", "X", "message"),
    [
        ((3, 4), (2, 3), r"W is \(3, 4\), W_hat \(3, 4\), X \(2, 3\)"),
        ((4, 4), (2, 4), r"give W and W_hat \(out, in\)"),
    ],
)
def test_layer_error_names_shapes_that_do_not_fit(W_hat, X, message):
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        layer_error(torch.ones(3, 4), torch.ones(W_hat), torch.ones(X))


def test_the_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary():
    found = perplexity(uniform(), tiny.tokenizer(), tiny.texts_of("test", 5))
    assert found.value == pytest.approx(VOCABULARY, rel=1e-6)
    assert found.interval() == pytest.approx((math.log(VOCABULARY),) * 2, rel=1e-6)


def test_perplexity_by_hand_counts_every_word_and_the_end():
    scores = torch.full((VOCABULARY,), -math.inf)
    scores[[4, 5, 2]] = torch.tensor([0.5, 0.25, 0.25]).log()  # a, b, EOS
    found = perplexity(
        tiny.Fixed(scores), tiny.tokenizer(), ["a a b", "b"], held_out=False
    )
    nats = [2 * math.log(2) + 2 * math.log(4), 2 * math.log(4)]
    assert found.document_nats.tolist() == pytest.approx(nats, rel=1e-6)
    assert found.document_tokens.tolist() == [4, 2]
    assert found.nats == pytest.approx(sum(nats) / 6, rel=1e-6)  # not the mean of means


def test_perplexity_is_exp_of_transformers_own_loss():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    (text,) = tiny.texts_of("test", 1)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    own = model(input_ids=ids, labels=ids).loss.exp().item()
    assert perplexity(model, tokenizer, [text]).value == pytest.approx(own, rel=1e-5)


def test_half_precision_models_are_summed_in_float32():
    model, tokenizer = tiny.model(dtype=torch.bfloat16), tiny.tokenizer()
    texts = tiny.texts_of("test", 10)
    exact = perplexity(tiny.model(), tokenizer, texts)
    # bf16 keeps 8 bits: logits of size 10 move by 0.04, and their errors average out
    assert perplexity(model, tokenizer, texts).nats == pytest.approx(
        exact.nats, abs=0.05
    )


def test_text_that_is_not_test_text_is_refused_unless_one_insists():
    model, tokenizer = uniform(), tiny.tokenizer()
    texts = tiny.texts_of("test", 2) + tiny.texts_of("calibration", 1)
    with pytest.raises(ValueError, match=r"documents\[2\] belongs to the calibration"):
        perplexity(model, tokenizer, texts)
    with pytest.raises(ValueError, match="or pass held_out=False"):
        kl_and_flips(model, model, tokenizer, texts)
    assert perplexity(model, tokenizer, texts, held_out=False).nats > 0


def test_documents_of_the_almanac_are_measured_as_they_come():
    documents = almanac.documents("test", 2)
    tokenizer = tiny.tokenizer(almanac.vocabulary()[3:])
    perfect = perfect_reader(documents)
    assert perfect.nats == pytest.approx(
        sum(d.entropy for d in documents) / sum(len(d.words) + 1 for d in documents)
    )
    model = tiny.Fixed(torch.zeros(len(tokenizer)))
    model.config.max_position_embeddings = almanac.CONTEXT
    found = perplexity(model, tokenizer, documents)
    assert found.document_tokens.tolist() == [len(d.words) + 1 for d in documents]
    assert compare(perfect, found).mean == pytest.approx(found.nats - perfect.nats)


def test_the_kl_of_a_model_with_itself_is_0_and_nothing_flips():
    model, texts = tiny.model(), tiny.texts_of("test", 6)
    found = kl_and_flips(model, model, tiny.tokenizer(), texts)
    assert found.kl == 0.0 and found.flips == 0.0
    assert found.interval() == found.interval("flips") == (0.0, 0.0)


def test_kl_and_flips_by_hand():
    p, q = torch.full((2, VOCABULARY), -math.inf)
    p[[4, 5]] = torch.tensor([0.75, 0.25]).log()
    q[[4, 5]] = torch.tensor([0.25, 0.75]).log()
    p[6:], q[6:] = -200.0, -200.0  # so that no word is impossible
    p[:4], q[:4] = -200.0, -200.0
    texts = tiny.texts_of("test", 3)
    found = kl_and_flips(tiny.Fixed(p), tiny.Fixed(q), tiny.tokenizer(), texts)
    assert found.kl == pytest.approx(0.5 * math.log(3), rel=1e-5)
    assert found.flips == 1.0
    assert found.document_flips.tolist() == found.document_tokens.tolist()
    assert repr(found).startswith("KL 0.54931 nats/token, first choice flips 100.00%")


@given(st.integers(0, 50))
def test_kl_is_never_negative(seed):
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.randn(2, VOCABULARY, generator=generator)
    texts = tiny.texts_of("test", 3)
    found = kl_and_flips(tiny.Fixed(p), tiny.Fixed(q), tiny.tokenizer(), texts)
    assert (found.document_kl > 0).all()


def test_models_of_different_vocabularies_have_no_kl():
    other = tiny.Fixed(torch.zeros(VOCABULARY + 1))
    message = "compare two versions of one model"
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        kl_and_flips(uniform(), other, tiny.tokenizer(), tiny.texts_of("test", 1))


def test_intervals_of_a_divergence_are_named():
    found = kl_and_flips(
        uniform(), uniform(), tiny.tokenizer(), tiny.texts_of("test", 2)
    )
    with pytest.raises(ValueError, match="what is 'loss'; choose 'kl' or 'flips'"):
        found.interval("loss")


def test_a_comparison_is_paired_and_far_surer_than_its_two_sides():
    scores = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0))
    texts, tokenizer = tiny.texts_of("test", 50), tiny.tokenizer()
    a = perplexity(tiny.Fixed(4 * scores), tokenizer, texts)
    b = perplexity(tiny.Fixed(4.04 * scores), tokenizer, texts)
    cost = compare(a, b)
    assert cost.mean == pytest.approx(b.nats - a.nats)
    assert cost.low <= cost.mean <= cost.high
    low, high = a.interval()
    assert cost.high - cost.low < 0.1 * (high - low)
    assert compare(b, a).mean == -cost.mean
    assert (compare(a, a).low, compare(a, a).high) == (0.0, 0.0)


def test_different_documents_tokens_or_windows_do_not_compare():
    tokenizer, texts = tiny.tokenizer(), tiny.texts_of("test", 4)
    a = perplexity(uniform(), tokenizer, texts)
    b = perplexity(uniform(), tokenizer, texts[::-1])
    c = perplexity(uniform(), tiny.tokenizer(ends=False), texts)
    d = perplexity(uniform(), tokenizer, texts, window=6)
    for other, message in (
        (b, "same documents"),
        (c, "same doc"),
        (d, "window 64, str"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(a, other)


def test_a_perplexity_states_its_interval_its_tokens_and_its_windows():
    tokenizer = tiny.tokenizer()
    found = perplexity(uniform(), tokenizer, ["a b"], held_out=False, window=8)
    assert repr(found) == (
        "perplexity 32.000, 3.4657 nats/token; 3 tokens in 1 documents, "
        "window 8, stride 4"
    )
    many = perplexity(tiny.model(), tokenizer, tiny.texts_of("test", 9))
    assert " nats/token [{:.4f}, {:.4f}];".format(*many.interval()) in repr(many)
