"""llama.cpp asked from Python, and what is said where it is not installed."""

import importlib.util

import pytest
from helpers import small_gguf

from minquant.course.gguf import llama_cpp
from minquant.serving.gguf_export import write_gguf


def test_it_answers_from_a_file(tmp_path):
    pytest.importorskip("xllamacpp")
    path = tmp_path / "model.gguf"
    write_gguf(small_gguf.model(), {}, small_gguf.tokenizer(), path, floats="Q8_0")
    answer = llama_cpp.ask(path, "Rivers carry", 4)
    assert isinstance(answer.text, str) and answer.per_second > 0
    assert repr(answer).endswith("tokens a second")


def test_where_it_is_not_installed_it_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    answer = llama_cpp.ask("any.gguf", "Rivers carry")
    assert answer.text is None
    assert repr(answer).startswith("llama.cpp is not installed here")
