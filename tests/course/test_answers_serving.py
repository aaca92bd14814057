"""The answers of lesson 12, by hand and beside the package."""

import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.answers_serving import cache_bytes, choose, read_layer
from minquant.files import pack_quantized
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.planning import choice, serving_memory


def test_a_cache_by_hand():
    # 2 layers, a key and a value of 3 heads × 4 numbers each, 5 tokens, 2 bytes
    assert cache_bytes(2, 3, 4, 5) == 2 * 2 * (3 * 4) * 5 * 2
    assert cache_bytes(2, 3, 4, 5, 8) == 240 == cache_bytes(2, 3, 4, 10, 4)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_a_cache_is_the_one_of_the_package(bits):
    given = 24, 2, 64, 1000, bits
    assert cache_bytes(*given) == serving_memory.cache_bytes(*given)


def test_a_cache_weighs_what_a_model_that_reads_nine_tokens_keeps():
    made = tiny.model("Llama", dtype=torch.bfloat16)
    cache = made(input_ids=torch.arange(4, 13)[None], use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kept == cache_bytes(layers=2, kv_heads=2, head_size=8, tokens=9)


NAMES = ["a", "b", "c", "d", "e", "f"]
MEASURES = ["facts", "chains", "far"]


def harms(facts, chains):
    """A harm of each, of which only the high end counts."""
    return {"facts": (0.0, -1.0, facts), "chains": (0.0, -1.0, chains)}


def test_a_choice_by_hand():
    candidates = [
        ("8 bits", 80, harms(0.1, 0.1)),
        ("4 bits", 45, harms(1.0, 2.0)),
        ("3 bits", 35, harms(2.5, 9.0)),
    ]
    lines = {"facts": 1.0, "chains": 2.0}
    assert choose(candidates, lines, 100) == "4 bits"  # on the lines is within them
    assert choose(candidates, lines, 45) == "4 bits"  # so is all of the budget
    assert choose(candidates, lines, 44) is None
    assert choose(candidates, {"facts": 0.5, "chains": 2.0}, 100) == "8 bits"
    assert choose(candidates, {"facts": 2.5}, 100) == "3 bits"  # who minds chains?
    assert choose([], lines, 100) is None


@st.composite
def tables(draw):
    """Candidates of different sizes, their harms, lines and a budget."""
    sizes = draw(st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True))
    ends = st.lists(st.integers(-3, 9), min_size=3, max_size=3).map(sorted)
    candidates = []
    for name, nbytes in zip(NAMES, sizes, strict=False):
        measured = {}
        for measure in MEASURES:
            low, mean, high = draw(ends)
            measured[measure] = (float(mean), float(low), float(high))
        candidates.append((name, nbytes, measured))
    lines = draw(
        st.dictionaries(st.sampled_from(MEASURES), st.integers(0, 9), min_size=1)
    )
    return candidates, lines, draw(st.integers(1, 120))


@given(tables())
def test_a_choice_is_the_one_of_the_package(table):
    candidates, lines, budget = table
    told = [
        choice.Candidate(name, nbytes, {m: choice.Harm(*h) for m, h in harms.items()})
        for name, nbytes, harms in candidates
    ]
    chosen = choice.choose(told, lines, budget).chosen
    assert choose(candidates, lines, budget) == (chosen.name if chosen else None)


@given(tables(), st.randoms())
def test_the_order_of_the_candidates_does_not_matter(table, random):
    candidates, lines, budget = table
    mixed = random.sample(candidates, len(candidates))
    assert choose(mixed, lines, budget) == choose(candidates, lines, budget)


@given(tables(), st.integers(0, 9), st.integers(0, 50))
def test_more_tolerance_and_more_room_never_make_a_choice_larger(table, more, room):
    candidates, lines, budget = table
    sizes = {name: nbytes for name, nbytes, _ in candidates}
    before = choose(candidates, lines, budget)
    wider = {measure: most + more for measure, most in lines.items()}
    after = choose(candidates, wider, budget + room)
    assert before is None or sizes[after] <= sizes[before]


def test_a_layer_by_hand():
    words = torch.tensor([[0x76543210], [0x89ABCDEF - 2**32]], dtype=torch.int32)
    W_hat = read_layer(words, torch.tensor([[0.5, 1.0], [2.0, 0.25]]).half(), (2, 6))
    assert W_hat.dtype == torch.float32
    assert W_hat.tolist() == [
        [-4.0, -3.5, -3.0, -5.0, -4.0, -3.0],
        [14.0, 12.0, 10.0, 1.0, 0.75, 0.5],
    ]


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 13), st.integers(0, 99))
def test_a_layer_is_the_one_that_the_package_reads(out, n_groups, g, seed):
    W = torch.randn(out, n_groups * g, generator=torch.Generator().manual_seed(seed))
    cut = groups.per_group(g) if n_groups > 1 else groups.PER_CHANNEL
    quantized = rtn.quantize_rtn(W, grids.symmetric_full(4), cut)
    parts = pack_quantized.tensors_of(quantized)
    packed, scales, shape = (parts[name] for name in pack_quantized.PARTS)
    W_hat = read_layer(packed, scales, shape.tolist())
    assert torch.equal(W_hat, pack_quantized.quantized_tensor(parts, 4).dequantize())
