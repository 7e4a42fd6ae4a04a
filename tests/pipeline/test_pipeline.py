"""The real commands, in a repository of its own that holds the working tree's files and no data."""

import gzip
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import stopping
import torch
from conftest import ROOT, copy_project, out_of_date, runner, set_params
from ruamel.yaml import YAML

from sasrec.core import params
from sasrec.model.params import SasrecParams
from sasrec.training import checkpoint
from sasrec.training.params import TrainParams

with mock.patch.dict(os.environ):  # the stage sets variables for torch when it is imported
    import train_gpu

CPU = torch.device("cpu")
STAGES = ["check_params", "fetch", "parse_gzip", "filter_reindex", "split", "train_gpu", "evaluate"]
DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")
NAMES = ["HR@10", "NDCG@10", "MRR"]


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def outputs_of(stage: str) -> list[str]:
    """The paths of a stage's outputs; one with options is a mapping from its path."""
    declared = DVC["stages"][stage]["outs"] + DVC["stages"][stage].get("metrics", [])
    return [path for output in declared for path in ([output] if isinstance(output, str) else output)]


def remove_outputs(stage: str, project: Path) -> None:
    for name in outputs_of(stage):
        (project / name).unlink()


def assert_same_outputs(stage: str, project: Path, other: Path) -> None:
    assert [name for name in outputs_of(stage) if (project / name).read_bytes() != (other / name).read_bytes()] == []


def test_a_second_repro_runs_nothing(project: Path) -> None:
    run = runner(project)
    assert stages_run(run("dvc", "repro").stdout) == []
    assert json.loads(run("dvc", "status", "--json").stdout) == {}
    assert run("git", "status", "--porcelain").stdout == ""


@pytest.mark.long
def test_a_forced_repro_runs_every_stage_and_ends_with_the_same_lock_whatever_the_environment_and_the_number_of_cores(
    project: Path,
) -> None:
    instructions = ["MKL_CBWR=AVX2", "ONEDNN_MAX_CPU_ISA=SSE41", "ATEN_CPU_CAPABILITY=avx2"]
    run = runner(project)
    done = run("taskset", "-c", "0", "env", "OMP_NUM_THREADS=1", *instructions, "dvc", "repro", "--force")
    assert stages_run(done.stdout) == STAGES
    assert run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("train", "lr", 0.01, {"check_params", "train_gpu", "evaluate"}),
        ("sasrec", "num_layers", 1, {"check_params", "train_gpu", "evaluate"}),
        ("evaluation", "k", 5, {"check_params", "evaluate"}),
        ("evaluation", "num_item_sample", 50, {"check_params", "split", "evaluate"}),
    ],
)
def test_a_param_makes_out_of_date_only_what_reads_it(
    project: Path, section: str, key: str, value: object, expected: set[str]
) -> None:
    set_params(project, **{section: {key: value}})
    assert out_of_date(project) == expected


@pytest.mark.long
def test_a_changed_param_runs_what_reads_it_and_dvc_shows_the_difference(project: Path) -> None:
    set_params(project, evaluation={"num_item_sample": 50})
    run = runner(project)
    assert "evaluation.num_item_sample" in run("dvc", "params", "diff").stdout
    assert stages_run(run("dvc", "repro").stdout) == ["check_params", "split", "evaluate"]
    assert "sasrec.sampled.HR@10" in run("dvc", "metrics", "diff").stdout


def kill_after_its_first_checkpoint(project: Path, folder: Path, *command: str) -> Path:
    """Kill a command, and the training that it runs, without a chance to clean up; return the checkpoint."""
    place = "checkpoints/train_gpu/"
    process = stopping.start(project, folder, *command, ends_at=place, with_signal=signal.SIGKILL, times=2)
    assert process.wait() == -signal.SIGKILL
    [checkpoint] = (project / place).glob("*[0-9a-f]")
    return checkpoint


@pytest.mark.long
def test_a_killed_training_goes_on_and_ends_with_the_same_outputs(
    project: Path, finished: Path, tmp_path: Path
) -> None:
    remove_outputs("train_gpu", project)
    kill_after_its_first_checkpoint(project, tmp_path / "hook", "dvc", "repro")
    done = runner(project)("dvc", "repro")
    assert stages_run(done.stdout) == ["train_gpu"]
    assert "going on after step" in done.stderr
    assert_same_outputs("train_gpu", project, finished)
    assert not (project / "checkpoints/train_gpu").exists()


