"""A clone of any kind has the bytes that dvc.lock records, and DVC works in it."""

import shutil
from pathlib import Path

import pytest
from conftest import out_of_date, runner


def test_a_clone_that_converts_line_ends_has_the_committed_bytes(project: Path, tmp_path: Path) -> None:
    run = runner(tmp_path)
    run("git", "-c", "core.autocrlf=true", "clone", "-q", str(project), "clone")
    run("git", "-C", "clone", "config", "core.autocrlf", "true")
    names = run("git", "-C", "clone", "ls-files", "-z").stdout.rstrip("\0").split("\0")
    assert [name for name in names if (tmp_path / "clone" / name).read_bytes() != (project / name).read_bytes()] == []
    shutil.copytree(project / "metrics", tmp_path / "clone/metrics", dirs_exist_ok=True)  # as a run writes them again
    assert run("git", "-C", "clone", "status", "--porcelain").stdout == ""


def make_clone(kind: str, source: Path, folder: Path) -> Path:
    """Make what `kind` names of the repository `source` in `folder`; return where its dvc.yaml is."""
    run = runner(folder)
    if kind == "worktree":
        run("git", "-C", str(source), "worktree", "add", "-q", str(folder / kind))
    elif kind == "submodule":
        run("git", "init", "-q")
        run("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source), kind)
    elif kind == "shallow clone":
        run("git", "clone", "-q", "--depth", "1", source.as_uri(), kind)
    else:
        run("git", "init", "-q")
        shutil.copytree(source, folder / kind, ignore=shutil.ignore_patterns(".git", "cache", "tmp"))
        run("git", "add", "-A")
    return folder / kind


@pytest.mark.parametrize("kind", ["worktree", "submodule", "shallow clone", "Unterordner für книги"])
def test_dvc_finds_nothing_to_do_in_any_kind_of_clone(kind: str, project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    clone = make_clone(kind, project, folder)
    run = runner(clone)
    run("dvc", "cache", "dir", "--local", str(project / ".dvc/cache"))
    run("dvc", "checkout", "--quiet")
    assert out_of_date(clone) == set()
    assert "sasrec" in run("python", "stages/show.py").stdout
