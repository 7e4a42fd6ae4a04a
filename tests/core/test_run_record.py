"""What a stage took is recorded beside the outputs, and found again for that result alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, runner

from sasrec.core import run_record

PARAMS, OUTPUTS = {"train.seed": 3}, {"out.txt": "49f68a5c8493ec2c0bf489821c21fc3b"}  # MD5 of "hi"
SCRIPT = """import sys
sys.path.insert(0, sys.argv.pop())
from sasrec.core import run_record
def main():
    bytearray(b"x") * 300_000_000
    return {"device": "cpu"}
run_record.recorded(__file__, main)()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline whose stage `one` has a param and an output."""
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: python one.py, params: [train.seed], outs: [out.txt]}}")
    (tmp_path / "params.yaml").write_text("train: {seed: 3}")
    (tmp_path / "out.txt").write_text("hi")
    (tmp_path / "one.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def record_one() -> None:
    run_record.recorded("stages/one.py", lambda: None)()


def test_time_and_memory_are_those_of_the_script_and_not_of_what_started_it(folder: Path) -> None:
    here = bytearray(b"x") * 600_000_000
    subprocess.run([sys.executable, "one.py", str(ROOT / "stages")], check=True)
    del here
    found = run_record.find(folder, "one", PARAMS, OUTPUTS)
    assert 300e6 < found.peak_bytes < 500e6
    assert 0 < found.seconds < 600
    assert found.device == {"device": "cpu"}


def test_a_record_is_found_for_its_params_and_outputs_alone(folder: Path) -> None:
    record_one()
    assert run_record.find(folder, "one", PARAMS, OUTPUTS)
    assert run_record.find(folder, "one", {"train.seed": 4}, OUTPUTS) is None
    assert run_record.find(folder, "one", PARAMS, {"out.txt": "0"}) is None
    assert run_record.find(folder, "two", PARAMS, OUTPUTS) is None


def test_a_damaged_record_is_none(folder: Path) -> None:
    record_one()
    [path] = (folder / ".runs").iterdir()
    path.write_text("{")
    assert run_record.find(folder, "one", PARAMS, OUTPUTS) is None


def test_an_experiment_in_a_temporary_folder_leaves_its_record_in_the_clone(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path_factory.mktemp("clone")
    monkeypatch.setenv("DVC_ROOT", str(clone))  # as DVC does
    record_one()
    assert run_record.find(clone, "one", PARAMS, OUTPUTS)
    assert not (folder / ".runs").exists()


def test_of_several_processes_the_main_one_alone_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    record_one()
    assert not (folder / ".runs").exists()


@pytest.mark.parametrize("lacking", ["dvc.yaml", "params.yaml", "out.txt"])
def test_a_record_that_cannot_be_written_ends_no_stage(folder: Path, lacking: str) -> None:
    (folder / lacking).unlink()
    record_one()
    assert not (folder / ".runs").exists()


def test_the_digest_of_a_folder_is_the_one_that_dvc_has(folder: Path) -> None:
    for name in ("b.gz", "a.gz", "a-1.gz", "ü.gz"):
        (folder / "shards" / name).parent.mkdir(exist_ok=True)
        (folder / "shards" / name).write_text(name)
    run = runner(folder)
    run("dvc", "init", "--no-scm")
    run("dvc", "add", "shards")
    assert f"md5: {run_record.md5(Path('shards'))}" in (folder / "shards.dvc").read_text()
