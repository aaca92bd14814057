"""Lesson 07: answers by hand, and planted mistakes as learners write them."""

import pytest
import torch

from minquant.course import checks
from minquant.course.awq import exercises
from minquant.methods.awq import input_scales, salient


def test_the_answers_are_those_of_awq():
    W, X = torch.randn(5, 100), torch.randn(30, 100)
    sizes = X.abs().mean(0)
    assert torch.equal(exercises.salient_columns(W, X, 0.03), salient(sizes, 0.03))
    assert torch.equal(exercises.awq_scales(X, 0.4), input_scales(sizes, 0.4))


def test_scales_by_hand():
    X = torch.tensor([[1.0, -16.0, 4.0], [-1.0, 16.0, 4.0]])
    assert exercises.awq_scales(X, 0.5).tolist() == [0.5, 2.0, 1.0]


def test_a_fold_changes_no_output_and_not_its_arguments():
    gain, W, s = torch.rand(6) + 0.5, torch.randn(4, 6), torch.rand(6) + 0.5
    before = [part.clone() for part in (gain, W, s)]
    x = torch.randn(10, 6)
    new_gain, scaled = exercises.fold_scales(gain, W, s)
    torch.testing.assert_close((x * new_gain) @ scaled.T, (x * gain) @ W.T)
    torch.testing.assert_close(scaled / W, s.expand(4, 6))
    assert all(map(torch.equal, before, (gain, W, s)))


def columns(size, k=lambda share, n: max(1, round(share * n))):
    """Written as one learner would: sort all, take the last."""
    return lambda W, X, share: (
        size(W, X).argsort()[-k(share, X.shape[1]) :].sort().values
    )


def means(W, X):
    return X.abs().mean(dim=0)


COLUMNS = [
    (columns(lambda W, X: W.abs().sum(0)), "they are chosen by the weights"),
    (columns(lambda W, X: W.abs().sum(1)), "these are rows of W"),
    (columns(lambda W, X: X.sum(0).abs()), "inputs of both signs cancel"),
    (columns(lambda W, X: X.sum(0)), "the mean of X is not its size"),
    (columns(lambda W, X: X.abs().max(0).values), "one token decides"),
    (columns(lambda W, X: X.norm(dim=0)), "squares favour rare large inputs"),
    (columns(lambda W, X: -means(W, X)), "these are the smallest"),
    (
        lambda W, X, share: means(W, X).argsort(descending=True)[
            : max(1, round(share * X.shape[1]))
        ],
        "they are the right ones, ordered by size",
    ),
    (columns(means, lambda s, n: max(1, int(s * n))), "share · in is rounded"),
]


@pytest.mark.parametrize(("yours", "words"), COLUMNS)
def test_a_planted_mistake_of_the_columns_is_named(yours, words):
    assert checks.salient_columns(yours).mistake.startswith(words)


def test_no_column_at_all_is_no_answer():
    mine = columns(means, lambda s, n: round(s * n) or -n)
    assert not checks.salient_columns(mine)


def scales(X, ratio, size=means, over=lambda s: s.max().sqrt() * s.min().sqrt()):
    s = size(None, X).pow(ratio)
    return s / over(s)


SCALES = [
    (lambda X, r: means(0, X) ** r, "they are not divided by the root"),
    (lambda X, r: scales(X, r, over=lambda s: s.max() * s.min()), "the root is"),
    (lambda X, r: scales(X, r, over=torch.mean), "they are divided by their mean"),
    (lambda X, r: scales(X, r, over=torch.max), "they are divided by the largest"),
    (lambda X, r: 1 / scales(X, r), "large inputs get small scales"),
    (lambda X, r: scales(X.abs() ** r, 1.0), "the mean comes first"),
    (
        lambda X, r: scales(X, r, lambda _, X: X.abs().max(0).values),
        "one token decides",
    ),
    (
        lambda X, r: scales(X, r, lambda _, X: X.pow(2).mean(0) ** 0.5),
        "these are roots of mean squares",
    ),
]


@pytest.mark.parametrize(("yours", "words"), SCALES)
def test_a_planted_mistake_of_the_scales_is_named(yours, words):
    assert checks.awq_scales(yours).mistake.startswith(words)


FOLDS = [
    (lambda g, W, s: (g * s, W / s), "it is the other way round"),
    (lambda g, W, s: (g, W * s), "the gain is as it was"),
    (lambda g, W, s: (g / s, W), "the columns are as they were"),
    (lambda g, W, s: (g / s, W / s), "both are divided"),
    (lambda g, W, s: (g * s, W * s), "both are multiplied"),
    (lambda g, W, s: (g / s, torch.diag(s) @ W), "rows are scaled"),
]


@pytest.mark.parametrize(("yours", "words"), FOLDS)
def test_a_planted_mistake_of_the_fold_is_named(yours, words):
    assert checks.fold_scales(yours).mistake.startswith(words)


def test_a_fold_that_gives_one_thing_says_that_it_wants_two():
    said = repr(checks.fold_scales(lambda gain, W, s: W * s))
    assert "it gave 1 value(s); return the gain and the matrix" in said


def test_a_learners_own_way_is_accepted():
    assert checks.salient_columns(columns(means))
    assert checks.awq_scales(scales)
    assert checks.fold_scales(lambda g, W, s: (g / s, W @ torch.diag(s)))
