"""The library installs by itself: the five packages that pyproject.toml names suffice to serve a model."""

import ast
import gzip
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import verify_arm
from conftest import ROOT, Run, copy_project, model_of, runner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sasrec.commands.main import COMMANDS
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import build_model
from sasrec.serving import model_folder
from sasrec.serving.recommender import Recommender

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FIVE = {"msgspec", "numpy", "pyarrow", "safetensors", "torch"}
SERVING = ("core", "io", "split", "runtime", "model", "evaluation", "serving")
IMPORT_ALL = f"""
import importlib, pkgutil, sasrec
for wing in {SERVING}:
    for found in pkgutil.iter_modules([f"{{sasrec.__path__[0]}}/{{wing}}"], f"sasrec.{{wing}}."):
        if found.name != "sasrec.serving.onnx_model":  # which comes with the extra `export`
            importlib.import_module(found.name)
"""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def imported(path: Path) -> set[str]:
    """The first parts of the names of all that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"sasrec", "_typeshed"}


def test_the_library_needs_five_packages() -> None:
    assert names(PROJECT["dependencies"]) == FIVE


def test_every_package_that_the_code_imports_is_named_by_the_project() -> None:
    extras = PROJECT["optional-dependencies"]
    named = names(PROJECT["dependencies"]).union(*(names(extras[name]) for name in extras if name != "dev"))
    modules = set().union(*map(imported, (ROOT / "stages").rglob("*.py")))
    modules = {module for module in modules if find_spec(module)}  # Spark's or a server's may be missing here
    of_module = metadata.packages_distributions()
    assert {module for module in modules if not named & set(map(canonicalize_name, of_module[module]))} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree."""
    source, folder = copy_project(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={folder}", source], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command in an environment that holds the wheel, the five packages, what these need, and nothing else.

    They are links to the packages that run this test, so that nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in verify_arm.needed_by(*FIVE).values():
        for name in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (packages / name).exists():  # several distributions may share a folder
                (packages / name).symlink_to(Path(str(distribution.locate_file(name))))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    subprocess.run([*pip, "check"], check=True)  # the wheel, too, asks for nothing more
    return runner(folder / "bin")


def test_the_wheel_holds_every_module_and_template_and_the_mark_of_types(wheel: Path) -> None:
    tracked = runner(ROOT)("git", "ls-files", "stages/sasrec").stdout.splitlines()
    assert "stages/sasrec/py.typed" in tracked
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("sasrec/")}
    assert held == {name.removeprefix("stages/") for name in tracked}


def test_the_five_packages_suffice_to_import_all_that_serves_a_model(alone: Run) -> None:
    alone("./python", "-I", "-c", IMPORT_ALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a model of twelve books, 10 to 120."""
    network = build_model(SasrecParams(4, 8, 2, 2, 0.5, False, 0.5), 12, torch.Generator().manual_seed(0))
    model_folder.write(tmp_path / "model", model_of(network), "a card")
    return tmp_path


TITLES = gzip.compress(b"book_id,title\n" + b"".join(b"%d,Emma %d\n" % (book, book) for book in range(10, 121, 10)))
DAMAGED = {
    "the gzip data end too early": TITLES[:-9],
    "not intact gzip": TITLES[:12] + b"\xff" * 9 + TITLES[21:],
}


def test_the_command_recommends_as_it_does_beside_the_pipeline_with_titles_from_gzip(alone: Run, folder: Path) -> None:
    (expected,) = Recommender.load(folder / "model").recommend([["30", "10", "40"]], 5)
    (folder / "titles").write_bytes(TITLES)
    words = [
        f"--model={folder / 'model'}",
        f"--titles={folder / 'titles'}",
        "--history=30,10,40",
        "-k5",
        "--format=json",
    ]
    found = json.loads(alone("./sasrec", "recommend", *words).stdout)
    assert [each["book_id"] for each in found] == [each.book_id for each in expected.books]
    assert [each["title"] for each in found] == [f"Emma {each.book_id}" for each in expected.books]


READ_TITLES = """
import sys
from pathlib import Path
from sasrec.core import errors
from sasrec.serving import titles
errors.run(lambda: titles.read(Path(sys.argv[1]), ["30"]))
"""


@pytest.mark.parametrize("reason", DAMAGED)
def test_damaged_gzip_is_told_in_one_line(alone: Run, tmp_path: Path, reason: str) -> None:
    (tmp_path / "titles").write_bytes(DAMAGED[reason])
    said = alone("./python", "-I", "-c", READ_TITLES, str(tmp_path / "titles"), fails=True).stderr
    assert re.fullmatch(rf"error: {re.escape(str(tmp_path))}/titles: {reason}.*\n", said)


RUN_EACH = """
import sys
from sasrec.commands import main
for name in sys.argv[1:]:
    try:
        main.run([name])
    except main.errors.UserError as error:
        print(error)
"""


def test_the_command_tells_its_subcommands_and_which_extra_one_lacks(alone: Run) -> None:
    help_shown = alone("./sasrec", "--help").stdout
    assert all(name in help_shown for name in COMMANDS)
    lacking = ["compare", "export"]
    said = alone("./python", "-I", "-c", RUN_EACH, *lacking).stdout.splitlines()
    for name, line in zip(lacking, said, strict=True):
        assert f"run in a clone of the project `pip install -c constraints.txt '.[{COMMANDS[name].extra}]'`" in line


def test_every_extra_that_a_subcommand_names_is_one_of_the_project() -> None:
    assert {each.extra for each in COMMANDS.values() if each.extra} <= PROJECT["optional-dependencies"].keys()
