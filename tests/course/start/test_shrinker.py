"""A model at any width is the package's own model at that width."""

import pytest
import torch
from helpers import tiny

from minquant.course.start.shrinker import Shrinker, changed
from minquant.measure.evaluate import perplexity
from minquant.methods import rtn
from minquant.models import quantize
from minquant.models.linear_layers import size
from minquant.models.text import generate
from minquant.numerics import grids

PROMPT = "a b c"


@pytest.fixture(scope="module")
def whole():
    return tiny.model(), tiny.tokenizer()


@pytest.fixture(scope="module")
def shrink(whole):
    return Shrinker(*whole, tiny.texts_of("test", 4), prompt=PROMPT, new=12)


def test_a_width_is_the_package_s_own_model_at_that_width(whole, shrink):
    twin, report = quantize.quantize(
        whole[0], lambda W: rtn.quantize_rtn(W, grids.absmax(3)), progress=False
    )
    now = shrink(3)
    assert now.size == size(twin, report)
    loss = perplexity(twin, whole[1], tiny.texts_of("test", 4), progress=False)
    assert now.nats == loss.nats
    assert now.text == generate(twin, whole[1], PROMPT, 12)


def test_sixteen_bits_are_half_precision(whole, shrink):
    now = shrink(16)
    assert now.size.total == size(whole[0]).total
    assert now.size.quantized == 2 * now.size.weights
    loss = perplexity(whole[0], whole[1], tiny.texts_of("test", 4), progress=False)
    assert now.nats == pytest.approx(loss.nats, abs=1e-2)


def test_a_width_is_computed_once_and_the_model_is_left_as_it_was(whole, shrink):
    before = {name: p.clone() for name, p in whole[0].named_parameters()}
    assert shrink(2) is shrink(2)
    after = dict(whole[0].named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_words_that_are_others_count_as_changed():
    said = changed("a b c d", "a x c d")
    assert said == [("a", False), ("x", True), ("c", False), ("d", False)]
    assert not any(new for _, new in changed("a b", "a b"))
    assert all(new for _, new in changed("", "a b"))
