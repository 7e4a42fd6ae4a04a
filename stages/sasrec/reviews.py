"""Turns gzip JSON lines, one review each, into columns; what is malformed is kept apart, with its reason."""

import datetime
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
from isal import igzip_threaded

from sasrec.errors import UserError

BLOCK_BYTES = 4 << 20  # large enough that Python's share is small, small enough that memory stays flat
REJECTED_TEXT_CHARACTERS = 200

REVIEWS = pa.schema(
    [("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string()), ("rating", pa.int8())]
)
REJECTED = pa.schema([("line_number", pa.int64()), ("reason", pa.string()), ("text", pa.string())])


class ParseGzipParams(msgspec.Struct, frozen=True):
    """Section `parse_gzip` of params.yaml."""

    max_rejected_fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]  # more malformed lines stop the run


class Review(msgspec.Struct, gc=False):
    """The fields of a line that the pipeline keeps; others are ignored."""

    user_id: Annotated[str, msgspec.Meta(min_length=1)]
    timestamp: datetime.date  # YYYY-MM-DD
    book_id: Annotated[str, msgspec.Meta(min_length=1)]
    rating: Annotated[int, msgspec.Meta(ge=0, le=5)]  # 0: reviewed without stars


class Rejected(NamedTuple):
    """A line that is no review."""

    line_number: int  # from 1
    reason: str
    text: str  # its first REJECTED_TEXT_CHARACTERS characters


def read(path: Path) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield (reviews, rejected) batches of schemas REVIEWS and REJECTED, in file order, in bounded memory.

    Every line of the file is a row of exactly one of the two.

    Raises:
        UserError: the file is empty, not gzip, truncated or damaged.

    """
    line_number = 1
    for lines in _blocks_of_lines(path):
        reviews, rejected = _parse(lines, line_number)
        line_number += len(lines)
        yield reviews, rejected


def _blocks_of_lines(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a gzip file, without their line ends, in lists of about BLOCK_BYTES."""
    remedy = "remove it and run `dvc repro` to fetch it again"
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty; {remedy}")
        with igzip_threaded.open(path, "rb", threads=1) as file:
            yield from _split_lines(file)
    except EOFError:
        raise UserError(f"{path}: the gzip data end too early or with garbage; {remedy}") from None
    except (zlib.error, OSError) as error:  # isal raises gzip.BadGzipFile, an OSError, and zlib.error
        raise UserError(f"{path}: not intact gzip ({error}); {remedy}") from None


def _split_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    begun: list[bytes] = []  # pieces of a line whose end has not been read
    while block := file.read(BLOCK_BYTES):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            yield b"".join([*begun, head]).split(b"\n")
            begun = []
        begun.append(tail)
    if last := b"".join(begun):
        yield [last]


def _parse(lines: list[bytes], first_line_number: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    decode = msgspec.json.Decoder(Review).decode
    rejected: list[Rejected] = []
    try:
        reviews = list(map(decode, lines))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        reviews = []
        for number, line in enumerate(lines, first_line_number):
            try:
                reviews.append(decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                text = line.decode("utf-8", "replace")[:REJECTED_TEXT_CHARACTERS]
                rejected.append(Rejected(number, str(error) if line.strip() else "blank line", text))
    return _batch(reviews, REVIEWS), _batch(rejected, REJECTED)


def _batch(rows: list, schema: pa.Schema) -> pa.RecordBatch:
    columns = [[getattr(row, name) for row in rows] for name in schema.names]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
