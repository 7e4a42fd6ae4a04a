"""Drops users with few reviews, numbers users and books, and orders each user's books in time."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from pathlib import Path

import pyarrow as pa

from sasrec.core import cli, errors, params, run_record
from sasrec.dump import formats
from sasrec.interactions import bins, engines, reindex
from sasrec.interactions.params import FilterReindexParams
from sasrec.io import files, parquet, spark, storage

PARAMS = Path("params.yaml")
REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
RATINGS_PER_READER = Path("plots/ratings_per_reader.csv")
RATINGS_PER_BOOK = Path("plots/ratings_per_book.csv")
DAYS, SECONDS = (
    pa.schema([("user_id", pa.string()), ("timestamp", time), ("book_id", pa.string())])
    for time in (pa.date32(), pa.timestamp("ms"))
)


def write_tables(filter_params: FilterReindexParams, engine: engines.Engine, folder: str | None) -> None:
    """Write the tables and histograms; with the URL of a `folder`, write the interactions there.

    Raises:
        UserError: no user has enough reviews.

    """
    tables = reindex.reindex(engine.reviews, filter_params, engine.store, engine.num_rows)
    if engine.batches(tables.users.limit(1)).read_all().num_rows == 0:
        raise errors.UserError(
            f"{REVIEWS}: no user has {filter_params.min_ratings} reviews; lower filter_reindex.min_ratings in "
            "params.yaml, or take more data"
            if filter_params.min_item_ratings == 1
            else f"{REVIEWS}: no user is left with {filter_params.min_ratings} reviews of books that have "
            f"{filter_params.min_item_ratings}; lower filter_reindex.min_item_ratings or min_ratings in params.yaml"
        )
    parquet.write(USERS, engine.batches(tables.users))
    parquet.write(BOOKS, engine.batches(tables.books))
    parquet.write(INTERACTIONS, engine.batches(tables.interactions), folder)
    write_histogram(RATINGS_PER_READER, engine.batches(tables.ratings_per_reader).read_all())
    write_histogram(RATINGS_PER_BOOK, engine.batches(tables.ratings_per_book).read_all())


def write_histogram(path: Path, counted: pa.Table) -> None:
    """Write a histogram of `counted`, a table of numbers of ratings and how often each occurs."""
    ratings, times = map(parquet.as_numpy, counted.columns)
    files.write_csv(path, counted.column_names, bins.histogram(ratings, times))


def main() -> None:
    """Write the tables and histograms of the reviews."""
    filter_params = params.load(PARAMS, "filter_reindex", FilterReindexParams)
    dump_format = params.load(PARAMS, "dump_format", formats.DumpFormatParams).format
    filter_params = filter_params.with_line_order(dump_format.line_order)
    spark_params = params.load(PARAMS, "spark", spark.SparkParams)
    folder = params.load(PARAMS, "storage", storage.StorageParams).url
    errors.require(REVIEWS)
    parquet.check(REVIEWS, SECONDS if dump_format.has_seconds else DAYS)  # DuckDB and Spark check no digest
    files.make_folders(USERS, RATINGS_PER_READER)
    with (
        files.naming_damage(REVIEWS),
        engines.started(filter_params, spark_params, REVIEWS, USERS.parent) as engine,
    ):
        write_tables(filter_params, engine, folder)


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
