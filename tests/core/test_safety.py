"""Nothing executes what it reads, and no param makes a stage write outside the repository."""

import contextlib
import re
from pathlib import Path

import msgspec
import pytest
from conftest import ROOT, review, set_params, write_dump

import fetch
from check_params import SECTIONS
from sasrec.core import errors

UNSAFE = re.compile(
    r"""\b(pickle|cPickle|cloudpickle|dill|joblib|marshal|shelve|jsonpickle)\b
    |\btorch\.(load|hub|jit\.load|package)\b
    |\ballow_pickle\b
    |\bread_pickle\b
    |\byaml\.(unsafe_|full_)?load\b
    |YAML\(.*typ=.unsafe
    |(?<![\w.])(eval|exec|compile|__import__)\(
    |\bos\.(system|popen)\b
    |\bshell\s*=\s*True""",
    re.VERBOSE,
)
CODE = sorted(path for folder in ("stages", "checks") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_reads_what_could_be_executed(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if UNSAFE.search(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "state = torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        'YAML(typ="unsafe").load(path)',
        "value = eval(text)",
        "exec(code)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_what_could_be_executed_would_be_found(line: str) -> None:
    assert UNSAFE.search(line)


@pytest.mark.parametrize("line", ["model.eval()", "datasets.load_held_out(path)", "re.compile(text)"])
def test_what_is_harmless_is_not_found(line: str) -> None:
    assert not UNSAFE.search(line)


def is_any_text(field: msgspec.inspect.Field) -> bool:
    kind = field.type
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    kinds = getattr(kind, "types", [kind])  # of a union
    return any(isinstance(kind, msgspec.inspect.StrType) and kind.pattern is None for kind in kinds)


COLUMNS = ("user", "item", "time", "rating", "time_format", "delimiter")


def test_params_of_any_text_name_a_file_that_is_only_read_or_tell_how_its_columns_are_written() -> None:
    fields = [(name, field) for name, struct in SECTIONS.items() for field in msgspec.inspect.type_info(struct).fields]
    assert [f"{section}.{field.name}" for section, field in fields if is_any_text(field)] == [
        "fetch.file",
        *(f"dump_format.{key}" for key in COLUMNS),
    ]


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file", ["../outside/dump.json.gz", "../outside", "../outside/new.json.gz"])
def test_a_file_outside_the_repository_is_read_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    write_dump(outside / "dump.json.gz", [review()])
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_params(project, fetch={"source": "file", "file": file})
    before = everything(outside)
    monkeypatch.chdir(project)
    with contextlib.suppress(SystemExit):
        errors.run(fetch.main)
    assert (project / fetch.RAW).exists() == file.endswith("dump.json.gz")
    assert everything(outside) == before
    assert {path.name for path in tmp_path.iterdir()} == {"project", "outside"}
