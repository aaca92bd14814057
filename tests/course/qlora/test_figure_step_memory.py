"""Memory as bars: their lengths are the bytes, and their words say them."""

import numpy as np
import pytest

from minquant.course.drawing import figures, palette
from minquant.course.drawing.figures import WIDTH
from minquant.course.qlora.figure_step_memory import PARTS, ROW, TOP, step_memory
from minquant.planning.memory import StepMemory

ROWS = {"full": StepMemory(200, 200, 1200, 0), "few": StepMemory(50, 10, 20, 40)}
BIG = {name: StepMemory(*(10**9 * x for x in row)) for name, row in ROWS.items()}


def lengths(fig):
    """Left and right end of every part's bars."""
    parts = zip(PARTS, fig.axes[0].collections, strict=True)
    return {
        part: [
            (path.vertices[:, 0].min(), path.vertices[:, 0].max())
            for path in bars.get_paths()
        ]
        for part, bars in parts
    }


def test_the_parts_of_a_bar_join_and_add_up():
    fig = step_memory(BIG)
    found = lengths(fig)
    for i, row in enumerate(BIG.values()):
        left = 0
        for part, size in zip(PARTS, row, strict=True):
            assert found[part][i] == pytest.approx((left, left + size / 1e9))
            left += size / 1e9
    assert fig.axes[0].get_xlim() == (0, 1600)


def test_the_words_say_each_sum_and_its_parts():
    alt = step_memory(BIG).alt
    whole = "weights 200 GB, gradients 200 GB, optimizer 1,200 GB"
    assert f"full 1,600 GB ({whole})" in alt
    assert "few 120 GB (weights 50.0 GB, gradients 10.0 GB, opt" in alt
    assert alt.endswith("optimizer 20.0 GB, kept for the way back 40.0 GB).")


def legend(fig):
    """What the legend names."""
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_the_legend_names_the_parts_that_some_bar_has():
    assert legend(step_memory(BIG)) == [part.label for part in PARTS.values()]
    some = step_memory({"none": StepMemory(10**9, 0, 0, 10**9)})
    assert legend(some) == ["weights", "kept for the way back"]


def test_a_thin_part_has_no_rim_that_would_hide_it():
    rows = {"full": StepMemory(10**12, 0, 0, 0), "few": StepMemory(10**9, 10**9, 0, 0)}
    pixels = figures.to_pixels(step_memory(rows))[:, :, :3].reshape(-1, 3)
    sky = np.array([0x56, 0xB4, 0xE9])
    assert palette.SKY.upper() == "#56B4E9"
    head = 2 * (TOP + ROW // 2) * 2 * WIDTH  # the legend and the first bar are above
    assert (np.abs(pixels[head:] - sky.astype(int)).sum(1) < 60).sum() > 10


def test_what_cannot_be_drawn_is_refused():
    for rows in ({}, {"none": StepMemory(0, 0, 0, 0)}):
        with pytest.raises(ValueError, match="rows is empty, or takes no bytes"):
            step_memory(rows)
