"""Writes a file, or a folder of files, whole or not at all."""

import csv
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sasrec import storage

ROWS_PER_GROUP = 1 << 17


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` when the block ends well, else it goes.

    Raises:
        OSError: it could not be written; the error's filename is `path` where the cause names no file itself.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_all(path.parent.glob(f"{path.name}.*partial"))  # left by a killed run
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # no other run's: two at once must not mix
    try:
        yield partial
        for written in (*partial.rglob("*"), partial):
            _flush_to_disk(written)
        if partial.is_dir() or path.is_dir():  # a file replaces a file, and nothing else is replaced
            _remove_all([path])
        partial.replace(path)
        _flush_to_disk(path.parent)  # the new name
    except OSError as error:
        # write() and pyarrow name no file, and a copy names the one that it reads.
        if error.filename is None or error.errno == errno.ENOSPC:
            error.filename = str(path)
        raise
    finally:
        _remove_all([partial])


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent`, which goes when the block ends, and with it what a killed run left."""
    parent.mkdir(parents=True, exist_ok=True)
    _remove_all(parent.glob("scratch.*.partial"))
    folder = parent / f"scratch.{os.getpid()}.partial"
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove_all([folder])


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON."""
    with whole(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write `rows` as CSV under `header`."""
    with whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def parquet(path: Path, schema: pa.Schema, folder: str | None = None) -> Iterator["RowGroups"]:
    """Yield a writer of batches; the file's bytes depend on the rows alone, not on how they were batched.

    With the URL of a `folder` the file lies there, and `path` is a pointer to it.
    """
    with (
        storage.sink(path, folder) as sink,
        pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        row_groups = RowGroups(writer)
        yield row_groups
        row_groups.flush()


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
        """Write what is pending as a row group."""
        if self._pending:
            rows = pa.Table.from_batches(self._pending).combine_chunks()
            self._writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
            self._pending, self._num_pending = [], 0


def write_parquet(path: Path, batches: pa.RecordBatchReader, folder: str | None = None) -> None:
    """Write `batches` whole, as `parquet` does."""
    with whole(path) as partial, parquet(partial, batches.schema, folder) as rows:
        for batch in batches:
            rows.write(batch)
