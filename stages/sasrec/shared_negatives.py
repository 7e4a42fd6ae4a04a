"""Draws negatives that all places of a batch share, for losses that compare a positive with many books at once."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sasrec.holdout import TrainingSet


class SharedNegatives(NamedTuple):
    """Books that may be some place's positive, or 0, which is no book: such pairs must not count."""

    books: Tensor  # (num_negatives,) int64
    log_expected: Tensor  # (num_negatives,) float32: the log of how often each was expected to be drawn


class Draw(Protocol):
    """How shared negatives are drawn."""

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives for a batch with these `positives` (rows, length), on their device."""


class Uniform:
    """Every book of the catalogue is as likely, drawn with replacement."""

    def __init__(self, num_negatives: int, num_books: int) -> None:
        self.num_negatives = num_negatives
        self.num_books = num_books

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives on the device of `positives`."""
        shape, device = (self.num_negatives,), positives.device
        books = torch.randint(1, self.num_books + 1, shape, generator=generator, device=device)
        return SharedNegatives(books, torch.full(shape, np.log(self.num_negatives / self.num_books), device=device))


class InBatch:
    """The positives of other places, drawn with replacement: as likely as the books are popular."""

    def __init__(self, num_negatives: int, train: TrainingSet, device: torch.device) -> None:
        self.num_negatives = num_negatives
        counts = np.bincount(train.histories.items, minlength=train.num_books + 1)
        expected = num_negatives * np.maximum(counts, 1) / counts.sum()
        self.log_expected = torch.from_numpy(np.log(expected).astype(np.float32)).to(device)  # (num_books + 1,)

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives on the device of `positives`."""
        shape, device = (self.num_negatives,), positives.device
        places = torch.randint(positives.numel(), shape, generator=generator, device=device)
        books = positives.flatten()[places]
        return SharedNegatives(books, self.log_expected[books])
