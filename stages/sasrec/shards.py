"""A dump that lies in several files, its shards: which they are, and their order."""

import glob
from pathlib import Path

from sasrec.errors import UserError


def named(file: str | list[str]) -> list[Path]:
    """Return the files that `fetch.file` means, in order: a path, a glob, whose files are sorted, or a list of both.

    Raises:
        UserError: a file is named twice. One that is missing is returned like the others.

    """
    names = [file] if isinstance(file, str) else file
    paths = [Path(path) for name in names for path in _matching(name)]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path}: fetch.file in params.yaml names it twice; remove one")
    return paths


def _matching(name: str) -> list[str]:
    if Path(name).exists():  # whatever a pattern makes of the characters of its name
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]  # noqa: PTH207 - Path.glob finds hidden files too


def place(dump: Path, number: int) -> Path:
    """Return the path of shard `number`, from 1, of `dump`, which is a folder."""
    return dump / f"{number:05}.json.gz"


def paths(dump: Path) -> list[Path]:
    """Return the files of `dump` in order: the shards of a folder, else itself."""
    return sorted(dump.iterdir()) if dump.is_dir() else [dump]
