"""What a user writes after DATA= and TITLES= reaches the pipeline as it is, and what make prints does so again."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, runner
from dvc.utils.hydra import apply_overrides

import source
from sasrec.core import params

NAMES = [
    *["a.gz", "a b.gz", "a(1).gz", "[a].gz", "{a,b}.gz", "a=b.gz", "O'Reilly.gz", 'say "no".gz', "a;b&c|d.gz"],
    *[
        "$HOME.gz",
        "$(id.gz",
        "$$.gz",
        "${x}.gz",
        "`id`.gz",
        "a#b.gz",
        "a\\b.gz",
        "!a.gz",
        "~a.gz",
        "%.gz",
        "日本語 ü.gz",
    ],
]
FAKE_DVC = "#!/bin/sh\nprintf '%s\\n' \"$@\" > given\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What make needs of the project, with a `dvc` that writes its arguments to the file `given`."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "benchmarks", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    dvc = tmp_path / ".venv/bin/dvc"
    dvc.parent.mkdir(parents=True)
    dvc.write_text(FAKE_DVC)
    dvc.chmod(0o755)
    for name in ("installed", "report"):
        (tmp_path / ".venv" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def taken(given: str) -> object:
    """The value of fetch.file that DVC takes from the arguments of `dvc exp run`."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    apply_overrides("params.yaml", [word for word in given.splitlines()[2:] if word != "-S"])
    fetch = params.read(Path("params.yaml"))["fetch"]
    assert fetch["source"] == "file"
    return fetch["file"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_it_is_and_the_printed_command_takes_it_again(folder: Path, name: str) -> None:
    Path(name).touch()
    printed = runner(folder)("make", "default", f"DATA={name}").stdout
    given = Path("given").read_text()
    assert taken(given) == name
    Path("given").unlink()
    runner(folder)("sh", "-c", f"PATH=.venv/bin:$PATH; {printed}")
    assert Path("given").read_text() == given


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("b.gz a.gz", ["b.gz", "a.gz"]),
        ("'c d.gz' a.gz", ["c d.gz", "a.gz"]),
        ("c\\ d.gz s3://books/a.gz", ["c d.gz", "s3://books/a.gz"]),
        ("shards/*.gz a.gz", ["shards/*.gz", "a.gz"]),
        ("shards/*.gz", "shards/*.gz"),
        ("s3://books/*.gz", "s3://books/*.gz"),
        ("not there.gz", "not there.gz"),
    ],
)
def test_several_are_a_list_in_their_order(folder: Path, data: str, expected: object) -> None:
    Path("shards").mkdir()
    for name in ("a.gz", "b.gz", "c d.gz", "shards/1.gz"):
        Path(name).touch()
    runner(folder)("make", "default", f"DATA={data}")
    assert taken(Path("given").read_text()) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_scripts_get_data_and_titles_as_one_argument(folder: Path, name: str) -> None:
    shown = runner(folder)(
        "make", "-n", "presets", "frontier", "report", f"DATA={name}", f"TITLES={name}", f"AGAINST={name}"
    ).stdout
    arguments = [shlex.split(line)[2:] for line in shown.splitlines()]
    assert arguments == [[name], [name], ["--titles", name, "--against", name]]


def test_a_clone_elsewhere_gets_the_absolute_paths_of_a_glob_in_the_order_of_their_names(folder: Path) -> None:
    for name in ("p-2.gz", "p-10.gz", "p-1.gz"):
        Path(name).touch()
    named = source.absolute(["p-*.gz", "s3://books/a.gz"])
    assert named == [*(str(folder / name) for name in ("p-1.gz", "p-10.gz", "p-2.gz")), "s3://books/a.gz"]
    assert source.title(named) == "p-1.gz p-10.gz p-2.gz a.gz"


@pytest.mark.parametrize(
    "kind", ["json.gz", "json", "jsonl", "csv", "csv.gz", "tsv", "parquet", "zst", "inter", "dat", "zip"]
)
def test_git_ignores_dumps_at_the_root_and_nowhere_else(kind: str) -> None:
    done = runner(ROOT)("git", "check-ignore", "--no-index", f"dump.{kind}", f"docs/dump.{kind}")
    assert done.stdout == f"dump.{kind}\n"


def test_git_ignores_no_file_that_it_tracks() -> None:
    listed = runner(ROOT)("git", "ls-files", "--cached", "--ignored", "--exclude-standard").stdout
    assert listed == ""


def test_the_documents_name_targets_that_take_what_they_are_given() -> None:
    used = re.findall(r"make ([a-z-]+) DATA=", "".join(path.read_text() for path in (ROOT / "docs").glob("*.md")))
    makefile = (ROOT / "Makefile").read_text()
    recipes = dict(re.findall(r"^([a-z-]+):.*\n\t(.*)", makefile, re.M))
    assert used
    assert [name for name in used if not re.search(r"\$\((SOURCE|call quoted,\$\(DATA\))\)", recipes[name])] == []
