"""Data travel through a DVC remote: a folder, and S3 as a server on the loopback plays it."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from conftest import Run, runner
from moto.server import ThreadedMotoServer


@pytest.fixture
def folder_remote(tmp_path: Path) -> list[list[str]]:
    return [["dvc", "remote", "add", "--default", "store", str(tmp_path / "store")]]


@pytest.fixture
def s3_remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="books")
    yield [
        ["dvc", "remote", "add", "--default", "store", "s3://books/sasrec"],
        ["dvc", "remote", "modify", "store", "endpointurl", address],
    ]
    server.stop()


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


@pytest.mark.parametrize("remote", ["folder_remote", "s3_remote"])
def test_a_clone_without_data_pulls_them_and_has_nothing_to_run(
    project: Path, request: pytest.FixtureRequest, remote: str
) -> None:
    publish(project, request.getfixturevalue(remote))
    pulled = clone(project, "pulled")
    pulled("dvc", "pull")
    assert json.loads(pulled("dvc", "status", "--json").stdout) == {}

    frugal = clone(project, "frugal")
    done = frugal("dvc", "repro", "--pull", "--allow-missing")
    assert "Running stage" not in done.stdout
    assert frugal("git", "status", "--porcelain").stdout == ""


def test_a_clone_pulls_only_what_a_changed_param_needs(project: Path, folder_remote: list[list[str]]) -> None:
    publish(project, folder_remote)
    run = clone(project, "changed")
    changed = project.with_name("changed")
    params = changed / "params.yaml"
    params.write_text(params.read_text().replace("\n  k: 10\n", "\n  k: 5\n"))
    done = run("dvc", "repro", "--pull", "--allow-missing")
    assert [line for line in done.stdout.splitlines() if line.startswith("Running")] == ["Running stage 'evaluate':"]
    assert not (changed / "data/raw/reviews.json.gz").exists()
