"""Reads the shards of a dump, several at once, each in a process of its own: of this machine, or of Spark."""

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import threading
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
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

from sasrec import interrupts, reviews, spark
from sasrec.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Batches = Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]


def read(shards: Sequence[Path], limits: reviews.ParseGzipParams, scratch: Path) -> Generator[Batches, None, None]:
    """Yield the batches of each shard, in order, as `reviews.read` does; take them before the next shard's.

    Several processes write what they have read to the folder `scratch`, which is made; a bounded number of shards waits
    there. One process needs no file: it is this one.

    Raises:
        UserError: a shard is not intact, as `reviews.read` has it, or a process was killed.

    """
    # Each decompresses in a second thread, so that it keeps two cores busy.
    num_processes = min(limits.num_processes or max(1, _num_cores() // 2), len(shards))
    if num_processes == 1:
        yield from (reviews.read(shard, limits) for shard in shards)
        return
    scratch.mkdir()
    try:
        with _processes(num_processes) as pool:
            started = (_submit(pool, shard, limits, scratch / shard.name) for shard in shards)
            ahead = deque(islice(started, 2 * num_processes))
            while ahead:
                folder = ahead.popleft().result()
                ahead.extend(islice(started, 1))
                yield _stored(folder)
                shutil.rmtree(folder)
    except BrokenProcessPool:
        raise UserError(
            "a process that parsed a shard was killed, for want of memory perhaps; lower parse_gzip.num_processes in "
            "params.yaml, or close other programs"
        ) from None


def read_on_spark(
    shards: Sequence[Path], limits: reviews.ParseGzipParams, scratch: Path, session: "SparkSession"
) -> Generator[Batches, None, None]:
    """Yield the batches of each shard as `read` does, once Spark's processes have read all of them into `scratch`.

    They must see `scratch` and the shards under the same paths as this process.

    Raises:
        UserError: a shard is not intact, as `reviews.read` has it, or Spark fails.

    """
    here = Path.cwd()

    def store(numbers: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for number in (number for batch in numbers for number in batch["id"].to_pylist()):
            folder = here / scratch / f"{number}.{uuid.uuid4().hex}"  # Spark may try a shard twice, even at once
            error = damage = ""
            try:
                _store(here / shards[number], limits, folder)
            except reviews.DamagedError as raised:
                damage = raised.reason
            except UserError as raised:
                error = str(raised).replace(f"{here}/", "")
            row = {"number": [number], "folder": [str(folder)], "error": [error], "damage": [damage]}
            yield pa.RecordBatch.from_pydict(row)

    with spark.working():
        spark.ship(session, scratch)
        numbers = session.range(0, len(shards), numPartitions=len(shards))  # one each
        stored = numbers.mapInArrow(store, "number long, folder string, error string, damage string")
        stored.write.parquet(spark.uri(scratch / "stored"))
    rows = [row for path in scratch.glob("stored/part-*") for row in pq.ParquetFile(path).read().to_pylist()]
    for row in sorted(rows, key=itemgetter("number")):
        if row["damage"]:
            raise reviews.DamagedError(str(shards[row["number"]]), row["damage"])
        if row["error"]:
            raise UserError(row["error"])
        yield _stored(Path(row["folder"]))
        shutil.rmtree(row["folder"])


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool; where the block fails, or this process is killed, those of the pool end at once."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit the other end of the pipe, and locks
    receiver, sender = context.Pipe(duplex=False)
    with receiver, sender, ProcessPoolExecutor(number, context, _begin, (receiver,)) as pool:
        try:
            yield pool
        except BaseException:
            sender.close()
            raise


def _submit(pool: ProcessPoolExecutor, shard: Path, limits: reviews.ParseGzipParams, folder: Path) -> Future[Path]:
    with interrupts.kept_from_processes():  # a job may start a process
        return pool.submit(_store, shard, limits, folder)


def _begin(receiver: Connection) -> None:
    """Make this process one of a pool: it ends as soon as nobody can write to `receiver` any more."""
    tqdm.set_lock(threading.RLock())  # else one of several processes, which is reported as lost when this one is killed
    sys.stderr = io.StringIO()  # no terminal: there is no place for several progress bars
    threading.Thread(target=_end_after, args=(receiver,), daemon=True).start()


def _end_after(receiver: Connection) -> None:
    with contextlib.suppress(EOFError):
        receiver.recv_bytes()
    os._exit(1)


def _store(shard: Path, limits: reviews.ParseGzipParams, folder: Path) -> Path:
    """Write the batches of `shard` to `folder`, which is made and returned."""
    folder.mkdir()
    with (
        pa.OSFile(str(folder / "reviews"), "wb") as good_file,
        pa.OSFile(str(folder / "rejected"), "wb") as bad_file,
        pa.ipc.new_stream(good_file, reviews.REVIEWS) as good,
        pa.ipc.new_stream(bad_file, reviews.REJECTED) as bad,
    ):
        for parsed, rejected in reviews.read(shard, limits):
            good.write(parsed)
            bad.write(rejected)
    return folder


def _stored(folder: Path) -> Batches:
    """Yield what `_store` wrote."""
    with pa.OSFile(str(folder / "reviews")) as good, pa.OSFile(str(folder / "rejected")) as bad:
        yield from zip(pa.ipc.open_stream(good), pa.ipc.open_stream(bad), strict=True)
