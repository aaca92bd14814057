"""The judge: what is right, wrong, not attempted, and which mistake it names."""

import pytest
import torch

from minquant.course.exercises import Exercise, Verdict, normal

TWICE = Exercise(
    name="twice",
    task="twice(x) gives 2x",
    answer=lambda x: 2 * x,
    cases={"small": (torch.tensor([1.0, 2.0]),), "large": (torch.tensor([1e6]),)},
    mistakes={
        "this is a square": lambda x: x * x,
        "the sign is turned": lambda x: -2 * x,
    },
    outputs=("the double",),
)
PARTS = Exercise(
    name="parts",
    task="parts(x) gives the whole and the rest",
    answer=lambda x: (x.floor().long(), x % 1),
    cases={"one": (torch.tensor([1.25, 2.5]),)},
    mistakes={},
    outputs=("whole", "rest"),
)


def test_what_is_right_passes():
    verdict = TWICE(lambda x: x + x)
    assert verdict and verdict.passed and verdict.mistake == ""
    assert repr(verdict) == "twice: all right\n✓ small\n✓ large"


def test_a_known_mistake_is_named():
    verdict = TWICE(lambda x: x**2)
    assert not verdict
    assert verdict.mistake == "this is a square"
    assert "The likely mistake: this is a square." in repr(verdict)


def test_a_mistake_is_named_only_if_it_explains_every_case():
    verdict = TWICE(lambda x: x**2 if x.max() < 10 else 3 * x)
    assert verdict.mistake == "" and not verdict.passed


def test_the_first_difference_is_shown():
    verdict = TWICE(lambda x: 2 * x + torch.tensor([0.0, 1.0])[: len(x)])
    assert "✗ small: the double at [1] is 5, should be 4" in repr(verdict)
    assert "✓ large" in repr(verdict)


def unfinished():
    """A function with no body yet."""
    raise NotImplementedError


def empty(x):
    """A function with no body yet."""


@pytest.mark.parametrize(
    "yours", [None, ..., lambda x: None, lambda x: ..., lambda x: unfinished(), empty]
)
def test_what_nobody_attempted_says_so(yours):
    verdict = TWICE(yours)
    assert not verdict.attempted and not verdict.passed
    assert repr(verdict).startswith("– twice: not attempted yet.")
    assert 'checks.solution("twice")' in verdict._repr_html_()


def test_what_torch_cannot_do_is_an_error_and_no_empty_answer():
    verdict = TWICE(lambda x: x << x)
    assert verdict.attempted and "NotImplementedError" in repr(verdict)


@pytest.mark.parametrize(
    ("yours", "said"),
    [
        (lambda x: 1 / 0, "it raised ZeroDivisionError: division by zero"),
        (lambda: 1, "it raised TypeError"),
        (lambda x: "two", "it raised"),
        (lambda x: (x, x), "it gave 2 value(s); return the double"),
        (lambda x: x[:0], "has shape (0,), should be (2,)"),
        (lambda x: x * torch.nan, "is nan, should be"),
        (lambda x: x.mul_(2), "it changes its argument; work on a copy"),
    ],
)
def test_whatever_a_function_does_the_check_does_not_raise(yours, said):
    verdict = TWICE(yours)
    assert not verdict and verdict.attempted
    assert said in repr(verdict)


def test_a_result_instead_of_a_function_is_explained():
    assert "give the function itself: checks.twice(twice)" in repr(TWICE(4.0))


def test_whole_numbers_may_be_held_as_floats():
    assert PARTS(lambda x: (x.floor(), x % 1))
    assert PARTS(lambda x: (x.floor().int(), x % 1))
    assert not PARTS(lambda x: (x.floor() + 0.5, x % 1))


def prints(x):
    print(2 * x)


def forgets(x):
    y = 2 * x  # noqa: F841


@pytest.mark.parametrize("yours", [prints, forgets])
def test_a_function_that_returns_nothing_is_told_so(yours):
    verdict = TWICE(yours)
    assert verdict.attempted and not verdict
    assert "it returned nothing; end it with return, and the double" in repr(verdict)


def test_two_values_may_be_a_list_and_one_value_cannot_stand_for_two():
    assert PARTS(lambda x: [x.floor().int(), x % 1])
    assert "it gave 1 value(s); return whole and rest" in repr(PARTS(lambda x: x))


def test_a_list_of_numbers_is_one_value():
    assert TWICE(lambda x: [2 * float(a) for a in x])


def test_the_rounding_of_float32_is_no_mistake():
    assert TWICE(lambda x: (x / 3) * 6)
    assert not TWICE(lambda x: 2.0001 * x)


def test_the_html_says_the_same_in_colour_and_signs():
    html = TWICE(lambda x: x**2)._repr_html_()
    assert "✗" in html and "this is a square" in html and "border-left" in html
    assert "<script" not in Verdict("x", ((False, "<script>"),))._repr_html_()


def test_the_numbers_of_a_case_are_the_same_in_every_run():
    assert torch.equal(normal(3, 2, seed=1), normal(3, 2, seed=1))
    assert not torch.equal(normal(3, 2, seed=1), normal(3, 2, seed=2))


def test_an_exercise_says_what_it_asks_for():
    assert repr(TWICE) == "checks.twice(yours) – twice(x) gives 2x"
