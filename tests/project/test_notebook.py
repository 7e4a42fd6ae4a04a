"""The notebook runs from its first cell to its last in a finished project, and is committed without outputs.

The cells run in one namespace, in the folder of the notebook, as in a kernel: Jupyter is not among the dependencies.
"""

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT, runner

CELLS = json.loads((ROOT / "docs/explore.ipynb").read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def run(project: Path, cells: list[str]) -> str:
    return runner(project / "docs")(sys.executable, "-c", "\n\n".join(cells)).stdout


def test_the_notebook_is_committed_without_outputs() -> None:
    assert [(cell["outputs"], cell["execution_count"]) for cell in CELLS if cell["cell_type"] == "code"] == [
        ([], None)
    ] * len(CODE)


@pytest.mark.long
def test_every_cell_runs_and_the_verdict_is_printed(finished: Path) -> None:
    assert run(finished, CODE) == "No difference between HEAD and workspace beyond chance.\n"


@pytest.mark.long
def test_its_means_are_the_metrics_of_the_run(finished: Path) -> None:
    shown = "print(float(values['sasrec', 'full']['NDCG@10'].mean()))"
    metrics = json.loads((finished / "metrics/eval.json").read_text())
    cells = CODE[: next(number for number, cell in enumerate(CODE) if "rank_table.values" in cell) + 1]
    assert float(run(finished, [*cells, shown])) == pytest.approx(metrics["sasrec"]["full"]["NDCG@10"], abs=1e-8)
