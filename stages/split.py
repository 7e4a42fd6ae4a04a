"""Holds readers and books out, draws the negatives they are ranked against, and counts the data."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from sasrec import errors, holdout, inputs, outputs, params, sequences, usage

REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
METRICS = Path("metrics/data.json")
COLUMNS = pa.schema([("user_idx", pa.int32()), ("timestamp", pa.date32()), ("book_idx", pa.int32())])


def read_interactions() -> tuple[sequences.Sequences, np.ndarray, int]:
    """Return each reader's books, the days on which they were read, (total,) int32, and the number of books.

    Raises:
        UserError: a file is damaged, or the three tables are not of one run.

    """
    table = inputs.read_parquet(INTERACTIONS, COLUMNS)
    user_idx, book_idx = (table[name].to_numpy() for name in ("user_idx", "book_idx"))
    num_readers, num_books = inputs.num_rows(USERS), inputs.num_rows(BOOKS)
    with inputs.reading(INTERACTIONS):
        steps = np.diff(user_idx, prepend=-1)
        if steps[0] != 1 or steps.min() < 0 or steps.max() > 1 or user_idx[-1] != num_readers - 1:
            raise ValueError(f"its readers are not the {num_readers} of {USERS}")
        if (book_idx.min(), book_idx.max()) != (1, num_books):
            raise ValueError(f"its books are not the {num_books} of {BOOKS}")
    days = table["timestamp"].cast("int32").to_numpy()  # since 1970
    return sequences.from_sorted_rows(user_idx, book_idx, num_readers), days, num_books


def count(split: holdout.Split) -> dict[str, float]:
    """Return what metrics/data.json holds."""
    rows = {path: inputs.num_rows(path) for path in (REVIEWS, REJECTED, USERS, BOOKS, INTERACTIONS)}
    return {
        "reviews": rows[REVIEWS],
        "rejected": rows[REJECTED],
        "users": rows[USERS],
        "books": rows[BOOKS],
        "ratings": rows[INTERACTIONS],
        "mean_ratings_per_user": rows[INTERACTIONS] / rows[USERS],
        "train_users": len(split.train.histories),
        "eval_users": len(split.evaluation.users),
    }


def main() -> None:
    """Read the params and the interactions, write the three parts and the counts."""
    section = params.load("split", holdout.SplitParams)
    evaluation = params.load("evaluation", holdout.EvaluationParams)
    errors.require(REVIEWS, REJECTED, USERS, BOOKS, INTERACTIONS)
    books_read, days, num_books = read_interactions()
    split = holdout.split(books_read, days, num_books, section, evaluation)
    counts = count(split)
    with (
        outputs.whole(TRAIN) as train,
        outputs.whole(VALIDATION) as validation,
        outputs.whole(EVALUATION) as test,
    ):
        holdout.save_training_set(train, split.train)
        holdout.save_held_out(validation, split.validation)
        holdout.save_held_out(test, split.evaluation)
    outputs.write_json(METRICS, counts)


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
