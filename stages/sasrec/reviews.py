"""Turns gzip JSON lines, one review each, into columns; what is malformed is kept apart, with its reason."""

import datetime
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from isal import igzip_threaded

from sasrec.errors import UserError

BLOCK_BYTES = 1 << 19  # the decompressor hands over 1 MB: larger reads wait for it; small ones stay in cache
REJECTED_TEXT_CHARACTERS = 200
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding a line raises

REVIEWS = pa.schema(
    [("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string()), ("rating", pa.int8())]
)
REJECTED = pa.schema([("line_number", pa.int64()), ("reason", pa.string()), ("text", pa.string())])


EPOCH = datetime.date(1970, 1, 1).toordinal()


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
    for block in _blocks_of_lines(path):
        reviews, rejected = _parse(block, line_number)
        line_number += len(reviews) + len(rejected)
        yield reviews, rejected


def _blocks_of_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a gzip file in blocks of about BLOCK_BYTES, without the line end of the last one."""
    remedy = "remove it and run `dvc repro` to fetch it again"
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty; {remedy}")
        with igzip_threaded.open(path, "rb", threads=1) as file:
            yield from _whole_lines(file)
    except EOFError:
        raise UserError(f"{path}: the gzip data end too early or with garbage; {remedy}") from None
    except (zlib.error, OSError) as error:  # isal raises gzip.BadGzipFile, an OSError, and zlib.error
        raise UserError(f"{path}: not intact gzip ({error}); {remedy}") from None


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    begun: list[bytes] = []  # pieces of a line whose end has not been read
    while block := file.read(BLOCK_BYTES):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            yield b"".join([*begun, head])
            begun = []
        begun.append(tail)
    if last := b"".join(begun):
        yield last


def _parse(block: bytes, first_line_number: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    reviews, rejected = _parse_at_once(block), []
    if reviews is None:
        reviews, rejected = _parse_line_by_line(block, first_line_number)
    return _reviews_batch(reviews), _rejected_batch(rejected)


def _parse_at_once(block: bytes) -> list[Review] | None:
    """Return one review a line, or None where some line may not be exactly one review.

    decode_lines knows no lines: it takes values that span them, and several on one. But no JSON value holds a brace,
    a newline and an opening brace in a row: a string has no raw newline, and after a closing brace comes none that
    opens. So where every line begins and ends with a brace, each holds one value or more; and where there are as many
    values as lines, exactly one.
    """
    if not (block.startswith(b"{") and block.endswith(b"}")):
        return None
    letters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    if (letters[ends - 1] != ord("}")).any() or (letters[ends + 1] != ord("{")).any():
        return None
    try:
        reviews = msgspec.json.Decoder(Review).decode_lines(block)
    except MALFORMED:
        return None
    return reviews if len(reviews) == len(ends) + 1 else None


def _parse_line_by_line(block: bytes, first_line_number: int) -> tuple[list[Review], list[Rejected]]:
    decode = msgspec.json.Decoder(Review).decode
    reviews: list[Review] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(block.split(b"\n"), first_line_number):
        try:
            reviews.append(decode(line))
        except MALFORMED as error:
            text = line.decode("utf-8", "replace")[:REJECTED_TEXT_CHARACTERS]
            rejected.append(Rejected(number, str(error) if line.strip() else "blank line", text))
    return reviews, rejected


def _reviews_batch(reviews: list[Review]) -> pa.RecordBatch:
    """Return the rows as columns, from buffers: pa.array would import pandas, and takes twice as long."""
    days = np.fromiter([review.timestamp.toordinal() - EPOCH for review in reviews], np.int32, len(reviews))
    ratings = bytes([review.rating for review in reviews])
    columns = [
        _strings([review.user_id for review in reviews]),
        pa.Array.from_buffers(pa.date32(), len(reviews), [None, pa.py_buffer(days)]),
        _strings([review.book_id for review in reviews]),
        pa.Array.from_buffers(pa.int8(), len(reviews), [None, pa.py_buffer(ratings)]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=REVIEWS)


def _strings(texts: list[str]) -> pa.Array:
    letters = "".join(texts)
    encoded = letters.encode()
    is_ascii = len(encoded) == len(letters)
    lengths = map(len, texts if is_ascii else [text.encode() for text in texts])
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(lengths, np.int32, len(texts)), out=offsets[1:])
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(encoded)])


def _rejected_batch(rejected: list[Rejected]) -> pa.RecordBatch:
    columns = zip(*rejected, strict=True) if rejected else [[]] * len(REJECTED)
    arrays = [
        pa.array(column, field.type) if column else pa.nulls(0, field.type)  # pa.array would import pandas
        for column, field in zip(columns, REJECTED, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=REJECTED)
