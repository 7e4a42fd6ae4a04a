"""Computes the loss of a batch, as a module that DistributedDataParallel can wrap."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sasrec.model.dropout import RandomBytes
from sasrec.model.sasrec import Sasrec
from sasrec.runtime.world import ALONE, World
from sasrec.split.datasets import TrainingSet
from sasrec.training import shared_negatives
from sasrec.training.lookup import lookup
from sasrec.training.losses import FUNCTIONS, Catalogue, OwnLogits, Shared
from sasrec.training.params import LOSSES, TrainParams
from sasrec.training.sampling import Batch


class TrainingLoss(nn.Module):
    """Computes the loss that `params.loss` names, averaged over the positions that hold a book.

    With several processes, each computes its rows' loss, scaled so that DDP's average gradient equals the full batch's.
    All must hold the same weights and draw the same batches.
    """

    def __init__(self, model: Sasrec, train: TrainingSet, params: TrainParams, world: World = ALONE) -> None:
        super().__init__()
        self.model = model
        self.world = world
        self.loss = FUNCTIONS[params.loss]
        self.negatives = LOSSES[params.loss]
        logits: Mapping[str, Callable[..., OwnLogits | Shared | Catalogue]] = {
            "own": self._own,
            "shared": self._shared,
            "catalogue": self._catalogue,
        }
        self.logits = logits[self.negatives]
        self.calibration = params.gbce_t
        self.sampling_rate = min(1.0, params.num_negatives / max(1, train.num_books - 1))
        self.draw_shared: shared_negatives.Draw = (
            shared_negatives.InBatch(params.num_negatives, train, model.item_embedding.weight.device)
            if params.negatives == "in_batch"
            else shared_negatives.Uniform(params.num_negatives, train.num_books)
        )

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the loss of this process's rows of `batch`, a scalar; `generator` draws dropout and shared negatives.

        Each process draws for the full batch, so the draws do not depend on the number of processes.
        """
        num_rows, num_positions = len(batch.history), (batch.history != 0).sum()
        rows = self.world.rows(num_rows)
        random_bytes = RandomBytes(generator, num_rows, rows)
        shared = self.draw_shared(batch.positives, generator) if self.negatives == "shared" else None
        mine = Batch(*(tensor[rows.start : rows.stop] for tensor in batch))  # the rows of this process
        by_position = self.loss(self.logits(mine, random_bytes, shared))  # (positions,)
        by_row = (by_position.view(mine.history.shape) * (mine.history != 0)).sum(1)
        # From 32,768 terms on, a sum of everything depends on the number of threads: so the rows come first.
        return by_row.sum() * self.world.size / num_positions

    def _own(self, batch: Batch, random_bytes: RandomBytes, _shared: None) -> OwnLogits:
        candidates = torch.cat([batch.positives[..., None], batch.negatives], -1)  # (rows, length, 1 + num_negatives)
        features, embedded = self._embed(batch, candidates.flatten(0, 1), random_bytes)
        logits = (features[:, None] * embedded).sum(-1)  # (positions, 1 + num_negatives)
        return OwnLogits(logits[:, 0], logits[:, 1:], self.sampling_rate, self.calibration)

    def _shared(self, batch: Batch, random_bytes: RandomBytes, shared: shared_negatives.SharedNegatives) -> Shared:
        positives = batch.positives.flatten()  # (positions,)
        features, embedded = self._embed(batch, torch.cat([positives, shared.books]), random_bytes)
        embedded_positives, embedded_negatives = embedded.split([len(positives), len(shared.books)])
        logits = (features * embedded_positives).sum(-1)  # (positions,)
        return Shared(logits, features, embedded_negatives, shared.offsets, *shared.find(positives))

    def _catalogue(self, batch: Batch, random_bytes: RandomBytes, _shared: None) -> Catalogue:
        items = self.model.item_embedding(batch.history)  # (rows, length, hidden_units)
        features = self.model.encode(items, batch.positions, batch.segments, random_bytes).flatten(0, 1)
        return Catalogue(features, batch.positives.flatten(), self.model.item_embedding.weight)

    def _embed(self, batch: Batch, others: Tensor, random_bytes: RandomBytes) -> tuple[Tensor, Tensor]:
        """Return the features, (positions, hidden_units), and the embeddings of `others`, (..., hidden_units)."""
        items, embedded = lookup(self.model.item_embedding.weight, batch.history, others)
        features = self.model.encode(items, batch.positions, batch.segments, random_bytes)
        return features.flatten(0, 1), embedded
