"""Trains SASRec on a GPU where there is one; measures it on the validation books after each epoch."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

import torch
from tqdm import tqdm

from sasrec import (
    captured,
    checkpoint,
    device,
    errors,
    holdout,
    model,
    outputs,
    params,
    ranking,
    sampling,
    scorers,
    training,
)

TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
ENVIRONMENT = Path("models/environment.json")  # of no stage: it may differ where the weights do not
METRICS = Path("metrics/train.json")
LOSS = Path("plots/loss.csv")
VALIDATION_CURVE = Path("plots/validation.csv")
CHECKPOINTS = Path("checkpoints/train_gpu")  # of no stage, so that DVC leaves it alone between runs
CHECKPOINT_SECONDS = 20.0  # between two; there is one after each epoch, too
VALIDATION_K = 10  # not evaluation.k: another cutoff there must not train again
HR, NDCG = f"HR@{VALIDATION_K}", f"NDCG@{VALIDATION_K}"


def step_taker(
    state: training.TrainingState, train: holdout.TrainingSet, params: training.TrainParams
) -> Callable[[], torch.Tensor]:
    """Return what takes the next step at each call and returns its loss: a CUDA graph on a GPU."""
    sizes = sampling.Sizes(params.batch_size, params.num_negatives, state.model.params.max_len)
    if state.generator.device.type == "cuda":
        return captured.CapturedStep(state, sampling.DeviceSampler(train, sizes, state.generator.device))
    sampler = sampling.PackedSampler(train, sizes)
    return lambda: training.step(state, sampler.draw(state.batch_rng))


def train_epoch(
    state: training.TrainingState,
    take_step: Callable[[], torch.Tensor],
    steps_per_epoch: int,
    label: str,
    checkpoint_file: Path,
) -> None:
    """Take the steps that the epoch has left, and save the state now and then."""
    taken = len(state.losses) - len(state.curve) * steps_per_epoch
    unread: list[torch.Tensor] = []  # losses still on the device: reading one waits for it
    saved = time.monotonic()
    with tqdm(total=steps_per_epoch, initial=taken, desc=label, unit="step", disable=None) as progress:
        for number in range(taken + 1, steps_per_epoch + 1):
            unread.append(take_step())
            progress.update()
            if number % 10 == 0 or number == steps_per_epoch:
                state.losses += torch.stack(unread).tolist()
                unread.clear()
                progress.set_postfix(loss=f"{state.losses[-1]:.3f}")
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    checkpoint.write(checkpoint_file, state)
                    saved = time.monotonic()


def resume(state: training.TrainingState, checkpoint_file: Path) -> None:
    """Go on from the checkpoint, if there is an intact one of the same params, inputs and code."""
    for other in sorted(CHECKPOINTS.glob("*")):
        if other != checkpoint_file:
            print(f"{other}: ignored, it is of other params, inputs or code", file=sys.stderr)
    if checkpoint_file.is_file():
        if checkpoint.restore(checkpoint_file, state):
            print(f"{checkpoint_file}: going on after step {len(state.losses)}", file=sys.stderr)
        else:
            print(f"{checkpoint_file}: ignored, it is damaged", file=sys.stderr)


def mean_of_last_epoch(state: training.TrainingState) -> float:
    """Return the mean loss of the epoch finished last."""
    steps_per_epoch = len(state.losses) // len(state.curve)
    return sum(state.losses[-steps_per_epoch:]) / steps_per_epoch


def write_outputs(state: training.TrainingState, config: model.Config) -> None:
    """Write the model, its metrics and its curves."""
    with outputs.whole(WEIGHTS) as weights:
        model.save(weights, state.model)
    outputs.write_json(CONFIG, config)
    metrics = {
        "loss": mean_of_last_epoch(state),
        "epochs": len(state.curve),
        "steps": len(state.losses),
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "validation": state.curve[-1],
    }
    outputs.write_json(METRICS, metrics)
    outputs.write_csv(LOSS, ["step", "loss"], enumerate(state.losses, start=1))
    rows = ([epoch, point[HR], point[NDCG]] for epoch, point in enumerate(state.curve, start=1))
    outputs.write_csv(VALIDATION_CURVE, ["epoch", HR, NDCG], rows)


def main() -> None:
    """Read the params and the training set; train, validating after each epoch; write what came of it."""
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
    state = training.start(train, section, sasrec, where)
    take_step = step_taker(state, train, section)
    checkpoint_file = CHECKPOINTS / checkpoint.key([sasrec, section], [TRAIN, VALIDATION], where)
    resume(state, checkpoint_file)

    while len(state.curve) < section.num_epochs:
        label = f"epoch {len(state.curve) + 1}/{section.num_epochs}"
        train_epoch(state, take_step, steps_per_epoch, label, checkpoint_file)
        ranks = ranking.rank(validation, scorers.by_model(state.model))
        state.curve.append(ranking.summary(ranks.sampled, VALIDATION_K))
        checkpoint.write(checkpoint_file, state)
        print(
            f"{label}: loss {mean_of_last_epoch(state):.4f}, validation {NDCG} {state.curve[-1][NDCG]:.4f}", flush=True
        )

    write_outputs(state, model.Config(train.num_books, sasrec))
    outputs.write_json(ENVIRONMENT, device.environment(where))
    shutil.rmtree(CHECKPOINTS)


if __name__ == "__main__":
    errors.run(main)
