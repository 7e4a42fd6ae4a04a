"""A dump that lies in several files, its shards: which they are, and their order."""

import glob
from collections.abc import Sequence
from pathlib import Path

from sasrec import storage
from sasrec.errors import UserError

Source = Path | str
"""A file here, or the URL of one elsewhere."""


def named(file: str | list[str]) -> list[Source]:
    """Return the files that `fetch.file` means, in order: a path or URL, a glob, whose files are sorted, or a list.

    Raises:
        UserError: a file is named twice, or a storage cannot be reached. One that is missing here is returned like the
            others.

    """
    names = [file] if isinstance(file, str) else file
    sources = [source for name in names for source in _matching(name)]
    names_of: dict[object, Source] = {}
    for source in sources:
        file_of_name = _file_of(source)
        if file_of_name in names_of:
            raise UserError(
                f"{source}: fetch.file in params.yaml names it twice, first as {names_of[file_of_name]}; remove one"
            )
        names_of[file_of_name] = source
    return sources


def _file_of(source: Source) -> object:
    """Return what all names of a file share: a file here has several where there are links."""
    if isinstance(source, str) or not source.exists():
        return source
    found = source.stat()
    return found.st_dev, found.st_ino


def _matching(name: str) -> Sequence[Source]:
    if storage.is_url(name):
        return storage.matching(name)
    if Path(name).exists():  # whatever a pattern makes of the characters of its name
        return [Path(name)]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - Path.glob finds hidden files too
    return [Path(path) for path in found or [name]]


def place(dump: Path, number: int) -> Path:
    """Return the path of shard `number`, from 1, of `dump`, which is a folder."""
    return dump / f"{number:05}.json.gz"


def paths(dump: Path) -> list[Path]:
    """Return the files of `dump` in order: the shards of a folder, else itself."""
    if not dump.is_dir():
        return [dump]
    return sorted(dump.iterdir(), key=lambda path: (len(path.name), path.name))  # from 100,000 on, names are longer
