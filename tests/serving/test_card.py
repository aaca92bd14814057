"""The page that goes with a model says all that was found, and what was not."""

import pytest
import yaml

from minquant.planning.choice import Harm
from minquant.serving.card import card

HARMS = {
    "facts, points": Harm(1.6, 1.0, 2.2),
    "sums, points": Harm(4.0, 3.5, 4.5),
    "loss, nats": Harm(0.004, -0.001, 0.009),
}
GIVEN = {
    "title": "A model, 4 bits",
    "base_model": "some/model: large",
    "recipe": {"Method": "GPTQ"},
    "harms": HARMS,
    "lines": {"facts, points": 2.0, "sums, points": 3.0},
    "measured_on": dict.fromkeys(HARMS, "2,000 questions"),
    "not_measured": ["speed", "other languages"],
}


def rows(page):
    """The cells of the table, row by row."""
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_harm_is_told_with_its_interval_its_line_and_whether_it_held():
    assert rows(card(**GIVEN)) == [
        ["facts, points", "1.6 [1, 2.2]", "2", "unsure", "2,000 questions"],
        ["sums, points", "4 [3.5, 4.5]", "3", "**broken**", "2,000 questions"],
        ["loss, nats", "0.004 [−0.001, 0.009]", "", "", "2,000 questions"],
    ]


def test_where_nothing_was_agreed_there_are_no_columns_for_it():
    page = card(**{**GIVEN, "lines": {}})
    assert "| what | worse by | measured on |\n|---|---|---|\n" in page
    assert rows(page)[0] == ["facts, points", "1.6 [1, 2.2]", "2,000 questions"]


def test_a_hub_reads_what_it_was_made_from():
    _, front, _ = card(**GIVEN).split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "some/model: large",
        "base_model_relation": "quantized",
    }


def test_what_was_done_and_what_nobody_measured_stand_in_it():
    page = card(**GIVEN)
    assert "- **Method**: GPTQ" in page
    assert page.endswith("Not measured:\n\n- speed\n- other languages\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lines": {"speed": 1.0}}, "lines has 'speed', but harms has not"),
        ({"measured_on": {}}, "measured_on lacks 'facts, points'"),
        ({"not_measured": []}, "not_measured is empty; there is always something"),
        (
            {"harms": {"sums, points": Harm(1, 2, 3)}, "lines": {"sums, points": 1}},
            "low",
        ),
    ],
)
def test_what_is_missing_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        card(**{**GIVEN, **change})


def test_a_number_is_told_on_its_side_of_the_line_and_no_cell_breaks_the_table():
    change = {
        "harms": {"facts": Harm(2, 1, 3.004)},
        "lines": {"facts": 3},
        "measured_on": {"facts": "these | those"},
    }
    page = card(**{**GIVEN, **change})
    assert "| facts | 2 [1, 3.004] | 3 | unsure | these &#124; those |" in page
