"""Only the stages and the commands say where the project's files are: the library takes every path from them."""

import ast
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
COMMANDS = ROOT / "stages/sasrec/commands"  # a command reads what the pipeline wrote, as a stage does
LIBRARY = [path for path in sorted((ROOT / "stages/sasrec").rglob("*.py")) if path.parent != COMMANDS]
FILE_OF_THE_PROJECT = re.compile(r"\b(data|models|metrics|plots|dvclive|checkpoints)/")
OF_NO_STAGE = {
    "params.yaml": "dvc.yaml names the sections and keys that a stage reads, instead",
    "data/raw/reviews.json.gz": "check_params compares fetch.file with it, before fetch writes it",
    "data/raw/unfinished": "DVC would remove a download that the next run resumes",
    "checkpoints/train_gpu": "DVC would remove what an interrupted training goes on from",
}


def paths_of(stage: str) -> set[str]:
    """The constants of a stage's script that are paths."""
    with mock.patch.dict(os.environ):  # the stages set variables for torch when they are imported
        script = importlib.import_module(stage)
    return {value.as_posix() for value in vars(script).values() if isinstance(value, Path)}


def declared_by(stage: str) -> set[str]:
    """What dvc.yaml names of a stage, and the folders of it; an output with options is a mapping from its path."""
    entries = [entry for kind in ("deps", "outs", "metrics") for entry in STAGES[stage].get(kind, [])]
    paths = [Path(path) for entry in entries for path in ([entry] if isinstance(entry, str) else entry)]
    return {each.as_posix() for path in paths for each in (path, *path.parents)} - {"."}


def strings_in(module: Path) -> Iterator[ast.Constant]:
    """The string literals of a module that are no documentation: a statement that is a string only tells a reader."""
    tree = ast.parse(module.read_text())
    told = {statement.value for statement in ast.walk(tree) if isinstance(statement, ast.Expr)}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return (node for node in strings if node not in told)


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_a_stage_is_one_that_dvc_knows_or_has_a_reason(stage: str) -> None:
    assert paths_of(stage) - declared_by(stage) - OF_NO_STAGE.keys() == set()


def test_every_path_with_a_reason_is_one_of_a_stage_that_dvc_does_not_know() -> None:
    unknown = set().union(*(paths_of(stage) - declared_by(stage) for stage in STAGES))
    assert unknown == OF_NO_STAGE.keys()


@pytest.mark.parametrize("module", LIBRARY, ids=lambda path: str(path.relative_to(ROOT / "stages")))
def test_no_module_of_the_library_names_a_file_of_the_project(module: Path) -> None:
    named = [
        f"line {node.lineno}: {node.value}" for node in strings_in(module) if FILE_OF_THE_PROJECT.search(node.value)
    ]
    assert named == []


def test_a_path_in_a_message_is_found_and_one_in_a_docstring_is_not(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('"""Reads data/raw."""\nprint(f"{1}: not in data/split/train")\n')
    [found] = strings_in(tmp_path / "module.py")
    assert FILE_OF_THE_PROJECT.search(found.value)
