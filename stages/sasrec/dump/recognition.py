"""Finds out by its beginning how a dump is written, to advise a user whose params say something else."""

import tempfile
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sasrec.core.errors import UserError
from sasrec.dump import compression
from sasrec.dump.formats import PRESETS, TIME_FORMATS, DumpFormatParams, File, Format
from sasrec.dump.params import ParseGzipParams
from sasrec.dump.reviews import beginning, complete_lines, decompressed
from sasrec.dump.shard_pool import READERS
from sasrec.io import parquet

NUM_ROWS = 50
MIN_FRACTION = 0.9  # of the first rows: some may be malformed
DELIMITERS = {",": '","', "\t": "tab", ";": '";"', "::": '"::"', "|": '"|"'}  # with their spellings after -S
EARLIEST_MS = 631_152_000_000  # 1990: nobody rated anything online before
PAGE = "docs/your-data.md"

Keys = dict[str, object]
"""Keys of section dump_format and their values; those that are missing are null."""


class Sample(NamedTuple):
    """The first rows of a dump, as a file."""

    path: Path
    is_parquet: bool
    columns: list[str]


def advice(path: Path, params: ParseGzipParams, given: Keys) -> str:
    """Return how to read the dump at `path`, which is not written as `given`, a valid section dump_format, says."""
    current = {key: value for key, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        sample = _sample(path, Path(folder) / "sample", params)
        fractions = [(_fraction(sample, keys, params), keys) for keys in _candidates(current)]
    fraction, best = max(fractions, key=itemgetter(0))  # the first of equals
    if fraction >= MIN_FRACTION and best != current:
        changed: Keys = {key: None for key in current if key not in best} | best
        settings = [f"-S {_argument(key, value)}" for key, value in changed.items() if current.get(key) != value]
        return f"it looks like {best['preset']}: add `{' '.join(settings)}` to `dvc exp run`; {PAGE} lists the formats"
    if "".join(sample.columns[:1]).strip().startswith(("[", "{")):
        return "it is JSON over several lines; write one object a line, as `jq --compact-output '.[]'` does"
    columns = ", ".join(sample.columns)[:200] or "of no name"
    return f"it has the columns {columns}; name them in section dump_format, as {PAGE} shows"


def _candidates(current: Keys) -> Iterator[Keys]:
    """Yield what a user may have meant: a change of one key or two, or a preset, perhaps in another kind of file."""
    yield current
    yield from (current | {"time_format": time_format} for time_format in TIME_FORMATS)
    yield from (current | {"header": header} for header in (True, False))
    presets: list[Keys] = [{"preset": name} for name in PRESETS]
    yield from presets
    for keys in (current, *presets):
        yield from (keys | {"file": file} for file in get_args(File))
        yield from (keys | {"delimiter": delimiter} for delimiter in DELIMITERS)
        yield from (keys | {"file": "csv", "delimiter": delimiter} for delimiter in DELIMITERS)


def _format(keys: Keys) -> Format | None:
    """Return the format; None if the keys do not go together."""
    nulls: Keys = {field.name: None for field in msgspec.structs.fields(DumpFormatParams)}
    try:
        return msgspec.convert(nulls | keys, DumpFormatParams).format
    except msgspec.ValidationError:
        return None


def _fraction(sample: Sample, keys: Keys, params: ParseGzipParams) -> float:
    """Return which fraction of the rows are plausible reviews if the sample is read as `keys` say."""
    dump_format = _format(keys)
    if dump_format is None or sample.is_parquet != (dump_format.file == "parquet"):
        return 0.0
    tolerant = msgspec.structs.replace(params, max_rejected_fraction=1.0)
    try:
        batches = list(READERS[dump_format.file](sample.path, tolerant, dump_format))
    except UserError:
        return 0.0
    rejected_lines = [line for _parsed, rejected in batches for line in rejected["line_number"].to_pylist()]
    if not dump_format.header and 1 in rejected_lines:  # it is a header
        return 0.0
    num_rows = len(rejected_lines) + sum(len(parsed) for parsed, _rejected in batches)
    return sum(_num_plausible(parsed["timestamp"]) for parsed, _rejected in batches) / max(1, num_rows)


def _num_plausible(times: pa.Array) -> int:
    """Return how many times are late enough: a rating, or seconds taken for milliseconds, are early in 1970."""
    milliseconds = np.from_dlpack(times.cast(pa.timestamp("ms")).cast(pa.int64()))
    return int((milliseconds > EARLIEST_MS).sum())


def _sample(path: Path, to: Path, params: ParseGzipParams) -> Sample:
    """Write the first rows of the dump at `path` to a file."""
    with parquet.opened_here_or_elsewhere(path) as file:
        is_parquet = compression.kind(file.read(compression.NUM_START)) == "parquet"
        if is_parquet:
            file.seek(0)
            with pq.ParquetFile(file) as table:
                batch = next(table.iter_batches(NUM_ROWS), None)
                pq.write_table(pa.Table.from_batches([batch] if batch else [], table.schema_arrow), to)
                return Sample(to, is_parquet, table.schema_arrow.names)
    blocks = decompressed(path, params.max_expansion)
    lines = next(complete_lines(blocks, params.max_line_bytes)).split(b"\n")[:NUM_ROWS]
    to.write_bytes(b"\n".join(lines))
    return Sample(to, is_parquet, _columns(lines[0]))


def _columns(first_line: bytes) -> list[str]:
    """Return the names in the first line of JSON lines, or its fields in CSV with the likeliest delimiter."""
    try:
        return list(msgspec.json.decode(first_line, type=dict[str, object]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = beginning(first_line)
        return text.split(max(DELIMITERS, key=text.count))


def _argument(key: str, value: object) -> str:
    """Return what follows -S in a shell."""
    if key == "delimiter" and value in DELIMITERS:
        spelling = DELIMITERS[str(value)]
        return f"dump_format.{key}={spelling}" if spelling.isalpha() else f"'dump_format.{key}={spelling}'"
    return f"dump_format.{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"
