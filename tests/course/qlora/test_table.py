"""The table of qlora.json is read as the benchmark reads it."""

import pytest

from benchmarks import qlora
from minquant.course.qlora import table


@pytest.fixture(scope="module")
def runs():
    return table.learnt()


def test_it_has_every_row(runs):
    assert list(runs) == qlora.keys()
    assert len(runs["0 qlora"].losses) == 80


@pytest.mark.parametrize(("a", "b", "what"), qlora.CLAIMS + qlora.ASIDE)
def test_differences_are_those_of_the_benchmark(runs, a, b, what):
    rows = qlora.TABLE.load()
    theirs = qlora.paired(rows, a, b, what)
    assert table.change(runs, a, b, what) == theirs
    theirs, ours = (
        qlora.over_seeds(rows, a, b, what),
        table.change_by_seed(runs, a, b, what),
    )
    ends = (theirs.mean, theirs.low, theirs.high)
    assert (ours.mean, ours.low, ours.high) == pytest.approx(ends)


def test_a_share_is_counted_over_all_seeds(runs):
    right = [runs[f"{seed} lora"].new.sum().item() for seed in range(table.SEEDS)]
    assert table.known(runs, "lora") == pytest.approx(sum(right) / (6 * 240))
    assert table.known(runs, "- nf4", "old") == pytest.approx(0.893)
