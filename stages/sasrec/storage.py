"""Reads files that are elsewhere, under the URLs that fsspec knows: s3://, gs://, abfs://, sftp:// and others."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from sasrec.errors import UserError

BLOCK_BYTES = 1 << 22


def is_url(name: str) -> bool:
    """Return whether `name` is of a file elsewhere."""
    return "://" in name


def matching(url: str) -> list[str]:
    """Return the URLs of the files that a glob means, sorted; a URL without a pattern is returned as it is.

    Raises:
        UserError: the storage cannot be reached, or no file matches.

    """
    from fsspec.core import url_to_fs  # half a second, which local files need not wait for

    if not any(letter in url for letter in "*?["):
        return [url]
    with _reading(url):
        storage, pattern = url_to_fs(url)
        found = sorted(storage.glob(pattern))
        if not found:
            raise FileNotFoundError("no file matches")
        return [storage.unstrip_protocol(path) for path in found]


def copy(url: str, destination: Path) -> None:
    """Write the content of `url` to `destination`, a block at a time.

    Raises:
        UserError: it cannot be read; what is written of it so far is for the caller to remove.

    """
    from fsspec.core import url_to_fs

    with _reading(url):
        storage, path = url_to_fs(url)
        size = storage.size(path)
    with (
        destination.open("wb") as file,
        tqdm.wrapattr(file, "write", total=size, desc="copy", disable=None) as counted,
        _reading(url),
        storage.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead") as source,
    ):
        shutil.copyfileobj(source, counted, BLOCK_BYTES)


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Raise UserError, which names `url`, for whatever goes wrong in the block."""
    try:
        yield
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise UserError(f"params.yaml: fetch.file is {url}, and {scheme}:// needs another package: {error}") from None
    except Exception as error:  # every storage has exceptions of its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of the copy
            raise
        raise UserError(
            f"{url}: cannot be read ({error}); correct fetch.file in params.yaml, or the credentials in the environment"
        ) from error
