"""The books of many users in two flat arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sequences:
    """The books of user r are items[offsets[r]:offsets[r + 1]], oldest first."""

    items: np.ndarray  # (total,) int32: book_idx
    offsets: np.ndarray  # (users + 1,) int64: ascending from 0 to total

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        """Return the books of a user, (length,) int32."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """The number of books of each user, (users,) int64."""
        return np.diff(self.offsets)


def from_sorted_rows(user_idx: np.ndarray, book_idx: np.ndarray, num_users: int) -> Sequences:
    """Return the sequences of interactions, whose rows are sorted by user_idx (from 0) and time."""
    offsets = np.searchsorted(user_idx, np.arange(num_users + 1)).astype(np.int64)
    return Sequences(book_idx.astype(np.int32), offsets)


def without_last(sequences: Sequences, users: np.ndarray, num_dropped: np.ndarray) -> Sequences:
    """Return the sequences of `users`, each without its last `num_dropped` (len(users),) books."""
    lengths = sequences.lengths[users] - num_dropped
    offsets = np.concatenate([[0], np.cumsum(lengths)])  # (len(users) + 1,)
    shifts = np.repeat(sequences.offsets[users] - offsets[:-1], lengths)  # (total,)
    return Sequences(sequences.items[np.arange(offsets[-1]) + shifts], offsets)


def last_books(sequences: Sequences, users: np.ndarray, length: int) -> np.ndarray:
    """Return the latest `length` books of each user, (len(users), length) int32, padded on the left with 0."""
    start, end = sequences.offsets[users], sequences.offsets[users + 1]
    positions = end[:, None] + np.arange(-length, 0)  # (users, length)
    inside = positions >= start[:, None]
    return sequences.items[np.where(inside, positions, 0)] * inside
