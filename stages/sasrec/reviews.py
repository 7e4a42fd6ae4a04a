"""Turns gzip JSON lines, one review each, into columns; what is malformed is kept apart, with its reason."""

import datetime
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from sasrec import gzip_blocks, storage
from sasrec.errors import UserError

BLOCK_BYTES = 1 << 19  # the decompressor hands over 1 MB: larger reads wait for it; small ones stay in cache
LINES_AT_ONCE = 1 << 13  # where a block is parsed line by line: it may hold as many lines as bytes
NUM_SHOWN = 3  # rejected lines named in the message
REJECTED_TEXT_CHARACTERS = 200
MIN_EXPANDED_BYTES = 1 << 26  # a file that expands to less harms nobody, whatever parse_gzip.max_expansion says
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding a line raises
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")

REVIEWS = pa.schema(
    [("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string()), ("rating", pa.int8())]
)
REJECTED = pa.schema([("line_number", pa.int64()), ("reason", pa.string()), ("text", pa.string())])


EPOCH = datetime.date(1970, 1, 1).toordinal()


class ParseGzipParams(msgspec.Struct, frozen=True):
    """Section `parse_gzip` of params.yaml."""

    max_rejected_fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]  # more malformed lines stop the run
    max_line_bytes: Annotated[int, msgspec.Meta(ge=1000, le=1 << 30)]  # a longer line is malformed
    max_expansion: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]  # bytes of text per byte of gzip; more stop the run
    engine: Literal["local", "spark"]  # what reads the shards of a dump
    num_processes: Annotated[int, msgspec.Meta(ge=1, le=1 << 10)] | None  # of engine local; None: half the cores

    def refuse(self, num_rejected: int) -> bool:
        """Return whether so many malformed lines decide, whatever the other lines are, and are enough to name some."""
        return self.max_rejected_fraction == 0 and num_rejected > NUM_SHOWN


Id = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]  # and no control character, which is checked apart


class Review(msgspec.Struct, gc=False):
    """The fields of a line that the pipeline keeps; others are ignored."""

    user_id: Id
    timestamp: datetime.date  # YYYY-MM-DD
    book_id: Id
    rating: Annotated[int, msgspec.Meta(ge=0, le=5)]  # 0: reviewed without stars


class DamagedError(UserError):
    """A file of the dump is not whole, intact gzip."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Rejected(NamedTuple):
    """A line that is no review."""

    line_number: int  # from 1
    reason: str
    text: str  # its first REJECTED_TEXT_CHARACTERS characters


def read(path: Path, limits: ParseGzipParams) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield (reviews, rejected) batches of schemas REVIEWS and REJECTED, in file order, in bounded memory.

    Every line of the file is a row of exactly one of the two. Parsing ends early where `limits` refuse what was read.

    Raises:
        DamagedError: the file is empty, not gzip, truncated or damaged.
        UserError: it expands beyond `limits.max_expansion`, or cannot be read.

    """
    line_number, num_rejected = 1, 0
    blocks = _decompressed(path, limits.max_expansion)
    for block in _whole_lines(blocks, limits.max_line_bytes):
        for reviews, rejected in _parse(block, line_number, limits.max_line_bytes):
            line_number += len(reviews) + len(rejected)
            num_rejected += len(rejected)
            yield reviews, rejected
            if limits.refuse(num_rejected):
                deque(blocks, maxlen=0)  # damage in front of a checksum looks like malformed lines: it is damage
                return


def _decompressed(path: Path, max_expansion: int) -> Iterator[bytes]:
    """Yield what the gzip file holds, in blocks of BLOCK_BYTES; raise as `read` does."""
    pointer = storage.pointer(path)
    name = pointer.url if pointer else str(path)
    num_compressed, num_bytes = pointer.num_bytes if pointer else path.stat().st_size, 0
    if num_compressed == 0:
        raise DamagedError(str(path), "is empty")
    try:
        with storage.reading(path, "read") as raw:
            for block in gzip_blocks.decompressed(raw, BLOCK_BYTES):
                num_bytes += len(block)
                if num_bytes > max(MIN_EXPANDED_BYTES, max_expansion * num_compressed):
                    raise UserError(
                        f"{name}: {num_compressed} bytes of gzip expand to {num_bytes} and more; get another dump, "
                        f"or raise parse_gzip.max_expansion in params.yaml, now {max_expansion}"
                    )
                yield block
    except gzip_blocks.DamagedError as error:
        raise DamagedError(str(path), str(error)) from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error}); run `dvc repro` again") from None


