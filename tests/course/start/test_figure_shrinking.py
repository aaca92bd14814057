"""The first picture: bytes, loss and answers at every width that was tried."""

import numpy as np
import pytest

from minquant.course.drawing import figures
from minquant.course.start.figure_shrinking import LEAST, ShrinkingPicture, Shrunk
from minquant.models.linear_layers import Size

WHOLE = Shrunk(
    16, Size(1_600_000, 400_000, 4, 800_000), 1.0, "a b", ("x", "y"), (True,) * 2
)
FOUR = Shrunk(
    4, Size(420_000, 400_000, 4, 800_000), 1.2, "a c", ("x", "z"), (True, False)
)
EIGHT = Shrunk(
    8, Size(820_000, 400_000, 4, 800_000), 0.9, "a b", ("x", "y"), (True, True)
)
TRIED = {16: WHOLE, 8: EIGHT, 4: FOUR}


@pytest.fixture
def picture():
    made = ShrinkingPicture(WHOLE, ["famous", "obscure"])
    made.update(FOUR, TRIED)
    return made


def corners(collection):
    return np.array([path.vertices[:4] for path in collection.get_paths()])


def test_the_bar_is_the_megabytes_of_both_parts(picture):
    assert corners(picture.quantized)[0, [0, 1], 0].tolist() == [0, 0.42]
    np.testing.assert_allclose(corners(picture.rest)[0, [0, 1], 0], [0.42, 0.82])
    assert "0.82 MB of 2.00" in picture.size.get_text()


def test_each_width_tried_is_a_dot_at_what_its_loss_pays(picture):
    x, y = picture.dots.get_data()
    assert list(x) == [4, 8, 16]
    np.testing.assert_allclose(y, [0.2, LEAST, LEAST])  # 8 bits were better by chance
    assert picture.ring.get_xdata()[0] == 4
    assert picture.cost.get_text() == "now +0.200"


def test_right_and_wrong_answers_have_their_signs(picture):
    good = sorted(zip(*picture.good.get_data(), strict=True))
    bad = list(zip(*picture.bad.get_data(), strict=True))
    assert good == [(4, 0.5), (8, 0.5), (8, 1.5), (16, 0.5), (16, 1.5)]
    assert bad == [(4, 1.5)]


def test_the_axes_never_move(picture):
    before = [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes]
    wrong = Shrunk(2, FOUR.size, 99.0, "", ("q", "q"), (False, False))
    picture.update(wrong, {**TRIED, 2: Shrunk(2, FOUR.size, 99.0)})
    assert [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes] == before
    figures.to_pixels(picture.fig)


def test_the_alt_text_tells_size_loss_and_answers(picture):
    assert picture.fig.alt == (
        "The model with 4 bits a weight: 0.82 MB instead of 2.00; its loss is +0.200 "
        "nats per token above that in 16. famous: right, 'x'. obscure: wrong, 'z'."
    )


def test_no_two_words_overlap(picture):
    texts = picture.fig.findobj(lambda a: hasattr(a, "get_text"))
    picture.fig.canvas.draw()
    boxes = [
        t.get_window_extent().padded(-3)
        for t in texts
        if t.get_visible() and t.get_text()
    ]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])
