"""Roofs and speed-ups: every line is the arithmetic of `roofline`."""

import numpy as np
import pytest

from minquant.course.packing.engine_table import Engine, Speed
from minquant.course.packing.figure_roofline import (
    CODES,
    NARROW,
    TOKENS,
    WRITTEN,
    engine_points,
    roofs,
    speedup,
    speedups,
)
from minquant.planning.roofline import (
    CARDS,
    Machine,
    Product,
    least_seconds,
    written_first,
)

T4, A10, H100, B200 = (CARDS[name] for name in ("T4", "A10", "H100", "B200"))


def test_each_roof_goes_through_what_the_machine_attains():
    fig = roofs([A10, B200], {"one token": 1.0})
    int8, whole, mark = fig.axes[0].lines
    for line, machine in ((int8, A10.computing_in("int8")), (whole, A10)):
        x, y = line.get_data()
        assert np.allclose(y, [machine.attainable(i) / 1e12 for i in x])
    assert mark.get_xydata().tolist() == [[1, A10.attainable(1) / 1e12]]
    names = [[text.get_text() for text in ax.texts] for ax in fig.axes]
    assert names == [["int8", "16 bits"], ["FP8", "FP4", "16 bits"]]
    assert "B200 in FP4: at most 9,000 TFLOP/s" in fig.alt
    assert "Marked: one token at 1." in fig.alt


def test_int8_is_not_drawn_over_fp8():
    names = [text.get_text() for text in roofs([H100], {}).axes[0].texts]
    assert names == ["FP8", "16 bits"]


def test_a_speed_up_is_the_bound_of_16_bits_over_the_other():
    i = list(TOKENS).index(64)
    product = Product(64, 4096, 4096)
    whole = least_seconds(B200, product)
    ways = {
        CODES: least_seconds(B200, product, 4.25),
        WRITTEN: written_first(B200, product, 4.25),
        f"{NARROW} FP4": least_seconds(B200.computing_in("FP4"), product, 4.5),
    }
    for name, seconds in ways.items():
        assert speedup(B200, name, 4.25, 4096)[i] == pytest.approx(whole / seconds)


def test_only_products_with_inputs_in_few_bits_gain_at_many_tokens():
    last = {name: speedup(B200, name, 4.125, 8192)[-1] for name in (CODES, WRITTEN)}
    assert last[CODES] == 1 and last[WRITTEN] < 1
    assert speedup(B200, f"{NARROW} FP8", 4.125, 8192)[-1] == pytest.approx(2)
    assert speedup(B200, f"{NARROW} FP4", 4.125, 8192)[-1] == pytest.approx(4)


def test_kernels_that_others_measured_are_points_with_a_name():
    measured = {"A10": {"theirs": {1: 3.5, 16: 0.7}}}
    fig = speedups([T4, A10], 4.125, measured=measured)
    points = fig.axes[1].lines[-1]
    assert points.get_xydata().tolist() == [[1, 3.5], [16, 0.7]]
    assert [t.get_text() for t in fig.axes[1].texts] == ["theirs"]
    assert "A10, measured by others, theirs: 3.5 at M = 1, 0.7 at M = 16" in fig.alt


def test_the_words_tell_both_ends():
    alt = speedups([H100], 4.0).alt
    assert "H100, codes, weight-only: 4.00 at 1 token, 1.00 at 4096" in alt


@pytest.mark.parametrize("count", [0, 4])
def test_other_numbers_of_cards_are_refused(count):
    with pytest.raises(ValueError, match=f"cards are {count}; give 1 to 3"):
        speedups([T4] * count, 4.0)
    with pytest.raises(ValueError, match=f"cards are {count}; give 1 to 3"):
        roofs([T4] * count, {})


def test_an_answer_and_a_prompt_stand_at_their_operations_per_byte():
    machine = Machine("two cores", 1e10, 1e11, narrow={"int8": 4e11})
    rows = {"a": Speed(nbytes=200, prompt=30.0, answer=5.0)}
    engine = Engine(machine, rows, layers=300, output=100, tokens=256, about="")
    fig = engine_points(engine, {"a": "A"})
    answer, prompt = fig.axes[0].lines[-2:]
    assert answer.get_xydata().tolist() == [[2 * 400 / 200, 2 * 400 * 5 / 1e9]]
    assert prompt.get_xydata().tolist() == [[2 * 300 * 256 / 200, 2 * 300 * 30 / 1e9]]
    assert "A: 5.00 tokens a second of an answer, 30.0 of a prompt" in fig.alt
    with pytest.raises(ValueError, match="ways are 7; give at most 6"):
        engine_points(engine, dict.fromkeys("abcdefg", "A"))
