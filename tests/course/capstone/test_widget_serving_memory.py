"""The planner says what `serving_memory` counts, for every model, card and width."""

import re

import pytest

from minquant.course.capstone.widget_serving_memory import (
    CACHE,
    MEMORY,
    WIDTHS,
    serving_planner,
)
from minquant.course.drawing.numbers import readable_bytes
from minquant.planning.serving_memory import MODELS, need, tokens_that_fit


@pytest.fixture(scope="module")
def widget():
    return serving_planner()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("card", MEMORY)
@pytest.mark.parametrize("bits", ["16 bits", "4.125 bits"])
def test_the_printed_numbers_are_the_packages(widget, model, card, bits):
    widget.set(model=model, card=card, bits=bits, tokens=2**14, cache=8)
    assert widget.error is None
    a, memory = MODELS[model], MEMORY[card]
    how = {"bits_per_weight": WIDTHS[bits], "cache_bits": 8}
    row, fits = need(a, tokens=2**14, **how), tokens_that_fit(a, memory, **how)
    said = re.sub(r"<[^>]+>", "", widget.frame.words)
    if row.total <= memory:
        assert f"It fits, and {readable_bytes(memory - row.total)} are left" in said
        assert f"for {fits - 2**14:,} tokens more" in said
    elif row.matrices + row.rest <= memory:
        assert f"and {fits:,} tokens beside them, not 16,384" in said
    else:
        assert said.startswith("The weights alone do not fit")
    assert f"{bits} {readable_bytes(row.total)}" in widget.alt


def test_a_cache_of_4_bits_counts_its_scales_and_zeros(widget):
    widget.set(model="Llama-2-7B", card="A10 (24 GB)", cache=CACHE["4.625 bits"])
    assert widget.error is None
    fewer = need(MODELS["Llama-2-7B"], tokens=2**14, cache_bits=4).cache
    counted = need(MODELS["Llama-2-7B"], tokens=2**14, cache_bits=4.625).cache
    assert counted > fewer and f"KV cache {readable_bytes(counted)}" in widget.alt


def test_it_starts_with_a_model_that_fits_at_4_bits_and_not_at_16(widget):
    widget.set(model="Llama-3.1-8B", card="T4 (16 GB)", bits="4.125 bits", cache=16)
    assert "It fits" in widget.frame.words
    widget.set(bits="16 bits")
    assert "alone do not fit" in widget.frame.words
