"""Decompresses gzip block by block, and turns isal's exceptions for bad data into one."""

import gzip
import io
from collections.abc import Iterator

from isal import igzip_lib, igzip_threaded


class DamagedError(Exception):
    """The data are not complete, intact gzip; the message gives the reason."""


def decompressed(raw: io.RawIOBase | io.BufferedIOBase, block_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed content of `raw` in blocks of `block_bytes`, the last one shorter.

    Raises:
        DamagedError: the gzip is damaged, or a header exceeds isal's buffer of 8 MB.
        OSError: `raw` cannot be read.

    """
    try:
        with igzip_threaded.open(raw, "rb", threads=1) as file:
            # Only two empty reads in a row mean the end: one may also be empty because isal's thread delivered the
            # rest and ended just as the read gave up waiting.
            while block := file.read(block_bytes) or file.read(block_bytes):
                yield block
    except EOFError:
        raise DamagedError("the gzip data end too early or with garbage") from None
    except (igzip_lib.error, gzip.BadGzipFile, OverflowError) as error:  # type: ignore[misc]  # isal's stub calls the class an instance
        raise DamagedError(f"not intact gzip ({error})") from None
