"""Writes the dump that the params name: a demo, a download, a link, a copy or a pointer."""

import contextlib
import glob
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from sasrec.core.errors import UserError
from sasrec.dump import compression, demo, download, shards
from sasrec.dump.params import FetchParams
from sasrec.io import storage
from sasrec.io.files import atomic_write

MODE_OF_DVC = 0o444  # DVC gives it to the files in its cache, and so to every link of them

Bring = Callable[[str, Path], None]
"""Writes the dump at a URL, or a pointer to it, to a path."""


def fetch(params: FetchParams, destination: Path, unfinished: Path, bring: Bring) -> None:
    """Write the dump that `params` name to `destination`; downloads begin in the folder `unfinished`."""
    if params.source == "demo":
        num_books = params.demo_users // 3 + 100  # few enough that ten epochs learn which book follows which
        with atomic_write(destination) as partial, partial.open("wb") as file:
            demo.write_dump(file, params.demo_users, num_books, params.demo_seed)
    elif params.source == "goodreads":
        urls = [download.DRIVE_URL.format(params.gdrive_id), params.mirror_url]
        download.download(urls, destination, unfinished, params.sha256)
    else:
        take(shards.named(params.names), destination, bring)


def take(sources: list[shards.Source], destination: Path, bring: Bring) -> None:
    """Write one file to `destination`; write several as shards into a folder there."""
    for source in sources:
        if isinstance(source, Path):  # before copying any
            check_kind(source, str(source))
    if len(sources) == 1:
        take_one(sources[0], destination, bring)
        return
    destination.mkdir()
    for number, source in enumerate(sources, start=1):
        take_one(source, shards.shard_path(destination, number), bring)


def take_one(source: shards.Source, destination: Path, bring: Bring) -> None:
    """Link or copy a local file; `bring` one at a URL."""
    if isinstance(source, Path):
        link_or_copy(source, destination)
    else:
        bring(source, destination)


def copy(url: str, destination: Path) -> None:
    """Copy the dump at `url`; raise UserError if it cannot be read or is no dump."""
    with atomic_write(destination) as partial:
        storage.copy(url, partial)
        check_kind(partial, url)


def stays_elsewhere(params: FetchParams, folder: str | None) -> bool:
    """Return whether part of the dump is not copied to this disk: it is at a URL, and storage.url names a `folder`.

    Raises:
        UserError: fetch.sha256, which needs every byte, is set although part of the dump stays elsewhere.

    """
    stays = folder is not None and params.source == "file" and any(map(storage.is_url, params.names))
    if stays and params.sha256 is not None:
        raise UserError(
            "params.yaml: fetch.sha256 cannot be compared with a dump that stays elsewhere because storage.url is "
            "set; set one of the two to null"
        )
    return stays


def link_or_copy(source: Path, destination: Path) -> None:
    """Hard-link `source` to `destination` if it is read-only for all; otherwise, or if that fails, copy it."""
    if stat.S_IMODE(source.stat().st_mode) == MODE_OF_DVC:
        with contextlib.suppress(OSError):
            destination.hardlink_to(source.resolve())
            return
    with atomic_write(destination) as partial:
        shutil.copyfile(source, partial)


def check_kind(path: Path, source: str) -> None:
    """Raise UserError, which names `source`, if `path` is no file, may not be read, or does not begin like a dump."""
    fault = _fault(path)
    if fault:
        raise UserError(f"{source}: {fault}")


def _fault(path: Path) -> str | None:
    """Return what is wrong with the file at `path`, and what to do; None if it begins like a dump."""
    advice = "set fetch.file in params.yaml to the path of a dump"
    if not path.is_file():
        return _why_no_file(path, advice)
    try:
        with path.open("rb") as file:
            start = file.read(compression.NUM_START)
    except PermissionError:
        return f"you may not read it; change its mode (`chmod u+r`) or ask its owner, or {advice}"
    archive = compression.archive_at(path, start)
    if archive:
        return f"is {archive}, which is not read; unpack it, and {advice} inside"
    if not start:
        return f"is empty; {advice}"
    return None if compression.kind(start) else f"{compression.NONE}; {advice}"


def _why_no_file(path: Path, advice: str) -> str:
    """Return why there is no file at `path`, and what to do."""
    if path.is_dir():
        return f"is a folder; set fetch.file in params.yaml to a file in it, or to a glob: {glob.escape(str(path))}/*"
    if path.exists():
        return f"is no regular file; {advice}"
    if path.is_symlink():
        return f"is a link to {path.readlink()}, which is missing; {advice}"
    for parent in path.parents:
        if parent.is_file():
            return f"{parent} is a file and no folder; if it is an archive, unpack it, or {advice}"
    return f"no such file; {advice}"
