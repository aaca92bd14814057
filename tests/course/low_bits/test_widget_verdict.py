"""The verdict widget: bits and a method in, one row of the table out."""

import re
from dataclasses import replace

import pytest
from helpers.cases import GOOD, MIDDLING, ORIGINAL, VERSIONS

from minquant.course.drawing import palette
from minquant.course.low_bits.figure_verdict import by_key, describe
from minquant.course.low_bits.widget_verdict import departure, verdicts

PROMPT = "once , upon"


@pytest.fixture
def widget():
    return verdicts(VERSIONS, ORIGINAL, PROMPT)


def text(html):
    """HTML without its tags."""
    return re.sub(r"<[^>]+>", "", html)


def marked(widget):
    """The words that are marked as those of another story."""
    return re.findall(r"<mark[^>]*>(.*?)</mark>", widget.frame.details)


def test_the_menus_offer_what_the_table_has_the_widest_first(widget):
    bits, method = (widget.controls[name].parts[0] for name in ("bits", "method"))
    assert bits.options == (("8", 8), ("3", 3), ("2", 2), ("1.58", 1.58))
    assert method.options == ("gptq", "qat", "rtn")
    assert widget.values == {"bits": 3, "method": "gptq"}


def test_every_pair_of_the_menus_has_words_that_are_its_alt_text(widget):
    for bits in (8, 3, 2, 1.58):
        for method in ("gptq", "qat", "rtn"):
            widget.set(bits=bits, method=method)
            assert widget.error is None
            want = describe((bits, method), by_key(VERSIONS, ORIGINAL), ORIGINAL)
            assert text(widget.frame.words).replace("&#x27;", "'") == want == widget.alt


def test_words_are_marked_from_the_first_departure_on(widget):
    assert text(widget.frame.details) == (
        "the original went ononce, upon a b c"
        "3 bits by gptq: another word from word 3 ononce, upon a b d"
    )
    assert marked(widget) == ["d"]
    assert f"border-bottom:2px solid {palette.VERMILION}" in widget.frame.details


def test_the_prompt_is_muted_in_both_columns(widget):
    prompt = f'<span style="color:{palette.MUTED}">once, upon</span>'
    assert widget.frame.details.count(prompt) == 2


@pytest.mark.parametrize(
    ("said", "title", "mark"),
    [
        ("a b c", "the same words", []),
        ("a b", "the same 2 words, then nothing", []),
        ("a b c d e", "another word from word 4 on", ["d e"]),
        ("x b c", "another word from word 1 on", ["x b c"]),
        ("", "the same 0 words, then nothing", []),
        ("a b <c>", "another word from word 3 on", ["&lt;c&gt;"]),
    ],
)
def test_what_is_said_of_a_text(said, title, mark):
    widget = verdicts([replace(MIDDLING, text=said)], ORIGINAL, PROMPT)
    assert f"3 bits by gptq: {title}<" in widget.frame.details
    assert marked(widget) == mark


def test_texts_depart_where_a_word_differs_and_not_where_it_is_moved():
    assert departure("a b c", "b a c") == 0
    assert departure("a b c", "a b c") == 3
    assert departure("", "a") == 0


def test_a_pair_that_the_table_lacks_shows_the_original_s_text_alone(widget):
    widget.set(bits=8, method="qat")
    assert widget.error is None and "minquant-error" not in widget.still()
    assert "By qat it has: 2 bits." in text(widget.frame.words)
    assert text(widget.frame.details) == "the original went ononce, upon a b c"


def test_a_reader_without_a_kernel_sees_picture_words_and_texts(widget):
    still = widget.still()
    assert still.startswith("<img alt=") and "data:image/png" in still
    assert widget.frame.words in still and widget.frame.details in still
    assert "bits: 3 · method: gptq" in still


def test_another_start_is_drawn_first():
    widget = verdicts(VERSIONS, ORIGINAL, PROMPT, start=(8, "gptq"))
    assert widget.alt.startswith("8 bits by gptq, 8.40 bits per weight")


def test_a_start_that_the_table_lacks_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"start is \(4, 'gptq'\), no version; choose .*\(8, 'gptq'\)"
    ):
        verdicts([GOOD], ORIGINAL, PROMPT, start=(4, "gptq"))
    with pytest.raises(ValueError, match="versions is empty"):
        verdicts([], ORIGINAL, PROMPT)
    with pytest.raises(ValueError, match="versions holds 8 bits by 'gptq' twice"):
        verdicts([GOOD, GOOD], ORIGINAL, PROMPT, start=(8, "gptq"))
