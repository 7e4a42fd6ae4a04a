"""What CI installs and runs is named by its digest, and only one job of it may write."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

PINS = ROOT / "constraints.txt"
HASHED = ROOT / "constraints.hashes.txt"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def lines(path: Path) -> list[str]:
    """The requirements of a file, each with its digests in one line."""
    return [line for line in path.read_text().replace("\\\n", " ").splitlines() if not line.startswith("#")]


def test_every_pin_has_a_digest_and_nothing_else_is_installed() -> None:
    hashed = {
        line.partition(" --hash")[0].strip() for line in lines(HASHED) if re.search(r"--hash=sha256:\w{64}", line)
    }
    assert hashed == set(lines(PINS))
    assert len(lines(HASHED)) == len(hashed)


@pytest.mark.parametrize("path", [PINS, HASHED, ROOT / ".github/uv.txt"], ids=lambda path: path.name)
def test_no_file_of_pins_names_a_host(path: Path) -> None:
    assert re.findall(r"://|--(?:extra-)?index-url|--find-links", path.read_text()) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path: Path) -> None:
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    assert [use for use in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_checkout_leaves_its_token_and_no_job_that_runs_our_code_may_write(path: Path) -> None:
    workflow = YAML(typ="safe").load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []
        assert not (checkouts and "permissions" in job)
