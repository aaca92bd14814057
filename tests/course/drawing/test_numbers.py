"""Numbers as text and pictures print them: by hand, and as laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minquant.course.drawing.numbers import (
    readable_bytes,
    round_numbers,
    tick_labels,
)


@given(st.floats(1e-6, 1e6))
def test_an_axis_has_two_to_four_round_numbers_on_each_side_of_zero(reach):
    ticks = round_numbers(reach)
    assert 5 <= len(ticks) <= 9
    assert np.abs(ticks).max() <= reach * (1 + 1e-8)
    assert ticks[len(ticks) // 2] == 0


@given(st.floats(1e-6, 1e6))
def test_the_labels_of_an_axis_say_its_numbers(reach):
    ticks = round_numbers(reach)
    numbers = [float(label.replace("−", "-")) for label in tick_labels(ticks)]
    np.testing.assert_allclose(numbers, ticks, rtol=1e-9)


@pytest.mark.parametrize(
    ("n_bytes", "text", "short"),
    [
        (0, "0 bytes", "0 bytes"),
        (999, "999 bytes", "999 bytes"),
        (1000, "1.00 kB", "1 kB"),
        (1_234_567, "1.23 MB", "1.23 MB"),
        (257e6, "257 MB", "257 MB"),
        (999.7e6, "1,000 MB", "1,000 MB"),
        (1.5e9, "1.50 GB", "1.5 GB"),
        (14.1e9, "14.1 GB", "14.1 GB"),
        (107.8e9, "108 GB", "108 GB"),
        (2e12, "2,000 GB", "2,000 GB"),
    ],
)
def test_bytes_are_printed_in_the_unit_that_suits_them(n_bytes, text, short):
    assert readable_bytes(n_bytes) == text
    assert readable_bytes(n_bytes, zeros=False) == short
