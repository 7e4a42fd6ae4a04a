"""Puts the dump at data/raw/reviews.json.gz: made up offline, downloaded, or taken from a file or from shards."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sasrec import demo, download, errors, outputs, params, shards, storage, usage

RAW = Path("data/raw/reviews.json.gz")
UNFINISHED = Path("data/raw/unfinished")  # downloads, which the next run resumes

Bring = Callable[[str, Path], None]
"""Puts a dump that is elsewhere, or a pointer to it, in a place."""


class FetchParams(msgspec.Struct, frozen=True):
    """Section `fetch` of params.yaml."""

    source: Literal["demo", "goodreads", "file"]
    file: str | Annotated[list[str], msgspec.Meta(min_length=1)] | None  # what source `file` takes; several are shards
    gdrive_id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]+$")]  # where source `goodreads` looks first
    mirror_url: Annotated[str, msgspec.Meta(pattern="^https?://[^ ]+$")]  # and second
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")] | None  # when set, other content is refused
    demo_users: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    demo_seed: params.Seed

    def __post_init__(self) -> None:
        if self.source == "file" and not self.file:
            raise ValueError("fetch.source is file, but fetch.file is null; set it to the path of a .json.gz dump")
        # No pattern: msgspec 0.22 reads memory that is not its own where a union has one beside a list.
        for name in [self.file] if isinstance(self.file, str) else self.file or []:
            if storage.is_url(name) and not storage.is_readable(name):
                raise ValueError(f"fetch.file is {name!r}: give a path, or a URL, {storage.FILE_RULE}")


def fetch(section: FetchParams, destination: Path, bring: Bring) -> None:
    """Write the dump that the params name to `destination`."""
    if section.source == "demo":
        num_books = section.demo_users // 3 + 100  # few enough that ten epochs learn who follows whom
        with outputs.whole(destination) as partial, partial.open("wb") as file:
            demo.write_dump(file, section.demo_users, num_books, section.demo_seed)
    elif section.source == "goodreads":
        urls = [download.DRIVE_URL.format(section.gdrive_id), section.mirror_url]
        download.download(urls, destination, UNFINISHED, section.sha256)
    elif section.file:
        take(shards.named(section.file), destination, bring)


def take(sources: list[shards.Source], destination: Path, bring: Bring) -> None:
    """Give `destination` the content of the one file, or make it a folder of the shards that several files are."""
    for source in sources:
        if isinstance(source, Path):  # before any is copied
            download.check_gzip(source, str(source))
    if len(sources) == 1:
        take_one(sources[0], destination, bring)
        return
    destination.mkdir()
    for number, source in enumerate(sources, start=1):
        take_one(source, shards.place(destination, number), bring)


def take_one(source: shards.Source, destination: Path, bring: Bring) -> None:
    """Link a file that is here, bring one that is elsewhere."""
    if isinstance(source, Path):
        download.link_or_copy(source, destination)
    else:
        bring(source, destination)


def copy(url: str, destination: Path) -> None:
    """Copy a dump that is elsewhere."""
    with outputs.whole(destination) as partial:
        storage.copy(url, partial)
        download.check_gzip(partial, url)


def stays_elsewhere(section: FetchParams, folder: str | None) -> bool:
    """Return whether what the params name, or a part of it, is not copied to this disk.

    Raises:
        UserError: it is not, but fetch.sha256 is set, which takes every byte.

    """
    names = [section.file] if isinstance(section.file, str) else section.file or []
    stays = folder is not None and section.source == "file" and any(map(storage.is_url, names))
    if stays and section.sha256 is not None:
        raise errors.UserError(
            "params.yaml: fetch.sha256 cannot be compared with a dump that stays elsewhere because storage.url is "
            "set; set one of the two to null"
        )
    return stays


def main() -> None:
    """Read the params, write the dump, check or print its digest."""
    section = params.load("fetch", FetchParams)
    stays = stays_elsewhere(section, params.load("storage", storage.StorageParams).url)
    outputs.make_folders(RAW)
    with outputs.whole_or_folder(RAW) as partial:  # a dump in several files is a folder
        fetch(section, partial, storage.point if stays else copy)
        if section.sha256 is not None:
            download.check_sha256(partial, section.sha256)
    if section.sha256 is None and not stays:
        print(f"{RAW}: sha256 {download.sha256_of(RAW)}; set fetch.sha256 to it to refuse any other content")


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
