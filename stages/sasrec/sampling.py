"""Draws what a training step learns from.

Readers are drawn uniformly with replacement, negatives uniformly from what each reader never read. A book is read if it
is in the reader's training history. A held-back book is not: were it never a negative, the model could learn which book
is held back.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrec import negatives, packing
from sasrec.errors import UserError
from sasrec.holdout import TrainingSet


class Batch(NamedTuple):
    """Rows that hold one history or more; all int64, 0 where a place holds no book."""

    history: Tensor  # (rows, length)
    positives: Tensor  # (rows, length): the book after each place of the history
    negatives: Tensor  # (rows, length, num_negatives): books that the reader never read
    positions: Tensor  # (rows, length): max_len - 1 at the last book of a history
    segments: Tensor  # (rows, length): which history of its row a place belongs to, from 1


class Sizes(NamedTuple):
    """What a batch holds."""

    batch_size: int  # readers
    num_negatives: int  # per positive; 0 where the loss takes them from elsewhere
    max_len: int  # pairs of a book and the next one, of each reader, at most
    window: Literal["last", "random"]  # the reader's latest pairs, or any that follow one another


class Unread:
    """`negatives.UnreadBooks` on a device; torch searches with all threads, numpy with one."""

    def __init__(self, unread: negatives.UnreadBooks, device: torch.device) -> None:
        self.stride = unread.num_books + 1
        self.keys, self.starts, self.counts = (
            torch.from_numpy(array).to(device) for array in (unread.keys, unread.starts, unread.counts)
        )

    def select(self, readers: Tensor, ranks: Tensor) -> Tensor:
        """Return each reader's unread book of that rank (0 <= rank < counts); both broadcast, int64."""
        below = torch.searchsorted(self.keys, readers * self.stride + ranks, right=True)
        return ranks + 1 + below - self.starts[readers]


class PackedSampler:
    """Draws on the CPU, several short histories to a row, so that little padding is computed."""

    def __init__(self, train: TrainingSet, sizes: Sizes) -> None:
        self.sizes = sizes
        self.items = train.histories.items
        self.ends = train.histories.offsets[1:]
        self.num_pairs = train.histories.lengths - 1
        unread = negatives.unread_books(train.histories, train.num_books)
        self.num_unread = unread.counts
        self.unread = Unread(unread, torch.device("cpu"))
        self.readers = _learners(self.num_pairs, unread)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch: as many rows of max_len places as its readers need."""
        batch_size, num_negatives, max_len, window = self.sizes
        readers = self.readers[rng.integers(len(self.readers), size=batch_size)]
        lengths = np.minimum(self.num_pairs[readers], max_len)
        ends = self.ends[readers]
        if window == "random":
            ends = ends - rng.integers(0, self.num_pairs[readers] - lengths + 1)
        layout = packing.pack(lengths, max_len)
        segments = layout.segments
        books = np.arange(len(segments)) + (ends - 1 - lengths - layout.begins)[segments]
        owners = readers[segments, None]  # (books, 1)
        ranks = rng.integers(0, self.num_unread[owners], size=(len(books), num_negatives))
        unread = self.unread.select(torch.from_numpy(owners), torch.from_numpy(ranks))  # (books, num_negatives)
        return Batch(
            history=layout.spread(self.items[books]),
            positives=layout.spread(self.items[books + 1]),
            negatives=layout.spread(unread.numpy()),
            positions=layout.spread(layout.positions),
            segments=layout.spread(segments + 1),
        )


class DeviceSampler:
    """Draws on the device, one history to a row, so that shapes never change and nothing waits for the CPU."""

    def __init__(self, train: TrainingSet, sizes: Sizes, device: torch.device) -> None:
        self.sizes = sizes
        num_pairs = train.histories.lengths - 1
        unread = negatives.unread_books(train.histories, train.num_books)
        self.unread = Unread(unread, device)
        self.items, self.ends, self.num_pairs, self.readers = (
            torch.from_numpy(array.astype(np.int64)).to(device)
            for array in (
                train.histories.items,
                train.histories.offsets[1:],
                num_pairs,
                _learners(num_pairs, unread),
            )
        )

    def draw(self, generator: torch.Generator) -> Batch:
        """Return the next batch, (batch_size, max_len)."""
        batch_size, num_negatives, max_len, window = self.sizes
        device = self.items.device
        readers = self.readers[torch.randint(len(self.readers), (batch_size,), generator=generator, device=device)]
        ends = self.ends[readers]
        if window == "random":
            num_windows = (self.num_pairs[readers] - max_len).clamp(min=0) + 1
            ends = ends - self._below(num_windows, generator)
        back = torch.arange(-max_len, 0, device=device)  # (max_len,)
        is_book = back >= -self.num_pairs[readers, None]  # (batch_size, max_len)
        books = torch.where(is_book, ends[:, None] - 1 + back, 0)
        owners = readers[:, None, None]
        ranks = self._below(self.unread.counts[owners].expand(-1, max_len, num_negatives), generator)
        drawn = self.unread.select(owners, ranks)  # (batch_size, max_len, num_negatives)
        return Batch(
            history=self.items[books] * is_book,
            positives=self.items[books + 1] * is_book,
            negatives=drawn * is_book[:, :, None],
            positions=(back + max_len).expand(batch_size, -1),
            segments=is_book.long(),
        )

    def _below(self, bounds: Tensor, generator: torch.Generator) -> Tensor:
        """Return a number from 0 for each bound, below it; 62 random bits favour none by more than 2 ** -30."""
        draws = torch.randint(2**62, bounds.shape, generator=generator, device=bounds.device)
        return draws % bounds


def _learners(num_pairs: np.ndarray, unread: negatives.UnreadBooks) -> np.ndarray:
    """Return the readers with something to learn from."""
    readers = np.flatnonzero((num_pairs > 0) & (unread.counts > 0))
    if len(readers) == 0:
        raise UserError(
            "data/split/train.safetensors: no reader has two books and an unread one; take more data, or lower "
            "evaluation.num_user_sample"
        )
    return readers
