"""Lesson 12: answers by hand and beside the package, and planted mistakes as learners
write them."""

import math

import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st

from minquant.course import checks
from minquant.course.capstone.exercises import cache_bytes, choose, read_layer
from minquant.files import pack_quantized
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.planning import choice, serving_memory

# --- the cache ---


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


def cache(layers, kv_heads, head_size, tokens, bits=16):
    """What a learner writes: up from a token in a layer."""
    numbers = 2 * kv_heads * head_size  # a key and a value
    return layers * tokens * numbers * bits // 8


CACHES = [
    (lambda n, h, d, t, bits=16: n * h * d * t * bits // 8, "a token leaves a key and"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t * bits, "these are bits"),
    (lambda n, h, d, t, bits=16: 2 * h * d * t * bits / 8, "this is one layer"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t * 2, "bits is not used"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t * (bits // 8), "bits // 8 is 0"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * bits / 8, "this is one token"),
    (lambda n, h, d, t, bits=16: 2 * n * d * t * bits / 8, "this is one head"),
    (lambda n, h, d, t, bits=16: 2 * n * h * t * bits / 8, "a head is one number"),
    (lambda n, h, d, t, bits=16: 2 * n * h * d * t**2 * bits / 8, "a cache grows with"),
]


@pytest.mark.parametrize(("yours", "words"), CACHES)
def test_a_planted_mistake_of_the_cache_is_named(yours, words):
    assert checks.cache_bytes(yours).mistake.startswith(words)


def test_bytes_are_right_as_an_int_and_as_a_float():
    assert checks.cache_bytes(cache)
    assert checks.cache_bytes(lambda *given: float(cache(*given)))


def test_a_cache_without_the_usual_16_bits_is_told_so():
    said = repr(checks.cache_bytes(lambda n, h, d, t, bits: cache(n, h, d, t, bits)))
    assert "3 of 4 hold" in said and "missing 1 required positional argument" in said


# --- the choice ---

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
    measured = [
        choice.Candidate(name, nbytes, {m: choice.Harm(*h) for m, h in harms.items()})
        for name, nbytes, harms in candidates
    ]
    chosen = choice.choose(measured, lines, budget).chosen
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


def holds(harms, lines, end=lambda mean, low, high: high):
    return all(end(*harms[measure]) <= lines[measure] for measure in lines)


def loop(candidates, lines, budget, good=holds):
    """What a learner writes: one candidate after the other, the best so far kept."""
    best, least = None, math.inf
    for name, nbytes, harms in candidates:
        if nbytes <= budget and nbytes < least and good(harms, lines):
            best, least = name, nbytes
    return best


def by_size(candidates, lines, budget, good=holds):
    """Or: from small to large, until one passes."""
    for name, nbytes, harms in sorted(candidates, key=lambda row: row[1]):
        if nbytes > budget:
            return None
        if good(harms, lines):
            return name
    return None


def passing(candidates, lines, budget):
    return [row for row in candidates if row[1] <= budget and holds(row[2], lines)]


def with_end(end, way=loop):
    return lambda *given: way(*given, good=lambda h, lines: holds(h, lines, end))


def not_seen(harms, lines):
    for measure, most in lines.items():
        _, low, high = harms[measure]
        if low > 0 and high > most:
            return False
    return True


def strictly(harms, lines):
    return not any(harms[measure][2] >= lines[measure] for measure in lines)


def some(harms, lines):
    return any(harms[measure][2] <= lines[measure] for measure in lines)


def too_soon(harms, lines):
    """It returns in the first round."""
    for measure, most in lines.items():
        return harms[measure][2] <= most


def overwritten(harms, lines):
    for measure, most in lines.items():
        good = harms[measure][2] <= most
    return good


def at_any_size(candidates, lines, budget):
    return loop(candidates, lines, math.inf)


def below(candidates, lines, budget):
    return loop([row for row in candidates if row[1] < budget], lines, budget)


def largest(candidates, lines, budget):
    good = sorted(passing(candidates, lines, budget), key=lambda row: -row[1])
    return good[0][0] if good else None


def mildest(candidates, lines, budget, size=lambda mean, low, high: mean):
    good = passing(candidates, lines, budget)
    harm = {row[0]: sum(size(*ends) for ends in row[2].values()) for row in good}
    return min(harm, key=harm.get) if harm else None


def first(candidates, lines, budget):
    for name, nbytes, harms in candidates:
        if nbytes <= budget and holds(harms, lines):
            return name
    return None


def by_name(candidates, lines, budget):
    good = passing(candidates, lines, budget)
    return sorted(good)[0][0] if good else None


def only_one(candidates, lines, budget, pick=min):
    fitting = [row for row in candidates if row[1] <= budget]
    name, _, harms = pick(fitting, key=lambda row: row[1])
    return name if holds(harms, lines) else None


def anyhow(candidates, lines, budget):
    fitting = [row for row in candidates if row[1] <= budget]
    good = [row for row in fitting if holds(row[2], lines)]
    return min(good or fitting, key=lambda row: row[1])[0]


def unprepared(candidates, lines, budget):
    return min(passing(candidates, lines, budget), key=lambda row: row[1])[0]


def indexed(candidates, lines, budget):
    return sorted(passing(candidates, lines, budget), key=lambda row: row[1])[0][0]


def default(candidates, lines, budget):
    good = passing(candidates, lines, budget)
    return min(good, key=lambda row: row[1], default=None)[0]


CHOICES = [
    (with_end(lambda mean, low, high: mean), "it looks at the mean"),
    (with_end(lambda mean, low, high: mean, by_size), "it looks at the mean"),
    (with_end(lambda mean, low, high: low), "it looks at low"),
    (lambda *given: loop(*given, good=not_seen), "an interval that reaches 0"),
    (lambda *given: loop(*given, good=strictly), "a high end exactly on the line"),
    (lambda *given: by_size(*given, good=some), "one line that holds is enough"),
    (lambda *given: loop(*given, good=too_soon), "only the first line decides"),
    (lambda *given: loop(*given, good=overwritten), "only the last line decides"),
    (lambda *given: loop(*given, good=lambda *_: True), "the lines are not looked at"),
    (at_any_size, "the budget is forgotten"),
    (below, "a file of exactly the budget fits"),
    (largest, "it takes the largest that passes"),
    (mildest, "it takes the one that harms least"),
    (
        lambda *given: mildest(*given, lambda *ends: max(ends)),
        "it takes the one that h",
    ),
    (first, "it takes the first that passes"),
    (by_name, "min() or sorted() compares tuples"),
    (only_one, "it looks at the smallest only"),
    (lambda *given: only_one(*given, max), "it looks at the largest that fits only"),
    (anyhow, "where none passes it gives one all the same"),
    (unprepared, "where none passes there is no smallest"),
    (indexed, "where none passes there is no smallest"),
    (default, "where none passes there is no smallest"),
]


@pytest.mark.parametrize(("yours", "words"), CHOICES)
def test_a_planted_mistake_of_the_choice_is_named(yours, words):
    assert checks.choose(yours).mistake.startswith(words)


@pytest.mark.parametrize("yours", [loop, by_size])
def test_a_learner_s_own_way_to_choose_is_accepted(yours):
    verdict = checks.choose(yours)
    assert verdict, verdict


def test_a_wrong_name_is_shown_beside_the_right_one():
    said = repr(checks.choose(largest))
    assert "✗ room for all: the name is '8-bit', should be '4-bit B'" in said
    assert "✓ nothing holds both lines" in said
    assert "the name is '3-bit A', should be None" in repr(checks.choose(anyhow))


def test_a_mistake_that_is_not_the_only_one_is_named_before_what_raises():
    def mean_and_unprepared(candidates, lines, budget):
        good = [
            (nbytes, name)
            for name, nbytes, harms in candidates
            if nbytes <= budget and all(harms[m][0] <= lines[m] for m in lines)
        ]
        return min(good)[1]

    assert checks.choose(mean_and_unprepared).mistake.startswith("it looks at the mean")


def test_what_gives_none_only_where_it_should_not_is_judged():
    verdict = checks.choose(lambda *given: loop(*given) if given[2] > 900 else None)
    assert verdict.attempted and not verdict
    assert "should be None" not in repr(verdict)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda row: row, "it raised TypeError: it gave a tuple; give a candidate's"),
        (lambda row: row[1], "it gave a int; give a candidate's name, or None"),
    ],
)
def test_what_is_no_name_is_told_to_be_one(result, said):
    def whole(candidates, lines, budget):
        return result(min(passing(candidates, lines, budget), key=lambda row: row[1]))

    assert said in repr(checks.choose(whole))


