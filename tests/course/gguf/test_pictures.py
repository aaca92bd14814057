"""The pictures of lesson 13 say what the numbers are."""

import itertools

import pytest
import torch
from helpers import small_gguf

from minquant.course.gguf import museum, pictures
from minquant.files.gguf import read
from minquant.files.gguf_blocks import TYPES
from minquant.serving.gguf_export import write_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(small_gguf.model(), {}, small_gguf.tokenizer(), path, floats="Q4_1")
    return path


def test_the_first_fields_cover_every_byte_and_say_what_the_reader_reads(path):
    found = list(pictures.fields(path.read_bytes()))
    for before, after in itertools.pairwise(found):
        assert before.start + before.length == after.start
    said = {field.name: field.value for field in found}
    file = read(path)
    assert said["how many tensors"] == f"{len(file.tensors)}"
    assert said["how many settings"] == f"{len(file.settings)}"
    assert (said["the name"], said["the value"]) == ("general.architecture", "llama")
    assert "general.architecture" in pictures.first_bytes(path).alt


def test_contents_add_up_to_the_file(path):
    alt = pictures.contents(path, read(path)).alt
    assert "Q4_1: 5 bits for each weight" in alt and "F32: 32 bits" in alt


@pytest.mark.parametrize("name", pictures.STORED)
def test_the_bill_is_that_of_the_blocks(name):
    assert sum(pictures.STORED[name]) == TYPES[name].nbytes
    assert f"{name} {TYPES[name].bits_per_weight:g}" in pictures.bill().alt


def test_mixes_and_errors_have_words():
    assert "Q4_K_M: 16 of 32 ffn_down" in pictures.mixture("Q4_K_S", "Q4_K_M").alt
    assert "free 0 %" in pictures.rounded_twice({"free": 0.0, "dear": 0.1}).alt


def test_a_visit_tells_the_loss_and_the_words(path):
    file = read(path)
    texts = ["Rivers rise in the mountains."]
    table = pictures.visit(
        {"one": file}, small_gguf.tokenizer(), "Rivers", texts, tokens=3
    )
    assert len(table.rows) == 1 and float(table.rows[0][1]) > 0


def test_broken_weights_move_in_the_picture(path):
    file = read(path)
    broken = {"sound": file, "nibbles": museum.swap_nibbles(file)}
    alt = pictures.broken_weights(file, broken, "blk.0.attn_q.weight").alt
    assert "sound: moved by 0 on average" in alt
    assert alt.count("moved by 0 ") == 1


def test_own_texts_are_of_their_split():
    assert len(pictures.own_texts("test", 2)) == 2
    assert pictures.own_texts("test", 1) != pictures.own_texts("calibration", 1)


def test_inputs_are_a_row_per_token():
    model, tokenizer = small_gguf.model(), small_gguf.tokenizer()
    X = pictures.inputs_of(model, "lm_head", tokenizer, "test", count=1)
    assert X.shape[1] == 64 and X.dtype == torch.float32
