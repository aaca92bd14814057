"""The dots' Python side: what it hands over, and what it refuses."""

import pytest

from minquant.course.nf4.live_formats import FormatsPicture, Measure

BITS = {"b": 4.5, "a": 4.25}
ERROR = {"a": Measure(0.02), "b": Measure(0.01)}
KL = {"a": Measure(0.3, (0.2, 0.4)), "b": Measure(0.4, (0.3, 0.5))}


def test_dots_are_handed_over_in_the_order_of_their_bits():
    picture = FormatsPicture(BITS, {"error": ERROR, "KL": KL}, "KL")
    assert [dot["name"] for dot in picture.dots] == ["a", "b"]
    assert picture.measures[0]["values"] == [0.02, 0.01]
    assert [tuple(x) for x in picture.measures[1]["intervals"]] == [
        (0.2, 0.4),
        (0.3, 0.5),
    ]
    assert "KL: a 0.3000 at 4.25 bits; b 0.4000 at 4.50 bits." in picture.words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"measure": "loss"}, "measure is 'loss'; choose from"),
        ({"format": 2}, "format is 2; choose from"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        FormatsPicture(BITS, {"error": ERROR}, **change)


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        ({}, "at least one format and one kind"),
        ({"KL": {"a": Measure(1.0)}}, "measures\\['KL'\\] is not of the formats"),
        ({"KL": {**KL, "b": Measure(0.0)}}, "holds a number that is not > 0"),
        ({"KL": {**KL, "b": Measure(1.0, (0.0, 2.0))}}, "holds a number that is not"),
    ],
)
def test_measures_that_do_not_fit_are_refused(measures, said):
    with pytest.raises(ValueError, match=said):
        FormatsPicture(BITS, measures)
