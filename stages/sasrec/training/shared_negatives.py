"""Draws negatives that all positions of a batch share."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sasrec.split.datasets import TrainingSet

EXCLUDED = 1e9  # lowers the logit of a negative that must not count, so that its share is exactly 0


class SharedNegatives(NamedTuple):
    """The negatives of a whole batch. Only the first of equal books counts."""

    books: Tensor  # (num_negatives,) int64, ascending
    offsets: Tensor  # (num_negatives,) float32: added to each position's logit of the book

    def find(self, positives: Tensor) -> tuple[Tensor, Tensor]:
        """Return the place in `books` where each of `positives` (positions,) would be, and -EXCLUDED if it is there.

        Both are (positions,). A search suffices, because each book counts once; comparing all pairs is slow.
        """
        places = torch.searchsorted(self.books, positives).clamp(max=len(self.books) - 1)
        return places, torch.where(self.books[places] == positives, -EXCLUDED, 0.0)


def merge(books: Tensor, log_expected: Tensor) -> SharedNegatives:
    """Return drawn `books` (num_negatives,) with their logQ correction, `log_expected` (num_negatives,).

    A book drawn several times counts as often, in one place. Book 0 is padding and does not count.
    """
    books, order = books.sort()
    first = torch.searchsorted(books, books)  # (num_negatives,): the first place of each book
    count = torch.searchsorted(books, books, right=True) - first
    counts_here = (first == torch.arange(len(books), device=books.device)) & (books != 0)
    offsets = torch.where(counts_here, count.float().log() - log_expected[order], -EXCLUDED)
    return SharedNegatives(books, offsets)


class Draw(Protocol):
    """A way to draw shared negatives."""

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives for a batch with `positives` (rows, length), on the same device."""


class Uniform:
    """Draws uniformly from the catalogue, with replacement; if enough are asked for, takes every book once."""

    def __init__(self, num_negatives: int, num_books: int) -> None:
        self.num_negatives = num_negatives
        self.num_books = num_books

    def __call__(self, positives: Tensor, generator: torch.Generator) -> SharedNegatives:
        """Return negatives on the device of `positives`."""
        shape, device = (self.num_negatives,), positives.device
        if self.num_negatives >= self.num_books:
            return SharedNegatives(
                torch.arange(1, self.num_books + 1, device=device), torch.zeros(self.num_books, device=device)
            )
        books = torch.randint(1, self.num_books + 1, shape, generator=generator, device=device)
        return merge(books, torch.full(shape, np.log(self.num_negatives / self.num_books), device=device))


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
        return merge(books, self.log_expected[books])
