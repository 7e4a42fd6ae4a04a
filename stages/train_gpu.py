"""Trains SASRec on a GPU where there is one; measures it on the validation books after each epoch."""

from pathlib import Path

import torch
from tqdm import tqdm

from sasrec import device, errors, holdout, model, outputs, params, ranking, scorers, training

TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
METRICS = Path("metrics/train.json")
LOSS = Path("plots/loss.csv")
VALIDATION_CURVE = Path("plots/validation.csv")
VALIDATION_K = 10  # not evaluation.k: another cutoff there must not train again
HR, NDCG = f"HR@{VALIDATION_K}", f"NDCG@{VALIDATION_K}"


def train_epoch(state: training.TrainingState, sampler: training.Sampler, num_steps: int, label: str) -> list[float]:
    """Take `num_steps` steps; return the loss of each."""
    losses = []
    with tqdm(range(num_steps), desc=label, unit="step", disable=None) as steps:
        for _ in steps:
            losses.append(training.step(state, sampler.draw(state.batch_rng)))
            if len(losses) % 10 == 0:  # reading a loss waits for the GPU
                steps.set_postfix(loss=f"{losses[-1].item():.3f}")
    return torch.stack(losses).tolist()


def main() -> None:
    """Read the params and the training set, write the model, its metrics and its curves."""
    sasrec = params.load("sasrec", model.SasrecParams)
    section = params.load("train", training.TrainParams)
    errors.require(TRAIN, VALIDATION)
    where = device.use(section.device, section.num_threads)
    train = holdout.load_training_set(TRAIN)
    validation = holdout.load_held_out(VALIDATION)
    steps_per_epoch = train.num_readers // section.batch_size
    if steps_per_epoch == 0:
        raise errors.UserError(
            f"params.yaml: train.batch_size is {section.batch_size}, more than the {train.num_readers} readers, so "
            "that an epoch has no step; lower it"
        )
    sampler = training.Sampler(train, section, sasrec.max_len)
    state = training.start(train, section, sasrec, where)

    losses: list[float] = []
    curve: list[dict[str, float]] = []
    for epoch in range(1, section.num_epochs + 1):
        label = f"epoch {epoch}/{section.num_epochs}"
        losses += train_epoch(state, sampler, steps_per_epoch, label)
        curve.append(ranking.summary(ranking.rank(validation, scorers.by_model(state.model)).sampled, VALIDATION_K))
        mean_loss = sum(losses[-steps_per_epoch:]) / steps_per_epoch
        print(f"{label}: loss {mean_loss:.4f}, validation {NDCG} {curve[-1][NDCG]:.4f}")

    with outputs.whole(WEIGHTS) as weights:
        model.save(weights, state.model)
    outputs.write_json(CONFIG, model.Config(train.num_books, sasrec))
    metrics = {
        "loss": mean_loss,
        "epochs": section.num_epochs,
        "steps": len(losses),
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "validation": curve[-1],
    }
    outputs.write_json(METRICS, metrics)
    outputs.write_csv(LOSS, ["step", "loss"], enumerate(losses, start=1))
    rows = ([epoch, point[HR], point[NDCG]] for epoch, point in enumerate(curve, start=1))
    outputs.write_csv(VALIDATION_CURVE, ["epoch", HR, NDCG], rows)


if __name__ == "__main__":
    errors.run(main)
