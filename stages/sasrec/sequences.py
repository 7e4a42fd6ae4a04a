"""Many readers' books as two flat arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sequences:
    """Reader r has the books items[offsets[r]:offsets[r + 1]], oldest first."""

    items: np.ndarray  # (total,) int32, book_idx
    offsets: np.ndarray  # (readers + 1,) int64, from 0 to total

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The number of books of each reader, (readers,) int64."""
        return np.diff(self.offsets)


def from_sorted_rows(user_idx: np.ndarray, book_idx: np.ndarray, num_readers: int) -> Sequences:
    """Return the sequences of interactions that are already ordered by user_idx (from 0) and time."""
    offsets = np.searchsorted(user_idx, np.arange(num_readers + 1)).astype(np.int64)
    return Sequences(book_idx.astype(np.int32), offsets)


def without_last(sequences: Sequences, readers: np.ndarray, num_dropped: np.ndarray) -> Sequences:
    """Return the sequences of `readers`, the i-th one shorter by its last `num_dropped[i]` books."""
    lengths = sequences.lengths[readers] - num_dropped
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shifts = np.repeat(sequences.offsets[readers] - offsets[:-1], lengths)
    return Sequences(sequences.items[np.arange(offsets[-1]) + shifts], offsets)


def last_books(sequences: Sequences, readers: np.ndarray, length: int) -> np.ndarray:
    """Return the latest `length` books of `readers`, padded on the left with 0, (len(readers), length) int32."""
    start, end = sequences.offsets[readers], sequences.offsets[readers + 1]
    positions = end[:, None] + np.arange(-length, 0)  # (readers, length)
    inside = positions >= start[:, None]
    return sequences.items[np.where(inside, positions, 0)] * inside
