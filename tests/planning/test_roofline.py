"""The roofline: a product's bytes and operations, and how fast it can be at best."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minquant.planning.roofline import (
    CARDS,
    Machine,
    Product,
    least_seconds,
    written_first,
)

ROUND = Machine("round numbers", bandwidth=100.0, peak=1000.0, plain=50.0)


def test_bytes_and_operations_of_a_small_product_by_hand():
    product = Product(tokens=3, out=4, width=8)
    assert product.operations == 3 * 4 * (8 + 8)
    assert product.nbytes(16) == 4 * 8 * 2 + 3 * 8 * 2 + 3 * 4 * 2
    assert product.nbytes(4) == 4 * 8 / 2 + 3 * 8 * 2 + 3 * 4 * 2
    assert product.intensity(16) == 192 / 136


def test_the_slower_of_reading_and_arithmetic_counts():
    few, many = Product(1, 100, 100), Product(100, 100, 100)
    assert least_seconds(ROUND, few) == few.nbytes(16) / 100
    assert least_seconds(ROUND, many) == many.operations / 1000


def test_without_tensor_cores_only_arithmetic_is_slower():
    plain = ROUND.without_tensor_cores()
    few, many = Product(1, 1000, 1000), Product(100, 100, 100)
    assert plain.bandwidth == ROUND.bandwidth
    assert least_seconds(plain, few) == pytest.approx(2e6 / 50)
    assert least_seconds(plain, many) == 20 * least_seconds(ROUND, many)


def test_at_one_token_writing_first_moves_each_weight_three_times():
    """Of 4 bits: half a byte read, two written, two read, where 16 bits read two."""
    one = Product(1, 10**5, 10**5)
    ratio = written_first(ROUND, one, 4) / least_seconds(ROUND, one)
    assert ratio == pytest.approx((0.5 + 2 + 2) / 2, rel=1e-4)


@given(st.sampled_from(list(CARDS.values())), st.floats(2, 16), st.integers(1, 10_000))
def test_fewer_bits_are_never_slower_and_writing_first_is_never_faster(
    card, bits, tokens
):
    product = Product(tokens, 4096, 4096)
    whole = least_seconds(card, product)
    assert least_seconds(card, product, bits) <= whole
    assert written_first(card, product, bits) > whole
    assert whole / least_seconds(card, product, bits) <= 16 / bits


@given(st.sampled_from(list(CARDS.values())), st.floats(2, 16))
def test_at_the_crossover_reading_weights_takes_as_long_as_arithmetic(card, bits):
    tokens = card.crossover(bits)
    assert bits / 8 / card.bandwidth == pytest.approx(2 * tokens / card.peak)


def test_the_roof_rises_to_the_ridge_and_is_level_beyond():
    assert ROUND.ridge == 10
    assert [ROUND.attainable(x) for x in (1, 5, 10, 99)] == [100, 500, 1000, 1000]


def test_the_cards_are_as_their_makers_say():
    assert CARDS["T4"].peak / CARDS["T4"].plain == pytest.approx(8, rel=0.01)
    ridges = {name: round(card.ridge) for name, card in CARDS.items()}
    assert ridges == {
        **{"RTX 3060": 70, "T4": 203, "A10": 208},
        **{"A100": 153, "H100": 295, "B200": 281},
    }
    gb = {name: card.memory / 1e9 for name, card in CARDS.items()}
    assert gb == {
        **{"RTX 3060": 12, "T4": 16, "A10": 24},
        **{"A100": 80, "H100": 80, "B200": 180},
    }
    for card in CARDS.values():  # half the bits, twice the operations
        times = {form: rate / card.peak for form, rate in card.narrow.items()}
        expected = {"int8": 2, "FP8": 2, "FP4": 4}
        assert times == pytest.approx(
            {form: expected[form] for form in times}, rel=1e-3
        )


@pytest.mark.parametrize("field", ["bandwidth", "peak", "plain"])
def test_a_rate_that_is_not_above_0_is_refused(field):
    rates = {"bandwidth": 1.0, "peak": 1.0, "plain": 1.0} | {field: 0.0}
    with pytest.raises(ValueError, match=f"{field} is 0.0; give what it does per sec"):
        Machine("stuck", **rates)


def test_an_unknown_plain_peak_is_asked_for():
    with pytest.raises(ValueError, match="plain of mine is None; give its 32-bit"):
        Machine("mine", 1.0, 1.0).without_tensor_cores()


def test_few_bits_in_weights_and_inputs_have_a_peak_of_their_own():
    card = CARDS["B200"]
    many, one = Product(2**14, 2**13, 2**13), Product(1, 2**13, 2**13)
    for form, bits, times in (("FP8", 8, 2), ("FP4", 4.5, 4)):
        narrow = card.computing_in(form)
        whole, fast = (least_seconds(m, many, bits) for m in (card, narrow))
        assert whole / fast == pytest.approx(times)
        assert least_seconds(narrow, one, bits) == least_seconds(card, one, bits)
    with pytest.raises(ValueError, match="T4 does not compute in FP8; it has int8"):
        CARDS["T4"].computing_in("FP8")
    with pytest.raises(ValueError, match="RTX 3060 does not compute in int8; it has n"):
        CARDS["RTX 3060"].computing_in("int8")
