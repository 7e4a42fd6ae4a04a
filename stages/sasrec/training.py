"""Trains a SASRec one optimiser step at a time."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from sasrec import losses, model, negatives
from sasrec.errors import UserError
from sasrec.holdout import TrainingSet
from sasrec.reproducibility import Mode
from sasrec.sequences import last_books


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
    reproducibility: Mode  # portable: the same bits on every x86-64 CPU; fast: on this machine


class Batch(NamedTuple):
    """What one step learns from; 0 pads on the left."""

    history: Tensor  # (batch, length) int64
    positives: Tensor  # (batch, length) int64: the book after each place of the history
    negatives: Tensor  # (batch, length, num_negatives) int64: books that the reader never read


class Sampler:
    """Draws batches: readers uniformly with replacement, negatives uniformly from what each one never read.

    A book is read if it is in the reader's training history. A held-back book is not: were it never a negative, the
    model could learn which book is held back.
    """

    def __init__(self, train: TrainingSet, params: TrainParams, max_len: int) -> None:
        self.histories = train.histories
        self.unread = negatives.unread_books(train.histories, train.num_books)
        has_pair = train.histories.lengths >= 2
        self.readers = np.flatnonzero(has_pair & (self.unread.counts > 0))  # the others have nothing to learn from
        self.batch_size = params.batch_size
        self.num_negatives = params.num_negatives
        self.max_len = max_len
        if len(self.readers) == 0:
            raise UserError(
                "data/split/train.safetensors: no reader has two books and an unread one; take more data, or lower "
                "evaluation.num_user_sample"
            )

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch."""
        readers = self.readers[rng.integers(len(self.readers), size=self.batch_size)]
        books = last_books(self.histories, readers, self.max_len + 1)  # (batch, max_len + 1)
        history = books[:, :-1]
        is_padding = history == 0
        positives = np.where(is_padding, 0, books[:, 1:])
        drawn = negatives.draw(self.unread, readers, (self.max_len, self.num_negatives), rng)
        drawn[is_padding] = 0
        return Batch(*(torch.from_numpy(array.astype(np.int64)) for array in (history, positives, drawn)))


@dataclass
class TrainingState:
    """Everything that the next step depends on, beside the data."""

    model: model.Sasrec
    optimizer: torch.optim.Optimizer
    batch_rng: np.random.Generator  # readers and negatives
    dropout_generator: torch.Generator  # on the model's device
    losses: list[float] = field(default_factory=list)  # of every step taken
    curve: list[dict[str, float]] = field(default_factory=list)  # the validation metrics of every epoch finished


def start(train: TrainingSet, params: TrainParams, sasrec: model.SasrecParams, device: torch.device) -> TrainingState:
    """Return the state before the first step, all of it determined by `params.seed`."""
    # The start is drawn on the CPU, so that it is the same on every device.
    network = model.build(sasrec, train.num_books, torch.Generator().manual_seed(params.seed)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=params.lr, fused=device.type in ("cpu", "cuda"))
    return TrainingState(
        network,
        optimizer,
        np.random.default_rng(params.seed),
        torch.Generator(device).manual_seed(params.seed + 1),  # not the draws that made the weights
    )


def step(state: TrainingState, batch: Batch) -> Tensor:
    """Take one optimiser step on `batch`; return its loss, a detached scalar on the model's device."""
    loss = batch_loss(state.model, batch, state.dropout_generator)
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    return loss.detach()


def batch_loss(network: model.Sasrec, batch: Batch, generator: torch.Generator | None) -> Tensor:
    """Return the loss over the unpadded places of `batch`, a scalar."""
    device = network.item_embedding.weight.device
    history, positives, drawn = (tensor.to(device) for tensor in batch)
    is_book = history != 0
    features = network(history, generator)[is_book]  # (places, hidden_units)
    positive_logits = (features * network.item_embedding(positives[is_book])).sum(-1)  # (places,)
    negative_embeddings = network.item_embedding(drawn[is_book])  # (places, num_negatives, hidden_units)
    negative_logits = (features[:, None] * negative_embeddings).sum(-1)  # (places, num_negatives)
    return losses.bce(positive_logits, negative_logits)
