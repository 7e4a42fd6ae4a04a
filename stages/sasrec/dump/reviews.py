"""Parses JSON lines, one review each, into columns; keeps malformed lines apart, with the reason."""

import datetime
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from sasrec.core.errors import UserError
from sasrec.dump import columns, compression, gzip_blocks
from sasrec.dump.columns import CONTROL_CHARACTER, hold_control_characters, strings
from sasrec.dump.formats import DEFAULT, PRESETS, ROLES, Format, is_default
from sasrec.dump.params import ParseGzipParams
from sasrec.io import storage

BLOCK_BYTES = 1 << 19  # the decompressor delivers 1 MB: a larger read waits for it; a small one stays in cache
LINES_AT_ONCE = 1 << 13  # in a block parsed line by line, which may hold as many lines as bytes
REJECTED_TEXT_CHARACTERS = 200
MIN_EXPANDED_BYTES = 1 << 26  # less text harms nobody, so parse_gzip.max_expansion is not applied
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding a line raises

REVIEWS = pa.schema(
    [("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string()), ("rating", pa.int8())]
)
REJECTED = pa.schema([("line_number", pa.int64()), ("reason", pa.string()), ("text", pa.string())])
Batches = Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]
"""Batches of reviews, each with the rejected lines between them."""

EPOCH = datetime.date(1970, 1, 1).toordinal()


Id = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]  # control characters are checked separately


class Review(msgspec.Struct, gc=False):
    """The fields of a line that the pipeline keeps; it ignores others."""

    user_id: Id
    timestamp: datetime.date  # YYYY-MM-DD
    book_id: Id
    rating: Annotated[int, msgspec.Meta(ge=0, le=5)]  # 0: reviewed without stars


REVIEW = msgspec.json.Decoder(Review)
Value = TypeVar("Value")


class FileError(UserError):
    """A file of the dump cannot be used; `path` is where the pipeline keeps it, not the user's own file."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DamagedError(FileError):
    """A file of the dump is empty or damaged, or of no kind that can be read."""


class FormatError(FileError):
    """A file of the dump is not written as section dump_format of params.yaml says."""


class Rejected(NamedTuple):
    """A line that is no review."""

    line_number: int  # from 1
    reason: str
    text: str  # its first REJECTED_TEXT_CHARACTERS characters


def schema(dump_format: Format) -> pa.Schema:
    """Return the schema of reviews.parquet."""
    return REVIEWS if is_default(dump_format) else columns.schema(dump_format)


def read(path: Path, params: ParseGzipParams, dump_format: Format = PRESETS[DEFAULT]) -> Batches:
    """Yield (reviews, rejected) batches of `schema` and REJECTED, in file order, in bounded memory.

    Every line of the file is a row of exactly one of the two. Parsing ends early where `params.refuse` says so.

    Raises:
        DamagedError: the file is empty, of an unknown kind, truncated or damaged.
        FormatError: the file is Parquet.
        FileError: the file expands beyond `params.max_expansion`.
        UserError: the file cannot be read.

    """
    blocks = decompressed(path, params.max_expansion)
    parse = _parse if is_default(dump_format) else partial(_parse_any, dump_format=dump_format)
    return until_refused(_read(blocks, params.max_line_bytes, parse), blocks, params)


def until_refused(batches: Batches, blocks: Iterator[object], params: ParseGzipParams) -> Batches:
    """Yield `batches`, which come from `blocks`, and end early where `params.refuse` says so."""
    num_rejected = 0
    for reviews, rejected in batches:
        num_rejected += len(rejected)
        yield reviews, rejected
        if params.refuse(num_rejected):
            deque(blocks, maxlen=0)  # read on to the checksum: only it tells damage from malformed lines
            return


def _read(blocks: Iterable[bytes], max_line_bytes: int, parse: Callable[[bytes, int, int], Batches]) -> Batches:
    line_number = 1
    for block in complete_lines(blocks, max_line_bytes):
        for reviews, rejected in parse(block, line_number, max_line_bytes):
            line_number += len(reviews) + len(rejected)
            yield reviews, rejected


def decompressed(path: Path, max_expansion: int, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the decompressed content of `path` in blocks of `block_bytes`; raise as `read` does."""
    pointer = storage.pointer(path)
    name = pointer.url if pointer else str(path)
    num_compressed, num_bytes = pointer.num_bytes if pointer else path.stat().st_size, 0
    if num_compressed == 0:
        raise DamagedError(str(path), "is empty")
    try:
        with storage.open_with_progress(path, "read") as raw:
            for block in compression.decompressed(raw, block_bytes):
                num_bytes += len(block)
                if num_bytes > max(MIN_EXPANDED_BYTES, max_expansion * num_compressed):
                    raise FileError(
                        str(path),
                        f"{num_compressed} bytes expand to {num_bytes} and more; get another dump, or raise "
                        f"parse_gzip.max_expansion in params.yaml, now {max_expansion}",
                    )
                yield block
    except compression.ParquetError:
        raise FormatError(str(path), "is Parquet") from None
    except gzip_blocks.DamagedError as error:
        raise DamagedError(str(path), str(error)) from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error}); run `dvc repro` again") from None


