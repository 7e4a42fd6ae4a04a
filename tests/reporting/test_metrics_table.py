"""The metrics as a person reads them."""

from pathlib import Path

import pytest

import show
from sasrec.core.errors import UserError
from sasrec.reporting import metrics_table


def test_the_table_has_a_line_a_scorer_and_a_column_a_metric_of_each_list() -> None:
    sampled = {"HR@5": 0.25, "HR@5_half_width": 0.01, "NDCG@5": 0.125, "NDCG@5_half_width": 0.02}
    full = {"HR@5": 0.0, "HR@5_half_width": 0.0, "NDCG@5": 0.0, "NDCG@5_half_width": 0.0}
    both = {"sampled": sampled, "full": full}
    header, *lines = metrics_table.as_text({"sasrec": both, "popularity": both}).splitlines()
    assert header.split() == ["sampled", "HR@5", "sampled", "NDCG@5", "full", "HR@5", "full", "NDCG@5"]
    assert [line.split()[0] for line in lines] == ["sasrec", "popularity"]
    assert lines[0].split()[1:7] == ["0.2500", "±", "0.0100", "0.1250", "±", "0.0200"]


def test_the_table_shows_the_first_cutoff_alone() -> None:
    values = {f"{name}@{k}{part}": 0.5 for k in (10, 5) for name in ("HR", "NDCG") for part in ("", "_half_width")}
    values |= {"MRR": 0.5, "MRR_half_width": 0.1}
    assert metrics_table.names({"sasrec": {"sampled": values, "full": values}}) == ["HR@10", "NDCG@10"]


def test_metrics_that_are_not_there_or_damaged_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"metrics/eval\.json: not found; run `dvc repro`"):
        show.main()
    show.METRICS.parent.mkdir()
    show.METRICS.write_text('{"sasrec": {}')
    with pytest.raises(UserError, match=r"metrics/eval\.json: cannot be used"):
        show.main()
