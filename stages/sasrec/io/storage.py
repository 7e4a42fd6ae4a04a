"""Reads and writes files elsewhere: in network storages whose URLs fsspec knows (s3://, gs://, abfs://, sftp:// ...).

Where the disk is too small for a file, its path holds a pointer instead: a little JSON with the URL.
"""

import contextlib
import errno
import io
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from sasrec.core.errors import UserError, lack
from sasrec.core.params import about
from sasrec.io import progress
from sasrec.io.digests import ParquetSink

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK_BYTES = 1 << 22
POINTER_START = b'{\n  "url": '  # a dump of JSON lines has no line of a brace alone
# Only fsspec's schemes of network storages: a param must not make a stage write anywhere on this machine.
WRITABLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "hdfs", "webhdfs", "sftp", "ssh", "smb")
READABLE = (*WRITABLE, "http", "https", "ftp", "hf")
UNCHAINED = "^(?!.*::)"  # fsspec reads another URL, of any scheme, after ::
FOLDER = f"{UNCHAINED}({'|'.join(WRITABLE)})://.+$"
FILE = f"{UNCHAINED}({'|'.join(READABLE)})://.+$"
FOLDER_RULE = f"which begins with one of {'://, '.join(WRITABLE)}:// and has no ::"
FILE_RULE = f"which begins with one of {'://, '.join(READABLE)}:// and has no ::"
Folder = Annotated[str, msgspec.Meta(pattern=FOLDER, extra={"allowed": f"give the URL of a folder, {FOLDER_RULE}"})]


class StorageParams(msgspec.Struct, frozen=True):
    """Section `storage` of params.yaml."""

    url: Annotated[
        Folder | None,
        about(
            "a folder such as `s3://bucket/prefix` for large files: a dump at a URL stays where it is, and reviews and "
            "interactions are written [to that folder](scaling.md#less-disk); null: everything is written to this disk"
        ),
    ]


class Pointer(msgspec.Struct, frozen=True):
    """The JSON content at the path of a file that is elsewhere."""

    url: str
    num_bytes: int
    version: str | None  # the storage's version of the content; None where the URL holds its digest


def is_url(name: str) -> bool:
    """Return whether `name` is a URL, not a path."""
    return "://" in name


def is_readable(url: str) -> bool:
    """Return whether `url` names a file or folder in a network storage, without a chained URL."""
    return re.search(FILE, url) is not None


def matching(url: str) -> list[str]:
    """Return the sorted URLs of the files that the glob `url` matches; a URL without a pattern matches itself.

    Raises:
        UserError: the storage cannot be reached, or no file matches.

    """
    if not any(character in url for character in "*?["):
        return [url]
    with _using(url):
        storage, pattern = at(url)
        found = sorted(storage.glob(pattern))
        if not found:
            raise UserError(f"{url}: no file matches; correct the URL in params.yaml")
        return [storage.unstrip_protocol(path) for path in found]


def copy(url: str, destination: Path) -> None:
    """Write the content of `url` to `destination`, block by block.

    Raises:
        UserError: `url` cannot be read; the caller must remove the part that was written.

    """
    from tqdm import tqdm  # a served model uses this module for local files, and its environment has no tqdm

    with _using(url):
        storage, path = at(url)
        size = _size(storage, path, url)
    with (
        destination.open("wb") as file,
        tqdm.wrapattr(file, "write", total=size, desc="copy", disable=None) as counted,
        _using(url),
        storage.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead") as source,
    ):
        shutil.copyfileobj(source, counted, BLOCK_BYTES)


def write_pointer(url: str, destination: Path) -> None:
    """Write a pointer to `url` to `destination`; raise UserError if `url` cannot be read."""
    with _using(url):
        storage, path = at(url)
        _write(destination, Pointer(url, _size(storage, path, url), _version(storage, path)))


def pointer(path: Path) -> Pointer | None:
    """Return the pointer at `path`; None if the file itself is there.

    Raises:
        UserError: the file begins as a pointer, as no other file of the pipeline does, but is none.

    """
    with path.open("rb") as file:
        if file.read(len(POINTER_START)) != POINTER_START:
            return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pointer)
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: not a pointer to a file elsewhere ({error}); `dvc repro` makes it again") from None


