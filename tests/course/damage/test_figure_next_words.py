"""The next word: which words are shown, how long their bars are, what is said."""

import pytest
import torch

from minquant.course.damage.figure_next_words import next_words

WORDS = ["lamp", "key", "coin", "map"]
BEFORE = torch.tensor([0.70, 0.20, 0.06, 0.04])
AFTER = torch.tensor([0.30, 0.10, 0.05, 0.55])


def lengths(fig):
    return [round(bar.get_width(), 6) for bar in fig.axes[0].patches]


def test_each_word_has_a_bar_of_each_model_as_long_as_its_probability():
    assert lengths(next_words(WORDS, BEFORE, AFTER, count=2)) == [0.7, 0.3, 0.04, 0.55]


def test_a_word_that_only_one_of_them_holds_likely_is_shown():
    fig = next_words(WORDS, BEFORE, AFTER, count=3)
    said = [text.get_text() for text in fig.texts]
    assert said[-3:] == ["lamp", "map", "key"]


def test_the_word_that_comes_is_marked():
    fig = next_words(WORDS, BEFORE, AFTER, answer="map", prompt="Where is the …")
    said = [text.get_text() for text in fig.texts]
    assert "map ◂ comes" in said and "The next word: Where is the …" in said


def test_the_word_that_comes_is_shown_however_unlikely():
    fig = next_words(WORDS, BEFORE, AFTER, answer="coin", count=2)
    assert [text.get_text() for text in fig.texts][-2:] == ["lamp", "coin ◂ comes"]


def test_the_alt_text_has_every_number():
    fig = next_words(
        WORDS, BEFORE, AFTER, count=2, names=("32 bits", "3 bits"), answer="map"
    )
    assert fig.alt == (
        "Probabilities of the next word, 32 bits and 3 bits: lamp 0.700 and 0.300; "
        "map 0.040 and 0.550. What comes is map."
    )


def test_no_word_leaves_the_page():
    sure = torch.tensor([1.0, 0.0])
    fig = next_words(["woodcutter", "key"], sure, sure, answer="woodcutter")
    fig.canvas.draw()
    for text in [*fig.texts, *fig.axes[0].texts]:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= fig.bbox.x1


def test_what_are_no_probabilities_is_refused():
    with pytest.raises(ValueError, match="words are 3, before 4 and after 4; give one"):
        next_words(WORDS[:3], BEFORE, AFTER)
    with pytest.raises(ValueError, match=r"sum to \[1.0, 4.0\], .*logits.softmax"):
        next_words(WORDS, BEFORE, torch.ones(4))
