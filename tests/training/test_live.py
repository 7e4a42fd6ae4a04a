"""What training shows while it goes on: the series that DVCLive writes, and progress on a terminal."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, runner, sequences, set_params, train_params, training_set

from sasrec.io import progress
from sasrec.model.params import SasrecParams
from sasrec.training import live, step

VALIDATION = [f"validation/{ranked}/{name}" for ranked in ("sampled", "full") for name in ("HR@10", "NDCG@10")]
SERIES = ["training/loss", "training/learning_rate", *VALIDATION]


def series(folder: Path, name: str) -> list[tuple[int, float]]:
    with (folder / f"dvclive/plots/metrics/{name}.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [(int(row["step"]), float(row[name.rpartition("/")[2]])) for row in rows]


def column(path: Path, name: str) -> list[float]:
    with path.open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_a_run_ends_with_a_point_an_epoch_that_agrees_with_the_final_curves(finished: Path) -> None:
    losses = column(finished / "plots/loss.csv", "loss")
    half = len(losses) // 2  # two epochs
    means = [sum(part) / half for part in (losses[:half], losses[half:])]
    assert series(finished, "training/loss") == [(1, pytest.approx(means[0])), (2, pytest.approx(means[1]))]
    for name in VALIDATION:
        final = column(finished / "plots/validation.csv", name.removeprefix("validation/").replace("/", "_"))
        assert series(finished, name) == list(enumerate(final, start=1))
    latest = json.loads((finished / "dvclive/metrics.json").read_text())
    assert latest["step"] == 2
    assert latest["training"]["loss"] == series(finished, "training/loss")[-1][1]
    assert latest["validation"]["full"]["NDCG@10"] == series(finished, "validation/full/NDCG@10")[-1][1]


def test_repro_writes_no_dvc_yaml_and_saves_no_experiment(finished: Path) -> None:
    assert (finished / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
    assert runner(finished)("git", "for-each-ref", "refs/exps").stdout == ""
    assert sorted(path.name for path in (finished / "dvclive").iterdir()) == ["metrics.json", "plots"]


def state_after(num_epochs: int) -> step.TrainingState:
    """A state after `num_epochs` of two steps, its figures made up."""
    train = training_set(sequences([1, 2, 3]), num_books=5)
    params = train_params(schedule="cosine", num_epochs=3)
    state = step.start(train, params, SasrecParams(5, 4, 1, 1, 0.0, False, 0.02), torch.device("cpu"))
    state.losses = [1 / (number + 1) for number in range(2 * num_epochs)]
    points = [{"HR@10": epoch / 7, "NDCG@10": epoch / 9} for epoch in range(num_epochs)]
    state.curve = [{"sampled": point, "full": point} for point in points]
    return state


@pytest.mark.parametrize("killed_after", [2, 3])
def test_a_resumed_training_ends_with_the_series_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    written = {}
    for name, numbers in (("undisturbed", [1, 2, 3]), ("resumed", range(killed_after, 4))):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        series_of_run = live.start(Path("dvclive"))
        for num_epochs in numbers:
            live.write(series_of_run, state_after(num_epochs), steps_per_epoch=2)
        series_of_run.end()
        files = sorted(path for path in Path("dvclive").rglob("*") if path.is_file())
        written[name] = [(path, path.read_bytes()) for path in files]
    assert len(written["undisturbed"]) == len(SERIES) + 1
    assert written["resumed"] == written["undisturbed"]


def test_an_epoch_cut_short_does_not_count_into_the_mean_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = state_after(2)
    state.losses.append(1000.0)  # the first step of the third epoch
    live.write(live.start(Path("dvclive")), state, steps_per_epoch=2)
    assert series(tmp_path, "training/loss") == [
        (1, pytest.approx((1 + 1 / 2) / 2)),
        (2, pytest.approx((1 / 3 + 1 / 4) / 2)),
    ]


@pytest.mark.long
def test_dvc_shows_the_epochs_while_training_goes_on(project: Path) -> None:
    set_params(project, train={"num_epochs": 500})
    run = runner(project)
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    training_on = subprocess.Popen(
        ["dvc", "repro", "--single-item", "train_gpu"],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        latest, final = project / "dvclive/plots/metrics/validation/full/NDCG@10.tsv", project / "plots/loss.csv"
        while final.exists() or not latest.exists():
            assert training_on.poll() is None
            time.sleep(0.05)
        workspace = json.loads(run("dvc", "exp", "show", "--json").stdout)[0]["data"]["metrics"]
        plots = json.loads(run("dvc", "plots", "show", "--json").stdout)["data"]
        assert training_on.poll() is None
    finally:
        os.killpg(training_on.pid, signal.SIGKILL)
        training_on.wait()
    assert workspace["dvclive/metrics.json"]["data"].keys() == {"training", "validation", "step"}
    for name in ("epoch_loss", "learning_rate", "validation_HR", "validation_NDCG"):
        assert len(plots[name][0]["content"]["data"]["values"]) >= 1
    assert not final.exists()  # it is written at the end


def test_importing_the_stage_does_not_import_dvclive() -> None:
    code = "import sys, train_gpu; sys.exit('dvclive' in sys.modules or 'dvc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "stages", check=False).returncode == 0


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_reading_shows_its_progress_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    (tmp_path / "dump").write_bytes(bytes(3_000_000))
    screen = io.StringIO()
    screen.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.stderr", screen)
    with progress.open_with_progress(tmp_path / "dump", "read") as file:
        assert file.readinto(bytearray(4_000_000)) == 3_000_000
    assert ("read: 100%" in screen.getvalue()) == is_terminal
    assert bool(screen.getvalue()) == is_terminal
