"""Ranks each held-out user's true book by the model and by simple baselines, on the same lists."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

import os
from collections.abc import Mapping
from pathlib import Path

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

import numpy as np
from tqdm import tqdm

from sasrec.core import cli, errors, params
from sasrec.evaluation import hybrid, model_scorer, ranking
from sasrec.evaluation import memory as ranking_memory
from sasrec.evaluation.baselines import BASELINES
from sasrec.evaluation.transitions import Transitions
from sasrec.io import files
from sasrec.model.sasrec import load_config, load_model
from sasrec.reporting import breakdown, metrics_table, model_card
from sasrec.runtime import device, launch, memory
from sasrec.split import datasets
from sasrec.split.params import EvaluationParams
from sasrec.training.params import TrainParams

PARAMS = Path("params.yaml")
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


def write_plots(
    train: datasets.TrainingSet, held_out: datasets.HeldOut, ranks: Mapping[str, np.ndarray], k: int, max_len: int
) -> None:
    """Write the histogram of `ranks` (sampled, by scorer), and the metrics by history length and by popularity."""
    num_ranks = held_out.negatives.shape[1] + 1
    files.write_csv(RANKS, ["rank", *ranks], breakdown.histogram(ranks, num_ranks))
    popularity = np.bincount(train.histories.items, minlength=train.num_books + 1)
    for path, name, counts in (
        (BY_HISTORY_LENGTH, "history_length", held_out.histories.lengths),
        (BY_POPULARITY, "popularity", popularity[held_out.true_books]),
    ):
        files.write_csv(path, [name, *breakdown.HEADER], breakdown.rows(counts, ranks, k))
    lengths = breakdown.lengths(train.histories.lengths, max_len)
    files.write_csv(HISTORY_LENGTHS, ["books", "up_to_max_len", "beyond_max_len"], lengths)


def main() -> None:
    """Read the params, the model and the held-out users; write the metrics, the plots and the model card."""
    evaluation_params = params.load(PARAMS, "evaluation", EvaluationParams)
    train_params = params.load(PARAMS, "train", TrainParams)
    card_params = model_card.read_params(PARAMS)
    errors.require(TRAIN, EVALUATION, WEIGHTS, CONFIG)
    world = launch.world_of(processes=1)  # several only under torchrun: on one machine, they take longer to start
    where = device.use(train_params.device, train_params.num_threads, world)
    train = datasets.load_training_set(TRAIN)
    held_out = datasets.load_held_out(EVALUATION, train)
    config = load_config(CONFIG)
    with files.naming_damage(CONFIG):
        config.require_books(train.num_books)
    needed = ranking_memory.of_ranking(config.sasrec, held_out.histories, config.num_books, where)
    memory.require("evaluation", needed, where)
    model = load_model(WEIGHTS, config).to(where)
    by_model = model_scorer.by_model(model, world, padding=evaluation_params.padding)
    transitions = Transitions(train.histories, train.num_books)
    scorers = {"sasrec": by_model, "hybrid": hybrid.by_both(by_model, transitions, config.hybrid_weight)}
    scorers |= {name: baseline(train) for name, baseline in BASELINES.items()}
    progress = tqdm(scorers.items(), desc="evaluate", unit=" rankings", disable=None if world.is_main else True)
    files.make_folders(METRICS, RANKS, CARD)
    with launch.connected(world, where):
        ranks = {name: ranking.rank(held_out, scorer, world, where) for name, scorer in progress}
    if world.is_main:
        k = evaluation_params.k
        summaries = {name: ranking.summary(found, k) for name, found in ranks.items()}
        files.write_json(METRICS, summaries)
        write_plots(train, held_out, {name: found.sampled for name, found in ranks.items()}, k, config.sasrec.max_len)
        with files.atomic_write(CARD) as partial:
            card = model_card.text(card_params, model_card.count(train, held_out), summaries)
            partial.write_text(card, encoding="utf-8")
        print(metrics_table.as_text(summaries))


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(main)
