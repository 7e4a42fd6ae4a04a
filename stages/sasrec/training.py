"""Trains a SASRec one optimiser step at a time."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from sasrec import losses, model
from sasrec.holdout import TrainingSet
from sasrec.reproducibility import Mode
from sasrec.sampling import Batch

Precision = Literal["float32", "bfloat16"]


class TrainParams(msgspec.Struct, frozen=True):
    """Section `train` of params.yaml."""

    loss: Literal["bce"]
    num_negatives: Annotated[int, msgspec.Meta(ge=1)]  # per positive
    window: Literal["last"]  # last: the latest max_len books of a history
    lr: Annotated[float, msgspec.Meta(gt=0)]  # Adam's
    batch_size: Annotated[int, msgspec.Meta(ge=1)]  # readers a step
    num_epochs: Annotated[int, msgspec.Meta(ge=1)]
    seed: Annotated[int, msgspec.Meta(ge=0)]  # initial weights, batches, negatives and dropout
    device: Literal["auto", "cuda", "mps", "cpu"]
    num_threads: Annotated[int, msgspec.Meta(ge=1)]  # on the CPU; part of the result's bits
    reproducibility: Mode  # portable: the same bits on every x86-64 CPU with AVX2; fast: on this machine
    precision: Precision  # of the matrix products; bfloat16 by autocast, for GPUs


@dataclass
class TrainingState:
    """Everything that the next step depends on, beside the data."""

    model: model.Sasrec
    optimizer: torch.optim.Optimizer
    precision: Precision
    batch_rng: np.random.Generator  # readers and negatives, where they are drawn on the CPU
    generator: torch.Generator  # on the model's device: dropout, and readers and negatives that are drawn there
    losses: list[float] = field(default_factory=list)  # of every step taken
    curve: list[dict[str, float]] = field(default_factory=list)  # the validation metrics of every epoch finished


def start(train: TrainingSet, params: TrainParams, sasrec: model.SasrecParams, device: torch.device) -> TrainingState:
    """Return the state before the first step, all of it determined by `params.seed`."""
    # The start is drawn on the CPU, so that it is the same on every device.
    network = model.build(sasrec, train.num_books, torch.Generator().manual_seed(params.seed)).to(device)
    on_cuda = device.type == "cuda"  # capturable: Adam's step count lives on the device, where a graph can raise it
    fused = on_cuda or device.type == "cpu"
    optimizer = torch.optim.Adam(network.parameters(), lr=params.lr, fused=fused, capturable=on_cuda)
    return TrainingState(
        network,
        optimizer,
        params.precision,
        np.random.default_rng(params.seed),
        torch.Generator(device).manual_seed(params.seed + 1),  # not the draws that made the weights
    )


def step(state: TrainingState, batch: Batch) -> Tensor:
    """Take one optimiser step on `batch`; return its loss, a detached scalar on the model's device."""
    device = state.model.item_embedding.weight.device
    batch = Batch(*(tensor.to(device) for tensor in batch))
    dtype = torch.bfloat16 if state.precision == "bfloat16" else torch.float32
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
        loss = batch_loss(state.model, batch, state.generator)
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    return loss.detach()


def batch_loss(network: model.Sasrec, batch: Batch, generator: torch.Generator | None) -> Tensor:
    """Return the mean loss over the places of `batch` that hold a book, a scalar."""
    candidates = torch.cat([batch.positives[..., None], batch.negatives], -1)  # (rows, length, 1 + num_negatives)
    # One lookup instead of three, because the gradient of each is a table of all books.
    embedded = network.item_embedding(torch.cat([batch.history.flatten(), candidates.flatten()]))
    items, embedded_candidates = embedded.split([batch.history.numel(), candidates.numel()])
    features = network.encode(items.view(*batch.history.shape, -1), batch.positions, batch.segments, generator)
    logits = (features[:, :, None] * embedded_candidates.view(*candidates.shape, -1)).sum(-1)
    is_book = batch.history != 0
    return (losses.bce(logits[..., 0], logits[..., 1:]) * is_book).sum() / is_book.sum()
