"""Turns columns as a dump has them into the columns of reviews.parquet, and says which rows cannot be turned.

Each field has two converters: one for a value, which decides, and one for a column at once, which is fast. The latter
returns None wherever a value might be refused or might come out differently, so that the former decides.
"""

import datetime
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.dump.formats import Column, Format
from sasrec.io import parquet

Values: TypeAlias = pa.Array | list[Any]
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
ZONED = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+)(?:Z|[+-][01][0-9]:?[0-5][0-9])$"
EPOCH = datetime.datetime(1970, 1, 1)
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # of the years 1 to 9999
MOST_EXACT = 2**53  # beyond it, a float is not one whole number
MAX_ID_CHARACTERS = 255
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WIDTHS = {"a": 3, "b": 3, "m": 2, "d": 2, "Y": 4, "H": 2, "M": 2, "S": 2, "z": 5}  # of strptime's directives


class Found(NamedTuple):
    """The columns of some rows as the dump has them: text, bytes or numbers."""

    user: Values
    item: Values
    time: Values
    rating: Values | None


def schema(dump_format: Format) -> pa.Schema:
    """Return the schema of reviews.parquet: days where the dump has no more, else milliseconds."""
    time = pa.timestamp("ms") if dump_format.has_seconds else pa.date32()
    return pa.schema(
        [("user_id", pa.string()), ("timestamp", time), ("book_id", pa.string()), ("rating", pa.float32())]
    )


def convert(found: Found, dump_format: Format, time_format: str | None = None) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Return the rows that are reviews, and by its number from 0, why a row is none.

    `time_format` is that of the column, where it is not the format's.
    """
    reasons: dict[int, str] = {}
    num_rows, time_format = len(found.user), time_format or dump_format.time_format
    rating = pa.nulls(num_rows, pa.string()) if found.rating is None else found.rating
    milliseconds = partial(_times, time_format), partial(a_time, time_format), pa.int64()
    users = _convert(found.user, (_ids, an_id, pa.string()), dump_format.user, reasons)
    times = _convert(found.time, milliseconds, dump_format.time, reasons).cast(pa.timestamp("ms"))
    items = _convert(found.item, (_ids, an_id, pa.string()), dump_format.item, reasons)
    ratings = _convert(rating, (_ratings, a_rating, pa.float32()), dump_format.rating, reasons)
    fields = schema(dump_format)
    times = times.cast(fields.field("timestamp").type, safe=False)
    batch = pa.RecordBatch.from_arrays([users, times, items, ratings], schema=fields)
    return (batch.filter(_all_but(reasons, num_rows)) if reasons else batch), reasons


def of_values(values: Sequence[Any]) -> Values:
    """Return values of one type, text or numbers, as a column; others as a list."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return strings(values)
    if kinds == {type(None)}:
        return pa.nulls(len(values), pa.string())
    if kinds and kinds <= {int, float}:
        numbers = np.array(values)  # float64 if one is a float
        if numbers.dtype in (np.int64, np.float64) and np.abs(numbers).max() < MOST_EXACT:
            return parquet.as_arrow(numbers)
    return list(values)


def strings(texts: Sequence[str]) -> pa.Array:
    """Return a column made from buffers: pa.array would import pandas and take twice as long."""
    joined = "".join(texts)
    encoded = joined.encode()
    is_ascii = len(encoded) == len(joined)
    lengths = map(len, texts if is_ascii else [text.encode() for text in texts])
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(lengths, np.int32, len(texts)), out=offsets[1:])
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(encoded)])


def hold_control_characters(ids: pa.StringArray) -> bool:
    """Return whether a text of `ids`, none of which is empty, holds a control character."""
    octets = np.frombuffer(ids.buffers()[2], np.uint8)
    if octets.min() >= 0x20 and octets.max() < 0x7F:
        return False
    beyond_ascii = (octets[:-1] == 0xC2) & (octets[1:] < 0xA0)  # U+0080 to U+009F in UTF-8
    return bool((octets < 0x20).any() or (octets == 0x7F).any() or beyond_ascii.any())


def an_id(value: object) -> str:
    """Return a text or a whole number as text; raise ValueError with the reason if it is no id."""
    text = _a_text(value)
    if isinstance(value, float):
        if not value.is_integer() or abs(value) >= MOST_EXACT:
            raise ValueError(f"Expected text or a whole number, got {value}")
        text = str(int(value))
    if not 1 <= len(text) <= MAX_ID_CHARACTERS:
        raise ValueError(f"Expected 1 to {MAX_ID_CHARACTERS} characters, got {len(text)}")
    if CONTROL_CHARACTER.search(text):
        raise ValueError("Control character")
    return text


