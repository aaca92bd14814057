"""The uneven ruler at work: its numbers are the codebook's, its axes keep still."""

import numpy as np
import pytest
import torch

from minquant.course.drawing import figures
from minquant.course.nf4.figure_code_usage import TOPS, Usage, UsagePicture
from minquant.methods import rtn
from minquant.methods.codebooks import carried, error_by_code, usage
from minquant.numerics import grids, groups

W = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def seen(grid, g=32, name=""):
    q = rtn.quantize_rtn(W, grid, groups.per_group(g))
    return Usage.of(W, q, name), q


@pytest.mark.parametrize("grid", [grids.NF4, grids.FP4, grids.zero_point(4)])
def test_the_numbers_are_those_of_the_codebook(grid):
    mine, q = seen(grid)
    np.testing.assert_array_equal(mine.used, usage(q).numpy())
    np.testing.assert_array_equal(mine.error, error_by_code(W, q).numpy())
    assert mine.carried == carried(usage(q))
    assert mine.counts.sum() == W.numel()
    assert (mine.levels[0], mine.levels[-1]) == (-1, 1)
    assert len(mine.borders) == len(mine.levels) + 1


def test_borders_lie_halfway_between_levels():
    mine, _ = seen(grids.absmax(2))
    assert mine.borders.tolist() == [-1.06, -0.5, 0.5, 1.06]


def heights(boxes):
    return np.array([path.vertices[:, 1].max() for path in boxes.get_paths()])


@pytest.mark.parametrize("grid", [grids.NF4, grids.absmax(3)])
def test_bars_and_numbers_are_the_shares(grid):
    mine, _ = seen(grid)
    picture = UsagePicture(mine)
    for name, shares in (("used", mine.used), ("error", mine.error)):
        tops = np.minimum(100 * shares, 0.86 * TOPS[name])
        np.testing.assert_allclose(heights(picture.bars[name]), tops)
        said = [t.get_text() for t in picture.numbers[name] if t.get_visible()]
        assert said == [f"{100 * share:.1f}" for share in shares]
    figures.to_pixels(picture.fig)


def test_a_bar_too_tall_is_cut_and_its_number_is_not():
    mine, _ = seen(grids.TERNARY)
    picture = UsagePicture(mine)
    assert heights(picture.bars["used"]).max() <= TOPS["used"]
    most = f"{100 * mine.used.max():.1f}"
    assert most in [t.get_text() for t in picture.numbers["used"]]


def test_the_axes_never_move_and_the_marked_code_does():
    picture = UsagePicture(seen(grids.NF4)[0])
    limits = [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes]
    other, _ = seen(grids.FP4)
    picture.update(other, 3)
    assert [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes] == limits
    box = picture.marked[0].get_paths()[0].vertices[:, 0]
    assert (box.min(), box.max()) == pytest.approx(tuple(other.borders[3:5]))


def test_the_words_tell_the_marked_code():
    mine, q = seen(grids.absmax(4), name="int4")
    picture = UsagePicture(mine, 0)
    assert picture.fig.alt.startswith("15 codes of int4. The code used most has")
    assert f"Code −7, at −1.00 of the ruler, has {usage(q)[0]:.1%}" in picture.fig.alt
    assert f"carry {mine.carried:.2f} bits" in picture.title.get_text()


def test_a_code_that_is_none_is_named():
    with pytest.raises(ValueError, match="code is 15; choose a place from 0 to 14"):
        UsagePicture(seen(grids.FP4)[0], 15)


def test_more_codes_than_fit_are_refused():
    with pytest.raises(ValueError, match="quantized has 31 codes; 16 fit"):
        seen(grids.absmax(5))
