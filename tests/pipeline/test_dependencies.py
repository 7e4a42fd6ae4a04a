"""dvc.yaml lists the code and the params that each stage needs: no more, no less."""

import ast
import contextlib
import functools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from conftest import ROOT, out_of_date, runner
from ruamel.yaml import YAML

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
KEYS = {f"{section}.{key}" for section, keys in PARAMS.items() for key in keys}
WINGS = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("stages/sasrec/*/__init__.py")}
LEFTOVERS = [".cli.py.swp", "cli.py~", ".DS_Store"]  # of editors and of file managers


def code_of(stage: str) -> list[str]:
    """The dependencies of a stage that are code, as dvc.yaml names them: files and folders."""
    return [path for path in STAGES[stage]["deps"] if path.startswith("stages/")]


def files_in(path: str) -> set[str]:
    """The files that a dependency stands for: itself, or all that there is in a folder, but for Python's bytecode."""
    files = (ROOT / path).rglob("*") if (ROOT / path).is_dir() else [ROOT / path]
    return {str(file.relative_to(ROOT)) for file in files if file.is_file() and "__pycache__" not in file.parts}


def imported_by(script: str) -> set[str]:
    """Every file below stages/ that the script imports, directly or not; found from the bytecode, nothing is run."""
    finder = ModuleFinder(path=[str(ROOT / "stages")])
    finder.run_script(str(ROOT / script))
    files = {module.__file__ for module in finder.modules.values() if module.__file__}
    return {str((ROOT / file).relative_to(ROOT)) for file in files}


def templates_named_in(file: str) -> set[str]:
    """The templates beside a module that it names in a string."""
    strings = (node.value for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.Constant))
    names = (value for value in strings if isinstance(value, str) and value.endswith(".jinja"))
    return {str(Path(file).with_name(name)) for name in names}


@functools.cache
def needed_by(stage: str) -> set[str]:
    modules = imported_by(f"stages/{stage}.py")
    return modules.union(*map(templates_named_in, modules))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports_and_its_templates(stage: str) -> None:
    assert set().union(*map(files_in, code_of(stage))) == needed_by(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_wing_is_named_as_a_folder_where_all_of_it_is_needed_and_no_file_is_named_twice(stage: str) -> None:
    assert {wing for wing in WINGS if files_in(wing) <= needed_by(stage)} == WINGS & set(code_of(stage))
    assert sum(len(files_in(path)) for path in code_of(stage)) == len(needed_by(stage))


def test_the_template_of_the_card_is_code_of_the_stage_that_writes_it() -> None:
    assert "stages/sasrec/reporting/model_card.md.jinja" in needed_by("evaluate")


def test_every_param_is_declared_by_a_stage_and_every_one_declared_exists() -> None:
    declared = {name for stage in STAGES.values() for name in stage["params"]}
    assert declared <= KEYS | PARAMS.keys()
    assert {key for key in KEYS if {key, key.partition(".")[0]} & declared} == KEYS


@pytest.fixture(scope="module")
def copied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project, of which each test changes something and puts it back."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("dependencies") / "project")


@pytest.fixture
def edited(copied: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The project with a comment more in the module that the parameter names."""
    module = copied / "stages/sasrec" / request.param
    before = module.read_text()
    module.write_text(f"{before}# No output changes with this line.\n")
    yield copied
    module.write_text(before)


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("evaluation/baselines.py", {"evaluate"}),
        ("io/storage.py", {"check_params", "fetch", "parse_gzip", "filter_reindex", "split", "evaluate"}),
        ("split/protocols.py", {"split"}),
        ("reporting/page.py", set()),
    ],
    indirect=["edited"],
)
def test_a_change_makes_only_the_stages_that_import_it_out_of_date(edited: Path, expected: set[str]) -> None:
    assert out_of_date(edited) == expected


def test_bytecode_and_the_leftovers_of_editors_are_no_part_of_a_folder(copied: Path) -> None:
    runner(copied)(sys.executable, "-m", "compileall", "-q", "stages/sasrec")  # as a run of the stages does
    for name in LEFTOVERS:
        (copied / "stages/sasrec/core" / name).touch()
    assert list(copied.glob("stages/sasrec/core/__pycache__/*"))
    assert out_of_date(copied) == set()


def folders_in(lock: str) -> dict[str, dict[str, str]]:
    """By stage, the digest of every folder that it depends on."""
    stages = YAML(typ="safe").load(lock)["stages"]
    return {
        name: {dep["path"]: dep["md5"] for dep in stage["deps"] if dep["md5"].endswith(".dir")}
        for name, stage in stages.items()
    }


def has_ended(worker: Path) -> bool:
    """Whether the process that DVC describes in a file has ended; it writes the file in place."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(worker.read_text())["returncode"] is not None
    return False


@pytest.mark.long
def test_an_experiment_elsewhere_finds_the_same_digests_of_the_folders(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    run = runner(copied)
    run("dvc", "exp", "run", "--temp", "--name", "temporary", "-S", "evaluation.num_item_sample=50", "split")
    run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "evaluation.num_item_sample=70", "split")
    run("dvc", "queue", "start")
    while not has_ended(copied / ".dvc/tmp/exps/celery/dvc-exp-worker-1.json"):
        time.sleep(0.2)
    for name, number in (("temporary", 50), ("queued", 70)):
        (ref,) = run("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").stdout.split()
        lock = run("git", "show", f"{ref}:dvc.lock").stdout
        assert f"num_item_sample: {number}\n" in lock  # so split ran there
        assert folders_in(lock) == folders_in((copied / "dvc.lock").read_text())
