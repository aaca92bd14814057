"""Where exp, log and division meet zeros, empties and infinities, no number is wrong.

heretic#348         KL is nan where both models rule out a word
fairseq#1833        the perplexity of a high loss overflows
transformers#11855  a loss without a label is nan, and so are the weights after it
"""

import math
from math import inf

import pytest
import torch
from helpers import tiny
from helpers.fixture import as_learners_have_it

from minquant.measure import evaluate
from minquant.measure.evaluate import Divergence, Perplexity, compare, kl_and_flips
from minquant.measure.intervals import bootstrap
from minquant.measure.probes import Share
from minquant.methods import rtn
from minquant.models.method import relative_error
from minquant.numerics.grids import absmax
from minquant.planning import mixed_precision
from minquant.planning.choice import Candidate, Harm, choose, times_as_many, verdict
from minquant.training import finetune, qat

IDS = torch.randint(3, 30, (2, 12), generator=torch.Generator().manual_seed(0))


def scores(*seed, ruled_out=()):
    """Logits of four tokens over eight words, some of which are ruled out."""
    made = torch.randn(4, 8, generator=torch.Generator().manual_seed(*seed or (0,)))
    made[:, list(ruled_out)] = -inf
    return made


def ruling_out(word, seed=0):
    """A model that never says one word, by a logit of -inf."""
    network = tiny.model(seed=seed)
    plain = network.lm_head.forward

    def forward(x):
        logits = plain(x)
        bars = torch.zeros_like(logits)
        bars[..., word] = -inf
        return logits + bars

    network.lm_head.forward = forward
    return network


def test_a_word_that_both_rule_out_adds_nothing_to_kl_heretic_348():
    s, ids = scores(ruled_out=[0, 5]), torch.ones(4).long()
    kl, flips = evaluate._divergence(s, s, ids)
    assert kl.tolist() == [0] * 4 and flips.tolist() == [0] * 4
    # the same as over the six words that are left
    t, left = scores(1, ruled_out=[0, 5]), [1, 2, 3, 4, 6, 7]
    kl, _ = evaluate._divergence(s, t, ids)
    expected, _ = evaluate._divergence(s[:, left], t[:, left], ids)
    torch.testing.assert_close(kl, expected)


def test_kl_is_infinite_only_where_the_model_rules_out_what_the_reference_does_not():
    ids = torch.ones(4).long()
    free, bound = scores(), scores(ruled_out=[2])
    assert evaluate._divergence(free, bound, ids)[0].tolist() == [inf] * 4
    assert evaluate._divergence(bound, free, ids)[0].isfinite().all()
    tiny_p = free.clone()
    tiny_p[:, 2] = -300.0  # exp(-300) is 0 in float32
    assert evaluate._divergence(tiny_p, bound, ids)[0].isfinite().all()


def test_whole_models_that_rule_out_a_word_have_a_finite_kl():
    network, other = ruling_out(7), ruling_out(7, seed=1)
    options = {"held_out": False, "progress": False}
    same = kl_and_flips(network, network, tiny.tokenizer(), ["a b c e"], **options)
    assert same.kl == same.flips == 0
    apart = kl_and_flips(network, other, tiny.tokenizer(), ["a b c e"], **options)
    assert 0 < apart.kl < inf
    methods = {4: lambda W: rtn.quantize_rtn(W, absmax(4))}
    costs = mixed_precision.sensitivities(
        network, tiny.tokenizer(), ["a b c e"], methods, progress=False
    )
    assert all(0 <= cost[4].nats < inf for cost in costs.values())


def test_a_student_of_a_teacher_that_rules_out_a_word_learns():
    made = qat.train(ruling_out(7), [IDS] * 3, absmax(4), progress=False)
    assert all(math.isfinite(loss) for loss in made.losses)
    assert all(w.isfinite().all() for w in made.model.parameters())


def test_a_perplexity_that_no_float_holds_is_infinite_fairseq_1833():
    nats, tokens = torch.tensor([8000.0, 7000.0]), torch.tensor([10, 10])
    found = Perplexity((1, 2), nats, tokens, 64, 32)
    assert found.value == inf and found.nats == 750
    assert "perplexity inf, 750.0000 nats/token [700.0000, 800.0000]" in repr(found)
    assert Perplexity((1,), nats[1:], tokens[1:], 64, 32).value == math.exp(700)


