"""Small multiples of what is still right: what is drawn is what was measured."""

from dataclasses import replace

import numpy as np
import pytest

from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import Measured
from minquant.course.low_bits.figure_abilities import MOST, abilities
from minquant.course.low_bits.figure_verdict import Version
from minquant.measure.intervals import wilson
from minquant.measure.probes import Share

NONE = Measured(0.0, 0.0, 0.0)
ORIGINAL = Version(
    bits=16,
    method="float",
    bits_per_weight=16.0,
    perplexity=2.5,
    rise=NONE,
    kl=NONE,
    flips=NONE,
    facts={0: Share(20, 20), 1: Share(19, 20), 2: Share(18, 20)},
    chains={1: Share(10, 10), 2: Share(9, 10)},
    recall={16: Share(5, 5), 384: Share(4, 5)},
    text="",
)
EIGHT = replace(ORIGINAL, bits=8, method="awq")
ROUNDED = replace(
    ORIGINAL, bits=3, method="gptq", chains={1: Share(8, 10), 2: Share(3, 10)}
)
TRAINED = replace(ROUNDED, method="qat", chains={1: Share(9, 10), 2: Share(7, 10)})
TABLE = [ROUNDED, EIGHT, TRAINED]


def panels(fig):
    """The axes, a list for each width: facts, chains, recall."""
    return [fig.axes[i : i + 3] for i in range(0, len(fig.axes), 3)]


def heights(ax):
    """What each line of a panel shows, in %."""
    return [np.round(line.get_ydata(), 6).tolist() for line in ax.lines]


def test_a_panel_has_the_original_and_each_version_of_its_width():
    eight, three = panels(abilities(TABLE, ORIGINAL))
    assert heights(eight[1]) == [[100, 90], [100, 90]]
    assert heights(three[1]) == [[100, 90], [80, 30], [90, 70]]
    assert heights(three[0])[0] == [100, 95, 90]
    assert [line.get_color() for line in three[1].lines] == [
        palette.BLUE,
        palette.VERMILION,
        palette.INK,
    ]


def test_the_band_is_wilson_s_interval_of_each_level():
    _, three = panels(abilities(TABLE, ORIGINAL))
    band = three[1].collections[0].get_paths()[0].vertices
    at_two = band[band[:, 0] == 1][:, 1]
    np.testing.assert_allclose(
        [at_two.min(), at_two.max()], 100 * np.array(wilson(3, 10))
    )


def test_the_widest_stands_first_and_versions_are_named_above_their_column():
    said = [text.get_text() for text in abilities(TABLE, ORIGINAL).texts]
    heads = [words for words in said if words[0] in "●▲" or words.endswith("bits")]
    assert heads == ["8 bits", "● awq", "3 bits", "● gptq", "▲ qat"]


def test_levels_are_named_at_their_ends():
    facts, chains, recall = panels(abilities([EIGHT], ORIGINAL))[0]
    ends_of = [
        (facts, ["most", "least"]),
        (chains, ["1", "2"]),
        (recall, ["16", "384"]),
    ]
    for ax, ends in ends_of:
        assert [text.get_text() for text in ax.get_xticklabels()] == ends


def test_the_words_tell_the_ends_with_their_intervals():
    alt = abilities(TABLE, ORIGINAL).alt
    low, high = (round(100 * end) for end in wilson(3, 10))
    assert "The original: facts, most famous 100% [84, 100]" in alt
    assert "3 bits by gptq: facts, most famous" in alt
    assert f"longest 30% [{low}, {high}]; recall" in alt


def test_no_two_words_overlap_where_all_columns_have_long_names():
    full = [
        replace(EIGHT, bits=bits, method=name)
        for bits in (8, 6, 5, 4, 3, 2, 1.58)
        for name in ("mixed gptq", "mixed rtn")
    ]
    fig = abilities(full, ORIGINAL)
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in fig.texts]
    for ax in fig.axes:
        boxes += [t.get_window_extent() for t in ax.get_xticklabels()]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])
        assert one.x1 <= fig.bbox.x1


def test_what_has_no_place_is_refused():
    with pytest.raises(ValueError, match="versions is empty"):
        abilities([], ORIGINAL)
    with pytest.raises(ValueError, match="with up to 3 of one; give at most"):
        abilities([*TABLE, replace(ROUNDED, method="rtn")], ORIGINAL)
    many = [replace(EIGHT, bits=bits) for bits in range(1, MOST + 2)]
    with pytest.raises(ValueError, match="versions have 8 widths"):
        abilities(many, ORIGINAL)
