"""Trains epoch by epoch: runs the steps, validates, saves checkpoints and reports progress."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from sasrec.core import visible
from sasrec.core.errors import UserError
from sasrec.evaluation import hybrid, model_scorer, ranking
from sasrec.model.sasrec import HybridWeights
from sasrec.runtime.world import ALONE, World
from sasrec.split.datasets import HeldOut, TrainingSet
from sasrec.training import checkpoint, cuda_graph, live, sampling
from sasrec.training.step import (
    TrainingState,
    batch_spec,
    learning_rate,
    mean_loss,
    require_finite,
    set_learning_rate,
    step,
)
from sasrec.training.training_loss import TrainingLoss

CHECKPOINT_SECONDS = 20.0  # at least, between two checkpoints within an epoch; each epoch also ends with one
STEPS_PER_READ = 10  # reading a loss waits for the device, so read several at once
VALIDATION_K = 10  # a constant, so that changing evaluation.k does not train again
SELECTION_METRIC = f"NDCG@{VALIDATION_K}"  # the best epoch has the highest value in the ranking `train.select`

TakeStep = Callable[[], Tensor]
"""Runs the next step; returns its loss, a scalar on the device."""


def step_function(state: TrainingState, train: TrainingSet, world: World = ALONE) -> TakeStep:
    """Return the step function; on one GPU it replays a CUDA graph, which cannot hold DistributedDataParallel."""
    device = state.generator.device
    spec = batch_spec(state.params, state.model.params.max_len)
    training_loss = TrainingLoss(state.model, train, state.params, world)
    if device.type == "cuda" and world.size == 1:
        return cuda_graph.CapturedStep(state, sampling.DeviceSampler(train, spec, device), training_loss)
    module = DistributedDataParallel(training_loss, forward_sync_buffers=False) if world.size > 1 else training_loss
    if device.type == "cuda":
        on_device = sampling.DeviceSampler(train, spec, device)
        return lambda: step(state, on_device.draw(state.generator), module)
    sampler = sampling.PackedSampler(train, spec)
    return lambda: step(state, sampler.draw(state.batch_rng), module)


def train_epoch(
    state: TrainingState, take_step: TakeStep, steps_per_epoch: int, checkpoint_file: Path, world: World = ALONE
) -> None:
    """Run the rest of the epoch's steps; the main process saves a checkpoint about every CHECKPOINT_SECONDS.

    Raises:
        UserError: training diverges; the last checkpoint stays.

    """
    params = state.params
    num_taken = len(state.losses) - len(state.curve) * steps_per_epoch
    unread: list[Tensor] = []  # losses still on the device
    saved = time.monotonic()
    label = f"epoch {len(state.curve) + 1}/{params.num_epochs}"
    hidden = None if world.is_main else True  # None: hidden unless standard error is a terminal
    with tqdm(total=steps_per_epoch, initial=num_taken, desc=label, unit="step", disable=hidden) as progress:
        for number in range(num_taken + 1, steps_per_epoch + 1):
            num_before = len(state.losses) + len(unread)
            rate = learning_rate(params, num_before, params.num_epochs * steps_per_epoch)
            set_learning_rate(state.optimizer, rate)
            unread.append(take_step())
            progress.update()
            if number % STEPS_PER_READ == 0 or number == steps_per_epoch:
                latest = world.mean(torch.stack(unread)).tolist()
                require_finite(state, latest)
                state.losses += latest
                unread.clear()
                progress.set_postfix(loss=f"{state.losses[-1]:.3f}")
                if world.is_main and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    checkpoint.write(checkpoint_file, state)
                    saved = time.monotonic()


def best_epoch(state: TrainingState) -> int:
    """Return the epoch, from 1, with the highest SELECTION_METRIC; the earliest of equals."""
    points = [point[state.params.select][SELECTION_METRIC] for point in state.curve]
    return points.index(max(points)) + 1


def kept_epoch(state: TrainingState) -> int:
    """Return the epoch, from 1, whose weights `train.keep` keeps."""
    return best_epoch(state) if state.params.keep == "best" else len(state.curve)


def validate(state: TrainingState, validation: HeldOut, world: World = ALONE) -> None:
    """Append the epoch's metrics to the curve; copy its weights if it is the best so far."""
    ranks = ranking.rank(validation, model_scorer.by_model(state.model, world), world, state.generator.device)
    state.curve.append(ranking.summary(ranks, VALIDATION_K))
    if best_epoch(state) == len(state.curve):
        state.best = {name: tensor.cpu().clone() for name, tensor in state.model.state_dict().items()}


