"""Four panels of damage: every way that was tried, and one that is chosen."""

import numpy as np
import pytest

from minquant.course.damage.figure_damage import LIMITS, Damage, DamagePicture, describe
from minquant.course.drawing import figures
from minquant.course.drawing.figure_intervals import Measured
from minquant.measure.probes import Share

WHOLE = {"facts": Share(20, 20)}
GOOD = Damage(
    bits_per_weight=4.1,
    layer_error=1e-3,
    kl=Measured(0.02, 0.01, 0.03),
    loss=Measured(-0.01, -0.02, 0.01),
    probes={"facts": Share(19, 20)},
)
BAD = Damage(
    2.1, 0.1, Measured(0.5, 0.4, 0.6), Measured(0.4, 0.3, 0.5), {"facts": Share(4, 20)}
)
TRIED = {(4, "a row"): GOOD, (2, "a tensor"): BAD}


@pytest.fixture
def picture():
    made = DamagePicture(["a tensor", "a row"], WHOLE)
    made.update((4, "a row"), TRIED)
    return made


def test_every_way_tried_has_the_mark_of_its_ruler(picture):
    tensor, row = picture.past["kl"]
    assert (list(tensor.get_xdata()), list(tensor.get_ydata())) == ([2.1], [0.5])
    assert (list(row.get_xdata()), list(row.get_ydata())) == ([4.1], [0.02])
    assert tensor.get_marker() != row.get_marker()


def test_the_ring_is_at_the_chosen_one_with_its_interval(picture):
    assert picture.rings["kl"].get_xydata().tolist() == [[4.1, 0.02]]
    bar = picture.bars["kl"].get_paths()[0].vertices
    np.testing.assert_allclose(bar[:, 1], [0.01, 0.03])
    assert picture.rings["probes"].get_xydata().tolist() == [[4.1, 95]]


def test_a_loss_that_fell_lies_on_the_lower_edge_and_its_number_says_so(picture):
    assert picture.rings["loss"].get_ydata()[0] == LIMITS["loss"][0]
    assert picture.numbers[2].get_text() == "−0.010 [−0.020, 0.010]"


def test_the_axes_never_move(picture):
    before = [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes]
    picture.update((2, "a tensor"), TRIED)
    assert [(ax.get_xlim(), ax.get_ylim()) for ax in picture.fig.axes] == before
    figures.to_pixels(picture.fig)


def test_the_words_tell_all_four(picture):
    assert picture.fig.alt == describe((4, "a row"), GOOD, WHOLE)
    assert picture.fig.alt == (
        "4 bits, one ruler for a row: 4.10 bits per weight. Layer error 0.001 of the "
        "output's power; KL 0.020 [0.010, 0.030] nats per token; loss changed by "
        "−0.010 [−0.020, 0.010]. facts: 95% right, 100% before."
    )


def test_a_model_without_probes_has_three_panels_of_numbers():
    bare = Damage(4.1, 1e-3, GOOD.kl, GOOD.loss, {})
    picture = DamagePicture(["a row"], {})
    picture.update((4, "a row"), {(4, "a row"): bare})
    assert len(picture.rings["probes"].get_xdata()) == 0
    figures.to_pixels(picture.fig)


def test_more_rulers_than_marks_are_refused():
    with pytest.raises(ValueError, match="rulers are 7 and whole 0; give at most 6"):
        DamagePicture(list("abcdefg"), {})
