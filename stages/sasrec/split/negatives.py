"""Draws books that a user never read, exactly uniformly and without a rejection loop.

Number the books from 1. A user's r-th unread book (r from 0) is r + 1 plus the number of read books below it. Sort the
read books as a_0 < a_1 < .... Then a_i - 1 - i unread books precede a_i, so a_i is below the r-th unread book exactly
where a_i - 1 - i <= r. These values never decrease with i, so one binary search counts the read books below.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrec.split.sequences import Sequences


@dataclass(frozen=True)
class UnreadBooks:
    """Every user's unread books in ascending order, selected by rank without listing them."""

    keys: np.ndarray  # (distinct user-book pairs,) int64, ascending: user * (num_books + 1) + a_i - 1 - i
    starts: np.ndarray  # (users + 1,) int64: the index of each user's first key
    num_books: int

    @cached_property
    def counts(self) -> np.ndarray:
        """The number of unread books of each user, (users,) int64."""
        return self.num_books - np.diff(self.starts)

    def select(self, users: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Return each user's unread book of rank 0 <= rank < counts, int64; users and ranks broadcast."""
        below = np.searchsorted(self.keys, users * (self.num_books + 1) + ranks, side="right")
        return ranks + 1 + below - self.starts[users]


def unread_books(sequences: Sequences, num_books: int) -> UnreadBooks:
    """Return the books of 1..num_books that are in no history of the user, for every user."""
    stride = num_books + 1
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    pairs = np.sort(users * stride + sequences.items)  # np.unique hashes first and is five times slower
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    starts = np.searchsorted(pairs, np.arange(len(sequences) + 1) * stride)
    rank_among_read = np.arange(len(pairs)) - starts[pairs // stride]
    return UnreadBooks(pairs - 1 - rank_among_read, starts, num_books)


def draw_distinct(unread: UnreadBooks, users: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return `number` different negatives for each user, (len(users), number) int32.

    Each user must have at least `number` unread books.
    """
    ranks = [rng.choice(count, size=number, replace=False) for count in unread.counts[users]]
    return unread.select(users[:, None], np.array(ranks, dtype=np.int64)).astype(np.int32)
