"""Stores a digest of its content in a file and checks it, so that any flipped bit is found, even in a header or footer.

The digest is the SHA-256 of the file with zeros instead of the digest, so it covers every other byte. JSON and
safetensors, whose header is JSON, hold it as the member `sha256`; Parquet holds it in its footer's metadata.
"""

import hashlib
import io
import re
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

UNKNOWN = "0" * 64  # reserves the digest's bytes until it is known
METADATA = {"sha256": UNKNOWN}  # for safetensors and Parquet
IN_JSON = re.compile(rb'"sha256": ?"')
IN_FOOTER = b"\x18\x06sha256\x18\x40"  # in Thrift's compact protocol: the key, then the length of 64 characters
FOOTER_END_BYTES = 8  # Parquet ends with the footer's length in 4 bytes and a magic number
BLOCK_BYTES = 1 << 20


def fill(content: bytes) -> bytes:
    """Return JSON or safetensors with its digest instead of UNKNOWN; raise ValueError if it has no `sha256`."""
    start = _digest_start_in_json(content)
    return _with_digest(content, start, hashlib.sha256(content).hexdigest())


def check(content: bytes) -> None:
    """Raise ValueError if `content`, JSON or safetensors, is not what `fill` returned."""
    start = _digest_start_in_json(content)
    _require_equal(hashlib.sha256(_with_digest(content, start, UNKNOWN)).hexdigest(), content, start)


def check_parquet(file: IO[bytes] | io.RawIOBase) -> None:
    """Read all of the Parquet `file`; raise ValueError if it is not what a ParquetSink wrote."""
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, num_bytes - FOOTER_END_BYTES))
    footer_bytes = int.from_bytes((file.read(4) or b""), "little") + FOOTER_END_BYTES
    file.seek(max(0, num_bytes - footer_bytes))
    footer = file.read(footer_bytes) or b""
    start = _digest_start_in_footer(footer)
    file.seek(0)
    digest, num_left = hashlib.sha256(), num_bytes - len(footer)
    while num_left > 0 and (block := file.read(min(num_left, BLOCK_BYTES))):
        digest.update(block)
        num_left -= len(block)
    digest.update(_with_digest(footer, start, UNKNOWN))
    _require_equal(digest.hexdigest(), footer, start)
    file.seek(0)


class ParquetSink(io.RawIOBase):
    """Writes Parquet to `file` and fills the digest in.

    Write the rows, add METADATA, call `begin_footer`, close the Parquet writer, then call `finish`.
    """

    def __init__(self, file: IO[bytes] | io.RawIOBase) -> None:
        self.num_bytes = 0
        self.digest = ""  # known after `finish`
        self._file = file
        self._content = hashlib.sha256()
        self._footer: bytearray | None = None

    def writable(self) -> bool:
        """Return True, which pyarrow requires."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.num_bytes

    def write(self, block: "ReadableBuffer", /) -> int:
        """Write `block`, or keep it if it belongs to the footer; return its number of bytes."""
        written = memoryview(block).nbytes
        self.num_bytes += written
        self._content.update(block)
        if self._footer is None:
            self._file.write(block)
        else:
            self._footer += block
        return written

    def begin_footer(self) -> None:
        """Keep all later blocks, because the digest inside them is known only at their end."""
        self._footer = bytearray()

    def finish(self) -> None:
        """Write the footer with the digest."""
        footer = bytes(self._footer or b"")
        self.digest = self._content.hexdigest()
        self._file.write(_with_digest(footer, _digest_start_in_footer(footer), self.digest))


def _digest_start_in_json(content: bytes) -> int:
    found = IN_JSON.search(content)
    if found is None:
        raise ValueError("it holds no digest of its content")
    return found.end()


def _digest_start_in_footer(footer: bytes) -> int:
    found = footer.rfind(IN_FOOTER)  # the last match: the footer before the metadata may hold any text of the dump
    if found < 0:
        raise ValueError("it holds no digest of its content")
    return found + len(IN_FOOTER)


def _with_digest(content: bytes, start: int, digest: str) -> bytes:
    return content[:start] + digest.encode() + content[start + len(digest) :]


def _require_equal(found: str, content: bytes, start: int) -> None:
    if content[start : start + len(found)] != found.encode():
        raise ValueError("its content is not what was written: it has another digest than the one in it")
