"""Every token is counted once, whatever the windows and the batches."""

import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.measure import windows


def nats_of(logits, ids):
    """The loss of each token."""
    return torch.nn.functional.cross_entropy(logits, ids, reduction="none")[None]


@given(st.integers(2, 60), st.integers(2, 20), st.data())
def test_every_token_but_the_first_is_counted_in_exactly_one_window(n, window, data):
    stride = data.draw(st.integers(1, window - 1))
    ids = torch.arange(n)
    found = windows.cut(0, ids, window, stride)
    assert torch.cat([w.ids[w.seen :] for w in found]).tolist() == list(range(1, n))
    assert all(len(w.ids) <= window for w in found)
    assert all(w.seen == window - stride for w in found[1:])


@pytest.mark.parametrize(
    ("kind", "window", "stride"),
    [
        ("Llama", 64, 32),
        ("Llama", 9, 4),
        ("GPT2", 16, 15),
        ("OPT", 9, 1),
        ("Gemma3Text", 20, 7),
    ],
)
def test_sums_are_those_of_reading_each_window_alone(kind, window, stride):
    model, texts = tiny.model(kind), tiny.texts_of("test", 9)
    plan = windows.plan(model, tiny.tokenizer(), texts, window=window, stride=stride)
    (sums,) = windows.sums(plan, (model,), nats_of)
    alone = torch.zeros(9, dtype=torch.float64)
    for w in plan.windows:
        logits = model(input_ids=w.ids[None]).logits[0]
        alone[w.document] += nats_of(logits[w.seen - 1 : -1], w.ids[w.seen :]).sum()
    torch.testing.assert_close(sums, alone, rtol=1e-5, atol=1e-4)


def test_batches_small_and_large_give_the_same_sums(monkeypatch):
    model, texts = tiny.model(), tiny.texts_of("test", 30)
    plan = windows.plan(model, tiny.tokenizer(), texts)
    (whole,) = windows.sums(plan, (model,), nats_of)
    monkeypatch.setattr(windows, "_BATCH_TOKENS", 40)
    monkeypatch.setattr(windows, "_PIECE_LOGITS", 100)  # three tokens at a time
    (parts,) = windows.sums(plan, (model,), nats_of)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_the_order_of_the_documents_only_orders_the_sums(order):
    model, texts = tiny.model(), tiny.texts_of("test", 8)
    plan = windows.plan(model, tiny.tokenizer(), texts)
    other = windows.plan(model, tiny.tokenizer(), [texts[i] for i in order])
    (a,), (b,) = (windows.sums(p, (model,), nats_of) for p in (plan, other))
    torch.testing.assert_close(a[list(order)], b, rtol=1e-5, atol=1e-4)
    assert [plan.documents[i] for i in order] == list(other.documents)


def test_tokens_are_all_but_the_first():
    plan = windows.plan(tiny.model(), tiny.tokenizer(), ["a b c"], held_out=False)
    assert plan.tokens.tolist() == [4]  # a b c EOS
    assert plan.window == 64 and plan.stride == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 65}, "window is 65; the model reads 2 to 64 tokens"),
        ({"window": 1}, "window is 1;"),
        ({"window": 8, "stride": 8}, "stride is 8; choose 1 to 7"),
        ({"stride": 0}, "stride is 0; choose 1 to 63"),
    ],
)
def test_windows_that_lose_tokens_or_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        windows.plan(
            tiny.model(), tiny.tokenizer(), tiny.texts_of("test", 1), **options
        )


def test_a_model_in_training_mode_is_refused():
    model = tiny.model().train()
    plan = windows.plan(model, tiny.tokenizer(), tiny.texts_of("test", 1))
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        windows.sums(plan, (model,), nats_of)
