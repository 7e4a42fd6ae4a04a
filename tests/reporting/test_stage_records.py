"""The records of the run that dvc.lock describes."""

from pathlib import Path

import pytest
from conftest import runner

from sasrec.core.run_record import Record
from sasrec.reporting import stage_records

STAGES = ["check_params", "fetch", "parse_gzip", "filter_reindex", "split", "train_gpu", "evaluate"]


def read(folder: Path) -> stage_records.Records:
    return stage_records.read(folder / "dvc.yaml", folder / "dvc.lock")


def record(**changes: object) -> Record:
    values = {"finished": "", "seconds": 12.34, "peak_bytes": 2_345_000_000, "python": "3.12.1", "machine": "x86_64"}
    return Record(**values | {"processor": "P", "cores": 2, "libraries": {"torch": "2.0"}} | changes)


def test_every_stage_of_a_finished_run_has_one(finished: Path) -> None:
    records = read(finished)
    assert list(records) == STAGES
    assert None not in records.values()
    assert {name for name, found in records.items() if found.device} == {"train_gpu", "evaluate"}


@pytest.mark.parametrize("of_the_lock", ["demo_users: 400", "md5: "])
def test_another_runs_lock_finds_none(project: Path, of_the_lock: str) -> None:
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace(of_the_lock, f"{of_the_lock}0"))
    assert read(project)["fetch"] is None


def test_without_a_lock_no_stage_has_one(project: Path) -> None:
    (project / "dvc.lock").unlink()
    assert set(read(project).values()) == {None}


def test_the_table_has_a_line_a_stage_that_fits_a_terminal() -> None:
    gpu = {"device": "NVIDIA H100 80GB HBM3", "threads": 2}
    lines = stage_records.as_text({"train_gpu": record(device=gpu), "fetch": record(), "split": None}).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["train_gpu", "12.3", "2,345", "MB", "NVIDIA", "H100", "80GB", "HBM3,", "2", "threads"],
        ["fetch", "12.3", "2,345", "MB", "cpu"],
        ["split", "not", "recorded", "on", "this", "machine"],
    ]
    assert max(map(len, lines)) <= 80


def test_stages_that_ran_alike_share_a_description() -> None:
    other = record(python="3.11.0")
    found = stage_records.environments({"a": record(), "b": other, "c": record(seconds=1), "d": None})
    assert [(names, each.python) for names, each in found] == [(["a", "c"], "3.12.1"), (["b"], "3.11.0")]


@pytest.mark.long
def test_a_checkout_finds_the_record_of_the_run_that_is_checked_out(project: Path) -> None:
    run, before = runner(project), read(project)["evaluate"]
    run("dvc", "exp", "run", "--name", "wider", "-S", "evaluation.k=20")
    experiment = read(project)["evaluate"]
    run("git", "checkout", "--quiet", ".")
    run("dvc", "checkout")
    assert read(project)["evaluate"] == before != experiment
    run("dvc", "exp", "apply", "wider")
    assert read(project)["evaluate"] == experiment
    run("dvc", "exp", "run", "--temp", "--name", "narrower", "-S", "evaluation.k=5")
    run("dvc", "exp", "apply", "narrower")
    assert read(project)["evaluate"] not in (before, experiment, None)