def test_what_sorts_the_list_that_it_was_given_is_told_to_work_on_a_copy():
    def in_place(candidates, lines, budget):
        candidates.sort(key=lambda row: row[1])
        return by_size(candidates, lines, budget)

    verdict = checks.choose(in_place)
    assert "it changes its argument; work on a copy" in repr(verdict)
    assert verdict.mistake == "" and checks.choose(loop)  # the cases are as they were


def test_a_result_instead_of_a_function_is_explained():
    assert "give the function itself: checks.choose(choose)" in repr(
        checks.choose("4-bit A")
    )


def test_no_two_candidates_of_a_case_are_of_one_size():
    for candidates, _, _ in checks.choose.cases.values():
        assert len({nbytes for _, nbytes, _ in candidates}) == len(candidates)


def test_intervals_lie_around_their_means():
    for candidates, _, _ in checks.choose.cases.values():
        for _, _, harms in candidates:
            assert all(low < mean < high for mean, low, high in harms.values())


# --- the layer ---


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
    parts = pack_quantized.tensors_of(rtn.quantize_rtn(W, grids.symmetric_full(4), cut))
    packed, scales, shape = (parts[name] for name in pack_quantized.PARTS)
    W_hat = read_layer(packed, scales, shape.tolist())
    assert torch.equal(W_hat, pack_quantized.quantized_tensor(parts, 4).dequantize())


