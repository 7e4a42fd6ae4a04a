"""Trains a SASRec one optimiser step at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sasrec import losses, model, products, shared_negatives
from sasrec.adam import Adam
from sasrec.errors import UserError
from sasrec.holdout import TrainingSet
from sasrec.processes import ALONE, Share
from sasrec.sampling import Batch, Sizes
from sasrec.train_params import TrainParams


@dataclass
class TrainingState:
    """Everything that the next step depends on, beside the data."""

    params: TrainParams
    model: model.Sasrec
    optimizer: Adam
    batch_rng: np.random.Generator  # readers and negatives, where they are drawn on the CPU
    generator: torch.Generator  # on the model's device: dropout, and what is drawn there
    losses: list[float] = field(default_factory=list)  # of every step taken
    curve: list[dict[str, float]] = field(default_factory=list)  # the validation metrics of every epoch finished
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights of the best epoch so far


def start(train: TrainingSet, params: TrainParams, sasrec: model.SasrecParams, device: torch.device) -> TrainingState:
    """Return the state before the first step, all of it determined by `params.seed`."""
    # The start is drawn on the CPU, so that it is the same on every device.
    network = model.build(sasrec, train.num_books, torch.Generator().manual_seed(params.seed)).to(device)
    return TrainingState(
        params,
        network,
        Adam(network.parameters(), params.lr, params.weight_decay),
        np.random.default_rng(params.seed),
        torch.Generator(device).manual_seed(params.seed + 1),  # not the draws that made the weights
    )


def sizes(params: TrainParams, max_len: int) -> Sizes:
    """Return what a sampler must draw for the loss of `params`."""
    num_negatives = params.num_negatives if params.loss in ("bce", "gbce") else 0
    return Sizes(params.batch_size, num_negatives, max_len, params.window)


def learning_rate(params: TrainParams, num_taken: int, num_steps: int) -> float:
    """Return the rate of the step after `num_taken` of `num_steps`."""
    if num_taken < params.warmup_steps:
        return params.lr * (num_taken + 1) / params.warmup_steps
    if params.schedule == "constant":
        return params.lr
    progress = (num_taken - params.warmup_steps) / max(1, num_steps - params.warmup_steps)
    return params.lr * (1 + math.cos(math.pi * progress)) / 2


class Objective(nn.Module):
    """Computes the loss that the params name: the mean over the places that hold a book.

    With others it computes its share of the rows, and the mean over the processes, which DistributedDataParallel takes
    of their gradients, is that of the whole batch. They must hold the same weights and draw the same batches.
    """

    def __init__(self, network: model.Sasrec, train: TrainingSet, params: TrainParams, share: Share = ALONE) -> None:
        super().__init__()
        self.network = network
        self.params = params
        self.share = share
        self.sampling_rate = min(1.0, params.num_negatives / max(1, train.num_books - 1))
        self.draw_shared: shared_negatives.Draw = (
            shared_negatives.InBatch(params.num_negatives, train, network.item_embedding.weight.device)
            if params.negatives == "in_batch"
            else shared_negatives.Uniform(params.num_negatives, train.num_books)
        )

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the loss of `batch`, a scalar; dropout and shared negatives come from `generator`.

        All of the batch decides what is drawn, whatever the share: else the draws would depend on it.
        """
        num_rows, num_places = len(batch.history), (batch.history != 0).sum()
        rows = self.share.rows(num_rows)
        random_bytes = model.RandomBytes(generator, num_rows, rows)
        mine = Batch(*(tensor[rows.start : rows.stop] for tensor in batch))
        if self.params.loss == "sampled_softmax":
            shared = self.draw_shared(batch.positives, generator)
            by_place = self._sampled_softmax(mine, shared, random_bytes)  # (places,)
        elif self.params.loss == "softmax":
            by_place = self._softmax(mine, random_bytes)
        else:
            by_place = self._binary(mine, random_bytes)
        return (by_place * (mine.history.flatten() != 0)).sum() * self.share.count / num_places

    def _binary(self, batch: Batch, random_bytes: model.RandomBytes) -> Tensor:
        candidates = torch.cat([batch.positives[..., None], batch.negatives], -1)  # (rows, length, 1 + num_negatives)
        features, embedded = self._embed(batch, candidates.flatten(), random_bytes)
        logits = (features[:, None] * embedded.view(len(features), *candidates.shape[2:], features.shape[1])).sum(-1)
        if self.params.loss == "bce":
            return losses.bce(logits[:, 0], logits[:, 1:])
        return losses.gbce(logits[:, 0], logits[:, 1:], self.sampling_rate, self.params.gbce_t)

    def _sampled_softmax(
        self, batch: Batch, shared: shared_negatives.SharedNegatives, random_bytes: model.RandomBytes
    ) -> Tensor:
        positives = batch.positives.flatten()
        features, embedded = self._embed(batch, torch.cat([positives, shared.books]), random_bytes)
        of_positives, of_negatives = embedded.split([len(positives), len(shared.books)])
        positive_logits = (features * of_positives).sum(-1)
        negative_logits = products.linear(features, of_negatives)  # (places, num_negatives)
        is_hit = (positives[:, None] == shared.books) | (shared.books == 0)
        return losses.sampled_softmax(positive_logits, negative_logits, is_hit, shared.log_expected)

    def _softmax(self, batch: Batch, random_bytes: model.RandomBytes) -> Tensor:
        items = self.network.item_embedding(batch.history)
        features = self.network.encode(items, batch.positions, batch.segments, random_bytes).flatten(0, 1)
        return losses.softmax(features, batch.positives.flatten(), self.network.item_embedding.weight)

    def _embed(self, batch: Batch, others: Tensor, random_bytes: model.RandomBytes) -> tuple[Tensor, Tensor]:
        """Return the features of every place and the embeddings of other books.

        One lookup for both, because the gradient of each lookup is a table of all books.
        """
        embedded = self.network.item_embedding(torch.cat([batch.history.flatten(), others]))
        items, embedded_others = embedded.split([batch.history.numel(), len(others)])
        items = items.view(*batch.history.shape, items.shape[1])
        features = self.network.encode(items, batch.positions, batch.segments, random_bytes)
        return features.flatten(0, 1), embedded_others


