"""Puts into a file a digest of its content, and checks it: any flipped bit is found, in headers and footers too.

The digest is the SHA-256 of the file with zeros in the digest's own place, so that it covers every other byte. JSON and
safetensors, whose header is JSON, hold it as a member `sha256`, Parquet in the metadata of its footer.
"""

import hashlib
import io
import re
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

UNKNOWN = "0" * 64  # what stands in the digest's place until it is known
METADATA = {"sha256": UNKNOWN}  # of safetensors and Parquet
IN_JSON = re.compile(rb'"sha256": ?"')
IN_FOOTER = b"\x18\x06sha256\x18\x40"  # the key, and what announces 64 characters, in Thrift's compact protocol
FOOTER_END_BYTES = 8  # of Parquet: the footer's length in 4 bytes, and its magic number
BLOCK_BYTES = 1 << 20


def fill(content: bytes) -> bytes:
    """Return JSON or safetensors, whose member `sha256` is UNKNOWN, with its digest."""
    start = _place_in_json(content)
    return _with_digest(content, start, hashlib.sha256(content).hexdigest())


def check(content: bytes) -> None:
    """Raise ValueError where `content`, JSON or safetensors, is not what `fill` returned."""
    start = _place_in_json(content)
    _require_equal(hashlib.sha256(_with_digest(content, start, UNKNOWN)).hexdigest(), content, start)


def check_parquet(file: IO[bytes] | io.RawIOBase) -> None:
    """Raise ValueError where the Parquet `file` is not what went through a ParquetSink; reads all of it."""
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, num_bytes - FOOTER_END_BYTES))
    footer_bytes = int.from_bytes((file.read(4) or b""), "little") + FOOTER_END_BYTES
    file.seek(max(0, num_bytes - footer_bytes))
    footer = file.read(footer_bytes) or b""
    start = _place_in_footer(footer)
    file.seek(0)
    digest, num_left = hashlib.sha256(), num_bytes - len(footer)
    while num_left > 0 and (block := file.read(min(num_left, BLOCK_BYTES))):
        digest.update(block)
        num_left -= len(block)
    digest.update(_with_digest(footer, start, UNKNOWN))
    _require_equal(digest.hexdigest(), footer, start)
    file.seek(0)


class ParquetSink(io.RawIOBase):
    """Passes Parquet on to `file`, and fills the digest in; write METADATA into the footer, and all else before it."""

    def __init__(self, file: IO[bytes] | io.RawIOBase) -> None:
        self.num_bytes = 0
        self.digest = ""  # known after `finish`
        self._file = file
        self._content = hashlib.sha256()
        self._footer: bytearray | None = None

    def writable(self) -> bool:
        """Return True: pyarrow asks."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.num_bytes

    def write(self, block: "ReadableBuffer", /) -> int:
        """Pass `block` on, or keep it where it is of the footer; return its number of bytes."""
        written = memoryview(block).nbytes
        self.num_bytes += written
        self._content.update(block)
        if self._footer is None:
            self._file.write(block)
        else:
            self._footer += block
        return written

    def begin_footer(self) -> None:
        """Keep what is written from now on: its digest is known only at its end."""
        self._footer = bytearray()

    def finish(self) -> None:
        """Write the footer with the digest."""
        footer = bytes(self._footer or b"")
        self.digest = self._content.hexdigest()
        self._file.write(_with_digest(footer, _place_in_footer(footer), self.digest))


def _place_in_json(content: bytes) -> int:
    found = IN_JSON.search(content)
    if found is None:
        raise ValueError("it holds no digest of its content")
    return found.end()


def _place_in_footer(footer: bytes) -> int:
    found = footer.rfind(IN_FOOTER)  # the last one: what comes before the metadata may hold any text of the dump
    if found < 0:
        raise ValueError("it holds no digest of its content")
    return found + len(IN_FOOTER)


def _with_digest(content: bytes, start: int, digest: str) -> bytes:
    return content[:start] + digest.encode() + content[start + len(digest) :]


def _require_equal(found: str, content: bytes, start: int) -> None:
    if content[start : start + len(found)] != found.encode():
        raise ValueError("its content is not what was written: it has another digest than the one in it")
