"""Tells gzip, zstd, Parquet and text by their first bytes, and decompresses the first two block by block."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa

from sasrec.dump import gzip_blocks

Kind = Literal["gzip", "zstd", "parquet", "text"]
MAGIC: dict[bytes, Kind] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet"}
NUM_START = 512  # bytes that tell the kind
BUFFER_BYTES = 1 << 17
NONE = "is neither gzip, zstd, Parquet, JSON lines nor CSV"
WEB_PAGE = b"<"  # which a server sent instead
ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}
TAR = (b"ustar\0", b"ustar ")
TAR_OFFSET = 257


class ParquetError(Exception):
    """The content is Parquet, which is no stream of text."""


def kind(start: bytes) -> Kind | None:
    """Return the kind of a file that begins with `start`, NUM_START bytes or all; None if it is no dump."""
    for magic, name in MAGIC.items():
        if start.startswith(magic) or (start and magic.startswith(start)):  # cut off
            return name
    return None if b"\0" in start or start.lstrip().startswith(WEB_PAGE) or archive(start) else "text"


def archive(start: bytes) -> str | None:
    """Return the format of the archive that begins with `start`, NUM_START bytes or all; None if it is none."""
    if start.startswith(TAR, TAR_OFFSET):
        return "tar"
    return next((name for magic, name in ARCHIVES.items() if start.startswith(magic)), None)


def archive_at(path: Path, start: bytes) -> str | None:
    """Return the format of the archive at `path`, which begins with `start`, or of the one that it holds compressed."""
    found = kind(start)
    if found not in ("gzip", "zstd"):
        return archive(start)
    with contextlib.suppress(OSError), pa.input_stream(path, found) as stream:  # where it is damaged, parsing says so
        return archive(stream.read(NUM_START))
    return None


def decompressed(raw: io.RawIOBase, block_bytes: int) -> Iterator[bytes]:
    """Yield the content of `raw`, gzip, zstd or text, in blocks of `block_bytes` or less.

    Raises:
        DamagedError: the content is damaged, or of no known kind.
        ParquetError: the content is Parquet.
        OSError: `raw` cannot be read.

    """
    file = io.BufferedReader(raw, BUFFER_BYTES)
    found = kind(file.peek(NUM_START)[:NUM_START])
    if found == "gzip":
        yield from gzip_blocks.decompressed(file, block_bytes)
    elif found == "zstd":
        yield from _of_zstd(file, block_bytes)
    elif found == "text":
        while block := file.read(block_bytes):
            yield block
    elif found == "parquet":
        raise ParquetError
    else:
        raise gzip_blocks.DamagedError(NONE)


def _of_zstd(file: IO[bytes], block_bytes: int) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    try:
        while block := stream.read(block_bytes):
            yield block
    except OSError as error:
        if error.errno is not None:  # of the file
            raise
        raise gzip_blocks.DamagedError(f"not intact zstd ({error})") from None
