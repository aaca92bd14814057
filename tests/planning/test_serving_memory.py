"""What a model takes while it answers is what its tensors take."""

import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st

from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.load import load
from minquant.planning.roofline import CARDS
from minquant.planning.serving_memory import (
    MODELS,
    Architecture,
    cache_bytes,
    need,
    tokens_that_fit,
)

PUBLISHED = {  # how many numbers their makers' files hold
    "Qwen2.5-0.5B": 494_032_768,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
    "Qwen2.5-7B": 7_615_616_512,
    "Llama-2-7B": 6_738_415_616,
    "Llama-3.1-8B": 8_030_261_248,
    "Qwen2.5-32B": 32_763_876_352,
    "Llama-2-70B": 68_976_648_192,
    "Llama-3.1-70B": 70_553_706_496,
}
some_model = st.sampled_from(list(MODELS.values()))
some_memory = st.sampled_from([card.memory for card in CARDS.values()])
some_bits = st.sampled_from([2.25, 4.125, 8.125, 16.0])


def test_two_layers_by_hand():
    numbers = 2 * 2 * 3 * 4 * 5  # keys and values, layers, heads, size, tokens
    assert cache_bytes(layers=2, kv_heads=3, head_size=4, tokens=5) == 2 * numbers
    assert cache_bytes(2, 3, 4, 5, bits=4) == numbers // 2
    assert cache_bytes(1, 1, 1, 1, bits=3) == 1  # 6 bits begin a byte


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_as_many_numbers_as_its_makers_say(name):
    assert MODELS[name].matrices + MODELS[name].rest == PUBLISHED[name]


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_sizes_of_a_model_give_its_numbers(kind, tied):
    network = tiny.model(kind, tie_word_embeddings=tied)
    found = Architecture.of(network)
    inside = sum(weight_of(layer).numel() for layer in linear_layers(network).values())
    assert found.matrices == inside
    assert found.rest == sum(p.numel() for p in network.parameters()) - inside


def test_the_cache_of_the_bundled_model_is_what_was_counted():
    network, _ = load()
    a = Architecture.of(network)
    ids = torch.ones(2, 7, dtype=torch.long)
    cache = network(input_ids=ids, use_cache=True).past_key_values
    held = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    assert sum(t.numel() for t in held) * 2 == need(a, tokens=14).cache


def test_bits_are_counted_for_matrices_alone():
    small, large = (need(MODELS["Qwen2.5-7B"], bits_per_weight=b) for b in (4, 16))
    assert 4 * small.matrices == large.matrices and small.rest == large.rest
    assert large.total == 2 * PUBLISHED["Qwen2.5-7B"]


@given(some_model, some_memory, some_bits, some_bits)
def test_what_is_said_to_fit_fits_and_one_more_token_does_not(a, memory, bits, cache):
    how = {"bits_per_weight": bits, "cache_bits": cache}
    n = tokens_that_fit(a, memory, **how)
    if need(a, **how).total <= memory:
        assert need(a, tokens=n, **how).total <= memory
        assert need(a, tokens=n + 1, **how).total > memory
    else:
        assert n == 0


@pytest.mark.parametrize("kind", ["GPT2", "Phi", "OPT"])
def test_what_is_not_built_like_a_llama_is_refused(kind):
    with pytest.raises(ValueError, match="model (is a|has)"):
        Architecture.of(tiny.model(kind))


@pytest.mark.parametrize(
    ("kind", "window"),
    [("Mistral", {}), ("Qwen2", {"use_sliding_window": True, "max_window_layers": 0})],
)
def test_a_model_that_forgets_is_refused(kind, window):
    with pytest.raises(ValueError, match="forgets what is 8 tokens back"):
        Architecture.of(tiny.model(kind, sliding_window=8, **window))


def test_what_has_no_config_is_refused():
    with pytest.raises(ValueError, match="model is a Linear, whose config lacks"):
        Architecture.of(torch.nn.Linear(2, 2))


def test_nonsense_is_named_with_what_to_do():
    with pytest.raises(ValueError, match="kv_heads is 0; give 1 or more"):
        cache_bytes(2, 0, 4, 5)
    with pytest.raises(ValueError, match="tokens is -1, bits is 16"):
        cache_bytes(2, 1, 4, -1)
    with pytest.raises(ValueError, match="bits is 0"):
        cache_bytes(2, 1, 4, 1, 0)
    with pytest.raises(ValueError, match="bits_per_weight is 0"):
        need(MODELS["Llama-2-7B"], bits_per_weight=0)
