"""PNG files: what is written is what is read back, by a reader that others wrote."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from minquant.course.drawing.png import encode_png

shapes = array_shapes(min_dims=2, max_dims=2, max_side=20).map(lambda s: (*s, 4))
pictures = shapes.flatmap(lambda shape: arrays(np.uint8, shape))


def decode(data):
    """Pillow's reading of a PNG file, as red, green, blue and opacity."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


@given(pictures)
def test_the_fast_form_loses_nothing(pixels):
    assert np.array_equal(decode(encode_png(pixels, small=False)), pixels)


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=8))
def test_the_small_form_loses_nothing_where_there_are_few_colours(colors):
    pixels = np.array([(*color, 255) for color in colors], np.uint8)[None]
    assert np.array_equal(decode(encode_png(pixels)), pixels)


@pytest.mark.parametrize("small", [True, False])
def test_equal_pictures_make_equal_files(small):
    pixels = np.arange(400).astype(np.uint8).reshape(10, 10, 4)
    assert encode_png(pixels, small=small) == encode_png(pixels.copy(), small=small)
