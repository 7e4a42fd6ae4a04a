"""The first stage finds what is wrong in any section of params.yaml, before another stage works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, out_of_date, review, runner, set_params, write_dump
from ruamel.yaml import YAML

import check_params
from sasrec.core.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the committed params, to run the stage in."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_committed_params_are_valid_and_the_output_says_so(folder: Path) -> None:
    check_params.main()
    assert (folder / "data/params_checked.txt").read_text() == "Every section of params.yaml is valid.\n"


def test_the_stage_imports_no_library_that_takes_long(folder: Path) -> None:
    slow = {"gdown", "ibis", "pandas", "pyarrow", "torch"}
    code = f"import sys, check_params; check_params.main(); sys.exit(bool({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "stages")})
    assert done.returncode == 0


@pytest.mark.parametrize("section", check_params.SECTIONS)
def test_a_misspelt_key_of_any_section_is_found_and_nothing_is_written(folder: Path, section: str) -> None:
    set_params(folder, **{section: {"lrr": 1}})
    with pytest.raises(UserError, match=rf"params.yaml:\d+: unknown key {section}.lrr"):
        check_params.main()
    assert not (folder / "data").exists()


def test_a_key_of_another_section_is_told_its_own(folder: Path) -> None:
    set_params(folder, train={"num_threads": 2})
    with pytest.raises(UserError, match=r"unknown key train.num_threads; did you mean machine.num_threads\?"):
        check_params.main()


@pytest.mark.parametrize(("name", "hint"), [("trian", "did you mean train?"), ("notes", "its sections are fetch, ")])
def test_an_unknown_section_is_named(folder: Path, name: str, hint: str) -> None:
    with (folder / "params.yaml").open("a") as file:
        file.write(f"{name}:\n  lr: 1\n")
    with pytest.raises(UserError) as refused:
        check_params.main()
    assert f"params.yaml: unknown section {name}; {hint}" in str(refused.value)


def test_a_protocol_that_needs_a_number_of_users_is_refused_without_one(folder: Path) -> None:
    set_params(folder, evaluation={"num_user_sample": None})
    with pytest.raises(UserError, match=r"num_user_sample is null, which split.protocol holdout_users cannot take"):
        check_params.main()


@pytest.mark.parametrize("name", ["data/raw/reviews.json.gz", "data/raw/*.gz", "link.json.gz"])
def test_a_dump_at_the_path_that_fetch_writes_is_refused(folder: Path, name: str) -> None:
    dump = write_dump(folder / "data/raw/reviews.json.gz", [review()])
    (folder / "link.json.gz").symlink_to(dump)
    set_params(folder, fetch={"source": "file", "file": name})
    with pytest.raises(UserError, match=r"fetch.file is .*, which the stage fetch overwrites; move the dump elsewhere"):
        check_params.main()


@pytest.fixture(scope="module")
def copied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project whose params each test changes."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("checked") / "project")


def test_dvc_stops_before_it_removes_a_dump_at_the_path_that_fetch_writes(copied: Path) -> None:
    run = runner(copied)
    dump = (copied / "data/raw/reviews.json.gz").read_bytes()
    done = run("dvc", "exp", "run", "-S", "fetch.source=file", "-S", "fetch.file=data/raw/reviews.json.gz", fails=True)
    assert f"fetch.file is {copied}/data/raw/reviews.json.gz, which the stage fetch overwrites" in done.stderr
    assert (copied / "data/raw/reviews.json.gz").read_bytes() == dump
    run("git", "checkout", "params.yaml")


def test_a_key_added_by_an_experiment_stops_it_at_the_first_stage(copied: Path) -> None:
    done = runner(copied)("dvc", "exp", "run", "-S", "+train.lrr=1", "-S", "fetch.demo_seed=1", fails=True)
    assert "unknown key train.lrr; did you mean train.lr?" in done.stdout + done.stderr
    assert "Running stage 'fetch'" not in done.stdout
    runner(copied)("git", "checkout", "params.yaml")


@pytest.mark.long
def test_a_text_of_digits_is_refused_with_the_spelling_that_dvc_takes(copied: Path) -> None:
    digits = "1234567890" * 6 + "1234"
    run = runner(copied)
    done = run("dvc", "exp", "run", "-S", f"fetch.sha256={digits}", "check_params", fails=True)
    assert """write text in quotes, here and as -S 'fetch.sha256="…"'""" in done.stdout + done.stderr
    run("git", "checkout", "params.yaml")
    run("dvc", "exp", "run", "-S", f'fetch.sha256="{digits}"', "check_params")
    assert YAML(typ="safe").load(copied / "params.yaml")["fetch"]["sha256"] == digits
    run("git", "checkout", "params.yaml", "dvc.lock")


def test_a_valid_change_of_other_params_does_not_fetch_again(copied: Path) -> None:
    set_params(copied, train={"lr": 0.002})
    runner(copied)("dvc", "repro", "check_params")
    assert out_of_date(copied) == {"train_gpu", "evaluate"}
