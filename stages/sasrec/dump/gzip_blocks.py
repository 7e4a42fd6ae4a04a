"""Decompresses gzip block by block, and turns the exceptions for bad data into one."""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any


class DamagedError(Exception):
    """The data are not complete, intact gzip; the message gives the reason."""


def decompressed(raw: io.RawIOBase | io.BufferedIOBase, block_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed content of `raw` in blocks of `block_bytes`, the last one shorter.

    Raises:
        DamagedError: the gzip is damaged, or a header exceeds isal's buffer of 8 MB.
        OSError: `raw` cannot be read.

    """
    opened, bad_data = _opened(raw)
    try:
        with opened as file:
            # Only two empty reads in a row mean the end: one may also be empty because isal's thread delivered the
            # rest and ended just as the read gave up waiting.
            while block := file.read(block_bytes) or file.read(block_bytes):
                yield block
    except EOFError:
        raise DamagedError("the gzip data end too early or with garbage") from None
    except (bad_data, gzip.BadGzipFile, OverflowError) as error:
        raise DamagedError(f"not intact gzip ({error})") from None


def _opened(raw: io.RawIOBase | io.BufferedIOBase) -> tuple[io.BufferedIOBase, Any]:
    """Return the decompressed `raw`, and the class of the exception for bad data, which isal's stub calls an object."""
    try:
        from isal import igzip_lib, igzip_threaded
    except ModuleNotFoundError:  # where a model is served, to read titles; isal comes with the extra `pipeline`
        return gzip.open(raw), zlib.error
    return igzip_threaded.open(raw, "rb", threads=1), igzip_lib.error
