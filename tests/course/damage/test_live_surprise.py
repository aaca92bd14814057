"""The live picture of lesson 04: what it measures, and what it refuses."""

from functools import partial

import pytest
import torch

import minquant as mq
from minquant import almanac
from minquant.course.damage.live_surprise import SurprisePicture, nats_of, surprise


@pytest.fixture(scope="module")
def models():
    model, tokenizer = mq.load()
    method = partial(mq.quantize_rtn, grid=mq.absmax(3))
    small, _ = mq.quantize(model, method, progress=False)
    return {"16 bits": model, "3 bits": small}, tokenizer


def test_surprises_sum_to_the_loss_of_the_text_and_pieces_to_the_text(models):
    (model, _), tokenizer = models[0].values(), models[1]
    for document in almanac.documents("test", 3):
        pieces, nats = nats_of(model, tokenizer, document)
        ids = mq.encode(tokenizer, [document])[0]
        log_p = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        end = -log_p[-2, ids[-1]].item()  # <eos> is read, and not shown
        loss = mq.perplexity(model, tokenizer, [document], progress=False)
        whole = nats.sum().item() + end
        assert whole == pytest.approx(loss.document_nats.item(), rel=1e-5)
        assert "".join(pieces).split() == document.text.split()


def test_a_rise_is_that_of_compare(models):
    named, tokenizer = models
    documents = almanac.documents("test", 4)
    picture = surprise(named, tokenizer, documents[0], documents)
    before, after = (
        mq.perplexity(m, tokenizer, documents, progress=False) for m in named.values()
    )
    rise, own = mq.compare(before, after), picture.models["3 bits"]
    assert (own["mean"], own["low"], own["high"]) == (rise.mean, rise.low, rise.high)
    assert sum(own["sums"]) / sum(picture.counts) == pytest.approx(rise.mean)
    assert picture.models["16 bits"]["mean"] == before.nats
    assert picture.name == "3 bits"


def test_what_does_not_fit_is_refused(models):
    (model, _), tokenizer = models[0].values(), models[1]
    documents = almanac.documents("test", 2)
    loss = mq.perplexity(model, tokenizer, documents, progress=False)
    nats = torch.ones(2)
    with pytest.raises(ValueError, match="nats are of .*'a'.* losses of .*'b'"):
        SurprisePicture(["x", "y"], {"a": nats}, {"b": loss})
    with pytest.raises(ValueError, match="losses of \\[\\]; name the same models"):
        SurprisePicture(["x", "y"], {}, {})
    with pytest.raises(ValueError, match="nats of a are 2, and tokens 1"):
        SurprisePicture(["x"], {"a": nats}, {"a": loss})
    with pytest.raises(ValueError, match="name is 'b'; choose from a"):
        SurprisePicture(["x", "y"], {"a": nats}, {"a": loss}, name="b")
