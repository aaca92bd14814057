"""How many questions: the formula by hand and by drawing, and where the lines meet."""

from itertools import pairwise

import numpy as np
import pytest

from minquant.course.damage.figure_sample_size import questions, sample_size

WAYS = {"apart": 0.18, "together": 0.0499}


def test_the_number_by_hand():
    # 1.96² = 3.84; a variance of 0.01 and a loss of 0.01: 0.01 · 3.84 / 0.0001
    assert questions(0.01) == pytest.approx(384, abs=0.5)
    assert questions(0.01, effect=2) == pytest.approx(96, abs=0.5)


def test_so_many_questions_see_such_a_loss_half_of_the_time():
    n = round(questions(0.05 - 0.01**2))
    draws = np.random.default_rng(0).choice(
        [-1, 0, 1], size=(1000, n), p=[0.03, 0.95, 0.02]
    )
    error = draws.std(1) / np.sqrt(n)
    seen = (draws.mean(1) + 1.96 * error < 0).mean()
    assert seen == pytest.approx(0.5, abs=0.06)  # four deviations of 1000 draws


def test_each_line_meets_the_loss_at_its_number():
    ax = sample_size(WAYS, effect=1).axes[0]
    lines, dots = ax.lines[0:4:2], ax.lines[1:4:2]
    for line, dot, variance in zip(lines, dots, WAYS.values(), strict=True):
        n = questions(variance)
        assert dot.get_xydata().tolist() == [[pytest.approx(n), 1]]
        x, y = np.log(line.get_xydata().T.astype(float))
        assert np.interp(np.log(n), x, y) == pytest.approx(0, abs=1e-9)


def test_ticks_read_as_numbers_do():
    ax = sample_size(WAYS).axes[0]
    assert "1,000" in [label.get_text() for label in ax.get_xticklabels()]
    assert "1" in [label.get_text() for label in ax.get_yticklabels()]


def test_the_alt_text_has_every_number():
    assert sample_size(WAYS).alt.endswith("apart: 6,915; together: 1,917.")


def test_the_names_of_two_lines_that_nearly_meet_stand_apart():
    names = ["one", "other", "third"]
    fig = sample_size({name: 0.1 + i / 1e4 for i, name in enumerate(names)})
    fig.canvas.draw()
    texts = [t for t in fig.axes[0].texts if t.get_text() in names]
    boxes = sorted((t.get_window_extent() for t in texts), key=lambda box: box.y0)
    assert all(a.y1 <= b.y0 + 2 for a, b in pairwise(boxes))


def test_no_word_leaves_the_page():
    fig = sample_size({"asked together, 12.5% change": 0.125})
    fig.canvas.draw()
    for text in fig.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= fig.bbox.x1


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="ways holds 0; give 1 to 4"):
        sample_size({})
    with pytest.raises(ValueError, match="variance is 0 and effect 1"):
        sample_size({"a": 0})
