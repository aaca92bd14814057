"""The palette: told apart by readers who see colours differently, and read on white."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from minquant.course.drawing import palette

# Simulation of full colour blindness of one kind: Machado, Oliveira and Fernandes
# (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1.0, applied to linear RGB.
SIMULATED = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def linear(color):
    """Linear RGB of a colour of the sRGB standard."""
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB under the white of sRGB."""
    ratio = (TO_XYZ @ rgb.clip(0, 1)) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen_by", SIMULATED)
def test_any_two_series_are_told_apart(seen_by):
    matrix = SIMULATED[seen_by]
    for one, other in combinations(palette.SERIES, 2):
        apart = np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other)))
        assert apart > 20, (one, other, apart)  # 2.3 is just noticeable side by side


@pytest.mark.parametrize("seen_by", SIMULATED)
def test_good_and_bad_are_told_apart(seen_by):
    good, bad = (
        SIMULATED[seen_by] @ linear(c) for c in (palette.GREEN, palette.VERMILION)
    )
    assert np.linalg.norm(lab(good) - lab(bad)) > 20


@pytest.mark.parametrize("seen_by", SIMULATED)
def test_the_three_fields_of_a_number_are_told_apart(seen_by):
    fields = palette.SIGN, palette.EXPONENT, palette.FRACTION
    seen = [lab(SIMULATED[seen_by] @ linear(color)) for color in fields]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


@pytest.mark.parametrize(
    "name", "INK MUTED BLUE VERMILION VIOLET GREEN EXPONENT FRACTION".split()
)
def test_words_are_read_on_paper(name):
    luminance = TO_XYZ[1] @ linear(getattr(palette, name))
    assert 1.05 / (luminance + 0.05) >= 4.5, name  # WCAG 2.2, success criterion 1.4.3


def test_the_style_leaves_the_global_settings_as_they_were():
    before = dict(mpl.rcParams)
    with palette.style():
        assert mpl.rcParams["font.size"] == palette.FONT_SIZE
    assert dict(mpl.rcParams) == before


def test_every_text_has_the_one_size():
    with palette.style():
        sizes = {mpl.rcParams[key] for key in mpl.rcParams if key.endswith("labelsize")}
        assert sizes == {palette.FONT_SIZE}
        assert mpl.rcParams["axes.titlesize"] == palette.FONT_SIZE
        assert mpl.rcParams["legend.fontsize"] == palette.FONT_SIZE