def is_over(state: TrainingState) -> bool:
    """Return whether all epochs are done, or `patience` epochs since the best one."""
    params, num_epochs = state.params, len(state.curve)
    out_of_patience = params.patience is not None and num_epochs and num_epochs - best_epoch(state) >= params.patience
    return num_epochs == params.num_epochs or bool(out_of_patience)


def resume(state: TrainingState, checkpoint_file: Path, world: World) -> None:
    """Restore the checkpoint of the same params, inputs and code into `state`, if it exists and is intact.

    The main process reports it, and all other checkpoints, which it ignores.

    Raises:
        UserError: the processes did not find the same checkpoint.

    """
    folder = checkpoint_file.parent
    notes = [
        f"{path}: ignored, it is of other params, inputs or code; remove it once nothing goes on from it"
        for path in sorted(folder.glob("*"))
        if path != checkpoint_file
    ]
    if checkpoint_file.is_file():
        is_intact = checkpoint.restore(checkpoint_file, state)
        found = f"going on after step {len(state.losses)}" if is_intact else "ignored, it is damaged"
        notes.append(f"{checkpoint_file}: {found}")
    for note in notes if world.is_main else []:
        print(visible.text(note), file=sys.stderr)
    num_taken = world.mean(torch.tensor(float(len(state.losses))))
    if num_taken != len(state.losses):
        raise UserError(f"{folder}: the processes see different checkpoints; put it where all machines see it")


def train_epochs(
    state: TrainingState,
    train: TrainingSet,
    validation: HeldOut,
    checkpoint_file: Path,
    live_folder: Path,
    world: World,
) -> None:
    """Train from the last checkpoint on; after each epoch validate, and save and report in the main process."""
    params = state.params
    steps_per_epoch = train.num_users // params.batch_size
    take_step = step_function(state, train, world)
    resume(state, checkpoint_file, world)
    if world.is_main:
        series = live.start(live_folder)
        live.write(series, state, steps_per_epoch)
    while not is_over(state):
        train_epoch(state, take_step, steps_per_epoch, checkpoint_file, world)
        validate(state, validation, world)
        if world.is_main:
            checkpoint.write(checkpoint_file, state)
            live.write(series, state, steps_per_epoch)
            epoch = len(state.curve)
            sampled, full = (state.curve[-1][ranked][SELECTION_METRIC] for ranked in ("sampled", "full"))
            print(
                f"epoch {epoch}/{params.num_epochs}: loss {mean_loss(state, epoch, steps_per_epoch):.4f}, "
                f"validation {SELECTION_METRIC} {sampled:.4f} sampled, {full:.4f} full",
                flush=True,
            )
    if world.is_main:
        series.end()


def keep(state: TrainingState) -> None:
    """Load the weights of the epoch that `train.keep` keeps into the model."""
    if state.params.keep == "best":
        state.model.load_state_dict(state.best)


class Hybrid(NamedTuple):
    """How the model is joined with what counting knows."""

    weights: HybridWeights
    validation: dict[str, dict[str, float]]  # the metrics by ranking, as in TrainingState.curve


def choose_hybrid(state: TrainingState, train: TrainingSet, validation: HeldOut, world: World = ALONE) -> Hybrid:
    """Return the best hybrid on the validation users: its sampled and full SELECTION_METRIC have the largest product.

    So neither ranking pays for the other: a large weight often raises the full one and lowers the sampled one.
    """

    def rank_each(scorers: ranking.Scorers, number: int) -> list[ranking.Ranks]:
        return ranking.rank_each(validation, scorers, number, world, state.generator.device)

    def value(ranks: ranking.Ranks) -> float:
        return math.prod(values[SELECTION_METRIC] for values in ranking.summary(ranks, VALIDATION_K).values())

    by_model, linear = model_scorer.by_model(state.model, world), hybrid.by_autoencoder(state.model.autoencoder)
    counted = hybrid.by_transitions(train.transitions, state.generator.device)
    weights, ranks = hybrid.choose_weights(by_model, counted, linear, hybrid.PAIRS, rank_each, value)
    return Hybrid(weights, ranking.summary(ranks, VALIDATION_K))


def summary(state: TrainingState, chosen: Hybrid) -> dict[str, object]:
    """Return the content of metrics/train.json, for the epoch kept."""
    epoch = kept_epoch(state)
    return {
        "loss": mean_loss(state, epoch, len(state.losses) // len(state.curve)),
        "kept_epoch": epoch,
        "epochs": len(state.curve),
        "steps": len(state.losses),
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "kept_validation": state.curve[epoch - 1],
        "hybrid_weights": msgspec.to_builtins(chosen.weights),
        "hybrid_validation": chosen.validation,
    }
