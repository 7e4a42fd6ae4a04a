"""The metrics as a person reads them."""

import json
from pathlib import Path

import pytest

import show
from sasrec.core.errors import UserError
from sasrec.evaluation.intervals import Estimate
from sasrec.reporting import metrics_table

HALF = Estimate(0.5, 0.4, 0.62)  # no interval needs to be centred


def test_the_table_has_a_line_a_ranker_and_a_column_a_metric_of_each_list() -> None:
    both = {
        "sampled": {"HR@5": HALF, "NDCG@5": Estimate(0.125, 0.1, 0.15)},
        "full": dict.fromkeys(["HR@5", "NDCG@5"], HALF),
    }
    lists, names, *lines = metrics_table.as_text({"sasrec": both, "popularity": both}).splitlines()
    assert (lists.split(), names.split()) == (["sampled", "full"], ["HR@5", "NDCG@5", "HR@5", "NDCG@5"])
    assert [line.split()[0] for line in lines] == ["sasrec", "popularity"]
    assert lines[0].split()[1:7] == ["0.500", "±", "0.110", "0.125", "±", "0.025"]


def test_the_table_of_our_rankers_fits_a_terminal_of_eighty_columns() -> None:
    both = {ranked: dict.fromkeys(["HR@100", "NDCG@100"], HALF) for ranked in ("sampled", "full")}
    text = metrics_table.as_text({"sasrec": both, "recent_popularity": both, "item_transitions": both})
    assert max(map(len, text.splitlines())) <= 80
    assert "recent_popularity  0.500" in text


def test_the_table_shows_the_first_cutoff_alone() -> None:
    values = dict.fromkeys(["HR@10", "NDCG@10", "HR@5", "NDCG@5", "MRR"], HALF)
    assert metrics_table.names({"sasrec": {"sampled": values, "full": values}}) == ["HR@10", "NDCG@10"]


def test_the_two_files_hold_the_means_and_the_ends_of_the_intervals() -> None:
    estimates = {"sasrec": {"full": {"HR@10": HALF}}}
    metrics, intervals = metrics_table.to_files(estimates)
    assert metrics == {"sasrec": {"full": {"HR@10": 0.5}}}
    assert intervals == {"sasrec": {"full": {"HR@10": {"low": 0.4, "high": 0.62}}}}
    assert metrics_table.from_files(metrics, intervals) == estimates


def test_metrics_that_are_not_there_or_damaged_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"metrics/eval\.json: not found; run `dvc repro`"):
        show.main()
    show.METRICS.parent.mkdir()
    show.METRICS.write_text('{"sasrec": {}')
    show.INTERVALS.write_text("{}")
    with pytest.raises(UserError, match=r"metrics/eval\.json: cannot be used"):
        show.main()
    show.METRICS.write_text(json.dumps({"sasrec": {"sampled": {"HR@10": 0.5}, "full": {"HR@10": 0.5}}}))
    with pytest.raises(UserError, match=r"metrics/intervals\.json: cannot be used"):
        show.main()