def a_time(time_format: str, value: object) -> int:
    """Return a time in milliseconds since 1970, with a zone the local one; raise ValueError if it is none."""
    if time_format in ("epoch_s", "epoch_ms"):
        number = value if isinstance(value, int) else _a_number(value)
        if not math.isfinite(number):
            raise ValueError(f"Expected a number, got {value!r}")
        milliseconds = math.floor(number * 1000 if time_format == "epoch_s" else number)
        if not FIRST_MS <= milliseconds <= LAST_MS:
            raise ValueError(f"Expected {time_format} of the years 1 to 9999, got {value!r}")
        return milliseconds
    if not isinstance(value, str | bytes):
        raise ValueError(f"Expected text, got {value!r}")
    text = _a_text(value)
    if time_format == "date":
        if not DAY.fullmatch(text):
            raise ValueError(f"Expected YYYY-MM-DD, got {text[:40]!r}")
        time = datetime.datetime.fromisoformat(text)
    elif time_format == "iso":
        time = datetime.datetime.fromisoformat(text)
    else:
        time = datetime.datetime.strptime(text, time_format)
    return (time.replace(tzinfo=None) - EPOCH) // datetime.timedelta(milliseconds=1)


def a_rating(value: object) -> float | None:
    """Return a number, None where there is none; raise ValueError if it is something else."""
    if value in (None, "", b""):
        return None
    with np.errstate(over="ignore"):
        number = float(np.float32(_a_number(value)))
    if not math.isfinite(number):
        raise ValueError(f"Expected a number, got {value!r}")
    return number


def _a_text(value: object) -> str:
    if value is None:
        raise ValueError("Missing")
    return value.decode() if isinstance(value, bytes) else str(value)


def _a_number(value: object) -> float:
    text = _a_text(value)
    if isinstance(value, str | bytes) and not NUMBER.fullmatch(text):
        raise ValueError(f"Expected a number, got {text[:40]!r}")
    return float(text)


Converters = tuple[Callable[[pa.Array], pa.Array | None], Callable[[Any], Any], pa.DataType]
"""Of a column at once, of a value, and the type of the column."""


def _convert(values: Values, converters: Converters, name: Column | None, reasons: dict[int, str]) -> pa.Array:
    """Return the column, null where a value is refused, and add why to `reasons` unless its row has one."""
    at_once, one, kind = converters
    if isinstance(values, pa.Array) and len(values) > 0:
        column = at_once(values)
        if column is not None:
            return column
    converted = []
    for row, value in enumerate(values if isinstance(values, list) else values.to_pylist()):
        try:
            converted.append(one(value))
        except (ValueError, OverflowError) as error:
            reasons.setdefault(row, f"{error} - at `{name}`")
            converted.append(None)
    return pa.array(converted, kind)


def _texts(values: pa.Array) -> pa.Array | None:
    """Return text or bytes as text without nulls; None if that is not possible."""
    if values.null_count:
        return None
    if values.type == pa.binary() and _is_ascii(values):
        return values.view(pa.string())  # the cast would look at each character, six times as long
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:  # no UTF-8
        return None


def _is_ascii(values: pa.BinaryArray) -> bool:
    data = values.buffers()[2]  # None or empty where all are empty
    return bool(data) and bool(np.frombuffer(data, np.uint8).max() < 0x80)


def _ids(values: pa.Array) -> pa.Array | None:
    if pa.types.is_floating(values.type):
        try:
            values = values.cast(pa.int64())
        except pa.ArrowInvalid:
            return None
        bounds = pc.min_max(values).as_py()
        if values.null_count or bounds["min"] <= -MOST_EXACT or bounds["max"] >= MOST_EXACT:
            return None
    texts = _texts(values)
    if texts is None:
        return None
    lengths = np.diff(np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1])
    if lengths.min() < 1 or lengths.max() > MAX_ID_CHARACTERS or hold_control_characters(texts):  # bytes, not less
        return None
    return texts


def _times(time_format: str, values: pa.Array) -> pa.Array | None:
    try:
        if time_format in ("epoch_s", "epoch_ms"):
            return _of_epoch(values, 1000 if time_format == "epoch_s" else 1)
        texts = _texts(values) if not _is_number(values) else None
        if texts is None:
            return None
        if time_format == "date":
            times = texts.cast(pa.date32())
        else:
            iso = _without_zone(texts) if time_format == "iso" else _as_iso(texts, time_format)
            if iso is None:
                return None
            times = iso.cast(pa.timestamp("us"))
        microseconds = np.from_dlpack(times.cast(pa.timestamp("us")).cast(pa.int64()))
    except pa.ArrowInvalid:
        return None
    milliseconds = microseconds // 1000  # rounds down, also before 1970
    return parquet.as_arrow(milliseconds) if milliseconds.min() >= FIRST_MS else None


def _without_zone(texts: pa.Array) -> pa.Array:
    """Return times in ISO 8601 without the zone of those that have a time of day."""
    shortest = pc.min(pc.binary_length(texts)).as_py()
    if shortest >= len("2016-12-31T23:59Z") and pc.all(pc.ends_with(texts, "Z")).as_py():  # ten times as fast
        return pc.binary_slice(texts.cast(pa.binary()), 0, -1).cast(pa.string())
    return pc.replace_substring_regex(texts, ZONED, r"\1")


