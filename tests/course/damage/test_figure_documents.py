"""The change of each document, and the mean that pairing makes sure of."""

import numpy as np
import pytest
import torch

from minquant.course.damage.figure_documents import change_by_document
from minquant.measure.evaluate import Perplexity, compare

TOKENS = torch.tensor([10, 20, 30, 40])


def measured(nats):
    return Perplexity((1, 2, 3, 4), torch.tensor(nats), TOKENS, 64, 32)


BEFORE = measured([10.0, 40.0, 30.0, 80.0])
AFTER = measured([12.0, 41.0, 33.0, 84.0])
KINDS = ["story", "ledger", "story", "ledger"]


def test_each_document_is_a_dot_at_its_loss_and_its_change():
    ax = change_by_document(BEFORE, AFTER).axes[0]
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_xdata(), [1, 2, 1, 2])
    np.testing.assert_allclose(dots.get_ydata(), [0.2, 0.05, 0.1, 0.1])


def test_the_line_is_the_mean_change_over_tokens_and_the_band_its_interval():
    fig = change_by_document(BEFORE, AFTER)
    mean = compare(BEFORE, AFTER)
    assert mean.mean == pytest.approx(0.1)
    assert f"Mean change {mean}" in fig.alt
    assert fig.axes[0].lines[1].get_ydata()[0] == pytest.approx(0.1)


def test_each_kind_has_its_mark_and_its_mean():
    fig = change_by_document(BEFORE, AFTER, KINDS)
    said = [t.get_text() for t in fig.axes[0].texts]
    assert "story +0.125" in said and "ledger +0.0833" in said
    assert "By kind: story +0.125, ledger +0.0833." in fig.alt


def test_kinds_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="kinds holds 1 of 1 kinds; give one for each"):
        change_by_document(BEFORE, AFTER, ["story"])


def test_other_documents_are_refused():
    other = Perplexity((9, 2, 3, 4), BEFORE.document_nats, TOKENS, 64, 32)
    with pytest.raises(ValueError, match="not measured on the same text"):
        change_by_document(BEFORE, other)
