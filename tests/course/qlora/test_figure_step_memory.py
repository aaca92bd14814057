"""Memory as bars: their lengths are the bytes, and their words say them."""

from itertools import pairwise

import numpy as np
import pytest

from minquant.course.drawing import figures, palette
from minquant.course.drawing.figures import WIDTH
from minquant.course.drawing.stacked_bars import RIM
from minquant.course.qlora.figure_step_memory import (
    PARTS,
    ROW,
    TOP,
    StepMemoryPicture,
    step_memory,
)
from minquant.planning.memory import StepMemory

ROWS = {"full": StepMemory(200, 200, 1200, 0), "few": StepMemory(50, 10, 20, 40)}
BIG = {name: StepMemory(*(10**9 * x for x in row)) for name, row in ROWS.items()}


def lengths(picture):
    """Left and right end of every part's bars."""
    return {
        part: [
            (path.vertices[:, 0].min(), path.vertices[:, 0].max())
            for path in picture.bars[part].get_paths()
        ]
        for part in PARTS
    }


def test_the_parts_of_a_bar_join_and_add_up():
    found = lengths(StepMemoryPicture(BIG))
    for i, row in enumerate(BIG.values()):
        ends = [found[part][i] for part in PARTS]
        assert ends[0][0] == 0
        assert all(a[1] == b[0] for a, b in pairwise(ends))
        assert ends[-1][1] == pytest.approx(row.total / 1e9)


def test_bars_move_and_the_axis_stays_until_it_is_laid_out_anew():
    picture = StepMemoryPicture(BIG)
    small = {name: StepMemory(10**9, 0, 0, 0) for name in BIG}
    picture.update(small)
    assert picture.ax.get_xlim() == (0, 1600)
    assert lengths(picture)["weights"] == [(0, 1), (0, 1)]
    picture.scale(small)
    assert picture.ax.get_xlim() == (0, 1)
    figures.to_pixels(picture.fig)


def test_the_words_say_each_sum_and_its_parts():
    alt = step_memory(BIG).alt
    whole = "weights 200 GB, gradients 200 GB, Adam and masters 1,200 GB"
    assert f"full 1,600 GB ({whole})" in alt
    assert "few 120 GB (weights 50.0 GB, gradients 10.0 GB, Adam" in alt
    assert alt.endswith("masters 20.0 GB, saved for backward 40.0 GB).")


def legend(picture):
    """What the legend names."""
    return [text.get_text() for text in picture.fig.legends[0].get_texts()]


def test_the_legend_names_the_parts_that_some_bar_has():
    picture = StepMemoryPicture(BIG)
    assert legend(picture) == [part.label for part in PARTS.values()]
    picture.scale({"none": StepMemory(10**9, 0, 0, 10**9)})
    assert legend(picture) == ["weights", "saved for backward"]
    assert len(picture.fig.legends) == 1


def test_a_thin_part_has_no_rim_that_would_hide_it():
    rows = {"full": StepMemory(10**12, 0, 0, 0), "few": StepMemory(10**9, 10**9, 0, 0)}
    picture = StepMemoryPicture(rows)
    assert list(picture.bars["weights"].get_linewidths()) == [RIM, 0]
    pixels = figures.to_pixels(picture.fig)[:, :, :3].reshape(-1, 3)
    sky = np.array([0x56, 0xB4, 0xE9])
    assert palette.SKY.upper() == "#56B4E9"
    head = 2 * (TOP + ROW // 2) * 2 * WIDTH  # the legend and the first bar are above
    assert (np.abs(pixels[head:] - sky.astype(int)).sum(1) < 60).sum() > 10


def test_what_cannot_be_drawn_is_refused():
    for rows in ({}, {"none": StepMemory(0, 0, 0, 0)}):
        with pytest.raises(ValueError, match="rows is empty, or takes no bytes"):
            step_memory(rows)
