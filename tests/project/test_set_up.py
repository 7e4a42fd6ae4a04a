"""The ways to install that docs/set-up.md shows lead to an environment that runs the pipeline."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import ROOT, Run, copy_project, runner
from packaging.utils import canonicalize_name

PAGE = (ROOT / "docs/set-up.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()


def stages_of(dockerfile: str) -> list[list[tuple[str, str]]]:
    """The instructions of each build stage, as words and arguments; FROM begins one."""
    lines = [line for line in dockerfile.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    instructions = [(word, argument) for word, _, argument in (line.partition(" ") for line in lines)]
    starts = [number for number, (word, _argument) in enumerate(instructions) if word == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


@pytest.fixture
def clone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in a copy of the repository, which goes with the gigabytes that the test installs there."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries=0", "--no-cache-dir"]
    with TemporaryDirectory() as folder:
        asked = subprocess.run([*pip, f"--dest={folder}", "-c", ROOT / "constraints.txt", "toolz"], check=False)
        if asked.returncode:
            pytest.skip("pip reaches no package registry from here")
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
        yield runner(copy_project(Path(folder, "clone")))


def test_the_instructions_are_found_by_stage() -> None:
    assert stages_of("# a\nFROM x AS y\nRUN a && \\\n  b\n\nFROM y\nUSER me\n") == [
        [("FROM", "x AS y"), ("RUN", "a &&    b")],
        [("FROM", "y"), ("USER", "me")],
    ]


def test_the_dev_container_is_the_stage_of_the_dockerfile_that_needs_root() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    (_from, base), *_needs_root = stages_of(DOCKERFILE)[0]
    assert base.endswith(f" AS {container['build']['target']}")
    assert f"useradd --create-home --shell /bin/bash {container['remoteUser']}\n" in DOCKERFILE
    assert ("RUN", container["postCreateCommand"]) in stages_of(DOCKERFILE)[1]


def test_the_dev_container_has_the_extensions_that_the_editor_recommends() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    recommended = json.loads((ROOT / ".vscode/extensions.json").read_text())["recommendations"]
    assert container["customizations"]["vscode"]["extensions"] == recommended


def test_the_image_gets_all_that_git_tracks() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    (kept,) = (line.removeprefix("!") for line in ignored if line.startswith("!"))
    patterns = [line for line in ignored if line and line[0] not in "#!"]
    tracked = runner(ROOT)("git", "ls-files", "--", *(f":(top,glob){pattern}" for pattern in patterns)).stdout
    assert tracked.split() == [kept]


@pytest.mark.long
def test_the_commands_of_the_dockerfile_that_need_no_root_run_the_pipeline(clone: Run) -> None:
    _needs_root, instructions = stages_of(DOCKERFILE)
    assert [word for word, _argument in instructions] == ["FROM", "USER", "WORKDIR", "COPY", "RUN", "CMD"]
    assert instructions[3][1].split()[-2:] == [".", "."]  # what `clone` has done
    clone("sh", "-c", instructions[4][1])
    assert "\nhybrid " in clone(*json.loads(instructions[5][1])).stdout
    assert clone("git", "status", "--short").stdout == ""


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("uv"), reason="uv is not installed")
def test_uv_installs_the_pinned_versions(clone: Run) -> None:
    (commands,) = re.findall(r"^```\n(uv venv .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    clone("sh", "-e", "-c", commands)
    listed = json.loads(clone(".venv/bin/python", "-m", "pip", "list", "--format=json", "--exclude-editable").stdout)
    listed = [each for each in listed if each["name"] not in ("pip", "setuptools", "wheel")]  # what --seed brings
    installed = {f"{canonicalize_name(each['name'])}=={each['version'].partition('+')[0]}" for each in listed}
    assert installed <= {line.partition(" ")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    clone("make", "--question", ".venv/installed")


def test_the_page_names_every_extra_and_every_python_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == [*project["optional-dependencies"]]
    (matrix,) = re.findall(r"python: (\[.*\])", WORKFLOW)
    (first,) = set(re.findall(r'python-version: "(.*)"', WORKFLOW))
    named = [each.removeprefix("Programming Language :: Python :: ") for each in project["classifiers"]]
    assert [first, *json.loads(matrix)] == [each for each in named if re.fullmatch(r"3\.\d+", each)]