def step(state: TrainingState, batch: Batch, objective: nn.Module) -> Tensor:
    """Take one optimiser step on `batch`; return its loss, a detached scalar on the model's device.

    `objective` is an Objective of the state's model, or the DistributedDataParallel of one: then the mean over the
    processes is the loss. It is NaN where the loss or the gradient is not finite, or the square of the gradient, which
    Adam sums up.
    """
    params = state.params
    device = state.model.item_embedding.weight.device
    batch = Batch(*(tensor.to(device) for tensor in batch))
    dtype = torch.bfloat16 if params.precision == "bfloat16" else torch.float32
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
        loss = objective(batch, state.generator)
    state.optimizer.zero_grad()
    loss.backward()
    norm = get_total_norm([parameter.grad for parameter in state.model.parameters() if parameter.grad is not None])
    if params.clip_norm is not None:
        clip_grads_with_norm_(state.model.parameters(), params.clip_norm, norm)
    state.optimizer.step()
    return loss.detach() + 0 * norm  # what a check of the norm would wait for is read with the loss


def mean_loss(state: TrainingState, epoch: int, steps_per_epoch: int) -> float:
    """Return the mean loss of a finished epoch, counted from 1."""
    return sum(state.losses[(epoch - 1) * steps_per_epoch : epoch * steps_per_epoch]) / steps_per_epoch


def require_finite(state: TrainingState, latest: Sequence[float]) -> None:
    """Check the `latest` losses, which follow those of `state`, and the weights after them.

    Raises:
        UserError: one is not finite; the message names the first step that went wrong.

    """
    advice = "lower train.lr, or set train.clip_norm, in params.yaml and train again"
    for number, loss in enumerate(latest, start=len(state.losses) + 1):
        if not math.isfinite(loss):
            raise UserError(f"training: the loss or the gradient of step {number} is not finite; {advice}")
    if not get_total_norm(list(state.model.parameters())).isfinite():
        raise UserError(f"training: the weights after step {len(state.losses) + len(latest)} are not finite; {advice}")
