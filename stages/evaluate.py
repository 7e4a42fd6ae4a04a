"""Ranks each held-out reader's true book by the model and by simple baselines, on the same lists."""

import os
from pathlib import Path

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

import numpy as np

from sasrec import device, errors, holdout, inputs, launch, model, outputs, params, ranking, scorers, train_params

TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
METRICS = Path("metrics/eval.json")
RANKS = Path("plots/rank_histogram.csv")


def table(metrics: dict[str, dict[str, dict[str, float]]], k: int) -> str:
    """Return the metrics as text, a line a scorer."""
    columns = [(ranked, f"{name}@{k}") for ranked in ("sampled", "full") for name in ("HR", "NDCG")]
    lines = [" " * 18 + "".join(f"{ranked + ' ' + name:>20}" for ranked, name in columns)]
    for scorer, by_list in metrics.items():
        cells = (f"{by_list[r][name]:.4f} ± {by_list[r][name + '_half_width']:.4f}" for r, name in columns)
        lines.append(f"{scorer:<18}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Read the params, the model and the held-out readers; write the metrics and the histogram of ranks."""
    evaluation = params.load("evaluation", holdout.EvaluationParams)
    train = params.load("train", train_params.TrainParams)
    errors.require(TRAIN, EVALUATION, WEIGHTS, CONFIG)
    share = launch.share_of(processes=1)  # more only under torchrun: on one machine, starting them takes longer
    where = device.use(train.device, train.num_threads, share)
    training_set = holdout.load_training_set(TRAIN)
    held_out = holdout.load_held_out(EVALUATION, training_set)
    config = model.load_config(CONFIG)
    with inputs.reading(CONFIG):
        if config.num_books != training_set.num_books:
            raise ValueError(f"the model has {config.num_books} books, {TRAIN} {training_set.num_books}")
    network = model.load(WEIGHTS, config).to(where)
    by_name = {
        "sasrec": scorers.by_model(network, share, padding=evaluation.padding),
        "popularity": scorers.by_popularity(training_set),
        "recent_popularity": scorers.by_recent_popularity(training_set),
        "item_transitions": scorers.by_transitions(training_set),
    }
    with launch.connected(share, where):
        ranks = {name: ranking.rank(held_out, scorer, share) for name, scorer in by_name.items()}
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
    print(table(metrics, evaluation.k))


if __name__ == "__main__":
    errors.run(main)
