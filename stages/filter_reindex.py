"""Drops readers with few reviews, numbers readers and books, and orders each reader's books in time."""

from functools import partial
from pathlib import Path

import ibis
import pyarrow as pa

from sasrec import errors, inputs, interactions, outputs, params, usage

REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
RATINGS_PER_READER = Path("plots/ratings_per_reader.csv")
RATINGS_PER_BOOK = Path("plots/ratings_per_book.csv")
COLUMNS = pa.schema([("user_id", pa.string()), ("timestamp", pa.date32()), ("book_id", pa.string())])


def write_tables(section: interactions.FilterReindexParams) -> None:
    """Write the tables and the distributions of ratings; raise UserError where no reader is left."""
    engine = ibis.duckdb.connect()
    reviews = engine.read_parquet(REVIEWS, file_row_number=True).rename(position="file_row_number")
    tables = interactions.reindex(reviews, section, store=partial(engine.create_table, temp=True))
    if tables.users.limit(1).to_pyarrow_batches().read_all().num_rows == 0:
        raise errors.UserError(
            f"{REVIEWS}: no reader has {section.min_ratings} reviews; lower filter_reindex.min_ratings in params.yaml, "
            "or take more data"
        )
    # Batches, not to_pyarrow: that imports pandas, which takes longer than the rows.
    outputs.write_parquet(USERS, tables.users.to_pyarrow_batches())
    outputs.write_parquet(BOOKS, tables.books.to_pyarrow_batches())
    outputs.write_parquet(INTERACTIONS, tables.interactions.to_pyarrow_batches())
    for path, column, plural in ((RATINGS_PER_READER, "user_id", "readers"), (RATINGS_PER_BOOK, "book_id", "books")):
        histogram = interactions.histogram(reviews, column, plural).to_pyarrow_batches().read_all()
        outputs.write_csv(path, histogram.schema.names, zip(*histogram.to_pydict().values(), strict=True))


def main() -> None:
    """Read the params and the reviews, write what comes of them."""
    section = params.load("filter_reindex", interactions.FilterReindexParams)
    errors.require(REVIEWS)
    inputs.check_parquet(REVIEWS, COLUMNS)
    with inputs.reading(REVIEWS):
        write_tables(section)


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
