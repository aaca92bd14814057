"""Where fewer bits stop paying, as Python computes it; and the picture's sentence."""

import pytest

from minquant.course.packing.live_crossover import CrossoverPicture, crossing
from minquant.planning.roofline import CARDS, Machine, Product, least_seconds

A10 = CARDS["A10"]


@pytest.mark.parametrize("bits", [2.125, 4.125, 8.125])
@pytest.mark.parametrize("side", [512, 8192])
def test_a_perfect_kernel_gains_until_16_bits_reach_the_ridge(bits, side):
    at = crossing(A10, side, bits)
    times = {
        n: [least_seconds(A10, Product(n, side, side), b) for b in (16, bits)]
        for n in (at - 1, at)
    }
    assert times[at - 1][1] < times[at - 1][0]
    assert times[at][1] == pytest.approx(times[at][0])
    assert Product(at, side, side).intensity(16) == pytest.approx(A10.ridge, rel=0.01)


def test_a_slower_kernel_crosses_at_fewer_tokens():
    found = [crossing(A10, 8192, 4.125, reach) for reach in (1, 0.5, 0.25, 0.05)]
    assert found == sorted(found, reverse=True)
    assert found[1] < 0.55 * found[0]


def test_a_machine_that_never_waits_for_memory_gains_nothing():
    assert crossing(Machine("no peak", 1e12, 1e10), 8192, 4.125) == 1


def test_a_machine_that_always_waits_for_memory_always_gains():
    assert crossing(Machine("no memory", 1e6, 1e15), 8192, 4.125) == 2**20


def test_the_words_say_the_times_and_the_end_of_the_gain():
    said = CrossoverPicture({"A10": A10}, reach=0.5).words
    assert "0.224 ms with 16 bits and 0.0577 ms with 4.125" in said
    assert "from 107 tokens on 4.125 bits gain nothing" in said


def test_what_the_picture_cannot_show_is_refused():
    with pytest.raises(ValueError, match="machines is empty; give at least one"):
        CrossoverPicture({})
    with pytest.raises(ValueError, match=r"reach is 0\.01; give a share from 0\.05"):
        CrossoverPicture({"A10": A10}, reach=0.01)
