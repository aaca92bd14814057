"""A text coloured by surprise says the same in numbers, in colour and in words."""

import pytest
import torch
from helpers import tiny

from minquant.course.damage.surprise import Surprise
from minquant.models.text import encode


def test_each_word_has_the_models_surprise():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    seen = Surprise.of({"a": model}, tokenizer, "b c d")
    ids = encode(tokenizer, ["b c d"])[0]
    log_p = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    wanted = [-log_p[i, ids[i + 1]].item() for i in range(3)]
    assert [token.strip() for token in seen.tokens] == ["b", "c", "d"]
    assert seen.nats["a"] == pytest.approx(wanted, abs=1e-5)


def test_a_surprise_is_dark_underlined_and_counted():
    seen = Surprise(["calm ", "<loud>"], {"3 bits": [0.0, 9.0]})
    page = seen._repr_html_()
    assert "3 bits: 4.50 nats per token, 1 of 2 tokens above 3 nats" in page
    assert repr(seen) in page
    calm, loud = page.split("calm ")
    assert "underline" in loud and "&lt;loud&gt;" in loud
    assert "underline" not in calm and "rgb(255, 255, 255)" in calm


def test_tokens_make_the_text_again():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    seen = Surprise.of({"a": model, "b": model}, tokenizer, "a b . c")
    assert "".join(seen.tokens).split() == "a b . c".split()
    assert seen.nats["a"] == seen.nats["b"]
    assert torch.tensor(seen.nats["a"]).isfinite().all()
