"""Prints the next books for one user, or writes them for every user."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sasrec.commands import options
from sasrec.core import errors

if TYPE_CHECKING:
    import pyarrow as pa

    from sasrec.serving.recommender import Answer, Recommender
    from sasrec.serving.vocabulary import Vocabulary
    from sasrec.split.sequences import Sequences

# What the pipeline wrote, for --user and --all.
REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
ROWS_PER_PART = 1 << 16  # of --all: the rows in memory at once
SUFFIXES = (".parquet", ".csv")


class Rows(Protocol):
    """Writes rows to a file."""

    def write(self, batch: "pa.RecordBatch") -> None:
        """Add the rows of a batch."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(prog="sasrec recommend", description="Recommends the books to read next.")
    users = parser.add_mutually_exclusive_group(required=True)
    users.add_argument("--user", type=options.identifier, metavar="ID", help="a user of the pipeline's data set")
    users.add_argument(
        "--history",
        type=options.identifiers,
        metavar="ID,…|FILE",
        help="the books someone read, oldest first; in a file, one id a line",
    )
    users.add_argument("--all", type=Path, metavar="FILE", help="every user of the data set, into a .parquet or .csv")
    options.add_model(parser)
    options.add_k(parser)
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--exclude-seen", action="store_true", default=True, help="nothing already read (the default)")
    seen.add_argument("--include-seen", action="store_false", dest="exclude_seen", help="re-reads as well")
    parser.add_argument(
        "--exclude",
        type=options.identifiers,
        default=[],
        metavar="ID,…|FILE",
        help="never these; in a file, one id a line",
    )
    parser.add_argument(
        "--min-ratings", type=options.whole, default=0, metavar="N", help="none with fewer training ratings (0)"
    )
    options.add_titles(parser)
    options.add_format(parser)
    arguments = parser.parse_args(words)
    if arguments.all and arguments.all.suffix not in SUFFIXES:
        parser.error(f"--all writes Parquet or CSV, but {arguments.all} ends in neither .parquet nor .csv; name it so")
    if arguments.all and (arguments.titles or arguments.format != "table"):
        parser.error("--titles and --format are of what is printed, and --all prints nothing")
    return arguments


def main(words: Sequence[str]) -> None:
    """Print or write the recommendations; raise UserError if an id or a file cannot be used."""
    asked = parse(words)
    recommender = options.load(asked)
    from sasrec.serving import listing, lookup

    lookup.report_unknown("--exclude", asked.exclude, recommender.model.books, REVIEWS)
    if asked.all:
        print(write_all(recommender, asked), file=sys.stderr)
    else:
        history = asked.history if asked.user is None else history_of(asked.user, recommender)
        lookup.report_unknown("--history", history, recommender.model.books, REVIEWS)
        answer = _answer(recommender, history, asked)
        print(listing.as_json(answer.books) if asked.format == "json" else listing.as_table(answer.books))
        if answer.ranked_by == "recent popularity":
            print("ranked by recent popularity: the model knows no book of the history", file=sys.stderr)
            return
    print(f"ranked by {recommender.description}, the best on the validation users", file=sys.stderr)


def _answer(recommender: "Recommender", history: list[str], asked: argparse.Namespace) -> "Answer":
    (answer,) = recommender.recommend(
        [history], asked.k, exclude_seen=asked.exclude_seen, exclude=asked.exclude, min_ratings=asked.min_ratings
    )
    return answer


def read_data_set(recommender: "Recommender") -> "tuple[Sequences, Vocabulary]":
    """Return the history of every user of the data set, in book_idx, and the users.

    Raises:
        UserError: a file is missing, damaged, or of other books than the model.

    """
    from sasrec.serving import vocabulary
    from sasrec.split import load

    errors.require(USERS, BOOKS, INTERACTIONS)
    if not vocabulary.books(BOOKS).ids.equals(recommender.model.books.ids):
        raise errors.UserError(f"{BOOKS}: has other books than the model; run `dvc repro`, which makes both")
    return load.read(INTERACTIONS, USERS, BOOKS).histories, vocabulary.users(USERS)


def history_of(user_id: str, recommender: "Recommender") -> list[str]:
    """Return the book ids of a user's history; raise a UserError with the reason if the user is unknown."""
    from sasrec.serving import lookup

    histories, users = read_data_set(recommender)
    user = lookup.user_index(user_id, users, REVIEWS)
    return recommender.model.books.ids_of(histories[user]).to_pylist()


def write_all(recommender: "Recommender", asked: argparse.Namespace) -> str:
    """Write the recommendations of every user, some thousand users at a time; return what was written, in words."""
    from sasrec.io import files
    from sasrec.serving import listing

    started = time.monotonic()
    histories, users = read_data_set(recommender)
    barred = recommender.barred(asked.exclude, asked.min_ratings)
    output, num_rows = asked.all.resolve(), 0  # the target of a symbolic link is replaced, not the link
    with files.atomic_write(output) as partial, _writer(partial, output.suffix) as rows:
        for first, part in listing.parts(histories, max(1, ROWS_PER_PART // asked.k)):
            found = recommender.recommend_indices(part, asked.k, exclude_seen=asked.exclude_seen, barred=barred)
            batch = listing.as_batch(found, users, first, recommender.model.books)
            rows.write(batch)
            num_rows += len(batch)
    return f"{asked.all}: {num_rows:,} rows for {len(users):,} users, in {time.monotonic() - started:.1f} s"


def _writer(path: Path, suffix: str) -> AbstractContextManager[Rows]:
    from pyarrow import csv

    from sasrec.io import parquet
    from sasrec.serving import listing

    return csv.CSVWriter(str(path), listing.OUTPUT) if suffix == ".csv" else parquet.writer(path, listing.OUTPUT)
