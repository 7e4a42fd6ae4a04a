"""Data travel through a DVC remote: a folder, and S3 as a server on the loopback plays it."""

from pathlib import Path

import pytest
from conftest import Run, out_of_date, runner


@pytest.fixture
def folder_remote(tmp_path: Path) -> list[list[str]]:
    return [["dvc", "remote", "add", "--default", "store", str(tmp_path / "store")]]


@pytest.fixture
def s3_remote(s3: str) -> list[list[str]]:
    return [
        ["dvc", "remote", "add", "--default", "store", "s3://books/sasrec"],
        ["dvc", "remote", "modify", "store", "endpointurl", s3],
    ]


def publish(project: Path, remote: list[list[str]]) -> None:
    run = runner(project)
    for command in remote:
        run(*command)
    assert "pushed" in run("dvc", "push").stdout
    run("git", "commit", "-qam", "Add a remote")


def clone(project: Path, name: str) -> Run:
    folder = project.with_name(name)
    runner(project)("git", "clone", "--quiet", ".", str(folder))
    return runner(folder)


@pytest.mark.parametrize("remote", ["folder_remote", pytest.param("s3_remote", marks=pytest.mark.long)])
def test_a_clone_without_data_pulls_them_and_has_nothing_to_run(
    project: Path, request: pytest.FixtureRequest, remote: str
) -> None:
    publish(project, request.getfixturevalue(remote))
    pulled = clone(project, "pulled")
    pulled("dvc", "pull")
    assert out_of_date(project.with_name("pulled")) == set()

    frugal = clone(project, "frugal")
    done = frugal("dvc", "repro", "--pull", "--allow-missing")
    assert "Running stage" not in done.stdout
    assert frugal("git", "status", "--porcelain").stdout == ""


@pytest.mark.long
def test_a_clone_pulls_only_what_a_changed_param_needs(project: Path, folder_remote: list[list[str]]) -> None:
    publish(project, folder_remote)
    run = clone(project, "changed")
    changed = project.with_name("changed")
    params = changed / "params.yaml"
    params.write_text(params.read_text().replace("\n  k: 10\n", "\n  k: 5\n"))
    done = run("dvc", "repro", "--pull", "--allow-missing")
    running = [line for line in done.stdout.splitlines() if line.startswith("Running")]
    assert running == ["Running stage 'check_params':", "Running stage 'evaluate':"]
    assert not (changed / "data/raw/reviews.json.gz").exists()
