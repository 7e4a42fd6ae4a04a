"""Draws books that a reader never read, exactly uniformly, without a rejection loop.

The r-th unread book of a reader (r from 0) is r + 1 plus the number of its read books that come before it. With the
read books sorted as a_0 < a_1 < ..., a_i comes before it where at most r unread books precede a_i, that is where
a_i - 1 - i <= r. Those values do not decrease with i, so one binary search finds the book.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrec.sequences import Sequences


@dataclass(frozen=True)
class UnreadBooks:
    """For every reader, the books that it never read, in ascending order, without listing them."""

    keys: np.ndarray  # (distinct reader-book pairs,) int64, ascending: reader * (num_books + 1) + a_i - 1 - i
    starts: np.ndarray  # (readers + 1,) int64: where a reader's keys begin
    num_books: int

    @cached_property
    def counts(self) -> np.ndarray:
        """The number of books that each reader never read, (readers,) int64."""
        return self.num_books - np.diff(self.starts)

    def select(self, readers: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Return each reader's unread book of that rank (0 <= rank < counts); both arrays broadcast, int64."""
        below = np.searchsorted(self.keys, readers * (self.num_books + 1) + ranks, side="right")
        return ranks + 1 + below - self.starts[readers]


def unread_books(sequences: Sequences, num_books: int) -> UnreadBooks:
    """Return the complement of every reader's books in 1..num_books."""
    stride = num_books + 1
    readers = np.repeat(np.arange(len(sequences)), sequences.lengths)
    pairs = np.sort(readers * stride + sequences.items)  # np.unique hashes first, which takes five times as long
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    starts = np.searchsorted(pairs, np.arange(len(sequences) + 1) * stride)
    rank_among_read = np.arange(len(pairs)) - starts[pairs // stride]
    return UnreadBooks(pairs - 1 - rank_among_read, starts, num_books)


def draw_distinct(unread: UnreadBooks, readers: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return `number` different negatives for every reader, (len(readers), number) int32.

    Every reader must have `number` unread books.
    """
    ranks = [rng.choice(count, size=number, replace=False) for count in unread.counts[readers]]
    return unread.select(readers[:, None], np.array(ranks, dtype=np.int64)).astype(np.int32)
