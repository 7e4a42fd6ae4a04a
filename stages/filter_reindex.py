"""Drops readers with few reviews, numbers readers and books, and orders each reader's books in time."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from sasrec import bins, engines, errors, inputs, interactions, outputs, params, spark, storage, usage

REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
RATINGS_PER_READER = Path("plots/ratings_per_reader.csv")
RATINGS_PER_BOOK = Path("plots/ratings_per_book.csv")
COLUMNS = pa.schema([("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string())])


@contextmanager
def started(section: interactions.FilterReindexParams, spark_params: spark.SparkParams) -> Iterator[engines.Engine]:
    """Yield the engine that the params name; it ends with the block, and what it has on the disk goes.

    Raises:
        UserError: it is Spark, and the reviews lie elsewhere; or it cannot be had.

    """
    if section.engine == "spark" and storage.pointer(REVIEWS):
        raise errors.UserError(
            "params.yaml: filter_reindex.engine is spark, which reads files that its machines share; set storage.url "
            "to null, or the engine to duckdb"
        )
    with outputs.scratch(USERS.parent) as scratch:
        if section.engine == "spark":
            with (
                spark.session(spark_params.master, "filter_reindex.engine", scratch) as session,
                engines.on_spark(REVIEWS, session, scratch) as engine,
            ):
                yield engine
        else:
            with engines.on_duckdb(REVIEWS, section.memory_limit, scratch) as engine:
                yield engine


def write_tables(section: interactions.FilterReindexParams, engine: engines.Engine, folder: str | None = None) -> None:
    """Write the tables and the distributions of ratings; with the URL of a `folder` the interactions lie there.

    Raises:
        UserError: no reader is left.

    """
    tables = interactions.reindex(engine.reviews, section, engine.store)
    if engine.batches(tables.users.limit(1)).read_all().num_rows == 0:
        raise errors.UserError(
            f"{REVIEWS}: no reader has {section.min_ratings} reviews; lower filter_reindex.min_ratings in params.yaml, "
            "or take more data"
        )
    outputs.write_parquet(USERS, engine.batches(tables.users))
    outputs.write_parquet(BOOKS, engine.batches(tables.books))
    outputs.write_parquet(INTERACTIONS, engine.batches(tables.interactions), folder)
    write_histogram(RATINGS_PER_READER, engine.batches(tables.ratings_per_reader).read_all())
    write_histogram(RATINGS_PER_BOOK, engine.batches(tables.ratings_per_book).read_all())


def write_histogram(path: Path, counted: pa.Table) -> None:
    """Write `counted`, numbers of ratings and how often each occurs, as ranges of `bins.LABELS`, without empty ones."""
    ratings, times = map(inputs.as_numpy, counted.columns)
    totals = np.zeros(len(bins.LABELS), np.int64)
    np.add.at(totals, bins.bin_of(ratings), times)
    rows = [(bins.LABELS[number], int(totals[number])) for number in np.flatnonzero(totals)]
    outputs.write_csv(path, counted.column_names, rows)


def main() -> None:
    """Read the params and the reviews, write what comes of them."""
    section = params.load("filter_reindex", interactions.FilterReindexParams)
    spark_params = params.load("spark", spark.SparkParams)
    folder = params.load("storage", storage.StorageParams).url
    errors.require(REVIEWS)
    inputs.check_parquet(REVIEWS, COLUMNS)  # DuckDB and Spark check no digest
    outputs.make_folders(USERS, RATINGS_PER_READER)
    with inputs.reading(REVIEWS), started(section, spark_params) as engine:
        write_tables(section, engine, folder)


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
