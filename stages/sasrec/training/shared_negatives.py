"""Draws negatives that all positions of a batch share."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sasrec.split.datasets import TrainingSet


class SharedNegatives(NamedTuple):
    """Negatives of a whole batch. A position must skip its own positive, and 0, which is no book."""

    books: Tensor  # (num_negatives,) int64
    log_expected: Tensor  # (num_negatives,) float32: the log of each book's expected number of draws


class Draw(Protocol):
    """A way to draw shared negatives."""

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives for a batch with `positives` (rows, length), on the same device."""


class Uniform:
    """Draws uniformly from the catalogue, with replacement."""

    def __init__(self, num_negatives: int, num_books: int) -> None:
        self.num_negatives = num_negatives
        self.num_books = num_books

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives on the device of `positives`."""
        shape, device = (self.num_negatives,), positives.device
        books = torch.randint(1, self.num_books + 1, shape, generator=generator, device=device)
        return SharedNegatives(books, torch.full(shape, np.log(self.num_negatives / self.num_books), device=device))


class InBatch:
    """Draws positives of the batch with replacement, so that a book's probability is its popularity."""

    def __init__(self, num_negatives: int, train: TrainingSet, device: torch.device) -> None:
        self.num_negatives = num_negatives
        counts = np.bincount(train.histories.items, minlength=train.num_books + 1)
        expected = num_negatives * np.maximum(counts, 1) / counts.sum()
        self.log_expected = torch.from_numpy(np.log(expected).astype(np.float32)).to(device)  # (num_books + 1,)

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives on the device of `positives`."""
        shape, device = (self.num_negatives,), positives.device
        positions = torch.randint(positives.numel(), shape, generator=generator, device=device)
        books = positives.flatten()[positions]
        return SharedNegatives(books, self.log_expected[books])
