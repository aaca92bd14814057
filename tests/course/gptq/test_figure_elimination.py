"""What is left of H⁻¹: the inverse of what is left of H."""

import pytest
import torch
from helpers.cases import correlated

from minquant.course.gptq.figure_elimination import elimination, remains

H = correlated()[1]
H_inv = torch.linalg.inv(H)


def test_what_is_left_is_the_inverse_of_h_without_its_first_columns():
    for done, left in zip((0, 4, 12), remains(H_inv, (0, 4, 12)), strict=True):
        expected = torch.zeros_like(H)
        expected[done:, done:] = torch.linalg.inv(H[done:, done:])
        torch.testing.assert_close(left, expected, rtol=1e-9, atol=1e-12)


def test_what_was_taken_off_is_the_cholesky_factor():
    U = torch.linalg.cholesky(H_inv, upper=True)
    for done, left in zip((3, 7), remains(H_inv, (3, 7)), strict=True):
        taken = U[:done].T @ U[:done]
        torch.testing.assert_close(H_inv - taken, left, rtol=1e-9, atol=1e-12)


def test_h_inverse_stays_as_it_was():
    before = H_inv.clone()
    remains(H_inv, (5,))
    assert torch.equal(before, H_inv)


def test_there_is_a_panel_for_each_count_and_one_for_u():
    fig = elimination(H_inv, (0, 6))
    assert len(fig.axes) == 3
    words = [t.get_text() for t in fig.texts]
    assert words[:3] == ["H⁻¹", "after 6 of 12", "taken off, row by row: U"]
    gone = fig.axes[1].images[0].get_array().mask
    assert gone[:6].all() and gone[:, :6].all() and not gone[6:, 6:].any()
    assert "after 6 eliminations" in fig.alt


@pytest.mark.parametrize("after", [(4, 2), (13,), (-1, 3)])
def test_counts_that_do_not_count_up_are_refused(after):
    with pytest.raises(ValueError, match="count up, from 0 to 12"):
        remains(H_inv, after)
