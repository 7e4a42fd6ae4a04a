import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT, runner

CODE = """
import sys, evaluate
from sasrec.core import errors
errors.run(evaluate.main)
sys.exit(bool({"torch._dynamo", "pandas"} & sys.modules.keys()))
"""
C_LOCALE = ("LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0")


def test_the_stage_ends_in_the_c_locale_and_without_two_packages_that_take_long_to_import(project: Path) -> None:
    command = ["env", *C_LOCALE, f"PYTHONPATH={ROOT / 'stages'}", sys.executable, "-c", CODE]
    assert runner(project)(*command).stdout.count(r"\xb1") == 20


@pytest.mark.long
def test_of_several_cutoffs_all_are_metrics_and_the_first_is_shown(project: Path) -> None:
    run = runner(project)
    before = json.loads((project / "metrics/eval.json").read_text())["sasrec"]["full"]
    printed = run("dvc", "exp", "run", "-S", "evaluation.k=[5,10]").stdout
    after = json.loads((project / "metrics/eval.json").read_text())["sasrec"]["full"]
    assert list(after) == ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR"]
    assert {name: after[name] for name in before} == before
    assert ("NDCG@5" in printed, "   NDCG@10" in printed) == (True, False)
    assert "HR@5 is the share of readers" in (project / "models/README.md").read_text()
    assert "coverage@5" in json.loads((project / "metrics/recommended.json").read_text())["hybrid"]
