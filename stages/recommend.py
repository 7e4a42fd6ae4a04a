"""Prints the next books for one user, or writes them for every user, with the trained model."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import os
import sys
from pathlib import Path

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

from sasrec.core import errors, params
from sasrec.io import files, parquet
from sasrec.runtime import device
from sasrec.serving import arguments, listing, lookup, titles, vocabulary
from sasrec.serving.recommender import Recommender
from sasrec.split import load
from sasrec.split.params import EvaluationParams
from sasrec.split.sequences import Sequences
from sasrec.training.params import TrainParams

PARAMS = Path("params.yaml")
MODELS = Path("models")
TRAIN = Path("data/split/train.safetensors")
REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
ROWS_PER_PART = 1 << 16  # of --all: the rows in memory at once


def answer(asked: argparse.Namespace) -> None:
    """Print or write the recommendations; raise UserError if an id or a file cannot be used."""
    evaluation_params = params.load(PARAMS, "evaluation", EvaluationParams)
    train_params = params.load(PARAMS, "train", TrainParams)
    errors.require(USERS, BOOKS)
    recommender = Recommender.load(MODELS, train=TRAIN, padding=evaluation_params.padding)
    recommender.model.to(device.use(train_params.device, train_params.num_threads))
    books = vocabulary.books(BOOKS)
    with files.naming_damage(BOOKS):
        if recommender.num_books != len(books):
            raise ValueError(f"it has {len(books)} books, the model {recommender.num_books}")
    if not 1 <= asked.k <= len(books):
        raise errors.UserError(f"-k is {asked.k}; choose one of 1 to {len(books)}, the number of books")
    if asked.all:
        write_all(recommender, books, asked)
    else:
        history = history_of(asked.user) if asked.user else lookup.book_indices(asked.history, books, REVIEWS)
        names = titles.read(asked.titles, books.ids.to_pylist()) if asked.titles else {}
        rows = listing.as_rows(recommender.recommend([history], asked.k, exclude_seen=asked.exclude_seen), books, names)
        print(listing.as_json(rows) if asked.format == "json" else listing.as_table(rows))
    print(f"ranked by {recommender.description}, the best on the validation users", file=sys.stderr)


def read_histories() -> Sequences:
    """Return the history of every user of the data set."""
    errors.require(INTERACTIONS)
    return load.read(INTERACTIONS, USERS, BOOKS).histories


def history_of(user_id: str) -> list[int]:
    """Return the history of a user; raise a UserError with the reason if the user is unknown."""
    errors.require(INTERACTIONS)
    user = lookup.user_index(user_id, vocabulary.users(USERS), REVIEWS)
    return read_histories()[user].tolist()


def write_all(recommender: Recommender, books: vocabulary.Vocabulary, asked: argparse.Namespace) -> None:
    """Write the recommendations of every user to the file of --all, some thousand users at a time."""
    histories = read_histories()
    users = vocabulary.users(USERS)
    output = asked.all.resolve()  # the target of a symbolic link is replaced, not the link
    with files.atomic_write(output) as partial, parquet.writer(partial, listing.OUTPUT) as rows:
        for first, part in listing.parts(histories, max(1, ROWS_PER_PART // asked.k)):
            found = recommender.recommend(part, asked.k, exclude_seen=asked.exclude_seen)
            rows.write(listing.as_batch(found, users, first, books))


def main() -> None:
    """Read the arguments; print or write the recommendations."""
    answer(arguments.parse(sys.argv[1:]))


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
