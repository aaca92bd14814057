"""Pictures of formats: ticks are numbers that exist, bytes are bits over eight."""

import numpy as np
import pytest

from minquant.course.floats.figure_formats import (
    number_line,
    reach,
    spacing,
    weighs,
)
from minquant.numerics.floats import FORMATS


def words(fig):
    """Everything written in a picture."""
    return [t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text"))]


def test_every_number_between_the_ends_is_a_tick():
    fig = number_line(["fp4 e2m1", "int8"], -8, 8)
    ticks = [
        np.array([path.vertices[0, 0] for path in lines.get_paths()])
        for lines in fig.axes[0].collections
    ]
    np.testing.assert_array_equal(ticks[0], FORMATS["fp4 e2m1"].values())
    np.testing.assert_array_equal(ticks[1], np.arange(-8, 9))
    assert "15 here" in words(fig) and "17 here" in words(fig)
    assert "fp4 e2m1 15, int8 17" in fig.alt


def test_numbers_too_dense_to_be_told_apart_are_counted_all_the_same():
    fig = number_line(["fp16"], -8, 8)
    inside = np.abs(FORMATS["fp16"].values()) <= 8
    assert f"{inside.sum()} here" in words(fig)
    assert len(fig.axes[0].collections[0].get_paths()) <= 20_000


def test_the_stairs_are_the_distances_between_neighbours():
    fig = spacing(["fp8 e4m3"])
    x, y = fig.axes[0].lines[0].get_data()
    numbers = FORMATS["fp8 e4m3"].values()
    for power, gap in zip(x[:-1], y[:-1], strict=True):
        at = numbers[numbers <= 2.0**power].max()
        assert numbers[numbers > at].min() - at == 2.0**gap
    assert x[-1] == pytest.approx(np.log2(448))
    assert "fp8 e4m3 2^-3" in fig.alt


def test_a_format_reaches_from_its_smallest_number_to_its_largest():
    fig = reach(np.array([1.0, -0.5, 0.0]), ["fp8 e4m3", "int8"])
    ends = [2.0 ** line.get_xdata() for line in fig.axes[1].lines]
    np.testing.assert_allclose(ends, [[2**-9, 2**-6], [2**-6, 448], [1, 1], [1, 127]])


def test_what_becomes_0_is_what_the_format_rounds_to_0():
    weights = np.array([0.0, 0.25, -0.26, 0.5, -0.51, 3.0, 1e-9, -1e-3])
    names = ["fp4 e2m1", "int8", "fp8 e4m3", "fp16"]
    fig = reach(weights, names)
    for name in names:
        form = FORMATS[name]
        lost = np.mean([form.decode(form.encode(w)) == 0 for w in weights])
        assert f"{name} {lost:.1%}" in fig.alt
        assert f"{lost:.1%} of the weights" in words(fig)


def test_the_columns_are_shares_of_the_weights():
    fig = reach(np.array([0.5, 0.75, 1.0, 2.0, -2.0, 0.0, 0.0, 0.0]), ["fp16"])
    bars = {round(p.get_x()): p.get_height() for p in fig.axes[0].patches}
    assert (bars[-1], bars[0], bars[1], bars[2]) == (25, 12.5, 25, 0)


def test_a_model_weighs_its_parameters_times_bits_over_eight():
    fig = weighs({"a model": 8e9}, {"fp16": 16, "4 bits": 4.5}, {"a card": 24e9})
    assert "fp16: 16 GB" in words(fig) and "4 bits: 4.5 GB" in words(fig)
    dots = [float(line.get_xdata()[0]) for line in fig.axes[0].lines[-2:]]
    assert dots == [16e9, 4.5e9]
    assert "a model: fp16 16 GB, 4 bits 4.5 GB. A line at 24 GB: a card." in fig.alt


def test_a_format_too_wide_to_list_is_refused():
    with pytest.raises(ValueError, match="fp32 has too many values"):
        number_line(["fp32"])
