"""Reads several shards of a dump at once, each in its own process, on this machine or on Spark."""

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from sasrec.core import interrupts
from sasrec.core.errors import UserError
from sasrec.dump import reviews, tables
from sasrec.dump.formats import DEFAULT, PRESETS, File, Format
from sasrec.dump.params import ParseGzipParams
from sasrec.dump.reviews import Batches
from sasrec.io import spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

READERS: Mapping[File, Callable[[Path, ParseGzipParams, Format], Batches]] = {
    "json_lines": reviews.read,
    "csv": tables.read_csv,
    "parquet": tables.read_parquet,
}

FILE_ERRORS = {error.__name__: error for error in (reviews.FileError, reviews.DamagedError, reviews.FormatError)}


def read(
    shards: Sequence[Path], params: ParseGzipParams, scratch: Path, dump_format: Format = PRESETS[DEFAULT]
) -> Generator[Batches, None, None]:
    """Yield each shard's batches, in order, as the reader of its format does; consume them before the next shard's.

    Several processes write parsed shards to the folder `scratch`, which is made and where a bounded number waits. If
    one process suffices, it is this one and writes no file.

    Raises:
        UserError: see READERS; or a process was killed.

    """
    # Each process decompresses in a second thread, so it keeps two cores busy.
    num_processes = min(params.num_processes or max(1, _num_cores() // 2), len(shards))
    if num_processes == 1:
        yield from (READERS[dump_format.file](shard, params, dump_format) for shard in shards)
        return
    scratch.mkdir()
    try:
        with _processes(num_processes) as pool:
            started = (_submit(pool, shard, params, dump_format, scratch / shard.name) for shard in shards)
            pending = deque(islice(started, 2 * num_processes))
            while pending:
                folder = pending.popleft().result()
                pending.extend(islice(started, 1))
                yield _read_stored(folder)
                shutil.rmtree(folder)
    except BrokenProcessPool:
        raise UserError(
            "a process that parsed a shard was killed, for want of memory perhaps; lower parse_gzip.num_processes in "
            "params.yaml, or close other programs"
        ) from None


def read_on_spark(
    shards: Sequence[Path],
    params: ParseGzipParams,
    scratch: Path,
    session: "SparkSession",
    dump_format: Format = PRESETS[DEFAULT],
) -> Generator[Batches, None, None]:
    """Yield each shard's batches as `read` does, after Spark's processes have parsed all shards into `scratch`.

    Those processes must see `scratch` and the shards under the same paths as this one. Raises also where Spark fails.
    """
    working_folder = Path.cwd()

    def store(numbers: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for number in (number for batch in numbers for number in batch["id"].to_pylist()):
            folder = working_folder / scratch / f"{number}.{uuid.uuid4().hex}"  # Spark may retry, even at once
            kind = reason = ""
            try:
                _store(working_folder / shards[number], params, dump_format, folder)
            except reviews.FileError as raised:
                kind, reason = type(raised).__name__, raised.reason
            except UserError as raised:
                kind, reason = UserError.__name__, str(raised).replace(f"{working_folder}/", "")
            row = {"number": [number], "folder": [str(folder)], "kind": [kind], "reason": [reason]}
            yield pa.RecordBatch.from_pydict(row)

    with spark.working():
        spark.ship(session, scratch)
        numbers = session.range(0, len(shards), numPartitions=len(shards))  # one shard each
        stored = numbers.mapInArrow(store, "number long, folder string, kind string, reason string")
        stored.write.parquet(spark.uri(scratch / "stored"))
    rows = [row for path in scratch.glob("stored/part-*") for row in pq.ParquetFile(path).read().to_pylist()]
    for row in sorted(rows, key=itemgetter("number")):
        if row["kind"] in FILE_ERRORS:
            raise FILE_ERRORS[row["kind"]](str(shards[row["number"]]), row["reason"])
        if row["kind"]:
            raise UserError(row["reason"])
        yield _read_stored(Path(row["folder"]))
        shutil.rmtree(row["folder"])


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose processes end at once if the block fails or this process is killed."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks and the pipe's other end
    receiver, sender = context.Pipe(duplex=False)
    with receiver, sender, ProcessPoolExecutor(number, context, _set_up_process, (receiver,)) as pool:
        try:
            yield pool
        except BaseException:
            sender.close()
            raise


def _submit(
    pool: ProcessPoolExecutor, shard: Path, params: ParseGzipParams, dump_format: Format, folder: Path
) -> Future[Path]:
    with interrupts.kept_from_processes():  # submitting may start a process
        return pool.submit(_store, shard, params, dump_format, folder)


def _set_up_process(receiver: Connection) -> None:
    """Set up a process of the pool: it ends as soon as nobody can write to `receiver` any more."""
    tqdm.set_lock(threading.RLock())  # tqdm's default, between processes, is reported as leaked after a kill
    sys.stderr = io.StringIO()  # no terminal, so no progress bar: several do not fit on one
    threading.Thread(target=_exit_with_pipe, args=(receiver,), daemon=True).start()


def _exit_with_pipe(receiver: Connection) -> None:
    with contextlib.suppress(EOFError):
        receiver.recv_bytes()
    os._exit(1)


def _store(shard: Path, params: ParseGzipParams, dump_format: Format, folder: Path) -> Path:
    """Make `folder`, write the batches of `shard` into it and return it."""
    folder.mkdir()
    with (
        pa.OSFile(str(folder / "reviews"), "wb") as good_file,
        pa.OSFile(str(folder / "rejected"), "wb") as bad_file,
        pa.ipc.new_stream(good_file, reviews.schema(dump_format)) as good,
        pa.ipc.new_stream(bad_file, reviews.REJECTED) as bad,
    ):
        for parsed, rejected in READERS[dump_format.file](shard, params, dump_format):
            good.write(parsed)
            bad.write(rejected)
    return folder


def _read_stored(folder: Path) -> Batches:
    """Yield the batches that `_store` wrote to `folder`."""
    with pa.OSFile(str(folder / "reviews")) as good, pa.OSFile(str(folder / "rejected")) as bad:
        yield from zip(pa.ipc.open_stream(good), pa.ipc.open_stream(bad), strict=True)
