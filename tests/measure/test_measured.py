"""The table of a real model, read."""

import pytest

from minquant.measure.evaluate import compare
from minquant.measure.exam import compare_exams
from minquant.measure.measured import measured


def test_rows_are_compared_as_models_are():
    before, after = measured()["float"], measured()["4 rtn, 64"]
    change = compare(before.loss, after.loss)
    mean = after.record["own"]["nats"] - before.record["own"]["nats"]
    assert change.mean == pytest.approx(mean, abs=1e-3) and change.is_sure
    lost = compare_exams(before.exam, after.exam)
    share = after.record["exam"]["capital"] - before.record["exam"]["capital"]
    assert lost.groups()["capital"].mean == pytest.approx(100 * share)


def test_what_a_row_says_is_what_its_documents_say():
    for row in measured().values():
        for text in ("own", "topics"):
            kept, moved = row.record[text], row.divergence_on(text)
            assert row.loss_on(text).nats == pytest.approx(kept["nats"], abs=1e-3)
            assert moved.kl == pytest.approx(kept["kl"], abs=1e-3)
            assert moved.flips == pytest.approx(kept["flips"], abs=1e-3)
        low, high = row.tail[1:]
        assert low <= row.tail[0] <= high
        for name, score in row.exam.groups().items():
            assert score.mean == pytest.approx(row.record["exam"][name])


def test_a_row_that_is_not_there_is_answered_with_those_like_it():
    with pytest.raises(
        KeyError, match="no row '4 gptq row'; near it are '4 gptq, row'"
    ):
        measured()["4 gptq row"]


def test_another_text_is_refused():
    with pytest.raises(ValueError, match="text is 'wiki'; choose one of own, topics"):
        measured()["float"].loss_on("wiki")


def test_without_a_table_the_command_that_makes_it_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="benchmarks/real.py measures it"):
        measured(tmp_path / "none.json")
