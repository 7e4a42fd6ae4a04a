"""Holds out users and books, draws the negatives to rank them against, and counts the data."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from sasrec.core import cli, errors, params, run_record, visible
from sasrec.io import files, parquet
from sasrec.split import datasets, load, protocols
from sasrec.split.params import EvaluationParams, SplitParams

PARAMS = Path("params.yaml")
REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
METRICS = Path("metrics/data.json")
NUM_NAMED = 3  # users named in a note


def count(split: protocols.Split) -> dict[str, float]:
    """Return the content of metrics/data.json."""
    rows = {path: parquet.num_rows(path) for path in (REVIEWS, REJECTED, USERS, BOOKS, INTERACTIONS)}
    return {
        "reviews": rows[REVIEWS],
        "rejected": rows[REJECTED],
        "users": rows[USERS],
        "books": rows[BOOKS],
        "ratings": rows[INTERACTIONS],
        "mean_ratings_per_user": rows[INTERACTIONS] / rows[USERS],
        "train_users": len(split.train.histories),
        "eval_users": len(split.evaluation.users),
        "eval_users_left_out": len(split.left_out),
    }


def note_left_out(users: np.ndarray) -> None:
    """Name on standard error the users whom nothing evaluates, because they left too few books unread."""
    if len(users):
        ids = parquet.read(USERS, pa.schema([("user_id", pa.string())]))["user_id"].take(users[:NUM_NAMED]).to_pylist()
        named = ", ".join(ids) + (f" and {len(users) - NUM_NAMED} more" if len(users) > NUM_NAMED else "")
        note = "users not evaluated, because they left fewer than evaluation.num_item_sample books unread: "
        print(visible.text(note + named), file=sys.stderr)


def main() -> None:
    """Read the params and the interactions; write the three data sets and the counts."""
    split_params = params.load(PARAMS, "split", SplitParams)
    evaluation_params = params.load(PARAMS, "evaluation", EvaluationParams)
    errors.require(REVIEWS, REJECTED, USERS, BOOKS, INTERACTIONS)
    split = protocols.split(*load.read(INTERACTIONS, USERS, BOOKS), split_params, evaluation_params)
    note_left_out(split.left_out)
    counts = count(split)
    files.make_folders(TRAIN, METRICS)
    with (
        files.atomic_write(TRAIN) as train,
        files.atomic_write(VALIDATION) as validation,
        files.atomic_write(EVALUATION) as evaluation,
    ):
        datasets.save_training_set(train, split.train)
        datasets.save_held_out(validation, split.validation)
        datasets.save_held_out(evaluation, split.evaluation)
    files.write_json(METRICS, counts)


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
