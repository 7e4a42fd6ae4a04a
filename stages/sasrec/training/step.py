"""Trains SASRec by one optimiser step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sasrec.core.errors import UserError
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import Sasrec, build_model
from sasrec.split.datasets import TrainingSet
from sasrec.training import counts
from sasrec.training.params import LOSSES, TrainParams
from sasrec.training.sampling import Batch, BatchSpec


@dataclass
class TrainingState:
    """Everything that the next step depends on, except the data."""

    params: TrainParams
    model: Sasrec
    optimizer: torch.optim.AdamW
    batch_rng: np.random.Generator  # draws users and negatives on the CPU
    generator: torch.Generator  # draws dropout, shared negatives and, on a GPU, whole batches, on the model's device
    losses: list[float] = field(default_factory=list)  # of every finished step
    curve: list[dict[str, dict[str, float]]] = field(default_factory=list)  # each epoch's validation, by ranking
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights of the best epoch so far


def start(train: TrainingSet, params: TrainParams, sasrec_params: SasrecParams, device: torch.device) -> TrainingState:
    """Return the state before the first step; `params.seed` determines all of it."""
    # Draw the weights on the CPU, so that they are the same on every device.
    weights_generator = torch.Generator().manual_seed(params.seed)
    model = build_model(sasrec_params, train.num_books, weights_generator)
    if sasrec_params.init == "counts":
        counts.start(model.item_embedding.weight.detach(), train.transitions, weights_generator)
    model = model.to(device)
    is_cuda = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(),
        torch.tensor(params.lr, device=device) if is_cuda else params.lr,  # a CUDA graph reads it from the device
        weight_decay=params.weight_decay,
        fused=True,
        capturable=is_cuda,
    )
    batch_rng = np.random.default_rng(params.seed)
    generator = torch.Generator(device).manual_seed(params.seed + 1)  # unlike the draws of the weights
    return TrainingState(params, model, optimizer, batch_rng, generator)


def batch_spec(params: TrainParams, max_len: int) -> BatchSpec:
    """Return the batch specification for the loss of `params`."""
    num_negatives = params.num_negatives if LOSSES[params.loss] == "own" else 0
    return BatchSpec(params.batch_size, num_negatives, max_len, params.window)


def learning_rate(params: TrainParams, num_taken: int, num_steps: int) -> float:
    """Return the learning rate of the step after the first `num_taken` of `num_steps`."""
    if num_taken < params.warmup_steps:
        return params.lr * (num_taken + 1) / params.warmup_steps
    if params.schedule == "constant":
        return params.lr
    progress = (num_taken - params.warmup_steps) / max(1, num_steps - params.warmup_steps)
    return params.lr * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step without waiting for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def step(state: TrainingState, batch: Batch, training_loss: nn.Module) -> Tensor:
    """Run one optimiser step on `batch`; return its loss, a detached scalar on the model's device.

    `training_loss` is a TrainingLoss of the state's model, or a DistributedDataParallel that wraps one; then the mean
    over the processes is the loss. The loss is NaN if it, the gradient or the gradient's square, which AdamW sums, is
    not finite.
    """
    params = state.params
    device = state.model.item_embedding.weight.device
    batch = Batch(*(tensor.to(device) for tensor in batch))
    dtype = torch.bfloat16 if params.precision == "bfloat16" else torch.float32
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
        loss = training_loss(batch, state.generator)
    state.optimizer.zero_grad()
    loss.backward()
    norm = get_total_norm([parameter.grad for parameter in state.model.parameters() if parameter.grad is not None])
    if params.clip_norm is not None:
        clip_grads_with_norm_(state.model.parameters(), params.clip_norm, norm)
    state.optimizer.step()
    return loss.detach() + 0 * norm  # NaN when the norm is not finite, so one read checks both


def mean_loss(state: TrainingState, epoch: int, steps_per_epoch: int) -> float:
    """Return the mean loss of the steps of a finished epoch, counted from 1."""
    return sum(state.losses[(epoch - 1) * steps_per_epoch : epoch * steps_per_epoch]) / steps_per_epoch


def require_finite(state: TrainingState, latest: Sequence[float]) -> None:
    """Check the `latest` losses, which follow those in `state`, and the weights.

    Raises:
        UserError: a loss or a weight is not finite; the message names the first step that went wrong.

    """
    advice = "lower train.lr, or set train.clip_norm, in params.yaml and train again"
    for number, loss in enumerate(latest, start=len(state.losses) + 1):
        if not math.isfinite(loss):
            raise UserError(f"training: the loss or the gradient of step {number} is not finite; {advice}")
    if not get_total_norm(list(state.model.parameters())).isfinite():
        raise UserError(f"training: the weights after step {len(state.losses) + len(latest)} are not finite; {advice}")
