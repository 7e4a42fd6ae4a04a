"""Runs the expression that `reindex` builds on an engine: DuckDB in this process, or Spark."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import _
from ibis.expr.types import Table

from sasrec.core.errors import UserError
from sasrec.interactions.params import FilterReindexParams
from sasrec.interactions.reindex import Store
from sasrec.io import files, spark, storage
from sasrec.io.parquet import ROWS_PER_GROUP

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend
    from pyspark.sql import SparkSession


class Engine(NamedTuple):
    """An engine that has opened reviews.parquet."""

    reviews: Table  # its columns, and position: the row's number in the file, from 0
    store: Store
    batches: Callable[[Table], pa.RecordBatchReader]  # runs an expression; every engine gives the same schema

    def num_rows(self, table: Table) -> int:
        """Return the number of rows of `table`."""
        return self.batches(table.agg(number=_.count())).read_all()["number"][0].as_py()


@contextmanager
def started(
    params: FilterReindexParams, spark_params: spark.SparkParams, reviews: Path, parent: Path
) -> Iterator[Engine]:
    """Yield the params' engine; remove its scratch folder in `parent` after the block.

    Raises:
        UserError: the engine is Spark, and Spark is missing or the reviews are elsewhere, where it cannot read them.

    """
    if params.engine == "spark" and storage.pointer(reviews):
        raise UserError(
            "params.yaml: filter_reindex.engine is spark, which reads files that its machines share; set storage.url "
            "to null, or the engine to duckdb"
        )
    with files.scratch(parent) as scratch:
        if params.engine == "spark":
            with (
                spark.session(spark_params.master, "filter_reindex.engine", scratch) as session,
                on_spark(reviews, session, scratch) as engine,
            ):
                yield engine
        else:
            with on_duckdb(reviews, params.memory_limit, scratch) as engine:
                yield engine


@contextmanager
def on_duckdb(reviews: Path, memory_limit: str | None, scratch: Path) -> Iterator[Engine]:
    """Yield DuckDB, which writes data beyond `memory_limit` (None: most of the memory) to the folder `scratch`.

    Raises:
        UserError: the limit is too low even so, or is too large a number for DuckDB.
        MemoryError: there is no limit, and too little memory.

    """
    limit = {"memory_limit": memory_limit} if memory_limit else {}
    try:
        connection = ibis.duckdb.connect(temp_directory=str(scratch), preserve_insertion_order=False, **limit)
    except duckdb.ParserException as error:
        raise UserError(
            f"params.yaml: filter_reindex.memory_limit is {memory_limit}, which DuckDB refuses: {error}; set it to "
            "null, or to less than the memory that there is"
        ) from None
    try:
        table = _read(connection, reviews).rename(position="file_row_number")
        # Not to_pyarrow: it imports pandas, which takes longer than reading the rows.
        batches = partial(ibis.Table.to_pyarrow_batches, chunk_size=ROWS_PER_GROUP)
        yield Engine(table, partial(connection.create_table, temp=True), batches)
    except duckdb.OutOfMemoryException as error:
        reason = str(error).partition("\n")[0]
        if memory_limit is None:
            raise MemoryError(reason) from None
        raise UserError(
            f"params.yaml: filter_reindex.memory_limit is {memory_limit}, which is too little ({reason}); raise it, or "
            "set it to null"
        ) from None
    finally:
        connection.disconnect()


def _read(connection: "Backend", reviews: Path) -> Table:
    pointer = storage.pointer(reviews)
    if pointer is None:
        return connection.read_parquet(reviews, file_row_number=True)
    file_system, _path = storage.at(pointer.url)
    connection.register_filesystem(file_system)
    # Not read_parquet: for a URL, Ibis would make DuckDB download an extension.
    quoted = pointer.url.replace("'", "''")
    return connection.sql(f"SELECT * FROM read_parquet('{quoted}', file_row_number = true)")


@contextmanager
def on_spark(reviews: Path, session: "SparkSession", scratch: Path) -> Iterator[Engine]:
    """Yield Spark, which must see `reviews` and the folder `scratch` under the same paths as this process.

    Raises:
        UserError: Spark fails.

    """
    connection = ibis.pyspark.connect(session)

    def write(table: Table) -> Path:
        folder = scratch / f"table-{len(list(scratch.glob('table-*')))}"
        session.sql(connection.compile(table)).write.parquet(spark.uri(folder))
        return folder

    def store(name: str, table: Table) -> Table:
        # Not Spark's cache: a server's may still hold an earlier run's rows for a file of the same name.
        session.read.parquet(spark.uri(write(table))).createOrReplaceTempView(name)
        return connection.table(name)

    def batches(table: Table) -> pa.RecordBatchReader:
        folder = write(table)  # Spark would return all rows at once, as a pandas table
        schema = pa.schema([field.with_nullable(True) for field in table.schema().to_pyarrow()])
        return pa.RecordBatchReader.from_batches(schema, _read_in_order(folder, schema))

    with spark.working():
        numbered = session.read.parquet(spark.uri(reviews)).selectExpr("*", "_metadata.row_index AS position")
        numbered.createOrReplaceTempView("reviews")
        yield Engine(connection.table("reviews"), store, batches)


def _read_in_order(folder: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the batches that Spark wrote: one file per partition, numbered in the order of the rows."""
    for path in sorted(folder.glob("part-*")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield batch.cast(schema)