def _of_epoch(values: pa.Array, factor: int) -> pa.Array | None:
    numbers = values if _is_number(values) else _texts(values)
    if numbers is None or numbers.null_count:
        return None
    if pa.types.is_integer(numbers.type):
        numbers = numbers.cast(pa.int64())
        whole = np.from_dlpack(numbers)
        if not (factor * int(whole.min()) >= FIRST_MS and factor * int(whole.max()) <= LAST_MS):
            return None
        return numbers if factor == 1 else parquet.as_arrow(factor * whole)
    seconds = np.from_dlpack(numbers.cast(pa.float64()))  # exact, else the cast raises
    with np.errstate(over="ignore", invalid="ignore"):
        milliseconds = np.floor(seconds * factor)
    if not (milliseconds.min() >= FIRST_MS and milliseconds.max() <= LAST_MS):  # false for NaN, too
        return None
    return parquet.as_arrow(milliseconds.astype(np.int64))


def _as_iso(texts: pa.Array, pattern: str) -> pa.Array | None:
    """Return times written after a pattern of strptime in ISO 8601, without the zone.

    None where the pattern has a directive that is not in WIDTHS, or a text has another width or another literal.
    """
    pieces = re.findall("%.|[^%]", pattern, re.DOTALL)
    widths = [WIDTHS.get(piece[1:]) if len(piece) == 2 else 1 for piece in pieces]
    if None in widths or not pattern.isascii():
        return None
    ends = np.cumsum(np.array(widths))
    octets = _octets(texts, int(ends[-1]))
    if octets is None:
        return None
    cells = {piece: octets[:, end - width : end] for piece, width, end in zip(pieces, widths, ends, strict=True)}
    for end, piece in zip(ends, pieces, strict=True):
        if len(piece) == 1 and (octets[:, end - 1] != ord(piece)).any():
            return None
    return _joined(cells)


def _octets(texts: pa.Array, width: int) -> np.ndarray | None:
    """Return texts of `width` bytes each as (texts, width) uint8; None if one has another width."""
    _nulls, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if (np.diff(bounds) != width).any():
        return None
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]].reshape(-1, width)


def _joined(cells: dict[str, np.ndarray]) -> pa.Array | None:
    """Return ISO 8601 from the bytes of each directive, (texts, width); None if a name or zone is unknown."""
    if "%b" in cells:
        months = _number_of(cells["%b"], MONTHS)
        if months is None:
            return None
        cells["%m"] = np.stack([(months + 1) // 10, (months + 1) % 10], axis=1) + ord("0")
    if "%a" in cells and _number_of(cells["%a"], DAYS) is None:
        return None
    if not {"%Y", "%m", "%d"} <= cells.keys():
        return None
    if "%z" in cells:
        least, most = (np.frombuffer(text, np.uint8) for text in (b"+0000", b"-1959"))
        zone = cells["%z"]
        if (zone < least).any() or (zone > most).any() or (zone == ord(",")).any():
            return None
    iso = np.tile(np.frombuffer(b"0000-00-00T00:00:00", np.uint8), (len(cells["%Y"]), 1))
    for directive, start in (("%Y", 0), ("%m", 5), ("%d", 8), ("%H", 11), ("%M", 14), ("%S", 17)):
        if directive in cells:
            iso[:, start : start + cells[directive].shape[1]] = cells[directive]
    offsets = np.arange(len(iso) + 1, dtype=np.int32) * iso.shape[1]
    return pa.Array.from_buffers(pa.string(), len(iso), [None, pa.py_buffer(offsets), pa.py_buffer(iso)])


def _number_of(cells: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
    """Return which of `names`, from 0, each row of three bytes of `cells` spells; None if one spells none."""
    keys = [int.from_bytes(name.encode(), "big") for name in names]
    order = np.argsort(keys)
    found = cells.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    places = np.searchsorted(keys, found, sorter=order).clip(max=len(keys) - 1)
    return order[places] if (np.array(keys)[order[places]] == found).all() else None


def _ratings(values: pa.Array) -> pa.Array | None:
    try:
        if not _is_number(values):
            texts = values.cast(pa.string())
            values = pc.if_else(pc.equal(texts, ""), pa.nulls(1, pa.string())[0], texts)
        ratings = values.cast(pa.float64()).cast(pa.float32())
    except pa.ArrowInvalid:
        return None
    return ratings if pc.all(pc.is_finite(ratings), min_count=0).as_py() else None


def _is_number(values: pa.Array) -> bool:
    return pa.types.is_integer(values.type) or pa.types.is_floating(values.type)


def _all_but(rows: dict[int, str], number: int) -> pa.Array:
    kept = np.ones(number, bool)
    kept[list(rows)] = False
    return pa.Array.from_buffers(pa.bool_(), number, [None, pa.py_buffer(np.packbits(kept, bitorder="little"))])
