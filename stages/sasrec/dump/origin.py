"""Finds the user's own file that a file of the dump came from, and the remedy if it is damaged."""

import filecmp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sasrec.core.errors import UserError
from sasrec.dump import shards
from sasrec.io import storage

AGAIN = "run `dvc repro --force fetch && dvc repro`"


def name(path: Path, dump: Path, fetch: Mapping[str, Any]) -> str:
    """Return the user's name of `path`, which is `dump` or one of its shards; else `path` itself.

    `fetch` is that section of params.yaml. The name of several files is what it says.
    """
    if fetch.get("source") == "file" and path == dump and path.is_dir():
        return ", ".join([fetch["file"]] if isinstance(fetch["file"], str) else fetch["file"])
    return str(_source(path, dump, fetch) or path)


def of_damaged(path: Path, dump: Path, fetch: Mapping[str, Any]) -> tuple[str, str]:
    """Return the file to blame, and the remedy, for a damaged `path`, which is `dump` or one of its shards.

    `fetch` is that section of params.yaml. If its source is `file` and the user's own file holds the same bytes, that
    file is to blame: fetching it again would not help.
    """
    pointer = storage.pointer(path)
    if pointer:
        return pointer.url, f"put an intact file there and {AGAIN}"
    source = _source(path, dump, fetch)
    if isinstance(source, str):
        return str(path), f"it is a copy of {source}: put an intact file there and {AGAIN}"
    if source and source.is_file() and (source.samefile(path) or filecmp.cmp(source, path, shallow=False)):
        # Replace it, do not mend it: a hard link shares its content with DVC's cache, which writing would change.
        return str(source), f"replace it by an intact file, or set fetch.file in params.yaml to one, and {AGAIN}"
    return str(path), "`make heal` makes it again"


def _source(path: Path, dump: Path, fetch: Mapping[str, Any]) -> shards.Source | None:
    """Return the file or URL that `path` came from; None if it was made or downloaded, or is unknown."""
    if fetch.get("source") != "file" or not fetch.get("file"):
        return None
    taken = shards.paths(dump)
    try:
        sources = shards.named(fetch["file"])
    except UserError:  # a storage cannot be reached; the damage matters more
        return None
    return sources[taken.index(path)] if len(sources) == len(taken) else None
