"""Drops readers with few reviews, numbers readers and books, and orders each reader's books in time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from sasrec import engines, errors, inputs, interactions, outputs, params, spark, usage

REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
RATINGS_PER_READER = Path("plots/ratings_per_reader.csv")
RATINGS_PER_BOOK = Path("plots/ratings_per_book.csv")
COLUMNS = pa.schema([("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string())])


@contextmanager
def started(section: interactions.FilterReindexParams, spark_params: spark.SparkParams) -> Iterator[engines.Engine]:
    """Yield the engine that the params name; it ends with the block, and what it has on the disk goes."""
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


def write_tables(section: interactions.FilterReindexParams, engine: engines.Engine) -> None:
    """Write the tables and the distributions of ratings; raise UserError where no reader is left."""
    tables = interactions.reindex(engine.reviews, section, engine.store)
    if engine.batches(tables.users.limit(1)).read_all().num_rows == 0:
        raise errors.UserError(
            f"{REVIEWS}: no reader has {section.min_ratings} reviews; lower filter_reindex.min_ratings in params.yaml, "
            "or take more data"
        )
    outputs.write_parquet(USERS, engine.batches(tables.users))
    outputs.write_parquet(BOOKS, engine.batches(tables.books))
    outputs.write_parquet(INTERACTIONS, engine.batches(tables.interactions))
    for path, column, plural in ((RATINGS_PER_READER, "user_id", "readers"), (RATINGS_PER_BOOK, "book_id", "books")):
        histogram = engine.batches(interactions.histogram(engine.reviews, column, plural)).read_all()
        outputs.write_csv(path, histogram.schema.names, zip(*histogram.to_pydict().values(), strict=True))


def main() -> None:
    """Read the params and the reviews, write what comes of them."""
    section = params.load("filter_reindex", interactions.FilterReindexParams)
    spark_params = params.load("spark", spark.SparkParams)
    errors.require(REVIEWS)
    inputs.check_parquet(REVIEWS, COLUMNS)
    with inputs.reading(REVIEWS), started(section, spark_params) as engine:
        write_tables(section, engine)


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
