"""What is said of the table of a real model."""

import pytest
import torch

from benchmarks import real, real_summary
from minquant.measure.measured import measured


def test_rows_that_are_compared_exist_and_no_row_with_itself():
    found = [pair for pair in real_summary.pairs() if set(pair) <= set(real.keys())]
    assert len(found) >= 60 and all(a != b for a, b in found)
    assert ("4 gptq clip, row", "4 rtn clip, row") in found
    assert ("4 rtn, 32 symmetric", "Q4_0") in found


def test_ranks_and_their_correlation():
    x = torch.tensor([3.0, 1.0, 1.0, 9.0])
    assert real_summary.ranks(x).tolist() == [2, 0.5, 0.5, 3]
    y = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert real_summary.rank_correlation(y, y.exp()) == pytest.approx(1)
    assert real_summary.rank_correlation(y, -y) == pytest.approx(-1)


def test_the_number_that_follows_what_was_lost_comes_out_ahead():
    generator = torch.Generator().manual_seed(0)
    lost = torch.rand(40, generator=generator)
    noise = torch.rand(40, generator=generator)
    found = real_summary.correlations({"noise": noise, "good": lost**2}, lost)
    (good, low, _), apart = found["good"]
    assert (good, low) == pytest.approx((1, 1)) and apart.is_sure and apart.mean > 0.5
    assert found["noise"][1].mean == 0


def test_a_summary_is_printed_from_the_table_alone(capsys):
    keys = ["float", "4 rtn, row", "4 gptq, row", "4 rtn, 64", "4 gptq, 64"]
    keys += ["4 rtn, 32 symmetric", "Q4_0"]
    real_summary.summary({key: measured()[key] for key in keys})
    printed = capsys.readouterr().out
    assert "4 gptq, row  against  4 rtn, row" in printed
    assert "all 6 rows, exam in nats" in printed and "mean KL" in printed
