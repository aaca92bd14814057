"""Text in, text out: splits, files, ids, batches without padding, greedy words."""

import inspect

import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant import almanac
from minquant.models.text import (
    calibration_batches,
    check_split,
    continue_greedily,
    documents_from,
    encode,
    generate,
    text_of,
)


class Note:
    """A document that is not a string."""

    def __init__(self, text):
        self.text = text


def test_a_document_is_a_string_or_has_a_text():
    assert text_of("a b") == text_of(Note("a b")) == "a b"
    unchecked = inspect.unwrap(text_of)  # under pytest, jaxtyping would speak first
    with pytest.raises(TypeError, match="documents holds a int; give strings"):
        unchecked(3)


def test_each_split_serves_its_own_purpose():
    test, calibration, train = (
        tiny.texts_of(s, 2) for s in ("test", "calibration", "train")
    )
    check_split(test, test=True)
    check_split([*calibration, *train], test=False)
    with pytest.raises(ValueError, match=r"documents\[2\] belongs to the train split"):
        check_split([*test, *train], test=True)
    with pytest.raises(ValueError, match=r"almanac.documents\('calibration', n\)"):
        check_split([Note(test[0])], test=False)


def test_a_file_is_cut_at_blank_lines_once_there_are_words_enough(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("one two\nthree\n\nfour\n \n\nfive six seven eight\n\nnine\n")
    # "nine" is too short to stand alone, so it joins the document before it
    assert documents_from(file, words=4) == [
        "one two\nthree\n\nfour",
        "five six seven eight\n\nnine",
    ]


def test_the_splits_of_a_file_are_disjoint_and_lose_nothing(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("\n\n".join(f"word{i} and word{i * i}" for i in range(400)))
    parts = [documents_from(file, split=s, words=3) for s in almanac.SPLITS]
    assert sorted(d for part in parts for d in part) == sorted(
        documents_from(file, words=3)
    )
    for split, part in zip(almanac.SPLITS, parts, strict=True):
        assert {almanac.split_of(document) for document in part} == {split}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, {}, "cannot be read as text"),
        (b"\xff\xfe\xfa", {}, "give the path of a UTF-8 text file"),
        (b"", {}, "holds 0 documents of 300 words"),
        (b"a b c", {"split": "tset"}, "split 'tset' is unknown"),
    ],
)
def test_a_file_that_gives_no_documents_says_why(tmp_path, content, options, message):
    file = tmp_path / "own.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        documents_from(file, **options)


def test_a_text_shorter_than_one_document_is_one(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("\ufeffonly a few words", encoding="utf-8")
    assert documents_from(file) == ["only a few words"]


def test_ids_have_the_special_tokens_of_the_tokenizer_and_bos_in_any_case():
    assert encode(tiny.tokenizer(), ["a b"])[0].tolist() == [1, 4, 5, 2]
    assert encode(tiny.tokenizer(ends=False), ["a b"])[0].tolist() == [1, 4, 5]
    without = tiny.tokenizer(ends=False)
    without.backend_tokenizer.post_processor = None
    assert encode(without, ["a b"])[0].tolist() == [1, 4, 5]
    without.bos_token = None
    assert encode(without, ["a b"])[0].tolist() == [4, 5]
    with pytest.raises(ValueError, match=r"documents\[1\] has 1 token"):
        encode(without, ["a b", "c"])
    with pytest.raises(ValueError, match="documents is empty"):
        encode(without, [])


def test_calibration_batches_are_the_documents_without_their_last_token():
    a, b = tiny.texts_of("calibration", 2)
    both = calibration_batches(tiny.tokenizer(), [a, b], batch=1)
    expected = [ids[:-1] for ids in encode(tiny.tokenizer(), [a, b])]
    expected.sort(key=len)
    assert all(
        torch.equal(row[0], ids) for row, ids in zip(both, expected, strict=True)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(2, 30), st.integers(1, 30))
def test_calibration_batches_hold_no_padding_and_lose_at_most_a_fifth(batch, length, n):
    texts = tiny.texts_of("calibration", 30)[:n]
    batches = calibration_batches(tiny.tokenizer(), texts, batch=batch, length=length)
    assert all(len(ids) <= batch and ids.shape[1] <= length for ids in batches)
    assert all((ids != 0).all() for ids in batches)
    kept = sum(ids.numel() for ids in batches)
    whole = sum(len(ids) - 1 for ids in encode(tiny.tokenizer(), texts))
    assert kept <= whole <= 1.2 * kept


def test_a_model_is_not_calibrated_on_test_text_unless_one_insists():
    texts = tiny.texts_of("test", 2)
    with pytest.raises(ValueError, match="to calibrate, take almanac.documents"):
        calibration_batches(tiny.tokenizer(), texts)
    assert calibration_batches(tiny.tokenizer(), texts, held_out=False)


def test_the_words_come_out_in_the_order_of_the_script():
    chain = tiny.Scripted({"a": "b", "b": "c", "c": "<eos>", "<eos>": "d"})
    assert generate(chain, tiny.tokenizer(), "a", 2) == "b c"
    assert generate(chain, tiny.tokenizer(), "a", 10) == "b c"  # stops at EOS


def test_the_cache_changes_no_word():
    model = tiny.model("Llama")
    ids = torch.tensor([[1, 5, 9], [1, 20, 7]])
    new_ids = continue_greedily(model, ids, 12)
    for _ in range(12):
        best = model(input_ids=ids).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, best], 1)
    assert torch.equal(new_ids, ids[:, 3:])


def test_only_the_logits_of_the_last_token_are_computed():
    model, sizes = tiny.model("Llama"), []
    model.lm_head.register_forward_hook(lambda _, x, y: sizes.append(y.shape[1]))
    continue_greedily(model, torch.tensor([[1, 5, 9, 7]]), 3)
    assert sizes == [1, 1, 1]


def test_zero_words_are_none():
    assert continue_greedily(tiny.model(), torch.tensor([[1, 5]]), 0).shape == (1, 0)
    assert generate(tiny.model(), tiny.tokenizer(), "a", 0) == ""


def test_more_words_than_the_context_holds_are_refused():
    with pytest.raises(ValueError, match="a context of 64; shorten one of them"):
        generate(tiny.model(), tiny.tokenizer(), "a b", 62)
    assert generate(tiny.model(), tiny.tokenizer(), "a b", 61) is not None


def test_an_empty_prompt_needs_a_bos():
    without = tiny.tokenizer(ends=False)
    without.bos_token = None
    with pytest.raises(ValueError, match="prompt is empty and this model has no BOS"):
        generate(tiny.model(), without, "", 3)
