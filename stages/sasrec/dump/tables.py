"""Reads dumps that are tables, CSV with any delimiter or Parquet, as `reviews` reads JSON lines.

A record of CSV is what Python's csv module takes for one in its strict dialect. Quotes count only where the delimiter
is one byte: with a longer one, a record is a line. pyarrow reads the blocks in which it cannot differ from that.
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from sasrec.core.errors import UserError
from sasrec.dump import columns, compression
from sasrec.dump.ahead import ahead
from sasrec.dump.formats import ROLES, Column, Format
from sasrec.dump.params import ParseGzipParams
from sasrec.dump.reviews import (
    LINES_AT_ONCE,
    MIN_EXPANDED_BYTES,
    REJECTED_TEXT_CHARACTERS,
    Batches,
    DamagedError,
    FileError,
    FormatError,
    Rejected,
    beginning,
    complete_lines,
    decompressed,
    rejected_batch,
    until_refused,
)
from sasrec.io import parquet, storage

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UNFINISHED = "unexpected end of data"  # the csv module's message for a quote that is open at the end
STAND_IN = b"\x1f"  # for a delimiter of several bytes, where pyarrow needs one byte
BYTES = {pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()}
ROWS_AT_ONCE = 1 << 16  # of Parquet
BLOCK_BYTES = 1 << 21  # of CSV: pyarrow takes half as long again for smaller ones


class Record(NamedTuple):
    """A record of CSV."""

    fields: list[bytes]
    text: bytes  # without its line end
    error: str | None  # why it has no fields


class Block(NamedTuple):
    """Complete records."""

    octets: bytes  # without the last line end
    is_regular: bool  # whether quotes only enclose fields, and no record is too long


class Layout(NamedTuple):
    """What the beginning of a CSV file tells."""

    delimiter: bytes
    num_columns: int
    columns: dict[str, int]  # the number, from 0, of each role's column


def read_csv(path: Path, params: ParseGzipParams, dump_format: Format) -> Batches:
    """Yield (reviews, rejected) batches in file order; a rejected row's number counts records, the header included.

    Raises:
        FileError, UserError: see `reviews.read`; FormatError also where a column is missing.

    """
    blocks = decompressed(path, params.max_expansion, BLOCK_BYTES)
    delimiter = dump_format.delimiter.encode()
    lines = _with_line_feeds(complete_lines(blocks, params.max_line_bytes))
    records = ahead(_complete_records(lines, delimiter, params.max_line_bytes))
    return until_refused(_read_csv(path, records, params.max_line_bytes, dump_format), records, params)


def _read_csv(path: Path, blocks: Iterator[Block], max_line_bytes: int, dump_format: Format) -> Batches:
    layout, number = None, 1
    for block in blocks:
        if layout is None:
            block = block._replace(octets=block.octets.removeprefix(BYTE_ORDER_MARK))
            first = next(_records(block.octets, dump_format.delimiter.encode(), max_line_bytes))
            layout = _layout(path, first, dump_format)
            if dump_format.header:
                number += 1
                if len(first.text) == len(block.octets):
                    continue
                block = block._replace(octets=block.octets[len(first.text) + 1 :])
        for reviews, rejected in _parse(block, number, layout, max_line_bytes, dump_format):
            number += len(reviews) + len(rejected)
            yield reviews, rejected


def _layout(path: Path, first: Record, dump_format: Format) -> Layout:
    """Return the layout of the file whose first record is `first`.

    Raises:
        FormatError: a column is missing; only the rating may be.

    """
    names = [field.decode("utf-8", "replace") for field in first.fields]
    found = {}
    for role in ROLES:
        column = getattr(dump_format, role)
        if isinstance(column, int):
            found[role] = column - 1
        elif column in names:
            found[role] = names.index(column)
        elif role != "rating":
            raise _missing(path, role, column)
    return Layout(dump_format.delimiter.encode(), max(len(names), *(number + 1 for number in found.values())), found)


def _missing(path: Path, role: str, column: Column) -> FormatError:
    return FormatError(str(path), f"has no column {column}, which dump_format.{role} names")


def _with_line_feeds(blocks: Iterator[bytes]) -> Iterator[bytes]:
    r"""Yield `blocks` of complete lines with \n for \r\n."""
    for block in blocks:
        yield block.replace(b"\r\n", b"\n").removesuffix(b"\r") if b"\r" in block else block


def _complete_records(lines: Iterator[bytes], delimiter: bytes, max_line_bytes: int) -> Iterator[Block]:
    """Yield blocks of complete records from blocks of complete lines."""
    unfinished: bytes | None = None
    for block in lines:
        if unfinished is not None:
            block = unfinished + b"\n" + block
        end, is_regular = _end_of_records(block, delimiter, max_line_bytes)
        unfinished = block[end + 1 :] if end < len(block) else None
        if end >= 0:
            yield Block(block[:end], is_regular)
    if unfinished is not None:
        yield Block(unfinished, is_regular=False)


def _end_of_records(block: bytes, delimiter: bytes, max_line_bytes: int) -> tuple[int, bool]:
    """Return where the last complete record ends (-1 if none does), and whether the block is regular."""
    ignores_quotes = len(delimiter) > 1 or b'"' not in block
    if len(block) > max_line_bytes and (not ignores_quotes or _longest_line(block) > max_line_bytes):
        return _end_one_by_one(block, delimiter, max_line_bytes), False
    if ignores_quotes:
        return len(block), True
    # By turns, a quote must open a field at its beginning and close it at its end. A doubled one closes and opens.
    octets = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(octets == ord('"'))
    # Clipped, a quote at an end of the block touches itself, which it may.
    touched = (octets.take(quotes[0::2] - 1, mode="clip"), octets.take(quotes[1::2] + 1, mode="clip"))
    if all(((each == ord("\n")) | (each == ord('"')) | (each == delimiter[0])).all() for each in touched):
        if len(quotes) % 2 == 0:
            return len(block), True
        line_feeds = np.flatnonzero(octets[: quotes[-1]] == ord("\n"))
        ends = line_feeds[np.searchsorted(quotes, line_feeds) % 2 == 0]
        return int(ends[-1]) if len(ends) else -1, True
    return _end_one_by_one(block, delimiter, max_line_bytes), False


def _longest_line(block: bytes) -> int:
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    return int(np.diff(ends, prepend=-1, append=len(block)).max()) - 1


def _end_one_by_one(block: bytes, delimiter: bytes, max_line_bytes: int) -> int:
    end = -1
    for record in _records(block, delimiter, max_line_bytes):
        if record.error == UNFINISHED:
            break
        end += len(record.text) + 1
    return end


def _parse(block: Block, number: int, layout: Layout, max_line_bytes: int, dump_format: Format) -> Batches:
    """Yield the rows of `block`, one pair of batches if all records are reviews, else pieces of LINES_AT_ONCE."""
    found = _parse_at_once(block, layout, dump_format)
    if found is not None:
        batch, reasons = columns.convert(found, dump_format)
        if not reasons:
            yield batch, rejected_batch([])
            return
    records = _records(block.octets, layout.delimiter, max_line_bytes)
    while piece := list(islice(records, LINES_AT_ONCE)):
        reasons = {row: why for row, record in enumerate(piece) if (why := _fault(record, layout, max_line_bytes))}
        rows = [row for row in range(len(piece)) if row not in reasons]
        fields = [piece[row].fields for row in rows]
        values = {role: [row[column] for row in fields] for role, column in layout.columns.items()}
        batch, refused = columns.convert(columns.Found(**({"rating": None} | values)), dump_format)
        reasons |= {rows[row]: why for row, why in refused.items()}
        rejected = [Rejected(number + row, reasons[row], beginning(piece[row].text)) for row in sorted(reasons)]
        yield batch, rejected_batch(rejected)
        number += len(piece)


def _fault(record: Record, layout: Layout, max_line_bytes: int) -> str | None:
    if len(record.text) > max_line_bytes:
        return f"longer than parse_gzip.max_line_bytes, {max_line_bytes}"
    if record.error:
        return record.error
    if not record.text.strip():
        return "blank line"
    if len(record.fields) != layout.num_columns:
        return f"Expected {layout.num_columns} columns, got {len(record.fields)}"
    return None


def _records(block: bytes, delimiter: bytes, max_line_bytes: int) -> Iterator[Record]:
    """Yield the records of `block` one by one; the last may be one that is not complete.

    What follows the first `max_line_bytes` of a line changes nothing: a longer line may have lost its tail. A quoted
    field that has more bytes ends with its line.
    """
    lines = io.BytesIO(block + b"\n")
    if len(delimiter) > 1:
        for line in lines:
            text = line.removesuffix(b"\n")
            yield Record(text.split(delimiter), text, None)
        return
    taken: list[bytes] = []

    def texts() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            beginning = line if len(line) <= max_line_bytes + 1 else line[: max_line_bytes + 1] + b"\n"
            yield beginning.decode("latin-1")  # keeps every byte

    csv.field_size_limit(max_line_bytes)
    reader = csv.reader(texts(), delimiter=delimiter.decode(), strict=True)
    while True:
        taken.clear()
        fields: list[str] = []
        error = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as raised:
            error = str(raised)
        text = b"".join(taken).removesuffix(b"\n")
        yield Record([field.encode("latin-1") for field in fields], text, error)


def _parse_at_once(given: Block, layout: Layout, dump_format: Format) -> columns.Found | None:
    """Return the columns of `given` as pyarrow reads them; None where that may not be what `_records` gives."""
    block, delimiter = given.octets, layout.delimiter
    quoted = len(delimiter) == 1 and b'"' in block
    if not given.is_regular or b"\r" in block or block.startswith(BYTE_ORDER_MARK) or block.endswith(b"\n"):
        return None
    if len(delimiter) > 1:
        if STAND_IN in block:
            return None
        block, delimiter = block.replace(delimiter, STAND_IN), STAND_IN
    names = [str(number) for number in range(layout.num_columns)]
    kept = {role: names[number] for role, number in layout.columns.items()}
    numbers = {"rating", "time"} if dump_format.time_format in ("epoch_s", "epoch_ms") else {"rating"}
    types = {name: pa.float64() if role in numbers else pa.string() for role, name in kept.items()}
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=delimiter.decode(),
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
            ),
            arrow_csv.ConvertOptions(include_columns=list(types), column_types=types, null_values=[""]),
        )
    except pa.ArrowInvalid:  # another number of columns, no UTF-8, or no number
        return None
    arrays = {role: table[name].combine_chunks() for role, name in kept.items()}
    return columns.Found(**({"rating": None} | arrays))


def read_parquet(path: Path, params: ParseGzipParams, dump_format: Format) -> Batches:
    """Yield (reviews, rejected) batches in file order; a rejected row has its number, from 1, and its values.

    Raises:
        FileError, UserError: see `reviews.read`; FormatError where the file is not Parquet, or a column is missing or
            nested.

    """
    with _naming_damage(path), parquet.opened_here_or_elsewhere(path) as file:
        if compression.kind(file.read(compression.NUM_START)) != "parquet":
            raise FormatError(str(path), "is not Parquet")
        file.seek(0)
        number = num_rejected = 0
        with pq.ParquetFile(file, buffer_size=1 << 20) as table:
            names = _columns(path, table.schema_arrow, dump_format)
            _check_expansion(path, table.metadata, params.max_expansion)
            batches = table.iter_batches(ROWS_AT_ONCE, columns=list(names.values()), use_threads=False)
            with closing(ahead(batches)) as read:
                for batch in read:
                    plain = {name: _plain(batch.column(name)) for name in names.values()}
                    is_time = pa.types.is_temporal(batch.column(names["time"]).type)
                    found = columns.Found(**({"rating": None} | {role: plain[name] for role, name in names.items()}))
                    reviews, reasons = columns.convert(found, dump_format, "epoch_ms" if is_time else None)
                    rejected = [Rejected(number + row + 1, reasons[row], _shown(plain, row)) for row in sorted(reasons)]
                    yield reviews, rejected_batch(rejected)
                    number += len(batch)
                    num_rejected += len(reasons)
                    if params.refuse(num_rejected):
                        return
            if number != table.metadata.num_rows:
                raise DamagedError(str(path), f"holds {number} rows, but its footer says {table.metadata.num_rows}")


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file
            raise UserError(f"{path}: cannot be read ({error}); run `dvc repro` again") from None
        raise DamagedError(str(path), f"not intact Parquet ({str(error).partition(chr(10))[0]})") from None


def _columns(path: Path, found: pa.Schema, dump_format: Format) -> dict[str, str]:
    """Return the name of each role's column; raise FormatError if one is missing (the rating may be) or is nested."""
    names = {}
    for role in ROLES:
        name = getattr(dump_format, role)
        if name in found.names:
            names[role] = name
            if pa.types.is_nested(found.field(name).type):
                kind = found.field(name).type
                raise FormatError(str(path), f"has {kind}, neither text, numbers nor times, in the column {name}")
        elif role != "rating":
            raise _missing(path, role, name)
    return names


def _check_expansion(path: Path, footer: pq.FileMetaData, max_expansion: int) -> None:
    size = path.stat().st_size
    expanded = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
    if storage.pointer(path) is None and expanded > max(MIN_EXPANDED_BYTES, max_expansion * size):
        raise FileError(
            str(path),
            f"{size} bytes of Parquet expand to {expanded}; get another dump, or raise parse_gzip.max_expansion in "
            f"params.yaml, now {max_expansion}",
        )


def _plain(column: pa.Array) -> pa.Array:
    """Return a column as text, bytes or numbers; times as milliseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_temporal(column.type):
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column
    return column.cast(pa.binary() if column.type in BYTES else pa.string())  # text may not be UTF-8: that is checked


def _shown(plain: dict[str, pa.Array], row: int) -> str:
    values = {name: column[row].as_py() for name, column in plain.items()}
    texts = {name: beginning(value) if isinstance(value, bytes) else value for name, value in values.items()}
    return json.dumps(texts, ensure_ascii=False)[:REJECTED_TEXT_CHARACTERS]
