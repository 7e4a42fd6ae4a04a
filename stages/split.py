"""Holds readers and books out, draws the negatives they are ranked against, and counts the data."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from pathlib import Path

from sasrec import errors, holdout, inputs, interactions_file, outputs, params, usage

REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
METRICS = Path("metrics/data.json")


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
    split = holdout.split(*interactions_file.read(INTERACTIONS, USERS, BOOKS), section, evaluation)
    counts = count(split)
    outputs.make_folders(TRAIN, METRICS)
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