@contextmanager
def open_pointer(pointer: Pointer) -> Iterator[io.RawIOBase]:
    """Yield the open file elsewhere to which `pointer` leads.

    Raises:
        UserError: the file cannot be read, or has changed since the pointer was written.

    """
    with _using(pointer.url):
        storage, path = at(pointer.url)
        version = None if pointer.version is None else _version(storage, path)
        if (storage.size(path), version) != (pointer.num_bytes, pointer.version):
            raise UserError(
                f"{pointer.url}: has changed since a stage pointed to it; `dvc repro --force` takes it as it is now"
            )
        file = storage.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
    with file:
        yield file


@contextmanager
def open_with_progress(path: Path, label: str) -> Iterator[io.RawIOBase]:
    """Open the file at `path`, here or elsewhere, and show its progress as `progress.open_with_progress` does."""
    elsewhere = pointer(path)
    if elsewhere is None:
        with progress.open_with_progress(path, label) as file:
            yield file
    else:
        with open_pointer(elsewhere) as remote, progress.counted(remote, elsewhere.num_bytes, label) as file:
            yield file


@contextmanager
def sink(path: Path, folder: str | None) -> Iterator[ParquetSink]:
    """Yield a sink that writes Parquet to `path`; with the URL of a `folder`, to that folder, with a pointer at `path`.

    A complete file in the folder is named by its digest. Until then it is in `unfinished` there, where a killed run
    leaves it.

    Raises:
        UserError: the storage cannot be used.

    """
    if folder is None:
        with path.open("wb") as file:
            yield ParquetSink(file)
        return
    with _using(folder):
        storage, root = at(folder)
        unfinished = f"{root}/unfinished/{uuid.uuid4().hex}"
        remote = storage.open(unfinished, "wb")
    written = ParquetSink(remote)
    try:
        yield written
        with _using(folder):
            remote.close()
            name = f"{written.digest}.parquet"
            storage.mv(unfinished, f"{root}/{name}")
    except BaseException:
        for tidy in (remote.close, lambda: storage.rm(unfinished)):
            with contextlib.suppress(Exception):
                tidy()
        raise
    _write(path, Pointer(f"{folder.rstrip('/')}/{name}", written.num_bytes, None))


def at(url: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of `url`, and its path there.

    Raises:
        UserError: `url` names no network storage: a pointer, or a name that a glob finds, may hold any URL.

    """
    if not is_readable(url):
        raise UserError(f"{url}: no URL {FILE_RULE}; give another one, or another name")
    from fsspec.core import url_to_fs  # takes half a second, which local files need not wait for

    return url_to_fs(url)


def _size(storage: "AbstractFileSystem", path: str, url: str) -> int:
    found = storage.info(path)
    if found["type"] == "directory":
        raise UserError(f"{url}: is a folder; give the URL of a file in it, or a glob: {url.rstrip('/')}/*")
    return found["size"]


def _version(storage: "AbstractFileSystem", path: str) -> str:
    return f"{storage.checksum(path):x}"  # on S3, the ETag


def _write(path: Path, pointer: Pointer) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(pointer), indent=2) + b"\n")


@contextmanager
def _using(url: str) -> Iterator[None]:
    """Turn any failure of the block into a UserError that names `url`."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise UserError(f"params.yaml: {url}: {scheme}:// needs another package: {error}") from None
    except Exception as error:  # every storage has its own exceptions
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or lack(error):  # this machine's fault
            raise
        raise UserError(
            f"{url}: cannot be used ({_reason(error)}); correct the URL in params.yaml, or the credentials in the "
            "environment"
        ) from error


def _reason(error: Exception) -> str:
    """Return what `error` says, or its cause if it only repeats the path: fsspec does so for any fault of HTTP."""
    if not isinstance(error, FileNotFoundError):
        return str(error)
    status = getattr(error.__cause__, "status", None)  # its text may show where a server leads, which may be signed
    return f"the server answers {status}" if status else str(error.__cause__ or "no such file")