def complete_lines(blocks: Iterable[bytes], max_line_bytes: int) -> Iterator[bytes]:
    """Yield blocks of complete lines, each without its last line end.

    A line longer than `max_line_bytes` may lose its tail, but stays longer than that.
    """
    unfinished: list[bytes] = []  # pieces of a line whose end is not read yet
    num_unfinished = 0
    for block in blocks:
        if num_unfinished > max_line_bytes:
            _rest, newline, after = block.partition(b"\n")
            block = newline + after
        end = block.rfind(b"\n")
        if end >= 0:
            yield b"".join([*unfinished, memoryview(block)[:end]])  # one copy; slicing bytes would make another
            unfinished, num_unfinished = [], 0
        if tail := block[end + 1 :]:
            unfinished.append(tail)
            num_unfinished += len(tail)
    if unfinished:
        yield b"".join(unfinished)


def _parse(
    block: bytes, first_line_number: int, max_line_bytes: int
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield the rows of `block`: one pair of batches if all lines are reviews, else one for each of `_pieces`."""
    reviews = _parse_at_once(block, max_line_bytes, REVIEW)
    if reviews is not None:
        batch = _reviews_batch(reviews)
        if not any(hold_control_characters(batch[name]) for name in ("user_id", "book_id")):
            yield batch, rejected_batch([])
            return
    for lines in _pieces(block):
        reviews, rejected = _parse_line_by_line(lines, first_line_number, max_line_bytes)
        first_line_number += len(reviews) + len(rejected)
        yield _reviews_batch(reviews), rejected_batch(rejected)


def _pieces(block: bytes) -> Iterator[bytes]:
    """Yield pieces of LINES_AT_ONCE lines of `block`, each without its last line end."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))[LINES_AT_ONCE - 1 :: LINES_AT_ONCE]
    begin = 0
    for end in [*ends.tolist(), len(block)]:
        yield block[begin:end]
        begin = end + 1


def _parse_at_once(block: bytes, max_line_bytes: int, decoder: msgspec.json.Decoder[Any]) -> list[Any] | None:
    """Return one value per line, ids unchecked for control characters; None if some line may not be one.

    decode_lines ignores line ends: a value may span lines, and a line may hold several values. But no value holds a
    closing brace, a newline and an opening brace in a row: a JSON string has no raw newline, and outside strings no
    opening brace follows a closing one. So if every line begins and ends with a brace, each holds at least one value.
    If there are as many values as lines, each holds exactly one.
    """
    if not (block.startswith(b"{") and block.endswith(b"}") and _is_utf8(block)):
        return None
    octets = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(octets == ord("\n"))
    if (octets[ends - 1] != ord("}")).any() or (octets[ends + 1] != ord("{")).any():
        return None
    if len(block) > max_line_bytes and np.diff(ends, prepend=-1, append=len(block)).max() - 1 > max_line_bytes:
        return None
    try:
        values = decoder.decode_lines(block)
    except MALFORMED:
        return None
    return values if len(values) == len(ends) + 1 else None


def _is_utf8(block: bytes) -> bool:
    """Return whether `block` is UTF-8: msgspec checks only kept fields. bytes.decode would copy; pyarrow does not."""
    offsets = pa.py_buffer(np.array([0, len(block)], np.int32))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(block)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _parse_line_by_line(
    block: bytes, first_line_number: int, max_line_bytes: int
) -> tuple[list[Review], list[Rejected]]:
    reviews: list[Review] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(block.split(b"\n"), first_line_number):
        try:
            reviews.append(_parse_line(line, max_line_bytes))
        except MALFORMED as error:
            rejected.append(Rejected(number, str(error), beginning(line)))
    return reviews, rejected


def beginning(line: bytes) -> str:
    """Return the first REJECTED_TEXT_CHARACTERS of a line."""
    enough = line[: 4 * REJECTED_TEXT_CHARACTERS]  # UTF-8 has at most four bytes a character
    return enough.decode("utf-8", "replace")[:REJECTED_TEXT_CHARACTERS]


def _parse_line(line: bytes, max_line_bytes: int) -> Review:
    """Return the review; raise one of MALFORMED if the line is not one."""
    review = _decode(line, REVIEW, max_line_bytes)
    for name in ("user_id", "book_id"):
        if CONTROL_CHARACTER.search(getattr(review, name)):
            raise msgspec.ValidationError(f"Control character - at `$.{name}`")
    return review


def _decode(line: bytes, decoder: msgspec.json.Decoder[Value], max_line_bytes: int) -> Value:
    if len(line) > max_line_bytes:
        raise msgspec.ValidationError(f"longer than parse_gzip.max_line_bytes, {max_line_bytes}")
    if not line.strip():
        raise msgspec.ValidationError("blank line")
    return decoder.decode(line.decode())


def _parse_any(block: bytes, first_line_number: int, max_line_bytes: int, dump_format: Format) -> Batches:
    """Yield the rows of `block` as `_parse` does, of any format of JSON lines."""
    decoder = _decoder(dump_format)
    values = _parse_at_once(block, max_line_bytes, decoder)
    if values is not None:
        batch, reasons = columns.convert(_found(values, dump_format), dump_format)
        if not reasons:
            yield batch, rejected_batch([])
            return
    for piece in _pieces(block):
        lines = piece.split(b"\n")
        decoded: dict[int, Any] = {}
        reasons = {}
        for row, line in enumerate(lines):
            try:
                decoded[row] = _decode(line, decoder, max_line_bytes)
            except MALFORMED as error:
                reasons[row] = str(error)
        batch, refused = columns.convert(_found(list(decoded.values()), dump_format), dump_format)
        rows = list(decoded)
        reasons |= {rows[row]: reason for row, reason in refused.items()}
        yield (
            batch,
            rejected_batch(
                [Rejected(first_line_number + row, reasons[row], beginning(lines[row])) for row in sorted(reasons)]
            ),
        )
        first_line_number += len(lines)


@cache
def _decoder(dump_format: Format) -> msgspec.json.Decoder[Any]:
    """Return a decoder of lines into the fields of the format; it ignores others."""
    names = {role: getattr(dump_format, role) for role in ROLES if getattr(dump_format, role) is not None}
    fields = [(role, str | int | float | None, None) for role in names]
    return msgspec.json.Decoder(msgspec.defstruct("Line", fields, rename=names, gc=False))


def _found(lines: list[Any], dump_format: Format) -> columns.Found:
    return columns.Found(
        user=columns.of_values([line.user for line in lines]),
        item=columns.of_values([line.item for line in lines]),
        time=columns.of_values([line.time for line in lines]),
        rating=None if dump_format.rating is None else columns.of_values([line.rating for line in lines]),
    )


def _reviews_batch(reviews: list[Review]) -> pa.RecordBatch:
    """Return reviews as columns made from buffers: pa.array would import pandas and take twice as long."""
    days = np.fromiter([review.timestamp.toordinal() for review in reviews], np.int32, len(reviews)) - EPOCH
    ratings = bytes([review.rating for review in reviews])
    columns = [
        strings([review.user_id for review in reviews]),
        pa.Array.from_buffers(pa.date32(), len(reviews), [None, pa.py_buffer(days)]),
        strings([review.book_id for review in reviews]),
        pa.Array.from_buffers(pa.int8(), len(reviews), [None, pa.py_buffer(ratings)]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=REVIEWS)


def rejected_batch(rejected: list[Rejected]) -> pa.RecordBatch:
    """Return rejected lines as a batch of schema REJECTED."""
    columns = zip(*rejected, strict=True) if rejected else [[]] * len(REJECTED)
    arrays = [
        pa.array(column, field.type) if column else pa.nulls(0, field.type)  # pa.array would import pandas
        for column, field in zip(columns, REJECTED, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=REJECTED)
