"""Reads and writes Parquet tables, here or elsewhere: reads are checked, and the same rows give the same bytes."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sasrec.io import digests, storage
from sasrec.io.files import atomic_write, naming_damage

ROWS_PER_GROUP = 1 << 17


@contextmanager
def opened_here_or_elsewhere(path: Path) -> Iterator[io.RawIOBase | IO[bytes]]:
    """Yield the file at `path`, or the file elsewhere to which a pointer at `path` leads.

    A file here is Arrow's own: of a file of Python's, Arrow's threads may drop the last reference while Python exits,
    which aborts the process (apache/arrow#34314).
    """
    pointer = storage.pointer(path)
    with pa.OSFile(os.fspath(path)) if pointer is None else storage.open_pointer(pointer) as file:
        yield file


@contextmanager
def opened(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Yield the table at `path`, here or elsewhere, after checking every byte against its digest.

    Raises:
        UserError: the file is damaged, or a column of `schema` is missing or of another type.

    """
    with naming_damage(path), opened_here_or_elsewhere(path) as file:
        digests.check_parquet(file)
        with pq.ParquetFile(file) as table:
            found = pa.schema([table.schema_arrow.field(name) for name in schema.names])
            if found != schema:
                raise ValueError(f"its columns are {_shown(found)}, not {_shown(schema)}")
            _num_rows(table.metadata)
            yield table


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """Return the columns of `schema` from the table at `path`.

    Raises:
        UserError: the file is damaged, or a column is missing or of another type.

    """
    with opened(path, schema) as file:
        table = file.read(columns=schema.names)  # pq.read_table would import pandas
        if len(table) != file.metadata.num_rows:
            raise ValueError(f"it holds {len(table)} rows, but its footer says {file.metadata.num_rows}")
        return table


def check(path: Path, schema: pa.Schema) -> None:
    """Raise UserError if the file is damaged, or a column of `schema` is missing or of another type."""
    with opened(path, schema):
        pass


def as_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers without nulls as an array of the same type and length.

    `column.to_numpy` would import pandas, which takes a quarter of a second.
    """
    return np.from_dlpack(column.combine_chunks())


def as_arrow(numbers: np.ndarray) -> pa.Array:
    """Return an array of numbers, (number,), as a column of the same type; `pa.array` would import pandas, too."""
    values = np.ascontiguousarray(numbers)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def repeated(text: str, number: int) -> pa.StringArray:
    """Return a column of `number` times the same text; `pa.repeat` would import pandas, too."""
    octets = text.encode()
    ends = np.arange(number + 1, dtype=np.int32) * np.int32(len(octets))
    return pa.Array.from_buffers(pa.string(), number, [None, pa.py_buffer(ends), pa.py_buffer(octets * number)])


def num_rows(path: Path) -> int:
    """Return the number of rows in a Parquet file's footer; raise UserError if the footer contradicts itself.

    The rest of the file, which may be large and elsewhere, is not read.
    """
    with naming_damage(path), opened_here_or_elsewhere(path) as file:
        return _num_rows(pq.read_metadata(file))


def _num_rows(footer: pq.FileMetaData) -> int:
    num_in_groups = sum(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    if num_in_groups != footer.num_rows:
        raise ValueError(f"its footer says {footer.num_rows} rows, but {num_in_groups} in its row groups")
    return footer.num_rows


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


@contextmanager
def writer(path: Path, schema: pa.Schema, folder: str | None = None) -> Iterator["RowGroups"]:
    """Yield a writer of batches; the file's bytes depend on the rows alone, not on the batches.

    With the URL of a `folder`, the file is written there, and `path` becomes a pointer. The file holds its digest.
    """
    with storage.sink(path, folder) as sink:
        with pq.ParquetWriter(sink, schema, compression="zstd") as parquet_writer:
            row_groups = RowGroups(parquet_writer)
            yield row_groups
            row_groups.flush()
            parquet_writer.add_key_value_metadata(digests.METADATA)
            sink.begin_footer()
        sink.finish()


class RowGroups:
    """Collects batches into row groups of ROWS_PER_GROUP."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.num_rows = 0
        self._writer = writer
        self._pending: list[pa.RecordBatch] = []
        self._num_pending = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add the rows of `batch`."""
        self.num_rows += len(batch)
        while self._num_pending + len(batch) >= ROWS_PER_GROUP:
            head = ROWS_PER_GROUP - self._num_pending
            self._pending.append(batch.slice(0, head))
            batch = batch.slice(head)
            self.flush()
        if len(batch):
            self._pending.append(batch)
            self._num_pending += len(batch)

    def flush(self) -> None:
        """Write the pending rows as a row group."""
        if self._pending:
            rows = pa.Table.from_batches(self._pending).combine_chunks()
            self._writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
            self._pending, self._num_pending = [], 0


def write(path: Path, batches: pa.RecordBatchReader, folder: str | None = None) -> None:
    """Write `batches` with `writer`, atomically."""
    with atomic_write(path) as partial, writer(partial, batches.schema, folder) as rows:
        for batch in batches:
            rows.write(batch)
