"""Trains SASRec on a GPU where there is one; measures it on the validation books after each epoch."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

import msgspec
import torch
from tqdm import tqdm

from sasrec import (
    captured,
    checkpoint,
    device,
    errors,
    holdout,
    launch,
    live,
    memory,
    model,
    outputs,
    params,
    ranking,
    sampling,
    scorers,
    training,
    usage,
    visible,
)
from sasrec.processes import ALONE, Share
from sasrec.train_params import TrainParams

TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
ENVIRONMENT = Path("models/environment.json")  # of no stage: it may differ where the weights do not
METRICS = Path("metrics/train.json")
LOSS = Path("plots/loss.csv")
VALIDATION_CURVE = Path("plots/validation.csv")
LIVE = Path("dvclive")  # grows by an epoch at a time, for whoever watches
CHECKPOINTS = Path("checkpoints/train_gpu")  # of no stage, so that DVC leaves it alone between runs
CHECKPOINT_SECONDS = 20.0  # between two; there is one after each epoch, too
VALIDATION_K = 10  # not evaluation.k: another cutoff there must not train again
HR, NDCG = f"HR@{VALIDATION_K}", f"NDCG@{VALIDATION_K}"


Take = Callable[[], torch.Tensor]
"""Takes the next step; returns its loss, on the device."""


def step_taker(state: training.TrainingState, train: holdout.TrainingSet, share: Share = ALONE) -> Take:
    """Return what takes the steps: a CUDA graph on one GPU, which DistributedDataParallel could not be part of."""
    where = state.generator.device
    sizes = training.sizes(state.params, state.model.params.max_len)
    objective = training.Objective(state.model, train, state.params, share)
    if where.type == "cuda" and share.count == 1:
        return captured.CapturedStep(state, sampling.DeviceSampler(train, sizes, where), objective)
    shared = torch.nn.parallel.DistributedDataParallel(objective) if share.count > 1 else objective
    if where.type == "cuda":
        on_device = sampling.DeviceSampler(train, sizes, where)
        return lambda: training.step(state, on_device.draw(state.generator), shared)
    sampler = sampling.PackedSampler(train, sizes)
    return lambda: training.step(state, sampler.draw(state.batch_rng), shared)


def train_epoch(
    state: training.TrainingState,
    take_step: Take,
    section: TrainParams,
    steps_per_epoch: int,
    checkpoint_file: Path,
    share: Share = ALONE,
) -> None:
    """Take the steps that the epoch has left, and save the state now and then.

    Raises:
        UserError: training diverges; what was saved before is left.

    """
    taken = len(state.losses) - len(state.curve) * steps_per_epoch
    unread: list[torch.Tensor] = []  # losses still on the device: reading one waits for it
    saved = time.monotonic()
    label = f"epoch {len(state.curve) + 1}/{section.num_epochs}"
    hidden = None if share.is_first else True  # None: where standard error is no terminal
    with tqdm(total=steps_per_epoch, initial=taken, desc=label, unit="step", disable=hidden) as progress:
        for number in range(taken + 1, steps_per_epoch + 1):
            num_taken = len(state.losses) + len(unread)
            rate = training.learning_rate(section, num_taken, section.num_epochs * steps_per_epoch)
            state.optimizer.set_lr(rate)
            unread.append(take_step())
            progress.update()
            if number % 10 == 0 or number == steps_per_epoch:
                latest = share.mean(torch.stack(unread)).tolist()
                training.require_finite(state, latest)
                state.losses += latest
                unread.clear()
                progress.set_postfix(loss=f"{state.losses[-1]:.3f}")
                if share.is_first and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    checkpoint.write(checkpoint_file, state)
                    saved = time.monotonic()


def best_epoch(state: training.TrainingState) -> int:
    """Return the number of the epoch with the best validation, from 1; the earliest of equals."""
    points = [point[NDCG] for point in state.curve]
    return points.index(max(points)) + 1


def validate(state: training.TrainingState, validation: holdout.HeldOut, share: Share = ALONE) -> None:
    """Add the epoch's metrics to the curve, and keep its weights where it is the best so far."""
    ranks = ranking.rank(validation, scorers.by_model(state.model, share), share, state.generator.device)
    state.curve.append(ranking.summary(ranks.sampled, VALIDATION_K))
    if best_epoch(state) == len(state.curve):
        state.best = {name: tensor.cpu().clone() for name, tensor in state.model.state_dict().items()}


def is_over(state: training.TrainingState, section: TrainParams) -> bool:
    """Return whether every epoch is taken, or `patience` of them since the best."""
    num_epochs = len(state.curve)
    out_of_patience = section.patience is not None and num_epochs and num_epochs - best_epoch(state) >= section.patience
    return num_epochs == section.num_epochs or bool(out_of_patience)


