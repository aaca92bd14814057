"""Lesson 05: planted mistakes, written as learners write them."""

import pytest
import torch

from minquant.course import checks


def loop(X, threshold, size=abs, reached=lambda x, t: x >= t):
    columns = zip(*X.tolist(), strict=True)
    return torch.tensor([any(reached(size(x), threshold) for x in c) for c in columns])


COLUMNS = [
    (
        lambda X, t: loop(X, t, reached=lambda x, limit: x > limit),
        "a value that equals the threshold counts too",
    ),
    (lambda X, t: loop(X, t, size=lambda x: x), "large negative values are outliers"),
    (lambda X, t: X.abs().amin(0) >= t, "it asks all tokens"),
    (lambda X, t: (X.abs().sum(0) / len(X)) >= t, "it asks the mean"),
    (lambda X, t: X.abs().amax(1) >= t, "this finds tokens (rows)"),
    (lambda X, t: X.abs() >= t, "this marks single values"),
    (lambda X, t: ~loop(X, t), "True and False are swapped"),
    (lambda X, t: torch.where(loop(X, t))[0], "these are the places of the columns"),
    (lambda X, t: loop(X, 6.0), "the threshold is an argument"),
]


@pytest.mark.parametrize(("yours", "words"), COLUMNS)
def test_a_planted_mistake_of_the_columns_is_named(yours, words):
    assert checks.outlier_columns(yours).mistake.startswith(words)


def product(X, W, x=1, w=1, top=127, scaled="XW", rounded="XW"):
    """A vector-wise product with one thing changed."""

    def scale(A, dim):
        size = A.abs()
        return (size.amax(dim, keepdim=True) if dim in (0, 1) else size.max()) / top

    s_x, s_w = scale(X, x), scale(W, w)
    X_codes = torch.round(X / s_x) if "X" in rounded else X / s_x
    W_codes = torch.round(W / s_w) if "W" in rounded else W / s_w
    if scaled == "XW":
        return (s_x * X_codes) @ (s_w * W_codes).T
    Y = X_codes @ W_codes.T
    return Y * s_x if scaled == "X" else Y * s_w.T if scaled == "W" else Y


PRODUCTS = [
    ({"x": None}, "there is one scale for all of X"),
    ({"w": None}, "there is one scale for all of W"),
    ({"x": None, "w": None}, "there is one scale for X and one for W"),
    ({"x": 0}, "X has a scale for each column"),
    ({"rounded": "W"}, "X is not rounded"),
    ({"rounded": "X"}, "W is not rounded"),
    ({"rounded": ""}, "nothing is rounded"),
    ({"top": 128}, "absmax is divided by 128"),
    ({"scaled": ""}, "the product of the codes is not multiplied"),
    ({"scaled": "X"}, "the scales of W are missing"),
    ({"scaled": "W"}, "the scales of X are missing"),
]


@pytest.mark.parametrize(("changed", "words"), PRODUCTS)
def test_a_planted_mistake_of_the_product_is_named(changed, words):
    verdict = checks.vector_wise(lambda X, W: product(X, W, **changed))
    assert verdict.mistake.startswith(words)


def test_a_product_that_stands_on_its_side_is_named():
    verdict = checks.vector_wise(lambda X, W: product(X, W).T)
    assert verdict.mistake.startswith("W is not transposed back")


def s(X, W, x, w, size=torch.abs):
    """Powers of the largest sizes."""
    return size(X).max(0).values ** x * size(W).max(0).values ** w


SCALES = [
    (lambda X, W, a: s(X, W, 1 - a, -a), "alpha and 1 − alpha are swapped"),
    (lambda X, W, a: s(X, W, -a, 1 - a), "this is 1 / s"),
    (lambda X, W, a: s(X, W, a, 1 - a), "the two are multiplied"),
    (lambda X, W, a: s(X, W, a, 0), "W is forgotten"),
    (lambda X, W, a: s(X, W, a, -a), "the power of W is alpha"),
    (lambda X, W, a: s(X, W, 0.5, -0.5), "alpha is an argument"),
    (
        lambda X, W, a: X.abs().mean(0) ** a / W.abs().max(0).values ** (1 - a),
        "it takes the mean |x|",
    ),
    (lambda X, W, a: s(X, W, a, a - 1, torch.clone), "large negative values count too"),
    (
        lambda X, W, a: X.abs().max(0).values ** a / W.abs().max() ** (1 - a),
        "the largest |w| is that of all of W",
    ),
]


@pytest.mark.parametrize(("yours", "words"), SCALES)
def test_a_planted_mistake_of_the_scales_is_named(yours, words):
    assert checks.smoothing_scales(yours).mistake.startswith(words)


def test_a_learner_s_own_way_is_accepted():
    assert checks.outlier_columns(loop)
    assert checks.vector_wise(product)
    assert checks.smoothing_scales(lambda X, W, a: s(X, W, a, a - 1))
