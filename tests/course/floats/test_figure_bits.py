"""The picture of a number's bits: what is drawn is what `floats` says."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.course.drawing import figures, palette
from minquant.course.floats.figure_bits import (
    SIZE,
    BitsPicture,
    bits,
    layout,
    place_values,
    plain,
)
from minquant.numerics.floats import FORMATS


def spelled(picture):
    """The arithmetic as it is written."""
    return "".join(part.get_text() for part in picture.parts)


def drawn(picture):
    """The bits as a reader sees them: marks of 0 and 1, from left to right."""
    marks = [(x, "1") for x in picture.ones.get_xdata()]
    for zeros in picture.zeros:
        marks += [(x, "0") for x in zeros.get_xdata()]
    return "".join(bit for _, bit in sorted(marks))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_boxes_hold_the_bits_of_the_pattern(name, data):
    form = FORMATS[name]
    pattern = data.draw(st.integers(0, 2**form.bits - 1))
    assert drawn(BitsPicture(form, pattern)) == f"{pattern:0{form.bits}b}"


def test_the_arithmetic_is_written_in_the_colours_of_the_fields():
    picture = BitsPicture(FORMATS["fp16"], FORMATS["fp16"].encode(0.1), 0.1)
    assert spelled(picture) == "(−1)⁰ × 2¹¹⁻¹⁵ × (1 + 614/1024) = 0.0999755859"
    colors = [part.get_color() for part in picture.parts[:5:2]]
    assert colors == [palette.SIGN, palette.EXPONENT, palette.FRACTION]
    assert [label.get_text() for label in picture.labels] == [
        "sign 0",
        "exponent 11",
        "fraction 614",
    ]


def test_the_number_stands_between_its_neighbours():
    picture = BitsPicture(FORMATS["fp4 e2m1"], 0b0100, 2.6)  # 2, before a longer step
    said = [text.get_text() for text in picture.values]
    assert said == ["1.5", "2", "3"]
    places = [path.vertices[0, 0] for path in picture.ticks.get_paths()]
    low, high = (places[1] - places[0]), (places[2] - places[1])
    assert high == pytest.approx(2 * low)
    (dot,) = picture.asked.get_xdata()
    assert dot == pytest.approx(places[1] + 0.6 * high)


def test_what_lies_beyond_the_line_is_pointed_to():
    picture = BitsPicture(FORMATS["fp8 e4m3"], 0b0_1111_110, 500.0)
    assert picture.asking.get_text() == "asked: 500 →"
    assert [t.get_visible() for t in picture.values] == [True, True, False]


@pytest.mark.parametrize("x", [0.0, -0.0, 1e-8, 1.0, 0.1, -3.75, 70000.0, inf, -inf])
@pytest.mark.parametrize("name", FORMATS)
def test_no_two_words_overlap_and_none_leaves_the_page(name, x):
    form = FORMATS[name]
    picture = BitsPicture(form, form.encode(x), x)
    texts = picture.fig.findobj(lambda a: hasattr(a, "get_text"))
    boxes = [
        t.get_window_extent().padded(-2)
        for t in texts
        if t.get_visible() and t.get_text()
    ]
    page = picture.fig.bbox
    assert all(b.x0 >= 0 and b.x1 <= page.x1 for b in boxes)
    assert all(b.y0 >= 0 and b.y1 <= page.y1 for b in boxes)
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])


def test_a_moved_picture_is_the_picture_made_anew():
    picture = BitsPicture(FORMATS["fp32"], 12345678, 0.25)
    figures.to_pixels(picture.fig)
    for name, x in (("int8", -7.4), ("fp8 e5m2", nan), ("bf16", 3.0)):
        picture.update(FORMATS[name], FORMATS[name].encode(x), x)
        fresh = bits(name, x)
        assert np.array_equal(figures.to_pixels(picture.fig), figures.to_pixels(fresh))
        assert picture.fig.alt == fresh.alt


def test_the_alt_text_tells_the_bits_the_arithmetic_and_the_neighbours():
    alt = bits("fp8 e4m3", 0.3).alt
    for part in ("sign 0", "exponent 0101 = 5", "fraction 010 = 2", "= 0.3125"):
        assert part in alt
    assert "between 0.28125 and 0.34375; asked for was 0.3" in alt


def test_every_bit_is_worth_a_power_of_two():
    values = place_values(FORMATS["fp8 e5m2"])
    assert " ".join(values) == " 2⁴ 2³ 2² 2¹ 2⁰ 2⁻¹ 2⁻²"
    assert place_values(FORMATS["int8"])[:3] == ["−2⁷", "2⁶", "2⁵"]


@pytest.mark.parametrize("name", FORMATS)
def test_all_bits_have_room(name):
    owner, left, pitch = layout(FORMATS[name])
    assert len(owner) == FORMATS[name].bits
    assert left[-1] + pitch <= SIZE[0] - 40 + 1e-9


def test_infinities_are_written_as_signs():
    assert [plain(x) for x in (inf, -inf, nan)] == ["∞", "−∞", "NaN"]