def _whole_lines(blocks: Iterable[bytes], max_line_bytes: int) -> Iterator[bytes]:
    """Yield the lines in blocks, without the line end of a block's last one.

    A line longer than `max_line_bytes` may have lost its end, but is still longer.
    """
    begun: list[bytes] = []  # pieces of a line whose end has not been read
    num_begun = 0
    for block in blocks:
        if num_begun > max_line_bytes:
            _rest, newline, after = block.partition(b"\n")
            block = newline + after
        end = block.rfind(b"\n")
        if end >= 0:
            yield b"".join([*begun, memoryview(block)[:end]])  # one copy; a slice of bytes would be another
            begun, num_begun = [], 0
        if tail := block[end + 1 :]:
            begun.append(tail)
            num_begun += len(tail)
    if begun:
        yield b"".join(begun)


def _parse(
    block: bytes, first_line_number: int, max_line_bytes: int
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield the rows of the lines of `block`, at once where all are reviews."""
    reviews = _parse_at_once(block, max_line_bytes)
    if reviews is not None:
        batch = _reviews_batch(reviews)
        if not any(_hold_control_characters(batch[name]) for name in ("user_id", "book_id")):
            yield batch, _rejected_batch([])
            return
    for lines in _pieces(block):
        reviews, rejected = _parse_line_by_line(lines, first_line_number, max_line_bytes)
        first_line_number += len(reviews) + len(rejected)
        yield _reviews_batch(reviews), _rejected_batch(rejected)


def _pieces(block: bytes) -> Iterator[bytes]:
    """Yield LINES_AT_ONCE lines of `block` at a time, without the line end of a piece's last one."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))[LINES_AT_ONCE - 1 :: LINES_AT_ONCE]
    begin = 0
    for end in [*ends.tolist(), len(block)]:
        yield block[begin:end]
        begin = end + 1


def _parse_at_once(block: bytes, max_line_bytes: int) -> list[Review] | None:
    """Return one review a line, its ids unchecked for control characters; None where some line may be no review.

    decode_lines knows no lines: it takes values that span them, and several on one. But no JSON value holds a brace,
    a newline and an opening brace in a row: a string has no raw newline, and after a closing brace comes none that
    opens. So where every line begins and ends with a brace, each holds one value or more; and where there are as many
    values as lines, exactly one.
    """
    if not (block.startswith(b"{") and block.endswith(b"}") and _is_utf8(block)):
        return None
    letters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    if (letters[ends - 1] != ord("}")).any() or (letters[ends + 1] != ord("{")).any():
        return None
    if len(block) > max_line_bytes and np.diff(ends, prepend=-1, append=len(block)).max() - 1 > max_line_bytes:
        return None
    try:
        reviews = msgspec.json.Decoder(Review).decode_lines(block)
    except MALFORMED:
        return None
    return reviews if len(reviews) == len(ends) + 1 else None


def _is_utf8(block: bytes) -> bool:
    """Tell what msgspec checks in the kept fields only; pyarrow copies nothing, unlike bytes.decode."""
    offsets = pa.py_buffer(np.array([0, len(block)], np.int32))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(block)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _hold_control_characters(ids: pa.StringArray) -> bool:
    letters = np.frombuffer(ids.buffers()[2], np.uint8)
    if letters.min() >= 0x20 and letters.max() < 0x7F:
        return False
    beyond_ascii = (letters[:-1] == 0xC2) & (letters[1:] < 0xA0)  # U+0080 to U+009F in UTF-8
    return bool((letters < 0x20).any() or (letters == 0x7F).any() or beyond_ascii.any())


def _parse_line_by_line(
    block: bytes, first_line_number: int, max_line_bytes: int
) -> tuple[list[Review], list[Rejected]]:
    decoder = msgspec.json.Decoder(Review)
    reviews: list[Review] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(block.split(b"\n"), first_line_number):
        try:
            reviews.append(_parse_line(line, decoder, max_line_bytes))
        except MALFORMED as error:
            beginning = line[: 4 * REJECTED_TEXT_CHARACTERS]  # UTF-8 has at most four bytes a character
            text = beginning.decode("utf-8", "replace")[:REJECTED_TEXT_CHARACTERS]
            rejected.append(Rejected(number, str(error), text))
    return reviews, rejected


def _parse_line(line: bytes, decoder: msgspec.json.Decoder[Review], max_line_bytes: int) -> Review:
    """Return the review; raise one of MALFORMED where the line is none."""
    if len(line) > max_line_bytes:
        raise msgspec.ValidationError(f"longer than parse_gzip.max_line_bytes, {max_line_bytes}")
    if not line.strip():
        raise msgspec.ValidationError("blank line")
    review = decoder.decode(line.decode())
    for name in ("user_id", "book_id"):
        if CONTROL_CHARACTER.search(getattr(review, name)):
            raise msgspec.ValidationError(f"Control character - at `$.{name}`")
    return review


def _reviews_batch(reviews: list[Review]) -> pa.RecordBatch:
    """Return the rows as columns, from buffers: pa.array would import pandas, and takes twice as long."""
    days = np.fromiter([review.timestamp.toordinal() for review in reviews], np.int32, len(reviews)) - EPOCH
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
