"""dvc.yaml lists the code that each stage runs: no more, no less."""

from modulefinder import ModuleFinder

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")


def first_party_files(script: str) -> set[str]:
    """Every file below stages/ that the script imports, directly or not; found from the bytecode, nothing is run."""
    finder = ModuleFinder(path=[str(ROOT / "stages")])
    finder.run_script(str(ROOT / script))
    files = {module.__file__ for module in finder.modules.values() if module.__file__}
    return {str((ROOT / file).relative_to(ROOT)) for file in files}


@pytest.mark.parametrize("stage", DVC)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str) -> None:
    declared = {path for path in DVC[stage]["deps"] if path.startswith("stages/")}
    assert declared == first_party_files(f"stages/{stage}.py")


def test_every_param_is_declared_by_a_stage() -> None:
    declared = {key for stage in DVC.values() for key in stage["params"]}
    assert declared == {f"{section}.{key}" for section, keys in PARAMS.items() for key in keys}
