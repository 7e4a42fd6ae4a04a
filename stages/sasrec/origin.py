"""Says where a damaged dump came from, and what puts it right."""

import filecmp
from pathlib import Path
from typing import Any

from sasrec import params, shards, storage
from sasrec.errors import UserError

AGAIN = "run `dvc repro --force fetch && dvc repro`"


def of_damaged(path: Path, dump: Path) -> tuple[str, str]:
    """Return the file to blame for the damage of `path`, which is `dump` or one of its shards, and the remedy.

    That is the user's own file where fetch.source is `file` and it holds the same bytes: fetching it again would not
    help.
    """
    pointer = storage.pointer(path)
    if pointer:
        return pointer.url, f"put an intact file there and {AGAIN}"
    source = _source(path, dump)
    if isinstance(source, str):
        return str(path), f"it is a copy of {source}: put an intact file there and {AGAIN}"
    if source and source.is_file() and (source.samefile(path) or filecmp.cmp(source, path, shallow=False)):
        # A link is shared with DVC's cache: what is written into it changes the cache, too.
        return str(source), f"replace it by an intact file, or set fetch.file in params.yaml to one, and {AGAIN}"
    return str(path), "`make heal` makes it again"


def _source(path: Path, dump: Path) -> shards.Source | None:
    """Return what the params say that `path` was taken from; None where it was made or downloaded, or is unknown."""
    fetch: dict[str, Any] = params.read(Path("params.yaml")).get("fetch") or {}
    if fetch.get("source") != "file" or not fetch.get("file"):
        return None
    taken = shards.paths(dump)
    try:
        sources = shards.named(fetch["file"])
    except UserError:  # a storage cannot be reached: the damage is what matters here
        return None
    return sources[taken.index(path)] if len(sources) == len(taken) else None
