"""Ranks each held-out reader's true book by the model and by simple baselines, on the same lists."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

import os
from pathlib import Path

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

import numpy as np
from tqdm import tqdm

from sasrec import (
    breakdown,
    card,
    device,
    errors,
    holdout,
    inputs,
    launch,
    memory,
    metrics_table,
    model,
    outputs,
    params,
    ranking,
    scorers,
    train_params,
    usage,
)

TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
METRICS = Path("metrics/eval.json")
RANKS = Path("plots/rank_histogram.csv")
HISTORY_LENGTHS = Path("plots/history_length.csv")
BY_HISTORY_LENGTH = Path("plots/by_history_length.csv")
BY_POPULARITY = Path("plots/by_popularity.csv")
CARD = Path("models/README.md")
PARAMS = Path("params.yaml")


def write_breakdowns(
    training_set: holdout.TrainingSet, held_out: holdout.HeldOut, ranks: dict[str, np.ndarray], k: int
) -> None:
    """Write the metrics among the sampled books by the reader's history, and by the true book's training ratings."""
    popularity = np.bincount(training_set.histories.items, minlength=training_set.num_books + 1)
    for path, name, counts in (
        (BY_HISTORY_LENGTH, "history_length", held_out.histories.lengths),
        (BY_POPULARITY, "popularity", popularity[held_out.true_books]),
    ):
        outputs.write_csv(path, [name, *breakdown.HEADER], breakdown.rows(counts, ranks, k))


def main() -> None:
    """Read the params, the model and the held-out readers; write the metrics, the histogram of ranks and the card."""
    evaluation = params.load("evaluation", holdout.EvaluationParams)
    train = params.load("train", train_params.TrainParams)
    described = card.read_params(PARAMS)
    errors.require(TRAIN, EVALUATION, WEIGHTS, CONFIG)
    share = launch.share_of(processes=1)  # more only under torchrun: on one machine, starting them takes longer
    where = device.use(train.device, train.num_threads, share)
    training_set = holdout.load_training_set(TRAIN)
    held_out = holdout.load_held_out(EVALUATION, training_set)
    config = model.load_config(CONFIG)
    with inputs.reading(CONFIG):
        if config.num_books != training_set.num_books:
            raise ValueError(f"the model has {config.num_books} books, {TRAIN} {training_set.num_books}")
    of_ranking = memory.of_ranking(config.sasrec, held_out.histories, config.num_books, where)
    memory.require("evaluation", of_ranking, where)
    network = model.load(WEIGHTS, config).to(where)
    by_name = {
        "sasrec": scorers.by_model(network, share, padding=evaluation.padding),
        "popularity": scorers.by_popularity(training_set),
        "recent_popularity": scorers.by_recent_popularity(training_set),
        "item_transitions": scorers.by_transitions(training_set),
    }
    progress = tqdm(by_name.items(), desc="evaluate", unit=" rankings", disable=None if share.is_first else True)
    outputs.make_folders(METRICS, RANKS, CARD)
    with launch.connected(share, where):
        ranks = {name: ranking.rank(held_out, scorer, share, where) for name, scorer in progress}
    if not share.is_first:
        return
    metrics = {
        name: {
            "sampled": ranking.summary(found.sampled, evaluation.k),
            "full": ranking.summary(found.full, evaluation.k),
        }
        for name, found in ranks.items()
    }
    outputs.write_json(METRICS, metrics)
    num_places = held_out.negatives.shape[1] + 1
    counts = [np.bincount(found.sampled, minlength=num_places).tolist() for found in ranks.values()]
    outputs.write_csv(RANKS, ["rank", *ranks], zip(range(1, num_places + 1), *counts, strict=True))
    write_breakdowns(training_set, held_out, {name: found.sampled for name, found in ranks.items()}, evaluation.k)
    lengths = breakdown.lengths(training_set.histories.lengths, config.sasrec.max_len)
    outputs.write_csv(HISTORY_LENGTHS, ["books", "up_to_max_len", "beyond_max_len"], lengths)
    with outputs.whole(CARD) as partial:
        partial.write_text(card.text(described, card.count(training_set, held_out), metrics), encoding="utf-8")
    print(metrics_table.as_text(metrics))


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
