"""The presets are the same in the Makefile, the README and the comparison."""

import json
import re
import subprocess

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

import presets
from sasrec.evaluation.intervals import Estimate


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


def test_the_mean_of_independent_runs_has_a_narrower_interval() -> None:
    found = presets.combined([Estimate(0.1, 0.07, 0.13), Estimate(0.3, 0.26, 0.34)])
    assert found == pytest.approx((0.2, 0.175, 0.225))  # half-widths of 0.03 and 0.04 give 0.05 / 2


def test_the_readme_shows_the_table_of_the_committed_results() -> None:
    results = json.loads((ROOT / "benchmarks/results/presets.json").read_text())["presets"]
    assert presets.as_markdown(results) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["notebook", "default", "best"])
def test_the_readme_has_the_seconds_of_the_committed_curves(name: str) -> None:
    curves = json.loads((ROOT / "benchmarks/results/frontier.json").read_text())["curves"]
    assert f"`{name}` in {curves[name]['points'][-1]['seconds']:.0f} s" in (ROOT / "README.md").read_text()
