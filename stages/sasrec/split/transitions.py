"""Counts which books training users read soon after which."""

from typing import NamedTuple

import numpy as np

from sasrec.split.sequences import Sequences

MAX_DISTANCE = 10  # positions between two books that count as a transition
UNIT = 2520  # the weight of neighbours; divisible by every distance, so that integer sums are exact in any order
NUM_LATEST = 5  # the latest books of a history that count
DECAY = 0.8  # the weight of a book relative to the next one
TRANSITIONS_AT_ONCE = 25_000_000  # bounds the memory: 8 bytes each, and as much again while they are merged
BITS = 4  # that hold a distance
UNITS = np.array([0, *(UNIT // distance for distance in range(1, MAX_DISTANCE + 1))])


class Transitions(NamedTuple):
    """How often book b is read within MAX_DISTANCE positions after book a, by rows; each counts UNIT / distance."""

    starts: np.ndarray  # (num_books + 2,) int64: where the entries of book a begin
    books: np.ndarray  # (entries,) int64: book b, ascending for each book a
    weights: np.ndarray  # (entries,) int64

    @property
    def num_books(self) -> int:
        """The number of books in the catalogue."""
        return len(self.starts) - 2

    def after(self, book: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the books read soon after `book`, ascending (books,) int64, and their weights, (books,) float64."""
        row = slice(self.starts[book], self.starts[book + 1])
        return self.books[row], self.weights[row] / UNIT

    def score(self, history: np.ndarray) -> np.ndarray:
        """Return every book's weight after the latest books of `history`, (num_books + 1,) float64."""
        scores = np.zeros(self.num_books + 1)
        for back, book in enumerate(history[::-1][:NUM_LATEST].tolist()):
            books, weights = self.after(book)
            scores[books] += DECAY**back * weights
        return scores


def count(histories: Sequences, num_books: int) -> Transitions:
    """Return the transitions in `histories`, whose books are in 1..num_books."""
    stride = num_books + 1
    ends = np.repeat(histories.offsets[1:], histories.lengths)  # of the history that each item is in
    items, at_once = histories.items.astype(np.int64), TRANSITIONS_AT_ONCE // MAX_DISTANCE
    keys, weights = np.empty(0, np.int64), np.empty(0, np.int64)
    for start in range(0, len(items), at_once):
        firsts = np.arange(start, min(start + at_once, len(items)))
        found = np.concatenate([_at(distance, firsts, items, ends, stride) for distance in range(1, MAX_DISTANCE + 1)])
        found.sort()  # the distance is in the last bits, so that no second array is sorted along
        distances = found & (1 << BITS) - 1
        keys, weights = _merged(np.concatenate([keys, found >> BITS]), np.concatenate([weights, UNITS[distances]]))
    return from_rows(keys // stride, keys % stride, weights, num_books)


def from_rows(firsts: np.ndarray, books: np.ndarray, weights: np.ndarray, num_books: int) -> Transitions:
    """Return the transitions from each of `firsts`, ascending, to each of `books`, (entries,) each."""
    return Transitions(np.searchsorted(firsts, np.arange(num_books + 2)), books, weights)


def _at(distance: int, firsts: np.ndarray, items: np.ndarray, ends: np.ndarray, stride: int) -> np.ndarray:
    """Return the key, book a * stride + book b, and in its last BITS the distance, of each transition."""
    firsts = firsts[firsts + distance < ends[firsts]]
    return (items[firsts] * stride + items[firsts + distance] << BITS) + distance


def _merged(keys: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys, ascending, and the sum of the weights of each."""
    order = np.argsort(keys, kind="stable")  # fast on what is sorted in one or two runs
    keys, weights = keys[order], weights[order]
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[firsts], np.add.reduceat(weights, firsts) if len(firsts) else weights