def test_an_infinite_loss_of_one_document_makes_the_upper_end_infinite():
    nats = torch.ones(20).double()
    nats[3] = inf
    bad = Perplexity(tuple(range(20)), nats, torch.ones(20).long(), 64, 32)
    assert bad.nats == bad.value == inf
    low, high = bad.interval()
    assert (low, high) == (1.0, inf)
    good = Perplexity(bad.documents, torch.ones(20).double(), bad.document_tokens, 9, 4)
    worse, better = compare(good, bad), compare(bad, good)
    assert (worse.mean, worse.low, worse.high) == (inf, 0.0, inf)
    assert (better.mean, better.low, better.high) == (-inf, -inf, 0.0)
    assert bootstrap(torch.full((3,), inf)) == (inf, inf)
    far = Divergence(nats, torch.zeros(20), torch.ones(20).long())
    assert far.kl == inf and far.interval() == (1.0, inf) and "KL inf" in repr(far)
    harm = Harm.more(worse)
    assert verdict(harm, 0.5) == "unsure" and times_as_many(harm, 0.5) == inf
    assert times_as_many(Harm.more(better), -0.5) == inf
    chosen = choose([Candidate("a", 1, {"loss": harm})], {"loss": 0.5}, 10)
    assert chosen.chosen is None and "may break loss (0 to inf" in chosen.reason


@pytest.mark.parametrize("count", [0, -1, math.nan])
def test_documents_without_tokens_have_no_mean(count):
    with pytest.raises(
        ValueError, match=r"counts\[1\] is .*; leave out documents with"
    ):
        bootstrap(torch.ones(3), torch.tensor([1.0, count, 2.0]))


def test_what_never_varies_has_an_interval_without_a_width():
    assert bootstrap(torch.zeros(5)) == (0.0, 0.0)
    assert bootstrap(torch.full((2,), 0.25), torch.ones(2)) == (0.25, 0.25)


def test_nothing_asked_or_read_is_refused_and_not_divided_by():
    for n in (0, -1):
        with pytest.raises(
            ValueError, match=f"right is 0 of n = {n}; give at least on"
        ):
            Share(0, n)
    with pytest.raises(ValueError, match="documents is empty; give at least one"):
        evaluate.perfect_reader([])
    with pytest.raises(
        ValueError, match=r"W is \(2, 3\), X \(0, 3\); there is no outp"
    ):
        evaluate.layer_error(torch.ones(2, 3), torch.ones(2, 3), torch.ones(0, 3))
    for text in ("", "   "):
        bare = tiny.tokenizer(ends=False)
        with pytest.raises(ValueError, match=r"documents\[0\] has no words; leave it"):
            evaluate.perplexity(tiny.model(), bare, [text], held_out=False)
    one = evaluate.perplexity(
        tiny.model(), tiny.tokenizer(ends=False), ["a"], held_out=False, progress=False
    )
    assert one.document_tokens.tolist() == [1] and math.isfinite(one.value)


@pytest.mark.parametrize("size", [1e-30, 1e-24, 1e-3, 1e18, 1e24])
def test_the_relative_error_does_not_depend_on_the_unit(size):
    generator = torch.Generator().manual_seed(0)
    W, D = torch.randn(2, 4, 8, generator=generator)
    X = torch.randn(5, 8, generator=generator)
    expected = evaluate.layer_error(W, W + D, X).relative
    found = evaluate.layer_error(W * size, (W + D) * size, X)
    assert found.relative == pytest.approx(expected, rel=1e-4)
    assert 0 < found.mean_squared < inf


def test_an_error_over_no_power_is_infinite_and_no_error_is_0():
    zero, one = torch.zeros(2, 4), torch.ones(2, 4)
    for inputs in ({}, {"X": torch.ones(3, 4)}, {"H": torch.eye(4)}):
        assert relative_error(zero, one, inputs) == inf
        assert relative_error(zero, zero, inputs) == 0


def test_a_batch_without_a_label_is_refused_before_weights_are_nan():
    student = finetune.prepared(tiny.model(), "full", dtype=torch.float32)
    before = [p.clone() for p in student.model.parameters()]
    labels = torch.full_like(IDS, -100)
    labels[:, 0] = 5  # nothing stands before the first token
    with pytest.raises(
        ValueError, match=r"labels \(2, 12\) has none but -100 after th"
    ):
        finetune.train_(student, [(IDS, labels)])
    pairs = zip(student.model.parameters(), before, strict=True)
    assert all(torch.equal(p, b) for p, b in pairs)
    for empty in (IDS[:, :1], IDS[:0]):
        with (
            as_learners_have_it(),
            pytest.raises(
                ValueError, match=r"batches\[1\] is \(., .*\), in which no tok"
            ),
        ):
            qat.train(tiny.model(), [IDS, empty], teacher=False, progress=False)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken(what, monkeypatch):
    student = finetune.prepared(tiny.model(), "full", dtype=torch.float32)
    before = [p.clone() for p in student.model.parameters()]
    real = finetune.batch_loss
    factor = {"loss": inf, "gradient": 1e38}[what]

    def large(*args):
        loss = real(*args)
        if what == "loss":
            return loss * factor
        return loss + (loss - loss.detach()) * factor * factor

    monkeypatch.setattr(finetune, "batch_loss", large)
    seen = "the gradient's norm (inf|nan) at step 0; lower rate 0.001"
    with pytest.raises(ValueError, match=seen):
        finetune.train_(student, [(IDS, IDS)])
    pairs = zip(student.model.parameters(), before, strict=True)
    assert all(torch.equal(p, b) for p, b in pairs)
