"""Ranks each held-out user's true book by the model and by simple baselines, on the same lists."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

import os
from pathlib import Path

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

from tqdm import tqdm

from sasrec.core import cli, errors, params, run_record
from sasrec.evaluation import baselines, rank_table, rankers, ranking, recommended
from sasrec.evaluation import memory as ranking_memory
from sasrec.io import files
from sasrec.model.sasrec import load_config, load_model
from sasrec.reporting import breakdown, metrics_table, model_card
from sasrec.runtime import cores, device, launch, memory
from sasrec.serving import model_folder, vocabulary
from sasrec.serving.model_folder import Model
from sasrec.split import datasets
from sasrec.split.params import EvaluationParams
from sasrec.training.params import TrainParams

PARAMS = Path("params.yaml")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
WEIGHTS, CONFIG = Path("models/sasrec.safetensors"), Path("models/sasrec.json")
USERS, BOOKS = Path("data/processed/users.parquet"), Path("data/processed/books.parquet")
RANKS, RECOMMENDED = Path("data/evaluation/ranks.parquet"), Path("metrics/recommended.json")
METRICS, INTERVALS = Path("metrics/eval.json"), Path("metrics/intervals.json")
HISTOGRAM, HISTORY_LENGTHS = Path("plots/rank_histogram.csv"), Path("plots/history_length.csv")
BY_HISTORY_LENGTH, BY_POPULARITY = Path("plots/by_history_length.csv"), Path("plots/by_popularity.csv")
CARD, MODEL = Path("models/README.md"), Path("models/sasrec")


def write_outputs(table: rank_table.RankTable, train: datasets.TrainingSet, cutoffs: list[int], model: Model) -> None:
    """Write the ranks, what is computed from them (the metrics, the plots and the card), and the model."""
    rank_table.write(RANKS, table)
    estimates = rank_table.estimates(table, cutoffs)
    for path, content in zip((METRICS, INTERVALS), metrics_table.to_files(estimates), strict=True):
        files.write_json(path, content)
    sampled, k = {name: found.sampled for name, found in table.ranks.items()}, cutoffs[0]
    files.write_csv(HISTOGRAM, *breakdown.histogram(sampled, table.task.num_negatives + 1))
    files.write_csv(BY_HISTORY_LENGTH, *breakdown.by("history_length", table.history_lengths, sampled, k))
    files.write_csv(BY_POPULARITY, *breakdown.by("popularity", table.popularity, sampled, k))
    files.write_csv(HISTORY_LENGTHS, *breakdown.lengths(train.histories.lengths, model.network.params.max_len))
    card_params, counts = model_card.read_params(PARAMS), model_card.count(train, len(table.user_ids))
    card = model_card.text(card_params, counts, estimates, model.books.ids[:2].to_pylist())
    with files.atomic_write(CARD) as partial:
        partial.write_text(card, encoding="utf-8")
    model_folder.write(MODEL, model, card)
    print(metrics_table.as_text(estimates))


def main() -> dict[str, object]:
    """Read params, model and held-out users; rank their true books; write the outputs; describe the device."""
    evaluation_params = params.load(PARAMS, "evaluation", EvaluationParams)
    cutoffs = evaluation_params.cutoffs
    train_params = params.load(PARAMS, "train", TrainParams)
    errors.require(TRAIN, EVALUATION, WEIGHTS, CONFIG, USERS, BOOKS)
    world = launch.world_of(processes=1)  # several only under torchrun: on one machine, they take longer to start
    where = device.use(train_params.device, cores.num_threads(PARAMS), world)
    train = datasets.load_training_set(TRAIN)
    held_out = datasets.load_held_out(EVALUATION, train)
    user_ids = vocabulary.users(USERS, train.num_users).ids_of(held_out.users)
    books = vocabulary.books(BOOKS, train.num_books)
    config = load_config(CONFIG)
    with files.naming_damage(CONFIG):
        config.require_books(train.num_books)
    needed = ranking_memory.of_ranking(config.sasrec, held_out.histories, config.num_books, where)
    memory.require("evaluation", needed, where)
    network, padding = load_model(WEIGHTS, config).to(where), evaluation_params.padding
    scorers = rankers.scorers(network, config.hybrid, train, world, padding=padding)
    progress = tqdm(scorers.items(), desc="evaluate", unit=" rankings", disable=None if world.is_main else True)
    files.make_folders(RANKS, METRICS, HISTOGRAM, CARD)
    ranks, counts = {}, {}
    with launch.connected(world, where):
        for name, scorer in progress:
            counted = recommended.Counted(scorer, held_out, train.num_books, cutoffs[0])
            ranks[name] = ranking.rank(held_out, counted, world, where)
            counts[name] = world.sum(counted.counts).numpy()
    if world.is_main:
        files.write_json(RECOMMENDED, recommended.summary(counts, train, held_out.true_books, cutoffs[0]))
        protocol = model_card.read_params(PARAMS).split.protocol
        table = rank_table.table(held_out, train, protocol, (user_ids, books.ids_of(held_out.true_books)), ranks)
        ratings = baselines.counts(train), baselines.recent_counts(train)
        model = Model(network, config.hybrid, padding, books, *ratings, train.transitions)
        write_outputs(table, train, cutoffs, model)
    return device.describe(where)


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
