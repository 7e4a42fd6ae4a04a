"""What a stage says of itself."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from sasrec.core import cli

EXPECTED = {  # by the README
    "check_params": ["nothing that another stage wrote", "data/params_checked.txt", "train.lr: 0.005"],
    "fetch": ["data/raw/reviews.json.gz", 'fetch.source: "demo"', "fetch.file: null"],
    "parse_gzip": ["data/raw/reviews.json.gz", "data/interim/rejected.parquet", "parse_gzip.max_expansion: 200"],
    "filter_reindex": [
        "data/interim/reviews.parquet",
        "data/processed/books.parquet",
        "filter_reindex.min_ratings: 10",
    ],
    "split": ["data/processed/interactions.parquet", "data/split/train.safetensors", "metrics/data.json"],
    "train_gpu": ["data/split/train.safetensors", "models/sasrec.safetensors", "train.lr: 0.005"],
    "evaluate": ["models/sasrec.json", "metrics/eval.json", "plots/rank_histogram.csv", "evaluation.padding: true"],
}


def run(stage: str, argument: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / f"stages/{stage}.py"), argument]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("stage", EXPECTED)
def test_help_names_what_a_stage_reads_and_writes_and_its_params_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{stage}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.answer(str(ROOT / f"stages/{stage}.py"))
    said = capsys.readouterr().out
    assert [line for line in EXPECTED[stage] if f"  {line}\n" not in said] == []


@pytest.mark.parametrize("stage", EXPECTED)
def test_every_stage_answers_its_arguments_before_it_runs(stage: str) -> None:
    assert (ROOT / f"stages/{stage}.py").read_text().splitlines()[-2] == "    cli.answer(__file__)"


def test_help_is_answered_from_any_folder_by_a_stage_itself(tmp_path: Path) -> None:
    done = run("split", "--help", tmp_path)
    assert (done.returncode, done.stdout.startswith("usage: ")) == (0, True)


def test_help_ends_with_one_line_where_params_yaml_cannot_be_shown(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    given = (ROOT / "params.yaml").read_text().replace("file: null", "file: sftp://user:hUnter2@host/a.json.gz")
    (tmp_path / "params.yaml").write_text(given)
    command = [sys.executable, str(tmp_path / "stages/fetch.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.startswith(f"error: {tmp_path}/params.yaml:4: fetch.file has credentials in a URL")
    assert done.stderr.count("\n") == 1
    assert "hUnter2" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("params.yaml", ("  source: demo", "  source: 2016-12-31"), "params.yaml:3: fetch.source is a day without"),
        ("params.yaml", ("fetch:", "fetch: ["), r"params.yaml:\d: not valid YAML"),
        ("dvc.yaml", ("  fetch:", "  fetched:"), "dvc.yaml: has no valid stage fetch; restore it with git"),
        ("dvc.yaml", ("stages:", "stages: ["), "dvc.yaml: has no valid stage fetch; restore it with git"),
    ],
)
def test_help_is_one_line_where_a_file_is_not_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: tuple[str, str], message: str
) -> None:
    for each in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / each, tmp_path)
    (tmp_path / name).write_text((ROOT / name).read_text().replace(*change, 1))
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--help"])
    with pytest.raises(SystemExit, match=f"^error: {tmp_path}/{message}"):
        cli.answer(str(tmp_path / "stages/fetch.py"))


def test_help_says_that_a_section_is_missing_key_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("split:\n  seed: 5\n")
    monkeypatch.setattr(sys, "argv", ["split.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.answer(str(tmp_path / "stages/split.py"))
    assert "  split.seed: 5\n  evaluation.num_user_sample: missing\n" in capsys.readouterr().out


def test_an_argument_is_refused_because_params_yaml_holds_them_all(tmp_path: Path) -> None:
    done = run("split", "--seed=1", tmp_path)
    assert done.returncode == 2
    assert "unrecognized arguments: --seed=1" in done.stderr
    assert list(tmp_path.iterdir()) == []