def layer(
    packed,
    scales,
    shape,
    code=lambda word, i: (word >> 4 * i & 15) - 8,
    group=lambda column, g, n_groups: column // g,
    number=float,
):
    """What a learner writes: a weight at a time."""
    out, width = shape
    n_groups = scales.shape[1]
    W_hat = torch.zeros(out, width)
    for row in range(out):
        for column in range(width):
            q = code(packed[row, column // 8].item(), column % 8)
            scale = scales[row, group(column, width // n_groups, n_groups)]
            W_hat[row, column] = q * (scale if number is None else scale.item())
    return W_hat


def nibbles(packed):
    """All codes of all words, as a matrix at once: (out, 8 words)."""
    return torch.stack([packed >> 4 * i & 15 for i in range(8)], dim=-1).flatten(1)


def twos(word, i):
    code = word >> 4 * i & 15
    return code - 16 if code > 7 else code


def unmasked_last(word, i):
    return (word >> 28 if i == 7 else word >> 4 * i & 15) - 8


def transposed(packed, scales, shape):
    columns = [packed >> 4 * i & 15 for i in range(8)]
    codes = torch.cat(columns, dim=1)[:, : shape[1]] - 8
    return codes * scales.float().repeat_interleave(shape[1] // scales.shape[1], dim=1)


def flat(packed, scales, shape):
    """As lesson 10 unpacked them, where a row did not begin with a new word."""
    out, width = shape
    codes = nibbles(packed).flatten()[: out * width].reshape(out, width) - 8
    return codes * scales.float().repeat_interleave(width // scales.shape[1], dim=1)


def grouped_uncut(packed, scales, shape):
    codes = nibbles(packed) - 8
    grouped = codes.view(shape[0], scales.shape[1], -1)  # (out, n_groups, g)
    return (grouped * scales.float()[:, :, None]).flatten(1)


def uncut(packed, scales, shape):
    g = shape[1] // scales.shape[1]
    return (nibbles(packed) - 8) * scales.float().repeat_interleave(g, dim=1)


def in_halves(packed, scales, shape):
    codes = (nibbles(packed) - 8)[:, : shape[1]]
    return codes * scales.repeat_interleave(shape[1] // scales.shape[1], dim=1)


def late(packed, scales, shape):
    codes = nibbles(packed)[:, : shape[1]]
    return (
        codes * scales.float().repeat_interleave(len(codes[0]) // len(scales[0]), 1) - 8
    )


def with_code(code):
    return lambda *given: layer(*given, code=code)


READING = [
    (with_code(lambda word, i: (word >> 28 - 4 * i & 15) - 8), "the lowest four bits"),
    (with_code(lambda word, i: word >> 4 * i & 15), "codes are stored plus 8: sub"),
    (late, "subtract 8 from the code, before the scale"),
    (with_code(lambda word, i: (word >> 4 * i & 15) - 7), "subtract 8, not 7:"),
    (with_code(lambda word, i: (word >> 4 * i & 15) - 7.5), "subtract 8, not 7.5:"),
    (with_code(twos), "codes are stored plus 8, not in two's complement"),
    (with_code(lambda word, i: (word >> 4 * i) - 8), "a shift alone lets"),
    (with_code(unmasked_last), "the last code of a word is negative"),
    (
        lambda *given: layer(
            *given, group=lambda column, g, n_groups: column % n_groups
        ),
        "a scale is for neighbours",
    ),
    (in_halves, "the product is rounded to fp16"),
    (lambda *given: layer(*given, number=None), "the product is rounded to fp16"),
    (transposed, "these are the first codes of all words"),
    (flat, "each row begins with a new word"),
    (grouped_uncut, "what fills up the last word of a row is no weight"),
    (uncut, "the last word of a row is filled up, so that there are more"),
]


@pytest.mark.parametrize(("yours", "words"), READING)
def test_a_planted_mistake_of_the_layer_is_named(yours, words):
    assert checks.read_layer(yours).mistake.startswith(words)


def by_bytes(packed, scales, shape):
    """A byte holds two codes, the first in its lower half."""
    data = packed.view(torch.uint8)  # (out, 4 words)
    codes = torch.stack([data & 15, data >> 4], dim=-1).flatten(1)[:, : shape[1]]
    grouped = codes.int().view(shape[0], scales.shape[1], -1) - 8  # (out, n_groups, g)
    return (grouped * scales[:, :, None].float()).view(shape)


def by_division(packed, scales, shape):
    """Whole division and remainder round down, below zero too."""
    codes = torch.stack([packed // 16**i % 16 for i in range(8)], 2).flatten(1)
    groups = torch.arange(shape[1]) // (shape[1] // scales.shape[1])
    return (codes[:, : shape[1]] - 8.0) * scales[:, groups]


@pytest.mark.parametrize("yours", [layer, by_bytes, by_division])
def test_a_learner_s_own_way_to_read_a_layer_is_accepted(yours):
    verdict = checks.read_layer(yours)
    assert verdict, verdict


def test_a_row_that_is_not_cut_is_told_the_shapes():
    said = repr(checks.read_layer(grouped_uncut))
    assert "W_hat has shape (3, 16), should be (3, 11)" in said
    assert "it raised RuntimeError: The size of tensor a (16)" in repr(
        checks.read_layer(uncut)
    )


def test_two_that_raise_are_alike_and_one_that_raises_is_like_no_result():
    error, result = (ValueError("no"),), (torch.zeros(2),)
    assert checks.read_layer._compare(error, (IndexError("!"),)) == ""
    assert checks.read_layer._compare(error, result) == "it raised ValueError: no"
    assert checks.read_layer._compare(result, error)


def test_the_words_of_every_case_have_a_negative_one_among_them():
    for packed, _, _ in checks.read_layer.cases.values():
        assert (packed < 0).any() and (packed >= 0).any()


# --- what holds for all three ---

EXERCISES = [checks.cache_bytes, checks.choose, checks.read_layer]
ANSWERS = [cache_bytes, choose, read_layer]


def unfinished(*arguments):
    """A function with no body yet."""
    raise NotImplementedError


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    "yours", [None, ..., lambda *given: None, lambda *given: ..., unfinished]
)
def test_a_stub_is_left_alone(exercise, yours):
    assert not exercise(yours).attempted


@pytest.mark.parametrize("exercise", EXERCISES)
def test_what_only_raises_is_no_known_mistake(exercise):
    verdict = exercise(lambda *given: 1 // 0)
    assert verdict.attempted and not verdict and verdict.mistake == ""
    assert "it raised ZeroDivisionError" in repr(verdict)


@pytest.mark.parametrize(
    ("exercise", "answer"), [*zip(EXERCISES, ANSWERS, strict=True)]
)
def test_the_answer_passes(exercise, answer):
    assert exercise(answer)
