"""Files that are elsewhere, under the URLs that fsspec knows: s3://, gs://, abfs://, sftp:// and others.

Where the disk is too small for a file, a pointer stands in its place: a little JSON with the URL.
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
from tqdm import tqdm

from sasrec import progress
from sasrec.digests import ParquetSink
from sasrec.errors import UserError, lack

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK_BYTES = 1 << 22
# Of fsspec's schemes those of storages over a network: a param must not make a stage write anywhere on this machine.
WRITABLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "hdfs", "webhdfs", "sftp", "ssh", "smb")
READABLE = (*WRITABLE, "http", "https", "ftp", "hf")
UNCHAINED = "^(?!.*::)"  # after :: fsspec takes another URL, of any scheme
FOLDER = f"{UNCHAINED}({'|'.join(WRITABLE)})://.+$"
FILE = f"{UNCHAINED}({'|'.join(READABLE)})://.+$"
FOLDER_RULE = f"which begins with one of {'://, '.join(WRITABLE)}:// and has no ::"
FILE_RULE = f"which begins with one of {'://, '.join(READABLE)}:// and has no ::"
Folder = Annotated[str, msgspec.Meta(pattern=FOLDER, description=f"give the URL of a folder, {FOLDER_RULE}")]


class StorageParams(msgspec.Struct, frozen=True):
    """Section `storage` of params.yaml."""

    url: Folder | None  # the folder of large files; None: they lie in data/


class Pointer(msgspec.Struct, frozen=True):
    """What stands, as JSON, in the place of a file that lies elsewhere."""

    url: str
    num_bytes: int
    version: str | None  # what the storage says of this content; None where the URL names its digest


def is_url(name: str) -> bool:
    """Return whether `name` is of a file elsewhere."""
    return "://" in name


def is_readable(url: str) -> bool:
    """Return whether `url` is of one file or folder of a storage over a network, which may be read."""
    return re.search(FILE, url) is not None


def matching(url: str) -> list[str]:
    """Return the URLs of the files that a glob means, sorted; a URL without a pattern is returned as it is.

    Raises:
        UserError: the storage cannot be reached, or no file matches.

    """
    if not any(letter in url for letter in "*?["):
        return [url]
    with _using(url):
        storage, pattern = at(url)
        found = sorted(storage.glob(pattern))
        if not found:
            raise FileNotFoundError("no file matches")
        return [storage.unstrip_protocol(path) for path in found]


def copy(url: str, destination: Path) -> None:
    """Write the content of `url` to `destination`, a block at a time.

    Raises:
        UserError: it cannot be read; what is written of it so far is for the caller to remove.

    """
    with _using(url):
        storage, path = at(url)
        size = storage.size(path)
    with (
        destination.open("wb") as file,
        tqdm.wrapattr(file, "write", total=size, desc="copy", disable=None) as counted,
        _using(url),
        storage.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead") as source,
    ):
        shutil.copyfileobj(source, counted, BLOCK_BYTES)


def point(url: str, destination: Path) -> None:
    """Write a pointer to `url` to `destination`; raise UserError where it cannot be read."""
    with _using(url):
        storage, path = at(url)
        _write(destination, Pointer(url, storage.size(path), _version(storage, path)))


def pointer(path: Path) -> Pointer | None:
    """Return the pointer in the place `path`; None where there is the file itself.

    Raises:
        UserError: it is neither: none of our files begins as a pointer does.

    """
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pointer)
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: not a pointer to a file elsewhere ({error}); `dvc repro` makes it again") from None


@contextmanager
def opened(pointer: Pointer) -> Iterator[io.RawIOBase]:
    """Open the file elsewhere.

    Raises:
        UserError: it cannot be read, or is not what it was when the pointer was written.

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
def reading(path: Path, label: str) -> Iterator[io.RawIOBase]:
    """Open the file at `path`, here or elsewhere, and show as `progress.reading` does how far it is read."""
    elsewhere = pointer(path)
    if elsewhere is None:
        with progress.reading(path, label) as file:
            yield file
    else:
        with opened(elsewhere) as remote, progress.counted(remote, elsewhere.num_bytes, label) as file:
            yield file


@contextmanager
def sink(path: Path, folder: str | None) -> Iterator[ParquetSink]:
    """Yield what to write a Parquet file to: at `path`, or in the `folder` of a URL, and a pointer comes to `path`.

    The file's name there is its digest; it has it once it is whole. What a killed run leaves is in `unfinished` there.

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
        UserError: it is of no storage over a network. A name that a glob finds, or a pointer, may be of any.

    """
    if not is_readable(url):
        raise UserError(f"{url}: no URL {FILE_RULE}; give another one, or another name")
    from fsspec.core import url_to_fs  # half a second, which local files need not wait for

    return url_to_fs(url)


def _version(storage: "AbstractFileSystem", path: str) -> str:
    return f"{storage.checksum(path):x}"  # of S3: its ETag


def _write(path: Path, pointer: Pointer) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(pointer), indent=2) + b"\n")


@contextmanager
def _using(url: str) -> Iterator[None]:
    """Raise UserError, which names `url`, for whatever goes wrong in the block."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise UserError(f"params.yaml: {url}: {scheme}:// needs another package: {error}") from None
    except Exception as error:  # every storage has exceptions of its own
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or lack(error):  # of this machine
            raise
        raise UserError(
            f"{url}: cannot be used ({error}); correct the URL in params.yaml, or the credentials in the environment"
        ) from error
