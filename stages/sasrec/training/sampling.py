"""Draws the batch of a training step.

Users are drawn uniformly with replacement, and negatives uniformly from the books outside each user's training history.
A held-back book may be drawn as a negative; otherwise the model could learn which book is held back.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrec.core.errors import UserError
from sasrec.split import negatives
from sasrec.split.datasets import TrainingSet
from sasrec.training import packing


class Batch(NamedTuple):
    """Rows of one or more histories; all int64, 0 where a position holds no book."""

    history: Tensor  # (rows, length)
    positives: Tensor  # (rows, length): the next book at each position
    negatives: Tensor  # (rows, length, num_negatives): books that the user never read
    positions: Tensor  # (rows, length): max_len - 1 at the last book of a history
    segments: Tensor  # (rows, length): the history of each position, from 1


class BatchSpec(NamedTuple):
    """The size of a batch, and the pairs of a book and the next one that it may hold."""

    batch_size: int  # users
    num_negatives: int  # per positive; 0 if the loss needs no own negatives
    max_len: int  # the most pairs of a user
    window: Literal["last", "random"]  # a user's latest pairs, or any consecutive ones


class NegativeCandidates:
    """`negatives.UnreadBooks` as tensors on a device; torch searches with all threads, numpy with one."""

    def __init__(self, unread: negatives.UnreadBooks, device: torch.device) -> None:
        self.stride = unread.num_books + 1
        self.keys, self.starts, self.counts = (
            torch.from_numpy(array).to(device) for array in (unread.keys, unread.starts, unread.counts)
        )

    def select(self, users: Tensor, ranks: Tensor) -> Tensor:
        """Return each user's unread book of rank 0 <= rank < counts, int64; users and ranks broadcast."""
        below = torch.searchsorted(self.keys, users * self.stride + ranks, right=True)
        return ranks + 1 + below - self.starts[users]


class PackedSampler:
    """Draws on the CPU and packs short histories into rows, so that less padding is computed."""

    def __init__(self, train: TrainingSet, spec: BatchSpec) -> None:
        self.spec = spec
        self.items = train.histories.items
        self.ends = train.histories.offsets[1:]
        self.num_pairs = train.histories.lengths - 1
        unread = negatives.unread_books(train.histories, train.num_books)
        self.num_unread = unread.counts
        self.candidates = NegativeCandidates(unread, torch.device("cpu"))
        self.users = _learners(self.num_pairs, unread)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch, (rows, max_len), with as many rows as its histories need."""
        batch_size, num_negatives, max_len, window = self.spec
        users = self.users[rng.integers(len(self.users), size=batch_size)]  # (batch_size,)
        lengths = np.minimum(self.num_pairs[users], max_len)  # (batch_size,)
        ends = self.ends[users]
        if window == "random":
            ends = ends - rng.integers(0, self.num_pairs[users] - lengths + 1)
        layout = packing.pack(lengths, max_len)
        segments = layout.segments
        books = np.arange(len(segments)) + (ends - 1 - lengths - layout.begins)[segments]  # (books,): indices in items
        owners = users[segments, None]  # (books, 1)
        ranks = rng.integers(0, self.num_unread[owners], size=(len(books), num_negatives))
        unread = self.candidates.select(torch.from_numpy(owners), torch.from_numpy(ranks))  # (books, num_negatives)
        return Batch(
            history=layout.spread(self.items[books]),
            positives=layout.spread(self.items[books + 1]),
            negatives=layout.spread(unread.numpy()),
            positions=layout.spread(layout.positions),
            segments=layout.spread(segments + 1),
        )


class DeviceSampler:
    """Draws on the device, one history per row: shapes never change, and the device never waits for the CPU."""

    def __init__(self, train: TrainingSet, spec: BatchSpec, device: torch.device) -> None:
        self.spec = spec
        num_pairs = train.histories.lengths - 1
        unread = negatives.unread_books(train.histories, train.num_books)
        self.candidates = NegativeCandidates(unread, device)
        self.items, self.ends, self.num_pairs, self.users = (
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
        batch_size, num_negatives, max_len, window = self.spec
        device = self.items.device
        users = self.users[torch.randint(len(self.users), (batch_size,), generator=generator, device=device)]
        ends = self.ends[users]
        if window == "random":
            num_windows = (self.num_pairs[users] - max_len).clamp(min=0) + 1
            ends = ends - self._below(num_windows, generator)
        back = torch.arange(-max_len, 0, device=device)  # (max_len,)
        is_book = back >= -self.num_pairs[users, None]  # (batch_size, max_len)
        books = torch.where(is_book, ends[:, None] - 1 + back, 0)  # (batch_size, max_len): indices in items
        owners = users[:, None, None]  # (batch_size, 1, 1)
        ranks = self._below(self.candidates.counts[owners].expand(-1, max_len, num_negatives), generator)
        drawn = self.candidates.select(owners, ranks)  # (batch_size, max_len, num_negatives)
        return Batch(
            history=self.items[books] * is_book,
            positives=self.items[books + 1] * is_book,
            negatives=drawn * is_book[:, :, None],
            positions=(back + max_len).expand(batch_size, -1),
            segments=is_book.long(),
        )

    def _below(self, bounds: Tensor, generator: torch.Generator) -> Tensor:
        """Return a number from 0 to below each bound, int64; 62 random bits keep the bias under 2 ** -30."""
        draws = torch.randint(2**62, bounds.shape, generator=generator, device=bounds.device)
        return draws % bounds


def _learners(num_pairs: np.ndarray, unread: negatives.UnreadBooks) -> np.ndarray:
    """Return the users with a pair to learn and an unread book; raise UserError if there is none."""
    users = np.flatnonzero((num_pairs > 0) & (unread.counts > 0))
    if len(users) == 0:
        raise UserError(
            "the training set has no user with two books and an unread one; take more data, or lower "
            "evaluation.num_user_sample in params.yaml"
        )
    return users
