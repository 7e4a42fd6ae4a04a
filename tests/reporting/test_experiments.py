"""Tables of runs fit a terminal, and no name is in them twice."""

import csv
import json
import sys
from pathlib import Path

from conftest import runner

from sasrec.reporting import experiments


def run(name: str, validation: float, created: str = "2026-01-02T03:04:05", **changed: object) -> experiments.Run:
    both = {ranked: {"NDCG@10": validation} for ranked in ("full", "sampled")}
    train = {
        "kept_epoch": 7,
        "hybrid_weights": {"transitions": 0.5, "autoencoder": 4.0},
        "kept_validation": both,
        "hybrid_validation": both,
    }
    return experiments.Run(name, bool(changed), created, train, changed)


def test_the_best_is_first_and_a_star_marks_the_newest_experiment() -> None:
    older, newer = run("older", 0.25, lr=1), run("newer", 0.125, "2026-01-03T00:00:00", lr=2)
    commit = run("main", 0.5, "2026-02-01T00:00:00")
    _, head, *lines = experiments.as_text([commit, newer, older]).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["main", "02-01", "00:00"],
        ["older", "01-02", "03:04"],
        ["*", "newer", "01-03"],
    ]
    assert [line.split()[-1] for line in lines[1:]] == ["lr=1", "lr=2"]
    assert len(head.split()) == 10  # "params changed" are two words of a column, and the star has none


def test_long_names_and_many_params_are_cut_at_a_hundred_columns() -> None:
    text = experiments.as_text([run("n" * 300, 0.5, **{f"train.param{number}": number for number in range(30)})])
    assert max(map(len, text.splitlines())) == 100
    assert text.count("…") == 2


def test_an_experiment_shows_what_it_changes_and_one_without_metrics_is_left_out() -> None:
    def data(lr: float) -> dict:
        train = run("", 0.5).train
        return {
            "timestamp": "2026-01-02T03:04:05",
            "params": {"params.yaml": {"data": {"train": {"lr": lr, "seed": 0}}}},
            "metrics": {"metrics/train.json": {"data": train}},
        }

    revisions = [{"rev": "a", "name": "faster", "data": data(0.5)}, {"rev": "b", "name": "queued", "data": None}]
    commit = {"rev": "c", "name": "main", "data": data(0.25), "experiments": [{"revs": [each]} for each in revisions]}
    found = list(experiments.runs([commit], "params.yaml", "metrics/train.json"))
    assert [(each.name, each.changed) for each in found] == [("main", {}), ("faster", {"train.lr": 0.5})]


def test_dvc_names_every_metric_and_param_once_and_each_metric_is_one_that_people_compare(tried: Path) -> None:
    table = runner(tried)("dvc", "exp", "show", "--csv").stdout
    columns = next(csv.reader(table.splitlines()))
    assert [column for column in columns if ":" in column or "half_width" in column] == []
    assert len(set(columns)) == len(columns)
    shown = json.loads(runner(tried)("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert list(shown) == ["metrics/data.json", "metrics/train.json", "dvclive/metrics.json", "metrics/eval.json"]
    assert sum("@" in column or "MRR" in column for column in columns) == 2 * 5 * 3 + 3 * 2 * 2  # rankers; validation


def test_dvc_shows_the_difference_of_two_runs_in_a_hundred_columns(tried: Path) -> None:
    lines = runner(tried)("dvc", "metrics", "diff", "--all").stdout.splitlines()  # the same metrics, too
    assert len(lines) > 10
    assert max(map(len, lines)) <= 100


def test_our_tables_fit(tried: Path) -> None:
    listed, shown = (
        runner(tried)(sys.executable, f"stages/{name}.py").stdout.splitlines() for name in ("experiments", "show")
    )
    assert [line.split()[0] for line in listed if "unpadded" in line] == ["*"]
    assert any(line.endswith("evaluation.padding=false") for line in listed)
    assert (max(map(len, listed)) <= 100, max(map(len, shown)) <= 80) == (True, True)
