"""Writes a file, or a folder of files, whole or not at all."""

import csv
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sasrec import digests, storage
from sasrec.errors import UserError

ROWS_PER_GROUP = 1 << 17


def make_folders(*paths: Path) -> None:
    """Make the folders of a stage's outputs, which git does not keep; nothing else makes one."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)


def require_replaceable(path: Path) -> None:
    """Raise UserError where something other than a regular file is at `path`, or no folder that it could be in."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no regular file, and is not replaced; give another name, or move it away")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written: there is no folder {path.parent}; make it first")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what is written becomes the file `path` when the block ends well, else it is gone.

    Until then the file has no name, where the system knows such files: so not even SIGKILL leaves a part of one. What
    replaces a symbolic link is the link's name alone; the file that it leads to stays.

    Raises:
        UserError: as `require_replaceable` has it.
        OSError: it could not be written; the error's filename is `path` where the cause names no file itself.

    """
    require_replaceable(path)
    _sweep(path, is_ours=Path.is_file)
    partial = _partial(path)
    with _naming(path):
        try:
            with _unnamed(path.parent) as descriptor:
                if descriptor is None:
                    yield partial
                    _flush_to_disk(partial)
                    partial.replace(path)
                else:
                    yield Path(f"/proc/self/fd/{descriptor}")
                    os.fsync(descriptor)
                    _give_name(descriptor, path)
            _flush_to_disk(path.parent)  # the new name
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_or_folder(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for a file, a link or a folder of files; it replaces `path`, whichever that is.

    Of a stage's own output alone: a folder at `path` is removed with all that it holds.

    Raises:
        OSError: as `whole` has it.

    """
    _sweep(path, is_ours=Path.exists)
    partial = _partial(path)
    with _naming(path):
        try:
            yield partial
            for written in (*partial.rglob("*"), partial):
                _flush_to_disk(written)
            if partial.is_dir() or path.is_dir():  # rename replaces a file by a file alone
                _remove(path)
            partial.replace(path)
            _flush_to_disk(path.parent)
        finally:
            _remove(partial)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield the path of a folder in `parent` that whoever needs it makes; it goes when the block ends.

    What a killed run left goes first.
    """
    folder = parent / "scratch"
    _sweep(folder, is_ours=Path.is_dir)
    try:
        yield _partial(folder)
    finally:
        _remove(_partial(folder))


def _partial(path: Path) -> Path:
    """Return the name beside `path` of what becomes it: no other run's, because two at once must not mix."""
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


def _sweep(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Remove what killed runs left beside `path`: of the names that `_partial` gives, what `is_ours`."""
    name = re.compile(re.escape(path.name) + r"\.[0-9]+\.partial")
    for left in path.parent.iterdir():
        if name.fullmatch(left.name) and is_ours(left):
            _remove(left)


@contextmanager
def _unnamed(folder: Path) -> Iterator[int | None]:
    """Yield the descriptor of a new file in `folder` without a name; None where there are no such files."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):  # not Linux, or a file system without them
        yield None
        return
    try:
        yield descriptor if Path(f"/proc/self/fd/{descriptor}").exists() else None
    finally:
        os.close(descriptor)


def _give_name(descriptor: int, path: Path) -> None:
    """Make `path` the name of an open file without one, by way of another name where `path` is taken."""
    if _link(descriptor, path):
        return
    partial = _partial(path)
    if not _link(descriptor, partial):  # a system that makes files without a name, and then gives them none
        shutil.copyfile(f"/proc/self/fd/{descriptor}", partial)
        _flush_to_disk(partial)
    partial.replace(path)


def _link(descriptor: int, path: Path) -> bool:
    try:
        # With a folder's descriptor, of which an absolute path makes no use, os.link follows the symbolic link.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
    except OSError:
        return False
    return True


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an OSError of the block name `path`: write() and pyarrow name no file, a copy the one that it reads."""
    try:
        yield
    except OSError as error:
        is_ours = error.filename is None or str(error.filename).startswith(("/proc/self/fd/", str(_partial(path))))
        if is_ours or error.errno == errno.ENOSPC:
            error.filename = str(path)
        raise


def _remove(path: Path) -> None:
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

    With the URL of a `folder` the file lies there, and `path` is a pointer to it. The file holds its digest.
    """
    with storage.sink(path, folder) as sink:
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            row_groups = RowGroups(writer)
            yield row_groups
            row_groups.flush()
            writer.add_key_value_metadata(digests.METADATA)
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
