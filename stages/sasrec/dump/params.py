"""The sections `fetch` and `parse_gzip` of params.yaml, apart from the work, so that they are checked without Arrow."""

from typing import Annotated, Literal

import msgspec

from sasrec.core.params import Seed, about
from sasrec.io import storage

NUM_SHOWN = 3  # rejected lines that the message names


class FetchParams(msgspec.Struct, frozen=True):
    """Section `fetch` of params.yaml."""

    source: Annotated[
        Literal["demo", "goodreads", "file"],
        about("`demo`: make a dump up, offline · `goodreads`: download the dump · `file`: take `fetch.file`"),
    ]
    file: Annotated[
        str | Annotated[list[str], msgspec.Meta(min_length=1)] | None,
        about("path or URL (`s3://…`) of a dump; a list or a glob names the [shards](scaling.md) of one dump"),
    ]
    gdrive_id: Annotated[
        str, msgspec.Meta(pattern="^[A-Za-z0-9_-]+$"), about("Google Drive id of the dump, for source `goodreads`")
    ]
    mirror_url: Annotated[
        str, msgspec.Meta(pattern="^https?://[^ ]+$"), about("where to download the dump when Drive refuses")
    ]
    sha256: Annotated[
        Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")] | None,
        about("when set, any other content is refused; null: the digest is printed"),
    ]
    demo_users: Annotated[int, msgspec.Meta(ge=1, le=10_000_000), about("number of users of the demo")]
    demo_seed: Annotated[Seed, about("seed of the demo")]

    def __post_init__(self) -> None:
        if self.source == "file" and not self.file:
            raise ValueError("fetch.source is file, but fetch.file is null; set it to the path of a dump")
        if self.source != "file" and self.file:
            raise ValueError(
                f"fetch.file is set, but fetch.source is {self.source}, which does not read it; set fetch.source to "
                "file, or fetch.file to null"
            )
        # Not a pattern: in a union with a list, a pattern makes msgspec 0.22 read memory that is not its own.
        for name in self.names:
            if storage.is_url(name) and not storage.is_readable(name):
                raise ValueError(f"fetch.file is {name!r}: give a path, or a URL, {storage.FILE_RULE}")

    @property
    def names(self) -> list[str]:
        """The paths, globs and URLs in `file`."""
        return [self.file] if isinstance(self.file, str) else self.file or []


class ParseGzipParams(msgspec.Struct, frozen=True):
    """Section `parse_gzip` of params.yaml."""

    max_rejected_fraction: Annotated[
        float,
        msgspec.Meta(ge=0, le=1),
        about("a larger fraction of malformed lines ([what a line must hold](reliability.md)) stops the run"),
    ]
    max_line_bytes: Annotated[
        int, msgspec.Meta(ge=1000, le=1 << 30), about("a longer line is malformed; it is never kept in memory")
    ]
    max_expansion: Annotated[
        int,
        msgspec.Meta(ge=1, le=1 << 20),
        about("more bytes of text per byte of gzip, beyond 64 MiB of text, stop the run"),
    ]
    engine: Annotated[
        Literal["local", "spark"],
        about("what reads the [shards](scaling.md) of a dump: `local`: processes of this machine · `spark`"),
    ]
    num_processes: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1 << 10)] | None,
        about("shards that engine `local` reads at once, with two cores each; null: half the cores; changes no byte"),
    ]

    def refuse(self, num_rejected: int) -> bool:
        """Return whether parsing may stop: no malformed line is allowed, and there are enough for the message."""
        return self.max_rejected_fraction == 0 and num_rejected > NUM_SHOWN
