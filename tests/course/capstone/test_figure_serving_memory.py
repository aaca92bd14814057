"""Serving memory as bars: their lengths are the bytes, cut off where the axis ends."""

import numpy as np
import pytest

from minquant.course.capstone.figure_serving_memory import (
    LEFT,
    PARTS,
    REACH,
    TOP,
    ServingPicture,
)
from minquant.course.drawing import figures, palette
from minquant.course.drawing.figures import SHARPNESS, WIDTH
from minquant.planning.serving_memory import Need

GB = 10**9
ROWS = {
    "16 bits": Need(18 * GB, 4 * GB, 2 * GB),
    "4 bits": Need(5 * GB, 4 * GB, 2 * GB),
}
FITS = {"16 bits": 0, "4 bits": 70_000}


def ends(picture, row):
    """Left and right end of each part of a bar."""
    paths = [picture.bars[part].get_paths()[row] for part in PARTS]
    return [(p.vertices[:, 0].min(), p.vertices[:, 0].max()) for p in paths]


def test_parts_join_and_a_bar_that_is_too_long_ends_with_the_axis():
    picture = ServingPicture(ROWS, FITS, 16 * GB)
    end = pytest.approx(16 * REACH)
    assert ends(picture, 1) == [(0, 5), (5, 9), (9, 11)]
    assert ends(picture, 0) == [(0, 18), (18, 22), (22, end)]
    assert [text.get_text() for text in picture.sums] == ["→ 24.0 GB", "11.0 GB"]
    figures.to_pixels(picture.fig)


def test_another_card_moves_the_line_and_the_axis():
    picture = ServingPicture(ROWS, FITS, 16 * GB)
    picture.update(ROWS, FITS, 80 * GB, chosen="4 bits")
    (line,) = picture.card.get_segments()
    assert line[:, 0].tolist() == [80, 80]
    assert picture.ax.get_xlim() == pytest.approx((0, 80 * REACH))
    (marked,) = picture.behind.get_paths()
    assert marked.vertices[:, 1].min() == pytest.approx(0.55)


def test_the_words_say_each_sum_its_parts_and_what_fits():
    alt = ServingPicture(ROWS, FITS, 16 * GB, card="a T4").fig.alt
    assert alt.startswith(
        "On a T4 with 16.0 GB: 16 bits 24.0 GB (matrices, in codes 18"
    )
    assert "does not fit; 4 bits 11.0 GB" in alt and "70,000 tokens fit." in alt


def test_a_bar_of_one_pixel_is_seen_and_not_hidden_by_its_rim():
    picture = ServingPicture({"4 bits": Need(GB // 4, 0, 0)}, {"4 bits": 1}, 80 * GB)
    pixels = figures.to_pixels(picture.fig)[TOP * SHARPNESS :, :WIDTH, :3].astype(int)
    first = pixels[:, LEFT * SHARPNESS : (LEFT + 2) * SHARPNESS].reshape(-1, 3)
    blue = [int(palette.BLUE[i : i + 2], 16) for i in (1, 3, 5)]
    assert (np.abs(first - blue).sum(1) < 60).sum() > 10


def test_large_numbers_stay_on_the_sheet_and_apart():
    row, tokens = {"16 bits": Need(18 * GB, 4 * GB, 2000 * GB)}, {"16 bits": 26 * 10**6}
    picture = ServingPicture(row, tokens, 80 * GB)
    figures.to_pixels(picture.fig)
    name, total, said = (
        texts[0].get_window_extent()
        for texts in (picture.names, picture.sums, picture.fits)
    )
    axis = picture.ax.get_window_extent()
    assert name.x0 > 0 and axis.x1 < total.x0 and total.x1 < said.x0
    assert said.x1 < WIDTH * SHARPNESS


def test_the_card_is_drawn_over_the_bars():
    moving = ServingPicture(ROWS, FITS, 16 * GB).fig.moving
    card = next(i for i, artist in enumerate(moving) if hasattr(artist, "get_segments"))
    picture = moving[:card]
    assert len(picture) == 1 + len(PARTS)


def test_rows_and_fits_must_be_the_same():
    with pytest.raises(ValueError, match="give at least one, the same"):
        ServingPicture({}, {}, GB)
    with pytest.raises(ValueError, match="fits"):
        ServingPicture(ROWS, {"16 bits": 0}, GB)
