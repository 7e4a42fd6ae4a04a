"""The check that CI runs, on a small pipeline."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import verify
from conftest import ROOT, copy_project, runner, set_params
from ruamel.yaml import YAML
from safetensors.numpy import save_file

VERIFY = ["env", f"PYTHONPATH={ROOT / 'stages'}", sys.executable, str(ROOT / "checks/verify.py")]


@pytest.fixture
def data_stages(project: Path) -> Path:
    """The finished pipeline without training and ranking, which take most of the time of a run."""
    for name in ("dvc.yaml", "dvc.lock"):
        document = YAML().load(project / name)
        for stage in ("train_gpu", "evaluate"):
            del document["stages"][stage]
        YAML().dump(document, project / name)
    runner(project)("git", "commit", "-qam", "Prepare the data, no more")
    return project


@pytest.mark.long
def test_a_sound_pipeline_passes_in_a_subfolder_of_a_repository_too_whatever_its_path_holds(
    data_stages: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Bücher и книги/packages/recommender"
    shutil.copytree(data_stages, folder, ignore=shutil.ignore_patterns(".git"))
    run = runner(folder.parent.parent)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Many packages"]):
        run("git", *command)
    expected = [
        "every stage must agree to the bit",
        "two runs from empty caches: the same",
        "the committed dvc.lock: the same",
    ]
    assert run(*VERIFY, str(folder)).stdout.splitlines() == expected


def test_a_repository_of_another_user_is_refused_with_the_way_to_trust_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git then takes every repository for another user's
    [line] = runner(project)(*VERIFY, str(project), fails=True).stderr.splitlines()
    assert line.endswith(f"if you trust it: `git config --global --add safe.directory {project}`")


def test_a_folder_in_no_repository_is_said_to_be_so(tmp_path: Path) -> None:
    [line] = runner(tmp_path)(*VERIFY, str(tmp_path), fails=True).stderr.splitlines()
    assert line.startswith(f"error: {tmp_path} is in no git repository")


@pytest.mark.long
def test_an_unseeded_draw_is_found_and_located(data_stages: Path, tmp_path: Path) -> None:
    code = data_stages / "stages/sasrec/split/negatives.py"
    seeded = "[rng.choice("
    assert seeded in code.read_text()
    code.write_text(code.read_text().replace(seeded, "[np.random.default_rng().choice("))
    runner(data_stages)("git", "commit", "-qam", "Draw without a seed")
    how = r"differs in \d+ of \d+ values of tensor negatives, by up to \d+"
    found = f"stage split: data/split/evaluation.safetensors {how}; data/split/validation.safetensors {how}"
    with pytest.raises(verify.DifferenceError, match=f"^{found}$"):
        verify.verify(data_stages, tmp_path / "scratch")


def test_a_lock_of_other_params_is_found_and_located(project: Path, finished: Path) -> None:
    set_params(project, fetch={"demo_seed": 1})
    runner(project)("dvc", "repro", "--single-item", "fetch")
    mine, committed = verify.read_lock(project), verify.read_lock(finished)
    with pytest.raises(
        verify.DifferenceError, match=r"^stage fetch: data/raw/reviews.json.gz differs: \d+ against \d+"
    ):
        verify.compare(mine, committed, list(mine), verify.in_folder(project), verify.in_folder(finished))


def test_a_lock_of_other_code_is_found_though_the_outputs_agree(project: Path, finished: Path) -> None:
    code = project / "stages/sasrec/evaluation/ranking.py"
    code.write_text(code.read_text() + "# No output changes with this line.\n")
    runner(project)("dvc", "commit", "--force", "train_gpu")
    mine, committed = verify.read_lock(project), verify.read_lock(finished)
    verify.compare(mine, committed, list(mine), verify.in_folder(project), verify.in_folder(finished))
    expected = (
        "stage train_gpu: dvc.lock was made with another stages/sasrec/evaluation/ranking.py; `dvc repro` and commit it"
    )
    with pytest.raises(verify.DifferenceError, match=f"^{re.escape(expected)}$"):
        verify.compare_causes(mine, committed)


def pair(tmp_path: Path, suffix: str) -> tuple[Path, Path]:
    return tmp_path / f"mine{suffix}", tmp_path / f"other{suffix}"


def test_rows_that_differ_are_counted_and_shown(tmp_path: Path) -> None:
    mine, other = pair(tmp_path, ".parquet")
    pq.write_table(pa.table({"book": [1, 2, 3, 4]}), mine)
    pq.write_table(pa.table({"book": [1, 9, 3, 8]}), other)
    expected = " in 2 of 4 rows, first in row 1: {'book': 2} against {'book': 9}"
    assert verify.describe("x.parquet", mine, other) == expected
    pq.write_table(pa.table({"book": [1]}), other)
    assert verify.describe("x.parquet", mine, other) == ": 4 against 1 rows"


def test_tensors_that_differ_are_named(tmp_path: Path) -> None:
    mine, other = pair(tmp_path, ".safetensors")
    save_file({"a": np.zeros(3), "b": np.array([1.0, 2.0])}, mine)
    save_file({"a": np.zeros(3), "b": np.array([1.0, 2.5])}, other)
    assert verify.describe("x.safetensors", mine, other) == " in 1 of 2 values of tensor b, by up to 0.5"
    save_file({"a": np.zeros(4), "b": np.array([1.0, 2.5])}, other)
    assert verify.describe("x.safetensors", mine, other) == " in tensor a: shape (3,) against (4,)"


def test_metrics_that_differ_are_quoted(tmp_path: Path) -> None:
    mine, other = pair(tmp_path, ".json")
    mine.write_text('{\n  "HR@10": 0.5\n}\n')
    other.write_text('{\n  "HR@10": 0.6\n}\n')
    assert verify.describe("x.json", mine, other) == ' at line 2:   "HR@10": 0.5 against   "HR@10": 0.6'


def test_content_that_is_not_at_hand_is_said_to_be_so(tmp_path: Path) -> None:
    assert "the committed content is not at hand" in verify.describe("x.parquet", tmp_path, None)


@pytest.mark.parametrize(("found", "passes"), [(0.54, True), (0.56, False), (0.44, False)])
def test_where_bits_may_differ_the_metrics_must_be_close(found: float, passes: bool) -> None:
    mine, committed = ({"sasrec": {"full": {"HR@10": value}}} for value in (found, 0.5))
    if passes:
        verify.compare_metrics(mine, committed)
    else:
        with pytest.raises(verify.DifferenceError, match=r"sasrec.full.HR@10: 0.\d+ against 0.5, more"):
            verify.compare_metrics(mine, committed)


@pytest.mark.long
def test_fast_is_exact_between_two_runs_and_close_to_the_metrics_of_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = copy_project(tmp_path / "project")  # with its 1,000 held-out users, for which the tolerance is made
    for name in ("params.yaml", "dvc.lock"):  # so the committed weights and metrics are of other arithmetic
        path = project / name
        path.write_text(path.read_text().replace("reproducibility: portable", "reproducibility: fast"))
    runner(project)("git", "commit", "-qam", "Train fast")
    verify.verify(project, tmp_path / "scratch")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train.reproducibility is fast, which may differ elsewhere: against the committed lock")
    assert lines[1:] == ["two runs from empty caches: the same", "the committed dvc.lock: the same"]


def test_what_differs_is_shown_as_text_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a\n\x1b[2J\u202e": np.zeros(2)}, {}
    monkeypatch.setattr(verify, "load_file", lambda number: tensors[number])
    monkeypatch.setattr(sys, "argv", ["verify.py"])
    differs = mock.Mock(side_effect=verify.DifferenceError(verify._describe_tensors(0, 1)))
    monkeypatch.setattr(verify, "verify", differs)
    with pytest.raises(SystemExit) as ended:
        verify.main()
    assert ended.value.code == r"error:  in tensor a\n\x1b[2J\u202e: shape (2,) against absent"


def test_a_line_that_differs_is_found_on_an_ascii_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("± 1\n", encoding="utf-8")
    (tmp_path / "b.md").write_text("± 2\n", encoding="utf-8")
    ask = "import sys, pathlib, verify; print(ascii(verify.describe('x.md', *map(pathlib.Path, sys.argv[1:]))))"
    paths = os.pathsep.join([str(ROOT / "checks"), str(ROOT / "stages")])
    given = {"PYTHONPATH": paths, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", ask, tmp_path / "a.md", tmp_path / "b.md"]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=True)
    assert done.stdout == "' at line 1: \\xb1 1 against \\xb1 2'\n"


def test_another_processor_is_said_to_be_no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert verify.why_inexact({"device": "cpu"}) == "this processor is aarch64"
