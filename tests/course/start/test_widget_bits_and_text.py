"""The first widget: one slider on a real, small model."""

import re
import time

import pytest
import torch
from helpers import tiny

from minquant.almanac.questions import Probe
from minquant.course.start.widget_bits_and_text import Shrinker, bits_and_text, changed
from minquant.measure.evaluate import accuracy, perplexity
from minquant.methods import rtn
from minquant.models import quantize
from minquant.models.linear_layers import size
from minquant.models.text import generate
from minquant.numerics import grids

PROMPT = "a b c"
QUESTIONS = {"famous": ("d e", "f"), "obscure": ("x y", "z z")}


@pytest.fixture(scope="module")
def whole():
    return tiny.model(), tiny.tokenizer()


@pytest.fixture(scope="module")
def shrink(whole):
    documents = tiny.texts_of("test", 4)
    return Shrinker(*whole, documents, prompt=PROMPT, questions=QUESTIONS, new=12)


@pytest.fixture
def widget(shrink):
    return bits_and_text(shrink, prompt=PROMPT, questions=QUESTIONS)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


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


def test_a_width_is_computed_once(shrink):
    shrink(5)
    start = time.perf_counter()
    assert shrink(5) is shrink(5)
    assert time.perf_counter() - start < 0.01


def test_the_model_is_left_as_it_was(whole, shrink):
    before = {name: p.clone() for name, p in whole[0].named_parameters()}
    shrink(2)
    after = dict(whole[0].named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_slider_computes_only_what_it_is_moved_to(whole):
    asked = []
    real = Shrinker(*whole, tiny.texts_of("test", 2), prompt=PROMPT, new=3)

    def counted(bits):
        asked.append(bits)
        return real(bits)

    widget = bits_and_text(counted, prompt=PROMPT)
    assert set(asked) == {16}
    widget.set(bits=4)
    assert set(asked) == {16, 4}


def test_the_words_tell_size_loss_text_and_answers(shrink, widget):
    widget.set(bits=2)
    assert widget.error is None
    now, before = shrink(2), shrink(16)
    said = text(widget.frame.words)
    assert f"{now.size.total / before.size.total:.0%} of the size" in said
    assert f"{sum(now.right)} of 2 answers right" in said
    marked = sum(new for _, new in changed(before.text, now.text))
    assert widget.frame.details.count("<mark ") == marked > 0
    for answer in now.answers:
        assert answer in text(widget.frame.details)


def test_at_sixteen_bits_nothing_is_marked(widget):
    assert "<mark" not in widget.frame.details
    assert "the text is the same" in text(widget.frame.words)


def test_only_words_that_are_others_count_as_changed():
    assert changed("a b c d", "a x c d") == [
        ("a", False),
        ("x", True),
        ("c", False),
        ("d", False),
    ]
    assert not any(new for _, new in changed("a b", "a b"))
    assert all(new for _, new in changed("", "a b"))


def test_a_probe_is_asked_as_everywhere(whole):
    probe = Probe("a b", ("c",), 2, "fact", 0, 0.5, (("c",), ("d",)))
    shrink = Shrinker(
        *whole, tiny.texts_of("test", 2), prompt=PROMPT, questions={"one": probe}, new=3
    )
    found = accuracy(*whole, [probe], progress=False)
    assert shrink(16).answers == found.answers
    assert shrink(16).right == (bool(found.correct[0]),)


def test_an_answer_s_words_are_compared_and_not_its_stops(whole):
    said = generate(*whole, "a b c", 3)
    for answer, right in ((f"{said}.", True), (f"{said} never", False)):
        asked = {"one": ("a b c", answer)}
        texts = tiny.texts_of("test", 2)
        shrink = Shrinker(*whole, texts, prompt=PROMPT, questions=asked, new=3)
        assert shrink(16).right == (right,)


def test_of_a_long_question_its_end_is_shown(whole):
    asked = {"one": (" ".join("ab" for _ in range(50)) + " where ?", "x")}
    shrink = Shrinker(
        *whole, tiny.texts_of("test", 2), prompt=PROMPT, questions=asked, new=3
    )
    shown = text(bits_and_text(shrink, prompt=PROMPT, questions=asked).frame.details)
    assert "… ab ab" in shown
    assert "ab where?" in shown
    assert 15 < shown.count("ab") < 25


def test_a_text_of_the_model_cannot_become_html(shrink):
    widget = bits_and_text(shrink, prompt="<b>bold</b>", questions=QUESTIONS)
    assert "<b>bold</b>" not in widget.frame.details


def test_an_unknown_grid_is_named(whole):
    with pytest.raises(ValueError, match="grid is 'round'; choose from absmax, symm"):
        Shrinker(*whole, [], prompt="", grid="round")
