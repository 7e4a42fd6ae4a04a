"""Reads the titles of books, because the ids of a dump mean nothing to a person.

The content tells the shape of a file: lines that begin with a brace are objects; the columns of a table go by their
names in the first line or, in those of MovieLens' files that have none, by their positions.
"""

import ast
import csv
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from sasrec.core import visible
from sasrec.core.errors import UserError
from sasrec.dump import columns, compression, gzip_blocks, reviews
from sasrec.io import progress

IDS = ("book_id", "movieId", "item_id", "parent_asin", "asin")  # of these columns, the first one that there is
TITLES = ("title", "movie_title")
QUOTING: Mapping[str, Literal[0, 3]] = {",": csv.QUOTE_MINIMAL, ";": csv.QUOTE_MINIMAL, "\t": csv.QUOTE_NONE}
ID_THEN_TITLE = ("::", "|")  # delimiters of tables that name no columns
STAND_IN = "\x1f"  # for ::, because the csv module takes one character
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 1 << 20  # a literal may need 500 times as much memory
MAX_FIELD_CHARACTERS = 1 << 17
HEADER_BYTES = 1 << 14
MAX_NAME_CHARACTERS = 1000
ADVICE = "docs/your-data.md shows the files that give titles"
MALFORMED = (msgspec.MsgspecError, SyntaxError, ValueError, MemoryError, RecursionError)  # what decoding a line raises

Value = str | int | float | None


class Line(msgspec.Struct, gc=False):
    """What an object may say of a book."""

    book_id: Value = None  # Goodreads, which has an asin, too
    parent_asin: Value = None  # Amazon 2023
    asin: Value = None  # Amazon 2014 and 2018
    item_id: Value = None
    title: Value = None
    authors: Any = None  # text, or in Goodreads' files a list of ids

    @property
    def id(self) -> str:
        """The first id that there is; raise ValueError if there is none."""
        for value in (self.book_id, self.parent_asin, self.asin, self.item_id):
            if value is not None:
                return value if isinstance(value, str) else columns.an_id(value)
        raise ValueError("it has no book_id, parent_asin, asin or item_id")


class Positions(NamedTuple):
    """The numbers of a table's columns, from 0."""

    id: int
    title: int
    authors: int | None


class Entry(NamedTuple):
    """What a line says of a book."""

    id: str
    title: Value
    authors: object


Entries = Iterator[tuple[int, Entry | str]]
"""The number of each line, from 1, and its entry, or why it has none."""


def read(path: Path, ids: Collection[str]) -> dict[str, str]:
    """Return the names of those of the books `ids` that a file names, in memory bounded by their number.

    A line that cannot be read is left out, and standard error says so. The last of several names of a book counts.

    Raises:
        UserError: the file is damaged, of no known shape, or names none of the books.

    """
    wanted, names = set(ids), dict[str, str]()
    num_faults, first_fault = 0, ""
    for number, entry in _entries(path):
        if isinstance(entry, str):
            num_faults, first_fault = num_faults + 1, first_fault or f"line {number}: {entry}"
        elif entry.id in wanted and (name := _name(entry)):
            names[entry.id] = name
    if not names:
        found = f"; {num_faults} of its lines cannot be read ({first_fault})" if num_faults else ""
        raise UserError(f"{path}: names no book of the model, such as {next(iter(ids))}{found}; {ADVICE}")
    if num_faults:
        note = f"{path}: {num_faults} of its lines cannot be read and are left out ({first_fault})"
        print(visible.text(note), file=sys.stderr)
    return names


def _name(entry: Entry) -> str:
    """Return the title, with the authors if they are text, on one line; nothing if there is no title."""
    title = "" if entry.title is None else " ".join(str(entry.title).split())
    authors = " ".join(entry.authors.split()) if isinstance(entry.authors, str) else ""
    return (f"{title} — {authors}" if title and authors else title)[:MAX_NAME_CHARACTERS]


def _entries(path: Path) -> Entries:
    try:
        with progress.open_with_progress(path, "titles") as raw:
            blocks = compression.decompressed(raw, reviews.BLOCK_BYTES)
            lines = (line for block in reviews.complete_lines(blocks, MAX_LINE_BYTES) for line in block.split(b"\n"))
            first = next(lines, b"").removeprefix(BYTE_ORDER_MARK)
            yield from _of_objects(chain([first], lines)) if first.startswith(b"{") else _of_table(path, first, lines)
    except compression.ParquetError:
        raise UserError(f"{path}: is Parquet; {ADVICE}") from None
    except gzip_blocks.DamagedError as error:
        raise UserError(f"{path}: {error}; {ADVICE}") from None


def _of_objects(lines: Iterable[bytes]) -> Entries:
    decoder = msgspec.json.Decoder(Line)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_BYTES:
            yield number, f"longer than {MAX_LINE_BYTES} bytes"
            continue
        try:
            book = _literal(line) if line.startswith(b"{'") else decoder.decode(line)
            entry = Entry(book.id, book.title, book.authors)
        except MALFORMED as error:
            yield number, str(error) or type(error).__name__
        else:
            yield number, entry


def _literal(line: bytes) -> Line:
    """Return an object that is written as Python's repr, as in Amazon's metadata of 2014."""
    with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
        return msgspec.convert(ast.literal_eval(line.decode()), Line)


def _of_table(path: Path, first: bytes, lines: Iterable[bytes]) -> Entries:
    """Yield the entries of a table whose first line is `first`; raise UserError if that tells no columns."""
    header = _text(first[:HEADER_BYTES]).partition("\r")[0]
    for delimiter, quoting in QUOTING.items():
        fields = next(csv.reader([header], delimiter=delimiter))
        names = [field.partition(":")[0] for field in fields]  # RecBole writes name:type
        id_, title = (next((names.index(name) for name in wanted if name in names), None) for wanted in (IDS, TITLES))
        if id_ is not None and title is not None:
            positions = Positions(id_, title, names.index("authors") if "authors" in names else None)
            return _of_records(map(_text, lines), delimiter, quoting, positions, first_line=2)
    for delimiter in ID_THEN_TITLE:
        if delimiter in header:
            texts = (text.replace(delimiter, STAND_IN) for text in map(_text, chain([first], lines)))
            return _of_records(texts, STAND_IN, csv.QUOTE_NONE, Positions(0, 1, None), first_line=1)
    raise UserError(f"{path}: line 1 names no columns of ids and titles: {header[:80]!r}; {ADVICE}")


def _text(line: bytes) -> str:
    """Return a line as text: MovieLens' old files are in Latin-1, all others in UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _of_records(
    texts: Iterable[str], delimiter: str, quoting: Literal[0, 3], positions: Positions, first_line: int
) -> Entries:
    """Yield the entries of a table's records; fields at `positions` are kept."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    records = csv.reader((text + "\n" for text in texts), delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        number = first_line + records.line_num
        try:
            fields = next(records)
            if fields:
                authors = None if positions.authors is None else fields[positions.authors]
                yield number, Entry(fields[positions.id], fields[positions.title], authors)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, str(error)
        except IndexError:
            yield number, f"it has {len(fields)} columns"
