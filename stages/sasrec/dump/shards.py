"""Finds the files of a dump, its shards, and their order."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from sasrec.core.errors import UserError
from sasrec.io import storage

Source = Path | str
"""A local path, or the URL of a file elsewhere."""


def named(file: str | list[str]) -> list[Source]:
    """Return the files of the param `fetch.file`, in order: a path, a URL, a glob's sorted matches, or a list of these.

    A relative path starts in the repository, also in the copies of it that `dvc exp run --temp` and DVC's queue make.
    A local file that is missing is returned like the others.

    Raises:
        UserError: a file is named twice, or a storage cannot be reached.

    """
    names = [file] if isinstance(file, str) else file
    sources = [source for name in names for source in _matching(name)]
    first_sources: dict[object, Source] = {}
    for source in sources:
        identity = _identity(source)
        if identity in first_sources:
            raise UserError(
                f"{source}: fetch.file in params.yaml names it twice, first as {first_sources[identity]}; remove one"
            )
        first_sources[identity] = source
    return sources


def _identity(source: Source) -> object:
    """Return one value for all names of a file: with links, a local file has several."""
    if isinstance(source, str) or not source.exists():
        return source
    found = source.stat()
    return found.st_dev, found.st_ino


def _matching(name: str) -> Sequence[Source]:
    if storage.is_url(name):
        return storage.matching(name)
    root = Path(os.environ.get("DVC_ROOT", ""))  # DVC sets it, in a copy to the repository that the copy was made of
    if (root / name).exists():  # first, because a file's name may look like a pattern
        return [root / name]
    if name.startswith("~/"):
        name = str(Path.home() / name.removeprefix("~/"))
    # Path.glob takes no absolute pattern, and finds hidden files too.
    found = sorted(glob.glob(name, root_dir=root, recursive=True))  # noqa: PTH207
    return [root / path for path in found or [name]]


def shard_path(dump: Path, number: int) -> Path:
    """Return the path of shard `number`, from 1, in the folder `dump`."""
    return dump / f"{number:05}.json.gz"


def paths(dump: Path) -> list[Path]:
    """Return the files of `dump` in order: a folder's shards, else `dump` itself."""
    if not dump.is_dir():
        return [dump]
    return sorted(dump.iterdir(), key=lambda path: (len(path.name), path.name))  # from 100,000 on, names are longer