def test_stale_and_damaged_checkpoints_are_ignored_with_a_message(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: CPU)  # it would change this process
    sections = {"sasrec": SasrecParams, "train": TrainParams}
    of_params = [params.load(train_gpu.PARAMS, name, struct) for name, struct in sections.items()]
    mine = train_gpu.CHECKPOINTS / checkpoint.key(of_params, [train_gpu.TRAIN, train_gpu.VALIDATION], CPU)
    other = mine.with_name("0" * 32)
    mine.parent.mkdir(parents=True)
    for path in (mine, other):
        path.write_bytes(b"x" * 1000)
    train_gpu.main()
    said = capsys.readouterr().err
    assert f"{mine}: ignored, it is damaged" in said
    assert f"{other}: ignored, it is of other params, inputs or code" in said
    assert [path.name for path in other.parent.iterdir()] == [other.name]  # of another training, which may go on


def test_metrics_show_the_model_beside_its_baselines_and_the_counts(project: Path) -> None:
    shown = json.loads(runner(project)("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    metrics = {path: content["data"] for path, content in shown.items()}
    assert list(metrics["metrics/eval.json"]) == [
        *("sasrec", "hybrid", "popularity", "recent_popularity", "item_transitions")
    ]
    for scorer in metrics["metrics/eval.json"]:
        assert {name: list(values) for name, values in metrics["metrics/eval.json"][scorer].items()} == {
            "sampled": NAMES,
            "full": NAMES,
        }
    data, train = metrics["metrics/data.json"], metrics["metrics/train.json"]
    assert data["users"] == data["train_users"] + data["eval_users"]
    assert data["mean_ratings_per_user"] == pytest.approx(data["ratings"] / data["users"])
    assert train["steps"] == 2 * (data["users"] // 64)
    assert set(train) == {
        *("loss", "kept_epoch", "epochs", "steps", "parameters", "kept_validation"),
        *("hybrid_weights", "hybrid_validation"),
    }


def test_plots_and_the_graph_are_drawn(project: Path) -> None:
    run = runner(project)
    run("dvc", "plots", "show", "-o", "drawn")
    page = (project / "drawn/index.html").read_text()
    for title in ("Users of the dump", "Training loss", "Validation NDCG@10", "Rank of the true book"):
        assert title in page
    compared = json.loads(run("dvc", "plots", "diff", "HEAD", "--json").stdout)["data"]
    assert compared["loss"][0]["revisions"] == ["workspace", "HEAD"]
    graph = run("dvc", "dag", "--dot").stdout
    for earlier, later in pairwise(STAGES):
        assert f'"{earlier}" -> "{later}"' in graph


@pytest.mark.long
def test_an_experiment_runs_with_another_param(project: Path) -> None:
    run = runner(project)
    done = run("dvc", "exp", "run", "--name", "shorter", "-S", "evaluation.k=7")
    assert stages_run(done.stdout) == ["check_params", "evaluate"]
    shown = run("dvc", "exp", "show", "--csv").stdout
    assert "shorter" in shown
    assert "HR@7" in shown


def own_dump(project: Path, path: Path, mode: int) -> Path:
    """The project's reviews in a file of other bytes."""
    path.write_bytes(gzip.compress(gzip.decompress((project / "data/raw/reviews.json.gz").read_bytes()), mtime=1))
    path.chmod(mode)
    return path


def test_a_read_only_file_of_ones_own_is_linked_into_the_workspace_and_the_cache(project: Path, tmp_path: Path) -> None:
    mine = own_dump(project, tmp_path / "mine.json.gz", 0o444)
    set_params(project, fetch={"source": "file", "file": str(mine), "demo_users": 1})
    done = runner(project)("dvc", "repro", "split")
    assert stages_run(done.stdout) == ["check_params", "fetch", "parse_gzip"]  # the same reviews
    assert (project / "data/raw/reviews.json.gz").samefile(mine)
    assert mine.stat().st_nlink == 3  # mine, the workspace's and the cache's: one copy of the bytes


def test_a_private_file_of_ones_own_keeps_its_mode_and_its_bytes_to_itself(project: Path, tmp_path: Path) -> None:
    mine = own_dump(project, tmp_path / "mine.json.gz", 0o600)
    content = mine.read_bytes()
    set_params(project, fetch={"source": "file", "file": str(mine)})
    runner(project)("dvc", "repro", "--single-item", "fetch")
    assert (stat.S_IMODE(mine.stat().st_mode), mine.stat().st_nlink, mine.read_bytes()) == (0o600, 1, content)
    assert stat.S_IMODE((project / "data/raw/reviews.json.gz").stat().st_mode) == 0o444  # as the documents say


@pytest.mark.parametrize(
    "how",
    [["repro"], ["exp", "run", "--temp"], pytest.param(["exp", "run", "--queue"], marks=pytest.mark.long)],
    ids=" ".join,
)
def test_a_relative_path_is_one_of_the_repository_wherever_dvc_runs(project: Path, how: list[str]) -> None:
    (project / "dumps").mkdir()
    mine = own_dump(project, project / "dumps/mine.json.gz", 0o644)
    set_params(project, fetch={"source": "file", "file": ["dumps/m*.json.gz"]})
    run = runner(project)
    run("dvc", *how, "--single-item", "fetch")
    if "--queue" in how:
        run("dvc", "exp", "run", "--run-all")
    digest = hashlib.md5(mine.read_bytes()).hexdigest()
    assert (project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_bytes() == mine.read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("other_name", [False, True])
def test_a_damaged_file_of_ones_own_is_named_and_an_intact_one_put_there_is_taken(
    project: Path, tmp_path: Path, other_name: bool
) -> None:
    mine, intact = tmp_path / "mine.json.gz", (project / "data/raw/reviews.json.gz").read_bytes()
    mine.write_bytes(intact[:-100])
    set_params(project, fetch={"source": "file", "file": str(mine)})
    run = runner(project)
    said = run("dvc", "repro", fails=True).stderr
    assert f"error: {mine}: the gzip data end too early or with garbage; replace it by an intact file, or set" in said
    assert "run `dvc repro --force fetch && dvc repro`\n" in said
    if other_name:
        mine = tmp_path / "other.json.gz"
        set_params(project, fetch={"file": str(mine)})
    (tmp_path / "new").write_bytes(intact)
    (tmp_path / "new").replace(mine)
    run("dvc", "repro", "--force", "fetch")
    assert stages_run(run("dvc", "repro", "split").stdout) == []  # the same reviews
    assert (project / "data/raw/reviews.json.gz").read_bytes() == intact


def test_a_dump_that_was_damaged_after_it_was_fetched_is_not_blamed_on_its_source(
    project: Path, tmp_path: Path
) -> None:
    raw = project / "data/raw/reviews.json.gz"
    mine = tmp_path / "mine.json.gz"
    mine.write_bytes(raw.read_bytes())
    set_params(project, fetch={"source": "file", "file": str(mine)})
    raw.unlink()
    raw.write_bytes(mine.read_bytes()[:-1])
    done = runner(project)(sys.executable, "stages/parse_gzip.py", fails=True)
    assert done.stderr.startswith("error: data/raw/reviews.json.gz: the gzip data end too early")
    assert done.stderr.endswith("; `make heal` makes it again\n")


def test_a_failing_stage_leaves_no_output(project: Path) -> None:
    set_params(project, evaluation={"num_user_sample": 10_000})
    done = runner(project)("dvc", "repro", "--single-item", "split", fails=True)
    assert "evaluation.num_user_sample is 10000" in done.stderr
    assert list((project / "data/split").iterdir()) == []


def test_a_misspelt_key_stops_the_stage_with_its_name(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("  cutoff:", "  cut:"))
    said = runner(project)(sys.executable, "stages/split.py", fails=True).stderr
    assert "unknown key split.cut; did you mean split.cutoff?" in said


def digest_of(path: Path) -> str:
    """The digest by which DVC knows a file, or a folder: that of the list of its files' names and digests."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    listed = [{"md5": digest_of(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"


def test_the_committed_lock_is_of_this_code_and_these_params() -> None:
    lock, params = (YAML(typ="safe").load(ROOT / name) for name in ("dvc.lock", "params.yaml"))
    assert list(lock["stages"]) == STAGES
    for stage in lock["stages"].values():
        recorded = {dep["path"]: dep["md5"] for dep in stage["deps"] if dep["path"].startswith("stages/")}
        assert recorded == {path: digest_of(ROOT / path) for path in recorded}
        for name, value in stage["params"]["params.yaml"].items():  # a section, or a key of one
            section, _, key = name.partition(".")
            assert value == (params[section][key] if key else params[section])


@pytest.mark.long
def test_the_data_stages_give_what_the_committed_lock_says(tmp_path: Path) -> None:
    folder = copy_project(tmp_path)
    run = runner(folder)
    run("dvc", "repro", "split")
    assert run("git", "status", "--porcelain").stdout == ""


def test_the_data_stages_import_neither_pandas_nor_pytorch(project: Path) -> None:
    stages = ["parse_gzip", "filter_reindex", "split"]
    main = "; ".join(f"import {stage}; {stage}.main()" for stage in stages)
    code = f"import sys; {main}; sys.exit(bool({{'pandas', 'torch'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env={**os.environ, "PYTHONPATH": "stages"})
    assert done.returncode == 0