def resume(state: training.TrainingState, checkpoint_file: Path, share: Share) -> None:
    """Go on from the checkpoint, if there is an intact one of the same params, inputs and code.

    Raises:
        UserError: the processes did not find the same one.

    """
    others = [path for path in sorted(CHECKPOINTS.glob("*")) if path != checkpoint_file]
    notes = [
        f"{path}: ignored, it is of other params, inputs or code; remove it once nothing goes on from it"
        for path in others
    ]
    if checkpoint_file.is_file():
        is_intact = checkpoint.restore(checkpoint_file, state)
        found = f"going on after step {len(state.losses)}" if is_intact else "ignored, it is damaged"
        notes.append(f"{checkpoint_file}: {found}")
    for note in notes if share.is_first else []:
        print(visible.text(note), file=sys.stderr)
    num_taken = share.mean(torch.tensor(float(len(state.losses))))
    if num_taken != len(state.losses):
        raise errors.UserError(f"{CHECKPOINTS}: the processes see different ones; put it where all machines see it")


def train_epochs(
    state: training.TrainingState,
    train: holdout.TrainingSet,
    validation: holdout.HeldOut,
    checkpoint_file: Path,
    share: Share,
) -> None:
    """Train from the last checkpoint on, validating and saving after each epoch; the first process says how it goes."""
    section = state.params
    steps_per_epoch = train.num_readers // section.batch_size
    take_step = step_taker(state, train, share)
    resume(state, checkpoint_file, share)
    if share.is_first:
        series = live.start(LIVE)
        live.write(series, state, steps_per_epoch)
    while not is_over(state, section):
        train_epoch(state, take_step, section, steps_per_epoch, checkpoint_file, share)
        validate(state, validation, share)
        if share.is_first:
            checkpoint.write(checkpoint_file, state)
            live.write(series, state, steps_per_epoch)
            epoch = len(state.curve)
            print(
                f"epoch {epoch}/{section.num_epochs}: loss {training.mean_loss(state, epoch, steps_per_epoch):.4f}, "
                f"validation {NDCG} {state.curve[-1][NDCG]:.4f}",
                flush=True,
            )
    if share.is_first:
        series.end()


def write_outputs(state: training.TrainingState, config: model.Config, keep: str) -> None:
    """Write the model of the epoch kept, its metrics and the curves."""
    epoch = best_epoch(state) if keep == "best" else len(state.curve)
    if keep == "best":
        state.model.load_state_dict(state.best)
    with outputs.whole(WEIGHTS) as weights:
        model.save(weights, state.model)
    with outputs.whole(CONFIG) as sizes:
        model.save_config(sizes, config)
    metrics = {
        "loss": training.mean_loss(state, epoch, len(state.losses) // len(state.curve)),
        "kept_epoch": epoch,
        "epochs": len(state.curve),
        "steps": len(state.losses),
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "validation": state.curve[epoch - 1],
    }
    outputs.write_json(METRICS, metrics)
    outputs.write_csv(LOSS, ["step", "loss"], enumerate(state.losses, start=1))
    rows = ([number, point[HR], point[NDCG]] for number, point in enumerate(state.curve, start=1))
    outputs.write_csv(VALIDATION_CURVE, ["epoch", HR, NDCG], rows)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether numpy, or PyTorch on any device, could not get the memory that it asked for."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return re.search("(allocate|not enough|out of) memory", str(error)) is not None


def train_and_write() -> None:
    """Read the params and the training set; train, validating after each epoch; write what came of it."""
    sasrec = params.load("sasrec", model.SasrecParams)
    section = params.load("train", TrainParams)
    errors.require(TRAIN, VALIDATION)
    share = launch.share_of(section.processes)
    where = device.use(section.device, section.num_threads, share)
    train = holdout.load_training_set(TRAIN)
    validation = holdout.load_held_out(VALIDATION, train)
    if section.batch_size > train.num_readers:
        raise errors.UserError(
            f"params.yaml: train.batch_size is {section.batch_size}, more than the {train.num_readers} readers, so "
            "that an epoch has no step; lower it"
        )
    of_training = memory.of_training(sasrec, section, train.histories, train.num_books, where)
    memory.require("training", of_training, where)
    memory.require("validation", memory.of_ranking(sasrec, validation.histories, train.num_books, where), where)
    state = training.start(train, section, sasrec, where)
    # A checkpoint holds nothing of how many processes wrote it: any number goes on from it.
    key = checkpoint.key([sasrec, msgspec.structs.replace(section, processes=1)], [TRAIN, VALIDATION], where)
    checkpoint_file = CHECKPOINTS / key
    outputs.make_folders(checkpoint_file, WEIGHTS, METRICS, LOSS)
    with launch.connected(share, where):
        train_epochs(state, train, validation, checkpoint_file, share)
    if share.is_first:
        write_outputs(state, model.Config(train.num_books, sasrec), section.keep)
        outputs.write_json(ENVIRONMENT, device.environment(where))
        checkpoint.remove(checkpoint_file)


def main() -> None:
    """Run the stage; name the params that lower the memory where it is too little."""
    try:
        train_and_write()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise errors.UserError(
            "params.yaml: training needs more memory than there is; lower train.batch_size, sasrec.max_len, "
            f"sasrec.hidden_units or train.num_negatives ({error})"
        ) from None


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
