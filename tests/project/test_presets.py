"""The presets are the same in the Makefile, the README and the comparison."""

import json
import re
import subprocess

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

import presets


def words_of(text: str) -> list[str]:
    """The words of the first `dvc exp run` in a text."""
    found = re.search(r"dvc exp run( .*)?", text)
    assert found, text
    return found[0].split()


@pytest.mark.parametrize("name", ["notebook", "default", "best", "published", "published-full"])
def test_make_runs_the_preset(name: str) -> None:
    shown = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert words_of(shown) == presets.command(presets.ALL[name])


@pytest.mark.parametrize("name", ["notebook", "default", "best", "published", "published-full"])
def test_the_documents_show_the_preset(name: str) -> None:
    page = "docs/experiments.md" if "published" in name else "README.md"
    _, _, after = (ROOT / page).read_text().partition(f"make {name} ")
    _, _, line = after.partition("\n")
    assert words_of(line.replace("\\\n", "")) == presets.command(presets.ALL[name])


def test_every_preset_changes_keys_that_exist() -> None:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    keys = {f"{section}.{key}" for section, values in params.items() for key in values}
    assert {change.partition("=")[0] for changes in presets.ALL.values() for change in changes} <= keys


def test_the_average_of_independent_runs_has_a_smaller_half_width() -> None:
    def run(value: float, half_width: float) -> dict:
        by_list = {ranked: {"HR@10": value, "HR@10_half_width": half_width} for ranked in ("sampled", "full")}
        return dict.fromkeys(presets.SCORERS, by_list)

    found = presets.average([run(0.1, 0.03), run(0.3, 0.04)])["sasrec"]["full"]
    assert found == {"HR@10": pytest.approx(0.2), "HR@10_half_width": pytest.approx(0.025)}


def test_the_readme_shows_the_table_of_the_committed_results() -> None:
    results = json.loads((ROOT / "benchmarks/results/presets.json").read_text())["presets"]
    assert presets.as_markdown(results) in (ROOT / "README.md").read_text()
