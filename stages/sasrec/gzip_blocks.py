"""Decompresses gzip a block at a time, and turns all that isal may raise into one exception."""

import gzip
import io
from collections.abc import Iterator

from isal import igzip_lib, igzip_threaded


class DamagedError(Exception):
    """What was read is not whole, intact gzip; the message says in which way."""


def decompressed(raw: io.RawIOBase, block_bytes: int) -> Iterator[bytes]:
    """Yield what the gzip file `raw` holds, in blocks of `block_bytes`, the last one shorter.

    Raises:
        DamagedError: it is not intact, or a header is longer than 8 MB, which isal's buffer takes.
        OSError: it cannot be read.

    """
    try:
        with igzip_threaded.open(raw, "rb", threads=1) as file:
            # isal returns nothing, once, also where its thread puts the rest down and ends just as the reader has
            # given up waiting. The second of two reads tells whether that was the end.
            while block := file.read(block_bytes) or file.read(block_bytes):
                yield block
    except EOFError:
        raise DamagedError("the gzip data end too early or with garbage") from None
    except (igzip_lib.error, gzip.BadGzipFile, OverflowError) as error:  # type: ignore[misc]  # isal's stub calls the class an instance
        raise DamagedError(f"not intact gzip ({error})") from None
