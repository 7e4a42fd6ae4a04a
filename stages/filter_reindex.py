"""Drops readers with few reviews, numbers readers and books, and orders each reader's books in time."""

from pathlib import Path

import ibis

from sasrec import errors, interactions, outputs, params

REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
RATINGS_PER_READER = Path("plots/ratings_per_reader.csv")


def main() -> None:
    """Read the params and the reviews, write the tables and the distribution of ratings per reader."""
    section = params.load("filter_reindex", interactions.FilterReindexParams)
    errors.require(REVIEWS)
    engine = ibis.duckdb.connect()
    reviews = engine.read_parquet(REVIEWS, file_row_number=True).rename(position="file_row_number")
    tables = interactions.reindex(reviews, section)
    users = tables.users.to_pyarrow()
    if len(users) == 0:
        raise errors.UserError(
            f"{REVIEWS}: no reader has {section.min_ratings} reviews; lower filter_reindex.min_ratings in params.yaml, "
            "or take more data"
        )
    outputs.write_parquet(USERS, users)
    outputs.write_parquet(BOOKS, tables.books.to_pyarrow())
    outputs.write_parquet(INTERACTIONS, tables.interactions.to_pyarrow())
    histogram = interactions.ratings_per_reader(reviews).to_pyarrow()
    outputs.write_csv(RATINGS_PER_READER, histogram.schema.names, zip(*histogram.to_pydict().values(), strict=True))


if __name__ == "__main__":
    errors.run(main)
