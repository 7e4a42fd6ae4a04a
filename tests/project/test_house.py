"""The house stays as CONTRIBUTING.md describes it: one page a stage, functions that fit on a screen."""

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = sorted((ROOT / "stages").glob("*.py"))
MODULES = [*SCRIPTS, *sorted((ROOT / "stages/sasrec").rglob("*.py"))]
WINGS = sorted(path.name for path in (ROOT / "stages/sasrec").iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_stage_script_has_at_most_a_hundred_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 100


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_nothing_else_before_it_answers_signals(path: Path) -> None:
    _docstring, first, second, *_ = ast.parse(path.read_text()).body
    assert ast.unparse(first) == "from sasrec.core import interrupts"
    assert ast.unparse(second).startswith("if __name__ == '__main__':\n    interrupts.end_at_once(")


def test_no_function_has_more_than_forty_lines() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 40
    ]
    assert found == []


def test_a_wing_begins_with_a_docstring_and_nothing_else() -> None:
    for path in (ROOT / "stages/sasrec").rglob("__init__.py"):
        (only,) = ast.parse(path.read_text()).body
        assert isinstance(only, ast.Expr)


def test_dvc_yaml_has_fewer_than_three_hundred_lines() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) < 300


def test_contributing_describes_every_wing() -> None:
    table = re.findall(r"^\| `(\w+)` \| ", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert sorted(table) == WINGS
